//! Two-step search: candidates by a few query terms, exact scores by all.
//!
//! Lassance, Dejean, Clinchant, Tonellotto: "Two-Step SPLADE: Simple, Efficient and Effective
//! Approximation of SPLADE", ECIR 2024.

use std::sync::atomic::AtomicU32;

use tantivy::query::EnableScoring;
use tantivy::{DocAddress, Searcher};

use super::LaconicQuery;
use super::filter::Admission;
use super::segment::EvaluationMode;
use super::sum_query::Parts;
use super::top_hits::TopHits;
use super::top_k::LaconicTopK;
use super::weight::SumWeight;
use crate::{Error, SparseVector};

/// Candidates per wanted document, and at least so many.
const CANDIDATES_PER_HIT: usize = 3;
const MIN_CANDIDATES: usize = 30;

pub(super) fn search(
    top_k: &LaconicTopK,
    searcher: &Searcher,
    parts: &Parts<'_>,
    n_terms: usize,
) -> Result<TopHits, Error> {
    let scoring = EnableScoring::enabled_from_searcher(searcher);
    let cut = parts
        .learned
        .map(|(query, factor)| Ok::<_, Error>((query.cut(n_terms)?, factor)));
    let cut = cut.transpose()?;
    let cut_parts = Parts {
        learned: cut.as_ref().map(|(query, factor)| (query, *factor)),
        words: parts.words.clone(),
        clauses: parts.clauses.clone(),
        filter: parts.filter,
    };
    let n_candidates = top_k.n_wanted().saturating_mul(CANDIDATES_PER_HIT);
    let candidates = top_k.candidates(n_candidates.max(MIN_CANDIDATES));
    let cut_weight = SumWeight::new(&cut_parts, scoring)?;
    let found = candidates.search_by_all_terms(searcher, &cut_weight)?;
    let weight = SumWeight::new(parts, scoring)?;
    let threshold = AtomicU32::new(1);
    let mut best = top_k.new_best(&weight, &threshold);
    let mut work = found.work;
    let mut addresses: Vec<DocAddress> = found.hits.into_iter().map(|(_, doc)| doc).collect();
    addresses.sort_unstable();
    for docs in addresses.chunk_by(|a, b| a.segment_ord == b.segment_ord) {
        let segment_ord = docs[0].segment_ord;
        let reader = searcher.segment_reader(segment_ord);
        // The candidates have passed the filter.
        best.enter_segment(segment_ord, Admission::default());
        let segment = weight.open(reader, EvaluationMode::Exhaustive)?;
        let mut sums = vec![0u32; docs.len()];
        for mut cursor in weight.cursors(&segment) {
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
    Ok(TopHits {
        hits: top_k.page(best),
        work,
    })
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
