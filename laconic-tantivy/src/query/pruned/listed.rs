//! [`Listed`]: evaluation of listed documents, for when a filter lets few pass.
//!
//! Term-at-a-time over the listed documents alone. Terms that tell most for their postings come
//! first; from time to time the sums so far, which are lower bounds of scores, give a threshold,
//! and documents are dropped that cannot reach it with all the rest.

use std::cmp::Reverse;
use std::ops::Range;

use tantivy::DocId;

use super::row::RowTerm;
use super::scale::Scale;
use crate::bounds::BLOCK_BITS;
use crate::postings::Cursor;
use crate::query::collect::Collect;
use crate::query::filter::Mask;
use crate::query::segment::{SegmentTerm, n_postings};
use crate::query::top_k::SearchWork;

/// Rough costs in nanoseconds; only their ratio matters.
mod cost {
    /// Decoding a posting and finding out whether it is listed.
    pub(super) const POSTING: u64 = 1;
    /// Seeking one document in a posting list.
    pub(super) const SEEK: u64 = 30;
}

/// Documents are dropped for the first time after this share of the postings, then whenever as
/// many postings again were passed.
const FIRST_DROP: u64 = 16;

/// Evaluation of one query over listed documents of one segment.
pub(crate) struct Listed<'a> {
    terms: Vec<SegmentTerm<'a>>,
    mask: &'a Mask,
    docs: Range<DocId>,
}

/// A document with what was summed of it so far.
#[derive(Clone, Copy)]
struct Candidate {
    doc: DocId,
    sum: u32,
}

impl<'a> Listed<'a> {
    /// Among `docs`, those in `mask`.
    pub(in crate::query) fn new(
        mut terms: Vec<SegmentTerm<'a>>,
        mask: &'a Mask,
        docs: Range<DocId>,
    ) -> Listed<'a> {
        let benefit = |term: &SegmentTerm<'_>| {
            (u64::from(term.max()) << 20) / u64::from(term.list.doc_freq().max(1))
        };
        terms.sort_by_cached_key(|term| Reverse(benefit(term)));
        Listed { terms, mask, docs }
    }

    /// No document has a larger sum.
    pub(in crate::query) fn max_bound(&self) -> u32 {
        let maxima = self.terms.iter().map(SegmentTerm::max);
        maxima.fold(0, u32::saturating_add)
    }

    /// Offers every document that can matter to `collector`.
    pub(in crate::query) fn collect(self, collector: &mut impl Collect) -> SearchWork {
        let mut work = SearchWork::default();
        let mut candidates = Vec::with_capacity(self.mask.n_docs() as usize);
        let listed = self.mask.docs(self.docs.clone());
        candidates.extend(listed.map(|doc| Candidate { doc, sum: 0 }));
        // The place of a document among the candidates, as long as none was dropped.
        let first_place = self.mask.place(self.docs.start);
        let mut remaining = self.max_bound();
        let (mut passed, mut next_drop) = (0, n_postings(&self.terms) / FIRST_DROP);
        let mut are_all = true;
        for (idx, term) in self.terms.iter().enumerate() {
            remaining = remaining.saturating_sub(term.max());
            let doc_freq = u64::from(term.list.doc_freq());
            let mut cursor = Cursor::new(term.list.clone(), term.contribution.clone());
            if are_all && doc_freq * cost::POSTING < candidates.len() as u64 * cost::SEEK {
                work.postings_scored +=
                    add_all(&mut cursor, &mut candidates, self.mask, first_place);
            } else {
                work.postings_scored += add_sought(&mut cursor, &mut candidates);
            }
            passed += doc_freq;
            if passed >= next_drop {
                next_drop = 2 * passed;
                let n_before = candidates.len();
                drop_hopeless(&mut candidates, remaining, collector);
                if candidates.len() < n_before {
                    are_all = false;
                    drop_by_block(&mut candidates, &self.terms[idx + 1..], collector);
                }
                if candidates.is_empty() {
                    break;
                }
            }
        }
        for candidate in candidates {
            collector.collect(candidate.doc, &[candidate.sum]);
        }
        work
    }
}

/// Adds the postings of a list by looking at each.
#[inline]
fn add_all(
    cursor: &mut Cursor,
    candidates: &mut [Candidate],
    mask: &Mask,
    first_place: usize,
) -> u64 {
    let mut n_added = 0;
    cursor.for_each_where(
        |doc| mask.has(doc),
        |doc, contribution| {
            let place = mask.place(doc).wrapping_sub(first_place);
            if let Some(candidate) = candidates.get_mut(place) {
                candidate.sum = candidate.sum.wrapping_add(contribution);
                n_added += 1;
            }
        },
    );
    n_added
}

/// Adds the postings of a list by looking for each candidate.
fn add_sought(cursor: &mut Cursor, candidates: &mut [Candidate]) -> u64 {
    let mut n_added = 0;
    for candidate in candidates {
        if cursor.seek(candidate.doc) == candidate.doc {
            candidate.sum = candidate.sum.wrapping_add(cursor.contribution());
            n_added += 1;
        }
    }
    n_added
}

/// Drops what cannot get into the result when `remaining` is the most it can still get.
fn drop_hopeless(candidates: &mut Vec<Candidate>, remaining: u32, collector: &impl Collect) {
    let threshold = threshold(candidates, collector);
    candidates.retain(|candidate| candidate.sum.saturating_add(remaining) >= threshold);
}

/// The same by the bounds of the blocks where the candidates are.
fn drop_by_block(
    candidates: &mut Vec<Candidate>,
    rest: &[SegmentTerm<'_>],
    collector: &impl Collect,
) {
    let threshold = threshold(candidates, collector);
    let scale = Scale::new(std::iter::empty());
    let mut without_rows: u32 = 0;
    let mut rows = Vec::with_capacity(rest.len());
    for term in rest {
        match term.row.filter(|term| term.row.level > 0) {
            Some(row) => rows.push(RowTerm::new(row, term.list.doc_freq(), scale)),
            None => without_rows = without_rows.saturating_add(term.max()),
        }
    }
    candidates.retain(|candidate| {
        let block = (candidate.doc >> BLOCK_BITS) as usize;
        let bounds = rows.iter().map(|row| row.block_bound(block));
        let bound = bounds.fold(candidate.sum, u32::saturating_add);
        bound.saturating_add(without_rows) >= threshold
    });
}

/// The sum that a document needs to get into the result.
fn threshold(candidates: &[Candidate], collector: &impl Collect) -> u32 {
    let sums = candidates.iter().map(|candidate| candidate.sum);
    collector.min_sum_among(&mut sums.collect())
}
