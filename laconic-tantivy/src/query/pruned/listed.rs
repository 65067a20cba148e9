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

/// Rough costs in nanoseconds; only their ratios matter.
mod cost {
    /// Decoding a posting and finding out whether its document is a candidate.
    pub(super) const POSTING: u64 = 1;
    /// Finding a document in a posting list, beside decoding the block where it is.
    pub(super) const SEEK: u64 = 15;
    pub(super) const BLOCK: u64 = 40;
}

/// Documents are dropped for the first time after one in so many postings, then whenever there
/// are half as many again.
const FIRST_DROP: u64 = 24;

/// Evaluation of one query over listed documents of one segment.
pub(crate) struct Listed<'a> {
    terms: Vec<SegmentTerm<'a>>,
    mask: &'a Mask,
    docs: Range<DocId>,
}

/// Listed documents that can still get into the result.
struct Candidates<'a> {
    mask: &'a Mask,
    /// Place of the first document in `mask`.
    first_place: usize,
    /// Ascending.
    docs: Vec<DocId>,
    /// The same as bits.
    blocks: Vec<u64>,
    /// By place, of dropped documents too.
    sums: Vec<u32>,
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
        let mut candidates = Candidates::new(self.mask, self.docs.clone());
        let mut remaining = self.max_bound();
        let (mut passed, mut next_drop) = (0, n_postings(&self.terms) / FIRST_DROP);
        for (idx, term) in self.terms.iter().enumerate() {
            remaining = remaining.saturating_sub(term.max());
            work.postings_scored += candidates.add(term);
            passed += u64::from(term.list.doc_freq());
            if passed >= next_drop {
                next_drop = passed + passed / 2;
                let n_before = candidates.docs.len();
                let threshold = candidates.threshold(collector);
                candidates.drop_below(threshold, remaining);
                if candidates.docs.len() < n_before {
                    candidates.drop_by_block(threshold, &self.terms[idx + 1..]);
                }
                if candidates.docs.is_empty() {
                    break;
                }
            }
        }
        candidates.offer(collector);
        work
    }
}

impl<'a> Candidates<'a> {
    fn new(mask: &'a Mask, docs: Range<DocId>) -> Candidates<'a> {
        let first_place = mask.place(docs.start);
        let docs: Vec<DocId> = mask.docs(docs).collect();
        Candidates {
            mask,
            first_place,
            blocks: mask.blocks().to_vec(),
            sums: vec![0; docs.len()],
            docs,
        }
    }

    fn sum(&self, doc: DocId) -> u32 {
        let place = self.mask.place(doc).wrapping_sub(self.first_place);
        self.sums.get(place).copied().unwrap_or(0)
    }

    /// Adds what a term contributes, to dropped documents too perhaps. Returns to how many.
    fn add(&mut self, term: &SegmentTerm<'_>) -> u64 {
        let mut cursor = Cursor::new(term.list.clone(), term.contribution.clone());
        let (n_docs, doc_freq) = (self.docs.len() as u64, u64::from(term.list.doc_freq()));
        let n_blocks = n_docs.min(doc_freq.div_ceil(128));
        let (mask, first_place, sums) = (self.mask, self.first_place, &mut self.sums);
        let mut n_added = 0;
        let mut add = |doc, contribution| {
            let place = mask.place(doc).wrapping_sub(first_place);
            if let Some(sum) = sums.get_mut(place) {
                *sum = sum.wrapping_add(contribution);
                n_added += 1;
            }
        };
        if doc_freq * cost::POSTING <= n_docs * cost::SEEK + n_blocks * cost::BLOCK {
            let blocks = &self.blocks;
            cursor.for_each_where(
                |doc| {
                    let block = blocks.get((doc / u64::BITS) as usize);
                    block.copied().unwrap_or(0) >> (doc % u64::BITS) & 1 != 0
                },
                add,
            );
        } else {
            for &doc in &self.docs {
                if cursor.seek(doc) == doc {
                    add(doc, cursor.contribution());
                }
            }
        }
        n_added
    }

    /// The sum that a document needs to get into the result.
    fn threshold(&self, collector: &impl Collect) -> u32 {
        let sums = self.docs.iter().map(|&doc| self.sum(doc));
        collector.min_sum_among(&mut sums.collect())
    }

    /// Drops what cannot reach the threshold when `remaining` is the most it can still get.
    fn drop_below(&mut self, threshold: u32, remaining: u32) {
        self.retain(|_, sum| sum.saturating_add(remaining) >= threshold);
    }

    /// The same by the bounds of the blocks where the documents are.
    fn drop_by_block(&mut self, threshold: u32, rest: &[SegmentTerm<'_>]) {
        let scale = Scale::new(std::iter::empty());
        let mut without_rows: u32 = 0;
        let mut rows = Vec::with_capacity(rest.len());
        for term in rest {
            match term.row.filter(|term| term.row.level > 0) {
                Some(row) => rows.push(RowTerm::new(row, term.list.doc_freq(), scale)),
                None => without_rows = without_rows.saturating_add(term.max()),
            }
        }
        self.retain(|doc, sum| {
            let block = (doc >> BLOCK_BITS) as usize;
            let bounds = rows.iter().map(|row| row.block_bound(block));
            let bound = bounds.fold(sum, u32::saturating_add);
            bound.saturating_add(without_rows) >= threshold
        });
    }

    fn retain(&mut self, mut keeps: impl FnMut(DocId, u32) -> bool) {
        let mut docs = std::mem::take(&mut self.docs);
        docs.retain(|&doc| {
            let is_kept = keeps(doc, self.sum(doc));
            if let (false, Some(block)) = (is_kept, self.blocks.get_mut((doc / u64::BITS) as usize))
            {
                *block &= !(1 << (doc % u64::BITS));
            }
            is_kept
        });
        self.docs = docs;
    }

    fn offer(self, collector: &mut impl Collect) {
        for &doc in &self.docs {
            collector.collect(doc, &[self.sum(doc)]);
        }
    }
}
