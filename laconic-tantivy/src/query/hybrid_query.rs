//! [`HybridQuery`]: learned-sparse vectors and BM25 in one pass.

use std::sync::Arc;

use tantivy::Term;
use tantivy::query::{BooleanQuery, EnableScoring, Query, Weight};

use super::bm25_query::check_factor;
use super::sum_query::{Parts, SumQuery};
use super::weight::SumWeight;
use super::{Bm25Query, LaconicQuery};
use crate::Error;

/// Scores documents by a weighted sum of parts: a learned-sparse query, BM25 queries, and any
/// other Tantivy queries, among the documents that pass a filter.
///
/// Matches the documents that at least one part matches. All parts are evaluated together, with
/// one bound for their sum, so documents that are good in both parts alone make the others be
/// passed over. The result is exact: that of scoring every part exhaustively and adding up. It is
/// summed in integers, like that of [`LaconicQuery`], so it does not depend on how the documents
/// are segmented (BM25's statistics of deleted documents aside).
///
/// ```
/// use laconic_tantivy::{
///     Bm25Query, HybridQuery, Identity, LaconicField, LaconicQuery, LaconicTopK, SparseVector,
///     register,
/// };
/// use tantivy::schema::{Schema, TEXT};
/// use tantivy::{Index, doc};
///
/// let mut schema = Schema::builder();
/// let body = schema.add_text_field("body", TEXT);
/// let laconic = LaconicField::add_to(&mut schema, "laconic", Identity::default());
/// let mut index = Index::create_in_ram(schema.build());
/// register(&mut index)?;
/// let mut writer = index.writer_with_num_threads(1, 15_000_000)?;
/// for (text, vector) in [
///     ("old tools", r#"{"Ġtool": 1.5, "Ġhammer": 0.5}"#),
///     ("old songs", r#"{"Ġsong": 1.5, "Ġmusic": 0.75}"#),
/// ] {
///     writer.add_document(doc!(body => text, laconic.field() => vector))?;
/// }
/// writer.commit()?;
///
/// let learned = LaconicQuery::new(&laconic, SparseVector::from_json(r#"{"Ġmusic": 1.0}"#)?);
/// let words = Bm25Query::of_text(&index, &[(body, 1.0)], "old music")?;
/// let query = HybridQuery::new().learned(learned, 0.7)?.words(words, 0.3)?;
/// let top = LaconicTopK::new(10).search(&index.reader()?.searcher(), &query)?;
/// assert_eq!(top.hits[0].1.doc_id, 1);
/// assert_eq!(top.hits.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct HybridQuery {
    learned: Option<(LaconicQuery, f32)>,
    words: Vec<(Bm25Query, f32)>,
    clauses: Vec<(Arc<dyn Query>, f32)>,
    filter: Option<Arc<dyn Query>>,
}

impl HybridQuery {
    /// A query without parts, which matches nothing.
    pub fn new() -> HybridQuery {
        HybridQuery::default()
    }

    /// Adds the learned-sparse part, in the place of an earlier one. A part of weight 0 is left
    /// out.
    ///
    /// # Errors
    /// `is_invalid_input` for a weight that is negative or not finite.
    pub fn learned(mut self, query: LaconicQuery, weight: f32) -> Result<HybridQuery, Error> {
        check_factor(weight, || "the weight of the learned part".to_owned())?;
        self.learned = Some((query, weight)).filter(|(_, weight)| *weight > 0.0);
        Ok(self)
    }

    /// Adds a BM25 part.
    ///
    /// # Errors
    /// As [`learned`](HybridQuery::learned).
    pub fn words(mut self, query: Bm25Query, weight: f32) -> Result<HybridQuery, Error> {
        check_factor(weight, || "the weight of a BM25 part".to_owned())?;
        if weight > 0.0 {
            self.words.push((query, weight));
        }
        Ok(self)
    }

    /// Adds any Tantivy query, a phrase for example, with its own scores. If it is nothing but
    /// optional terms it becomes a BM25 part, which is pruned; otherwise all its matches are
    /// scored, so it should be selective. Its scores have to be finite and not negative.
    ///
    /// # Errors
    /// As [`learned`](HybridQuery::learned).
    pub fn clause(mut self, query: Box<dyn Query>, weight: f32) -> Result<HybridQuery, Error> {
        check_factor(weight, || "the weight of a clause".to_owned())?;
        if weight > 0.0 {
            self.clauses.push((Arc::from(query), weight));
        }
        Ok(self)
    }

    /// Multiplies the weights of all parts.
    ///
    /// # Errors
    /// As [`learned`](HybridQuery::learned).
    pub fn scaled(mut self, factor: f32) -> Result<HybridQuery, Error> {
        check_factor(factor, || "a factor of weights".to_owned())?;
        let weights = self.learned.iter_mut().map(|(_, weight)| weight);
        let weights = weights.chain(self.words.iter_mut().map(|(_, weight)| weight));
        for weight in weights.chain(self.clauses.iter_mut().map(|(_, weight)| weight)) {
            *weight *= factor;
        }
        self.learned = self.learned.filter(|(_, weight)| *weight > 0.0);
        self.words.retain(|(_, weight)| *weight > 0.0);
        self.clauses.retain(|(_, weight)| *weight > 0.0);
        Ok(self)
    }

    /// Only documents that match `query` too, and earlier filters. Its scores are not used, and it
    /// alone matches nothing.
    #[must_use]
    pub fn filter(mut self, query: Box<dyn Query>) -> HybridQuery {
        self.filter = Some(match self.filter {
            None => Arc::from(query),
            Some(earlier) => Arc::new(BooleanQuery::intersection(vec![earlier.box_clone(), query])),
        });
        self
    }
}

impl From<LaconicQuery> for HybridQuery {
    fn from(query: LaconicQuery) -> HybridQuery {
        HybridQuery {
            learned: Some((query, 1.0)),
            ..HybridQuery::default()
        }
    }
}

impl From<Bm25Query> for HybridQuery {
    fn from(query: Bm25Query) -> HybridQuery {
        HybridQuery {
            words: vec![(query, 1.0)],
            ..HybridQuery::default()
        }
    }
}

impl SumQuery for HybridQuery {
    fn parts(&self) -> Parts<'_> {
        let learned = self.learned.as_ref();
        let words = self.words.iter();
        let clauses = self.clauses.iter();
        Parts {
            learned: learned.map(|(query, weight)| (query, *weight)),
            words: words.map(|(query, weight)| (query, *weight)).collect(),
            clauses: clauses
                .map(|(query, weight)| (query.as_ref(), *weight))
                .collect(),
            filter: self.filter.as_deref(),
        }
    }
}

impl Query for HybridQuery {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(SumWeight::new(&self.parts(), scoring)?))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        if let Some((learned, _)) = &self.learned {
            learned.query_terms(visitor);
        }
        for (words, _) in &self.words {
            words.query_terms(visitor);
        }
        for (clause, _) in &self.clauses {
            clause.query_terms(visitor);
        }
    }
}
