//! [`Corpus`]: the index that `laconic index` makes of a BEIR collection.
//!
//! | Field | Holds |
//! |---|---|
//! | `_id` | the document's id, stored, a fast column |
//! | `title` | the title alone, searchable by `title:…`, stored |
//! | `text` | title and body, what BM25 ranks by (one field, as BEIR's baselines do) |
//! | `body` | the body as given, stored only |
//! | `fields` | all further fields as JSON: searchable, stored, fast |
//! | `laconic` | impacts, unless the index was made without vectors |

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use laconic_tantivy::{Bm25Query, FusionPart, HybridParser, Identity, LaconicField};
use tantivy::columnar::StrColumn;
use tantivy::directory::{Directory, INDEX_WRITER_LOCK};
use tantivy::query::{Query, QueryParser};
use tantivy::query_grammar::{self, UserInputAst, UserInputLeaf};
use tantivy::schema::{
    FAST, Field, IndexRecordOption, JsonObjectOptions, OwnedValue, STORED, STRING, Schema, TEXT,
    TextFieldIndexing, Value,
};
use tantivy::{DocAddress, DocSet, Index, Score, Searcher, TERMINATED, TantivyDocument, Term};
use xxhash_rust::xxh3::xxh3_128;

use crate::collection::Document;
use crate::terminal::{MismatchError, UsageError};

/// Name of the laconic field.
pub const LACONIC_FIELD: &str = "laconic";

/// The index of a collection, opened.
#[derive(Clone)]
pub struct Corpus {
    index: Index,
    id: Field,
    title: Field,
    text: Field,
    body: Field,
    fields: Field,
    laconic: Option<LaconicField>,
}

/// A document read back from the index.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StoredDocument {
    /// The document's id.
    #[serde(rename = "_id")]
    pub id: String,
    /// The title, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The body.
    pub text: String,
}

/// A document found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The document's id.
    pub id: String,
    /// Its score.
    pub score: Score,
    /// Where it is, for this searcher.
    pub address: DocAddress,
    /// What each list adds to the score, where lists were fused.
    pub parts: Vec<FusionPart>,
}

impl Corpus {
    /// Creates an index in `dir`; with a laconic field if `identity` says what goes into it.
    ///
    /// # Errors
    /// When there is an index already or the directory cannot be written.
    pub fn create(dir: &Path, identity: Option<Identity>) -> Result<Corpus> {
        let mut schema = Schema::builder();
        schema.add_text_field("_id", STRING | STORED | FAST);
        schema.add_text_field("title", TEXT | STORED);
        schema.add_text_field("text", TEXT);
        schema.add_text_field("body", STORED);
        schema.add_json_field("fields", further_fields());
        if let Some(identity) = identity {
            LaconicField::add_to(&mut schema, LACONIC_FIELD, identity);
        }
        Corpus::of(laconic_tantivy::create_in_dir(dir, schema.build())?)
    }

    /// Opens the index in `dir`.
    ///
    /// # Errors
    /// When there is none, or it was not made by `laconic index`.
    pub fn open(dir: &Path) -> Result<Corpus> {
        Corpus::of(laconic_tantivy::open_in_dir(dir)?)
    }

    fn of(index: Index) -> Result<Corpus> {
        let schema = index.schema();
        let field = |name: &str| {
            schema.get_field(name).ok().with_context(|| {
                format!("the index has no field `{name}`; it was not made by `laconic index`")
            })
        };
        let laconic = match schema.get_field(LACONIC_FIELD) {
            Ok(field) => Some(LaconicField::of(&schema, field)?),
            Err(_) => None,
        };
        Ok(Corpus {
            id: field("_id")?,
            title: field("title")?,
            text: field("text")?,
            body: field("body")?,
            fields: field("fields")?,
            laconic,
            index,
        })
    }

    /// True if `dir` holds an index.
    pub fn exists(dir: &Path) -> bool {
        dir.join("meta.json").exists()
    }

    /// Makes room for another index if nothing was ever committed to this one: what a job leaves
    /// behind that failed on its first line. False if there is something to lose, or a writer.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn discard_if_unused(&self, dir: &Path) -> Result<bool> {
        let Ok(_lock) = self.index.directory().acquire_lock(&INDEX_WRITER_LOCK) else {
            return Ok(false);
        };
        let metas = self.index.load_metas()?;
        let is_unused = metas.segments.is_empty() && metas.opstamp == 0;
        if is_unused {
            std::fs::remove_file(dir.join("meta.json"))?;
        }
        Ok(is_unused)
    }

    /// Tantivy's index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The laconic field, if the index has one.
    pub fn laconic(&self) -> Option<&LaconicField> {
        self.laconic.as_ref()
    }

    /// The laconic field.
    ///
    /// # Errors
    /// When the index was made without vectors.
    pub fn require_laconic(&self) -> Result<&LaconicField> {
        match &self.laconic {
            Some(field) => Ok(field),
            None => Err(MismatchError(
                "the index was made without vectors; search it with `--mode bm25`, or make it \
                 anew with `--model` or `--vectors`",
            )
            .into()),
        }
    }

    /// A searcher over the last commit.
    ///
    /// # Errors
    /// Tantivy's.
    pub fn searcher(&self) -> Result<Searcher> {
        let reader = self
            .index
            .reader_builder()
            .reload_policy(tantivy::ReloadPolicy::Manual);
        Ok(reader.try_into()?.searcher())
    }

    /// Ids that more than one live document has; none in an index made by `laconic index`.
    ///
    /// # Errors
    /// Tantivy's, when a file is damaged.
    pub fn repeated_ids(&self) -> Result<Vec<String>> {
        let mut seen = HashSet::new();
        let mut repeated = Vec::new();
        for reader in self.searcher()?.segment_readers() {
            let inverted_index = reader.inverted_index(self.id)?;
            let mut ids = inverted_index.terms().stream()?;
            while ids.advance() {
                let (hash, option) = (xxh3_128(ids.key()), IndexRecordOption::Basic);
                let mut docs = inverted_index.read_postings_from_terminfo(ids.value(), option)?;
                while docs.doc() != TERMINATED {
                    if !reader.is_deleted(docs.doc()) && !seen.insert(hash) {
                        repeated.push(String::from_utf8_lossy(ids.key()).into_owned());
                    }
                    docs.advance();
                }
            }
        }
        Ok(repeated)
    }

    /// The term that names a document.
    pub fn id_term(&self, id: &str) -> Term {
        Term::from_field_text(self.id, id)
    }

    /// `document` as the index stores it, its vector aside.
    pub fn to_tantivy(&self, document: &Document) -> TantivyDocument {
        let mut stored = TantivyDocument::default();
        stored.add_text(self.id, &document.id);
        if let Some(title) = &document.title {
            stored.add_text(self.title, title);
            stored.add_text(self.text, title);
        }
        stored.add_text(self.text, &document.text);
        stored.add_text(self.body, &document.text);
        if !document.fields.is_empty() {
            let fields = serde_json::Value::Object(document.fields.clone());
            stored.add_field_value(self.fields, &OwnedValue::from(fields));
        }
        stored
    }

    /// Reads a document back.
    ///
    /// # Errors
    /// Tantivy's, when the store is damaged.
    pub fn document(&self, searcher: &Searcher, address: DocAddress) -> Result<StoredDocument> {
        let stored: TantivyDocument = searcher.doc(address)?;
        let text = |field: Field| {
            stored
                .get_first(field)
                .and_then(|value| value.as_str().map(str::to_owned))
        };
        Ok(StoredDocument {
            id: text(self.id).unwrap_or_default(),
            title: text(self.title),
            text: text(self.body).unwrap_or_default(),
        })
    }

    /// A BM25 query of the words of a plain text: no query syntax, every word optional, a word
    /// given twice counts twice.
    ///
    /// # Errors
    /// Tantivy's, when the field's tokenizer is not registered.
    pub fn bag_of_words(&self, text: &str) -> Result<Bm25Query> {
        Ok(Bm25Query::of_text(&self.index, &[(self.text, 1.0)], text)?)
    }

    /// A parser of queries in Tantivy's syntax: free words are sought in title and text, and names
    /// of further fields work as they are.
    ///
    /// # Errors
    /// Never for an index that `laconic index` made.
    pub fn parser(&self) -> Result<HybridParser> {
        let parser = HybridParser::for_index(&self.index, [(self.text, 1.0)])?;
        Ok(parser.with_further_fields(self.fields)?)
    }

    /// The field that BM25 ranks by.
    pub fn text_field(&self) -> Field {
        self.text
    }

    /// Parses a filter in Tantivy's query syntax. Words without a field are sought in title and
    /// text; names of further fields work as they are, also for ranges and sets, which Tantivy
    /// would not look for among them.
    ///
    /// # Errors
    /// When the filter cannot be parsed.
    pub fn filter(&self, filter: &str) -> Result<Box<dyn Query>> {
        let mut parser = QueryParser::for_index(&self.index, vec![self.text, self.fields]);
        parser.set_conjunction_by_default();
        let refused = |why: &str| UsageError(format!("cannot read the filter `{filter}`: {why}"));
        let mut syntax = query_grammar::parse_query(filter)
            .map_err(|_| refused("it is not in Tantivy's query syntax"))?;
        self.name_further_fields(&mut syntax);
        let query = parser.build_query_from_user_input_ast(syntax);
        Ok(query.map_err(|error| refused(&error.to_string()))?)
    }

    /// Puts `fields.` before every name that is no field of the schema.
    fn name_further_fields(&self, syntax: &mut UserInputAst) {
        let leaf = match syntax {
            UserInputAst::Clause(parts) => {
                return parts
                    .iter_mut()
                    .for_each(|(_, part)| self.name_further_fields(part));
            }
            UserInputAst::Boost(inner, _) => return self.name_further_fields(inner),
            UserInputAst::Leaf(leaf) => leaf.as_mut(),
        };
        let name = match leaf {
            UserInputLeaf::Literal(literal) => literal.field_name.as_mut(),
            UserInputLeaf::Range { field, .. }
            | UserInputLeaf::Set { field, .. }
            | UserInputLeaf::Regex { field, .. } => field.as_mut(),
            UserInputLeaf::Exists { field } => Some(field),
            UserInputLeaf::All => None,
        };
        if let Some(name) = name.filter(|name| self.index.schema().find_field(name).is_none()) {
            name.insert_str(0, "fields.");
        }
    }

    /// Hits with the ids of their documents.
    ///
    /// # Errors
    /// Tantivy's.
    pub fn found(&self, searcher: &Searcher, hits: Vec<(Score, DocAddress)>) -> Result<Vec<Found>> {
        let ids = Ids::open(searcher)?;
        hits.into_iter()
            .map(|(score, address)| {
                Ok(Found {
                    id: ids.id(address)?,
                    score,
                    address,
                    parts: Vec::new(),
                })
            })
            .collect()
    }
}

fn further_fields() -> JsonObjectOptions {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("default")
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    JsonObjectOptions::default()
        .set_stored()
        .set_fast("raw")
        .set_expand_dots_enabled()
        .set_indexing_options(indexing)
}

/// The `_id` columns of a searcher's segments, much faster than reading stored documents.
struct Ids(Vec<Option<StrColumn>>);

impl Ids {
    fn open(searcher: &Searcher) -> Result<Ids> {
        let columns = searcher
            .segment_readers()
            .iter()
            .map(|reader| reader.fast_fields().str("_id"));
        Ok(Ids(columns.collect::<tantivy::Result<_>>()?))
    }

    fn id(&self, address: DocAddress) -> Result<String> {
        let column = self
            .0
            .get(address.segment_ord as usize)
            .and_then(Option::as_ref);
        let column = column.context("the column `_id` is missing; run `laconic check`")?;
        let mut id = String::new();
        let ord = column.term_ords(address.doc_id).next();
        let ord = ord.with_context(|| format!("document {} has no id", address.doc_id))?;
        column.ord_to_str(ord, &mut id)?;
        Ok(id)
    }
}
