//! Learned sparse retrieval inside Tantivy's segments.
//!
//! A learned-sparse encoder gives a text a few hundred weighted vocabulary terms. This crate
//! stores the weights, quantized to integer *impacts*, as the term frequencies of an ordinary
//! Tantivy text field, and scores them with a query of its own. Everything Tantivy does to
//! segments (commit, delete, merge, reload, mmap, checksums) then works for learned-sparse
//! documents, beside the other fields of the same index. It knows no model: vectors come from
//! `laconic-model` or from anywhere else.
//!
//! | To | Use |
//! |---|---|
//! | make a vector | [`SparseVector`] |
//! | add a field to a schema | [`LaconicField::add_to`], [`text_options`] |
//! | create or open an index | [`create_in_dir`], [`open_in_dir`], or [`register`] on your own |
//! | add documents | [`BulkWriter`]; or your `IndexWriter` with [`SparseVector::to_json`] as text |
//! | give an index that exists a laconic field | [`Reindexer`] |
//! | search | [`LaconicQuery`], alone or in a `BooleanQuery`, with any collector |
//! | search by BM25 with your k1 and b | [`Bm25Query`] |
//! | search by both, filtered | [`HybridQuery`], [`CachedFilter`] |
//! | be fast, and page | [`LaconicTopK`] |
//! | make one ranking of several | [`Fusion`], [`RankedList`], [`complete_lists`] |
//! | read a query for BM25 and encoder at once | [`HybridParser`] |
//! | know why | [`LaconicQuery::contributions`], `Query::explain` |
//! | be sure | [`exhaustive_top_k`], [`check()`] |
//!
//! # With plain Tantivy calls
//!
//! Nothing here is compulsory but the field's options. An index built and opened by plain Tantivy
//! calls is the same index; only [`register`] has to be called before documents are added:
//!
//! ```
//! use laconic_tantivy::{Identity, LaconicField, LaconicQuery, SparseVector, register, text_options};
//! use tantivy::collector::TopDocs;
//! use tantivy::query::{BooleanQuery, Occur, QueryParser};
//! use tantivy::schema::{Schema, TEXT};
//! use tantivy::{Index, doc};
//!
//! let mut schema = Schema::builder();
//! let body = schema.add_text_field("body", TEXT);
//! let sparse = schema.add_text_field("sparse", text_options(&Identity::default()));
//! let mut index = Index::create_in_ram(schema.build());
//! register(&mut index)?;
//!
//! let mut writer = index.writer_with_num_threads(1, 15_000_000)?;
//! writer.add_document(doc!(body => "old tools", sparse => r#"{"Ġtool": 1.5, "Ġhammer": 0.5}"#))?;
//! writer.add_document(doc!(body => "old songs", sparse => r#"{"Ġsong": 1.5, "Ġmusic": 0.75}"#))?;
//! writer.commit()?;
//!
//! let field = LaconicField::find(&index.schema(), "sparse")?;
//! let learned = LaconicQuery::new(&field, SparseVector::from_json(r#"{"Ġmusic": 1.0}"#)?);
//! let words = QueryParser::for_index(&index, vec![body]).parse_query("old")?;
//! let both = BooleanQuery::new(vec![(Occur::Should, Box::new(learned)), (Occur::Should, words)]);
//! let hits = index.reader()?.searcher().search(&both, &TopDocs::with_limit(2).order_by_score())?;
//! assert_eq!(hits[0].1.doc_id, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Do not point a stock query parser at a laconic field: without field norms Tantivy's own
//! `TermQuery` prunes by a bound of zero and loses documents. Give a laconic field one value per
//! document: Tantivy adds up the impacts of several.
#![forbid(unsafe_code)]

mod bounds;
mod bulk;
mod check;
mod error;
mod field;
mod fusion;
mod identity;
mod index;
mod parser;
mod postings;
mod quantizer;
mod query;
mod reindex;
mod reorder;
mod stats;
mod tokenizer;
mod vector;
mod vector_json;

/// Compiles and runs the example of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/add-hybrid-search.md")]
struct AddHybridSearch;

/// And that of the guide for indexes that exist.
#[cfg(doctest)]
#[doc = include_str!("../../docs/reindex.md")]
struct Reindexing;

pub use bounds::BoundsPlugin;
pub use bulk::{BulkTotals, BulkWriter, MIN_MEMORY_BUDGET};
pub use check::{CheckReport, Problem, check};
pub use error::Error;
pub use field::{LaconicField, text_options};
pub use fusion::{DEFAULT_RANK_CONSTANT, FusedHit, Fusion, FusionPart, RankedList, complete_lists};
pub use identity::{Identity, ModelIdentity};
pub use index::{create_in_dir, open_in_dir, register};
pub use parser::{HybridParser, ParsedQuery};
pub use quantizer::{ImpactQuantizer, QuantizationLoss};
pub use query::{
    Approximation, Bm25, Bm25Query, CachedFilter, HybridQuery, LaconicQuery, LaconicTopK,
    SearchWork, SumQuery, TermContribution, TopHits, exhaustive_top_k,
};
pub use reindex::{
    ReindexJob, ReindexMode, ReindexPlan, ReindexProgress, ReindexReport, ReindexStep, ReindexUnit,
    Reindexer, UnitDocuments, UnitVectors, WorkReport,
};
pub use reorder::{OptimizeOptions, OptimizeProgress, OptimizeReport, OptimizeStep, optimize};
pub use stats::{FieldStats, IndexStats};
pub use tokenizer::LaconicTokenizer;
pub use vector::{MAX_TERM_BYTES, MAX_TERMS, SparseVector};
