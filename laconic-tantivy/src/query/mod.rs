//! [`LaconicQuery`] and Tantivy's three traits: query → weight → scorer.

mod best;
mod bm25_query;
mod cached_filter;
mod clause;
mod collect;
mod exhaustive;
mod explain;
mod filter;
mod filtered_scorer;
mod fixed_point;
mod hybrid_query;
mod mask;
mod open_segment;
mod pruned;
mod scorer;
mod segment;
mod sum_query;
mod sums;
mod sweep;
mod top_hits;
mod top_k;
mod two_step;
mod weight;
mod word;
mod word_row;

use std::sync::Arc;

use tantivy::Term;
use tantivy::query::{EnableScoring, Query, Weight};
use tantivy::schema::Field;

use crate::{LaconicField, ModelIdentity, SparseVector};

pub use bm25_query::{Bm25, Bm25Query};
pub use cached_filter::CachedFilter;
pub use exhaustive::exhaustive_top_k;
pub use explain::TermContribution;
pub use hybrid_query::HybridQuery;
pub use sum_query::SumQuery;
pub use top_hits::{Approximation, SearchWork, TopHits};
pub use top_k::LaconicTopK;

use sum_query::Parts;
use weight::SumWeight;

/// Scores documents by the dot product of their impacts with a query vector.
///
/// Matches the documents that share at least one term with the query. The score is
/// Σ impact/scale × query weight, summed in integers and rounded to `f32` once, so it is
/// bit-identical however the documents are segmented, merged, deleted around or searched in
/// parallel. It composes with `BooleanQuery`, `BoostQuery` and every collector.
///
/// ```
/// use laconic_tantivy::{Identity, LaconicField, LaconicQuery, SparseVector, register};
/// use tantivy::collector::TopDocs;
/// use tantivy::{Index, schema::Schema, doc};
///
/// let mut schema = Schema::builder();
/// let laconic = LaconicField::add_to(&mut schema, "laconic", Identity::default());
/// let mut index = Index::create_in_ram(schema.build());
/// register(&mut index)?;
///
/// let mut writer = index.writer_with_num_threads(1, 15_000_000)?;
/// let vector = SparseVector::from_pairs([("Ġsearch", 1.5), ("Ġsparse", 0.5)])?;
/// writer.add_document(doc!(laconic.field() => vector.to_json()))?;
/// writer.commit()?;
///
/// let query = LaconicQuery::new(&laconic, SparseVector::from_pairs([("Ġsearch", 2.0)])?);
/// let searcher = index.reader()?.searcher();
/// let hits = searcher.search(&query, &TopDocs::with_limit(10).order_by_score())?;
/// assert_eq!(hits[0].0, 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LaconicQuery {
    field: Field,
    vector: Arc<SparseVector>,
    terms: Arc<[Term]>,
    model: Option<ModelIdentity>,
}

impl LaconicQuery {
    /// A query with `vector` on `field`.
    pub fn new(field: &LaconicField, vector: SparseVector) -> LaconicQuery {
        let mut query = LaconicQuery {
            field: field.field(),
            vector: Arc::default(),
            terms: Arc::new([]),
            model: None,
        };
        query.set_vector(vector);
        query
    }

    fn set_vector(&mut self, vector: SparseVector) {
        let term = |(term, _)| Term::from_field_text(self.field, term);
        self.terms = vector.iter().map(term).collect();
        self.vector = Arc::new(vector);
    }

    /// States which model made the vector; searching an index of another model is then refused.
    #[must_use]
    pub fn encoded_by(mut self, model: ModelIdentity) -> LaconicQuery {
        self.model = Some(model);
        self
    }

    /// The query vector.
    pub fn vector(&self) -> &SparseVector {
        &self.vector
    }

    /// How one document's score comes about: each matching term with its impact, query weight
    /// and share, largest share first.
    ///
    /// # Errors
    /// As searching; `is_invalid_input` when `address` is not of this searcher.
    pub fn contributions(
        &self,
        searcher: &tantivy::Searcher,
        address: tantivy::DocAddress,
    ) -> Result<Vec<TermContribution>, crate::Error> {
        let reader = searcher
            .segment_readers()
            .get(address.segment_ord as usize)
            .ok_or_else(|| {
                crate::Error::invalid(format!("the index has no segment {}", address.segment_ord))
            })?;
        if address.doc_id >= reader.max_doc() {
            let (doc, max_doc) = (address.doc_id, reader.max_doc());
            return Err(crate::Error::invalid(format!(
                "segment {} has {max_doc} documents, none has number {doc}",
                address.segment_ord
            )));
        }
        let scoring = EnableScoring::disabled_from_schema(searcher.schema());
        let weight = SumWeight::new(&self.parts(), scoring)?;
        Ok(weight.contributions(reader, address.doc_id)?)
    }
}

impl SumQuery for LaconicQuery {
    fn parts(&self) -> Parts<'_> {
        Parts {
            learned: Some((self, 1.0)),
            ..Parts::default()
        }
    }
}

impl Query for LaconicQuery {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(SumWeight::new(&self.parts(), scoring)?))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        for term in self.terms.iter() {
            visitor(term, false);
        }
    }
}
