//! [`Listed`]: evaluation of listed documents, for when a filter lets few pass.
//!
//! Term-at-a-time over the listed documents alone. Terms that tell most for their postings come
//! first; from time to time the sums so far, which are lower bounds of scores, give a threshold,
//! and documents are dropped that cannot reach it with all the rest.

use std::cmp::Reverse;
use std::ops::Range;

use tantivy::DocId;

use super::row::{BLOCKS_PER_SUPERBLOCK, RowTerm};
use super::scale::Scale;
use crate::bounds::{BLOCK_BITS, SUPERBLOCK_BITS};
use crate::postings::Cursor;
use crate::query::collect::Collect;
use crate::query::mask::Mask;
use crate::query::segment::{SegmentTerm, n_postings};
use crate::query::top_hits::SearchWork;

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
const FIRST_DROP: u64 = 5;

/// With so many candidates a superblock, the bounds of all its blocks are added up at once.
const MANY_CANDIDATES: usize = 4;

/// Evaluation of one query over listed documents of one segment.
pub(crate) struct Listed<'a> {
    terms: Vec<SegmentTerm<'a>>,
    mask: &'a Mask,
    docs: Range<DocId>,
}

#[derive(Clone, Copy)]
struct Candidate {
    doc: DocId,
    place: u32,
}

/// Listed documents that can still get into the result.
struct Candidates {
    /// Ascending.
    left: Vec<Candidate>,
    /// The same as bits, by blocks of 64 documents, and all of them with the place of the first.
    blocks: Vec<u64>,
    listed: Vec<(u64, u32)>,
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
                let threshold = candidates.threshold(collector);
                candidates.drop_below(threshold, remaining);
                candidates.drop_by_block(threshold, &self.terms[idx + 1..]);
                if candidates.left.is_empty() {
                    break;
                }
            }
        }
        candidates.offer(collector);
        work
    }
}

impl Candidates {
    fn new(mask: &Mask, docs: Range<DocId>) -> Candidates {
        let mut listed = vec![(0u64, 0u32); mask.n_blocks()];
        let mut left = Vec::with_capacity(mask.max_docs() as usize);
        for (place, doc) in (0..).zip(mask.docs(docs)) {
            left.push(Candidate { doc, place });
            if let Some((block, first)) = listed.get_mut((doc >> BLOCK_BITS) as usize) {
                *first = if *block == 0 { place } else { *first };
                *block |= 1 << (doc % u64::BITS);
            }
        }
        Candidates {
            sums: vec![0; left.len()],
            left,
            blocks: listed.iter().map(|(block, _)| *block).collect(),
            listed,
        }
    }

    fn sum(&self, candidate: Candidate) -> u32 {
        self.sums
            .get(candidate.place as usize)
            .copied()
            .unwrap_or(0)
    }

    /// Adds what a term contributes, to dropped documents too perhaps. Returns to how many.
    fn add(&mut self, term: &SegmentTerm<'_>) -> u64 {
        let mut cursor = Cursor::new(term.list.clone(), term.contribution.clone());
        let (n_left, doc_freq) = (self.left.len() as u64, u64::from(term.list.doc_freq()));
        let n_blocks = n_left.min(doc_freq.div_ceil(128));
        let (mut n_added, sums) = (0, &mut self.sums);
        let mut add = |place: usize, contribution| {
            if let Some(sum) = sums.get_mut(place) {
                *sum = sum.wrapping_add(contribution);
                n_added += 1;
            }
        };
        if doc_freq * cost::POSTING <= n_left * cost::SEEK + n_blocks * cost::BLOCK {
            let (blocks, listed) = (&self.blocks, &self.listed);
            cursor.for_each_where(
                |doc| {
                    let block = blocks.get((doc / u64::BITS) as usize);
                    block.copied().unwrap_or(0) >> (doc % u64::BITS) & 1 != 0
                },
                |doc, contribution| {
                    let listed = listed.get((doc >> BLOCK_BITS) as usize);
                    let (block, first) = listed.copied().unwrap_or_default();
                    let before = block & !(u64::MAX << (doc % u64::BITS));
                    add((first + before.count_ones()) as usize, contribution);
                },
            );
        } else {
            for candidate in &self.left {
                if cursor.seek(candidate.doc) == candidate.doc {
                    add(candidate.place as usize, cursor.contribution());
                }
            }
        }
        n_added
    }

    /// The sum that a document needs to get into the result.
    fn threshold(&self, collector: &impl Collect) -> u32 {
        let sums = self.left.iter().map(|&candidate| self.sum(candidate));
        collector.min_sum_among(&mut sums.collect())
    }

    /// Drops what cannot reach the threshold when `remaining` is the most it can still get.
    fn drop_below(&mut self, threshold: u32, remaining: u32) {
        self.retain(|_, sum| sum.saturating_add(remaining) >= threshold);
    }

    /// The same by the bounds of the blocks where the documents are.
    fn drop_by_block(&mut self, threshold: u32, rest: &[SegmentTerm<'_>]) {
        let (Some(first), Some(last)) = (self.left.first(), self.left.last()) else {
            return;
        };
        let with_rows = rest
            .iter()
            .filter_map(|term| Some((term, term.row_with_cells()?)));
        let weights = with_rows.clone();
        let weights = weights.map(|(_, row)| (row.code_weight, row.code_bits));
        let scale = Scale::new(weights);
        let rows = with_rows.map(|(term, row)| RowTerm::new(row, term.list.doc_freq(), scale));
        let rows: Vec<RowTerm<'_>> = rows.collect();
        let without = rest.iter().filter(|term| term.row_with_cells().is_none());
        let others = without.fold(0, |sum: u32, term| sum.saturating_add(term.max()));
        let superblock = |candidate: &Candidate| (candidate.doc >> SUPERBLOCK_BITS) as usize;
        let superblocks = superblock(first)..superblock(last) + 1;
        let first_block = superblocks.start * BLOCKS_PER_SUPERBLOCK;
        let mut bounds = Vec::new();
        if self.left.len() > MANY_CANDIDATES * superblocks.len() {
            bounds.resize(superblocks.len() * BLOCKS_PER_SUPERBLOCK, 0u16);
            for row in &rows {
                row.add_block_bounds(std::slice::from_ref(&superblocks), &mut bounds);
            }
        }
        self.retain(|doc, sum| {
            let block = (doc >> BLOCK_BITS) as usize;
            let bound = match bounds.get(block - first_block) {
                Some(&scaled) => scale.to_sum(scaled, rows.len()),
                None => {
                    let bounds = rows.iter().map(|row| row.block_bound(block));
                    bounds.fold(0, u32::saturating_add)
                }
            };
            let sum = sum.saturating_add(others);
            sum.saturating_add(bound) >= threshold
        });
    }

    fn retain(&mut self, mut keeps: impl FnMut(DocId, u32) -> bool) {
        let (sums, blocks) = (&self.sums, &mut self.blocks);
        self.left.retain(|candidate| {
            let doc = candidate.doc;
            let sum = sums.get(candidate.place as usize).copied().unwrap_or(0);
            let is_kept = keeps(doc, sum);
            if let (false, Some(block)) = (is_kept, blocks.get_mut((doc / u64::BITS) as usize)) {
                *block &= !(1 << (doc % u64::BITS));
            }
            is_kept
        });
    }

    fn offer(self, collector: &mut impl Collect) {
        for &candidate in &self.left {
            collector.collect(candidate.doc, &[self.sum(candidate)]);
        }
    }
}
