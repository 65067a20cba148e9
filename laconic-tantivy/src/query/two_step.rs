//! Two-step search: candidates by a few query terms, exact scores by all.
//!
//! Lassance, Dejean, Clinchant, Tonellotto: "Two-Step SPLADE: Simple, Efficient and Effective
//! Approximation of SPLADE", ECIR 2024.

use std::sync::atomic::AtomicU32;

use tantivy::{DocAddress, Searcher};

use super::LaconicQuery;
use super::best::Best;
use super::top_k::{LaconicTopK, TopHits};
use crate::{Error, SparseVector};

/// Candidates per wanted document, and at least so many.
const CANDIDATES_PER_HIT: usize = 3;
const MIN_CANDIDATES: usize = 30;

pub(super) fn search(
    top_k: &LaconicTopK,
    searcher: &Searcher,
    query: &LaconicQuery,
    n_terms: usize,
) -> Result<TopHits, Error> {
    let n_candidates = top_k.k().saturating_mul(CANDIDATES_PER_HIT);
    let candidates = top_k.candidates(n_candidates.max(MIN_CANDIDATES));
    let found = candidates.search(searcher, &query.cut(n_terms)?)?;
    let weight = query.laconic_weight(searcher.schema())?;
    let threshold = AtomicU32::new(1);
    let mut best = Best::new(top_k.k().max(1), weight.score_of(), &threshold);
    let mut work = found.work;
    let mut addresses: Vec<DocAddress> = found.hits.into_iter().map(|(_, doc)| doc).collect();
    addresses.sort_unstable();
    for docs in addresses.chunk_by(|a, b| a.segment_ord == b.segment_ord) {
        let segment_ord = docs[0].segment_ord;
        let reader = searcher.segment_reader(segment_ord);
        best.enter_segment(segment_ord, reader);
        let mut sums = vec![0u32; docs.len()];
        for mut cursor in weight.cursors(reader)? {
            for (doc, sum) in docs.iter().zip(&mut sums) {
                if cursor.seek(doc.doc_id) == doc.doc_id {
                    *sum = sum.wrapping_add(cursor.contribution());
                    work.postings_scored += 1;
                }
            }
        }
        for (doc, sum) in docs.iter().zip(sums) {
            best.offer(doc.doc_id, sum);
        }
    }
    let mut hits = best.take_hits();
    hits.truncate(top_k.k());
    Ok(TopHits { hits, work })
}

impl LaconicQuery {
    /// The query with its `n_terms` largest weights, at least one.
    fn cut(&self, n_terms: usize) -> Result<LaconicQuery, Error> {
        let mut terms: Vec<(&str, f32)> = self.vector().iter().collect();
        terms.sort_by(|a, b| b.1.total_cmp(&a.1));
        terms.truncate(n_terms.max(1));
        let mut query = self.clone();
        query.set_vector(SparseVector::from_pairs(terms)?);
        Ok(query)
    }
}
