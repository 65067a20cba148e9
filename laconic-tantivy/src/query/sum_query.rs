//! [`SumQuery`]: what [`LaconicTopK`](crate::LaconicTopK) searches.

use tantivy::query::Query;

use super::{Bm25Query, LaconicQuery};

/// A query whose score is a sum over posting lists: [`LaconicQuery`], [`Bm25Query`],
/// [`HybridQuery`](crate::HybridQuery), and no other.
pub trait SumQuery: Query {
    /// What the query is made of.
    #[doc(hidden)]
    fn parts(&self) -> Parts<'_>;
}

/// The parts of a query, each with its weight, and the filter they share. Nobody else can name it,
/// which is what keeps others from implementing the trait.
#[derive(Default)]
pub struct Parts<'q> {
    pub(super) learned: Option<(&'q LaconicQuery, f32)>,
    pub(super) words: Vec<(&'q Bm25Query, f32)>,
    pub(super) clauses: Vec<(&'q dyn Query, f32)>,
    pub(super) filter: Option<&'q dyn Query>,
}
