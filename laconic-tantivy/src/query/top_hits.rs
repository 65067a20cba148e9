//! What a search may leave out, what it found, and what it did.

use std::ops::AddAssign;

use tantivy::{DocAddress, Score};

/// How a search may depart from the exact result, by name. The default departs in nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Approximation {
    /// Find candidates by so many query terms, those of the largest weights, and score the
    /// candidates by all terms ("two-step SPLADE", Lassance et al. 2024).
    pub query_terms: Option<usize>,
    /// Pass over what cannot beat the threshold by this factor: 1.2 passes over more than 1, which
    /// is exact. A document that is missed has less than the last score times this factor.
    pub overestimate: Option<f32>,
    /// Evaluate about so many documents, the most promising ones. Segments without bounds, and
    /// indexes of no more documents, are searched exactly.
    pub max_documents: Option<u64>,
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchWork {
    /// Postings of the query terms in the index.
    pub postings: u64,
    /// Postings whose impact was added up.
    pub postings_scored: u64,
    /// Blocks of 64 documents of the index.
    pub blocks: u64,
    /// Blocks that were evaluated, where bounds were used.
    pub blocks_evaluated: u64,
}

/// The result of a search.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopHits {
    /// Best first.
    pub hits: Vec<(Score, DocAddress)>,
    /// What finding them took.
    pub work: SearchWork,
}

impl AddAssign for SearchWork {
    fn add_assign(&mut self, other: SearchWork) {
        self.postings += other.postings;
        self.postings_scored += other.postings_scored;
        self.blocks += other.blocks;
        self.blocks_evaluated += other.blocks_evaluated;
    }
}
