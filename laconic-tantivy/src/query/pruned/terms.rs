//! [`Terms`]: the terms of a query in a segment, with their bounds.

use std::cmp::Reverse;
use std::ops::Range;

use tantivy::DocId;

use super::BLOCK;
use super::batch::Batch;
use super::decoded::Decoded;
use super::row::{BLOCKS_PER_SUPERBLOCK, RowTerm, runs};
use super::scale::Scale;
use super::windows::{Window, Windows};
use crate::bounds::{BLOCK_BITS, SUPERBLOCK_BITS};
use crate::postings::Cursor;
use crate::query::collect::max_of;
use crate::query::mask::Mask;
use crate::query::segment::{SegmentTerm, n_postings};

/// The terms of a query in a range of superblocks of a segment.
///
/// *Rare* terms have no row of bounds, so they are always summed. Of the others, those come first
/// whose postings tell most about the result: a large contribution for few postings. A prefix of
/// them is summed too; the rest is *bounded*, and its postings are read only where a block is
/// evaluated.
pub(super) struct Terms<'a> {
    rare: RareTerms,
    rows: Vec<RowTerm<'a>>,
    /// Of the terms in `rows`.
    cursors: Vec<Cursor>,
    /// So many have a row without cells: they are always summed.
    n_without_cells: usize,
    scale: Scale,
    n_postings: u64,
    /// Bounded terms of the block under evaluation, with their bounds.
    order: Vec<(u32, usize)>,
}

/// Where the order of documents lets bounds of superblocks prune, rare terms are decoded to get
/// such bounds; elsewhere they are only read once.
enum RareTerms {
    Decoded {
        postings: Decoded,
        /// The largest sum of the rare terms in each block of the range.
        maxima: Vec<u32>,
    },
    Cursors(Vec<Cursor>),
}

impl<'a> Terms<'a> {
    pub(super) fn new(terms: Vec<SegmentTerm<'a>>) -> Terms<'a> {
        let n_postings = n_postings(&terms);
        let with_rows = terms.iter().filter_map(|term| term.row);
        let scale = Scale::new(with_rows.map(|term| (term.code_weight, term.code_bits)));
        let (mut rare, mut rows) = (Vec::new(), Vec::with_capacity(terms.len()));
        for term in terms {
            match term.row {
                Some(row) => {
                    let row = RowTerm::new(row, term.list.doc_freq(), scale);
                    rows.push((row, term.list, term.contribution));
                }
                None => rare.push(Cursor::new(term.list, term.contribution)),
            }
        }
        rows.sort_unstable_by_key(|(row, ..)| row.rank_among_terms());
        // Cursors are large, so they come once there is nothing to sort any more.
        let cursor = |(row, list, contribution)| (row, Cursor::new(list, contribution));
        let (rows, cursors): (Vec<_>, Vec<_>) = rows.into_iter().map(cursor).unzip();
        Terms {
            rare: RareTerms::Cursors(rare),
            n_without_cells: rows.partition_point(|row| row.row.level == 0),
            rows,
            cursors,
            scale,
            n_postings,
            order: Vec::new(),
        }
    }

    pub(super) fn n_postings(&self) -> u64 {
        self.n_postings
    }

    pub(super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// How many terms to sum when the postings of all summed ones may be so many.
    pub(super) fn n_within(&self, n_postings: u64) -> usize {
        let mut sum = self.n_postings_summed(self.n_without_cells);
        let mut n = self.n_without_cells;
        while let Some(term) = self.rows.get(n) {
            sum += u64::from(term.doc_freq);
            if sum > n_postings {
                break;
            }
            n += 1;
        }
        n
    }

    /// Postings that are summed when the first `n_rows` terms with rows are.
    pub(super) fn n_postings_summed(&self, n_rows: usize) -> u64 {
        self.n_postings - self.n_postings_of(n_rows..self.rows.len())
    }

    /// Postings of some of the terms with rows.
    pub(super) fn n_postings_of(&self, rows: Range<usize>) -> u64 {
        let rows = self.rows.get(rows).unwrap_or_default().iter();
        rows.map(|term| u64::from(term.doc_freq)).sum()
    }

    /// Upper bounds of superblocks, in units of contributions. `is_ordered` says whether they are
    /// worth some work; `sums` is then room for a window, all 0.
    pub(super) fn superblock_bounds(
        &mut self,
        superblocks: &Range<usize>,
        is_ordered: bool,
        sums: &mut [u32],
    ) -> Vec<u32> {
        let mut scaled = vec![0u16; superblocks.len()];
        for term in &self.rows {
            term.add_superblock_bounds(superblocks.clone(), &mut scaled);
        }
        let mut bounds = vec![0u32; superblocks.len()];
        let RareTerms::Cursors(cursors) = &mut self.rare else {
            return bounds;
        };
        if is_ordered {
            let (start, end) = (doc_of(superblocks.start), doc_of(superblocks.end));
            let mut decoded = Decoded::default();
            for cursor in cursors.iter_mut() {
                cursor.approach(start);
            }
            for cursor in cursors {
                cursor.seek(start);
                decoded.read(cursor, end);
            }
            let mut maxima = vec![0; superblocks.len() * BLOCKS_PER_SUPERBLOCK];
            decoded.block_maxima(start, sums, &mut maxima);
            for (bound, maxima) in bounds.iter_mut().zip(maxima.chunks(BLOCKS_PER_SUPERBLOCK)) {
                *bound = max_of(maxima);
            }
            self.rare = RareTerms::Decoded {
                postings: decoded,
                maxima,
            };
        } else {
            let max = cursors.iter().map(|cursor| cursor.max_contribution());
            bounds.fill(max.fold(0, u32::saturating_add));
        }
        for (bound, scaled) in bounds.iter_mut().zip(scaled) {
            *bound = bound.saturating_add(self.scale.to_sum(scaled, self.rows.len()));
        }
        bounds
    }

    /// Sums the documents of the windows: of the rare terms, and of the first `n_rows` others.
    pub(super) fn sum_first(
        &mut self,
        n_rows: usize,
        windows: &Windows,
        sums: &mut [u32],
        n_scored: &mut u64,
    ) {
        let rows = &mut self.cursors[..n_rows];
        match &mut self.rare {
            RareTerms::Decoded { postings, .. } => {
                sums[..windows.n_docs()].fill(0);
                *n_scored += postings.accumulate(windows, sums) as u64;
                for window in windows.iter() {
                    sum(rows, window, sums, n_scored);
                }
            }
            RareTerms::Cursors(cursors) => {
                for window in windows.iter() {
                    sums[window.place.clone()].fill(0);
                    sum(cursors, window, sums, n_scored);
                    sum(rows, window, sums, n_scored);
                }
            }
        }
    }

    /// Adds some more terms with rows to the sums.
    pub(super) fn sum_more(
        &mut self,
        rows: Range<usize>,
        windows: &Windows,
        sums: &mut [u32],
        n_scored: &mut u64,
    ) {
        let cursors = &mut self.cursors[rows];
        for window in windows.iter() {
            sum(cursors, window, sums, n_scored);
        }
    }

    /// Those blocks of some superblocks that can reach `min_sum`, by the bounds of blocks alone,
    /// before anything is summed. Superblocks ascend, in a range that begins at `first`.
    ///
    /// In an ordered segment most blocks of a superblock whose bound is high have lower bounds: no
    /// document has all the terms that its documents have.
    pub(super) fn promising_blocks(
        &self,
        superblocks: &[usize],
        first: usize,
        min_sum: u32,
        mask: Option<&Mask>,
        blocks: &mut Vec<usize>,
    ) {
        let rare = match &self.rare {
            RareTerms::Decoded { maxima, .. } => maxima.as_slice(),
            RareTerms::Cursors(_) => &[],
        };
        let scaled = block_bounds(&self.rows, superblocks);
        let scaled = scaled.as_chunks::<BLOCKS_PER_SUPERBLOCK>().0.iter();
        for (&superblock, scaled) in superblocks.iter().zip(scaled) {
            let start = (superblock - first) * BLOCKS_PER_SUPERBLOCK;
            for (idx, scaled) in scaled.iter().enumerate() {
                let block = superblock * BLOCKS_PER_SUPERBLOCK + idx;
                // Without sums of rare terms, nothing is known.
                let rare = rare.get(start + idx).copied().unwrap_or(u32::MAX);
                let bound = self.scale.to_sum(*scaled, self.rows.len());
                let is_empty = mask.is_some_and(|mask| mask.block(block) == 0);
                if bound.saturating_add(rare) >= min_sum && !is_empty {
                    blocks.push(block);
                }
            }
        }
    }

    /// Bounds every block of a batch: by the largest of its `sums` and what the terms that are not
    /// in them can add.
    pub(super) fn bound_blocks(&self, batch: &mut Batch, sums: &[u32], mask: Option<&Mask>) {
        batch.rest.clear();
        batch.bounds.clear();
        let superblocks = batch.windows.superblocks();
        let scaled = block_bounds(&self.rows[batch.n_summed..], &superblocks);
        let n_terms = self.rows.len() - batch.n_summed;
        let mut at = 0;
        for window in batch.windows.iter() {
            let blocks = window.blocks.clone();
            while superblocks[at] < blocks.start / BLOCKS_PER_SUPERBLOCK {
                at += 1;
            }
            let first = at * BLOCKS_PER_SUPERBLOCK + blocks.start % BLOCKS_PER_SUPERBLOCK;
            let scaled = &scaled[first..first + blocks.len()];
            let sums = sums[window.place.clone()].chunks(BLOCK);
            let Some(mask) = mask else {
                for (sums, &scaled) in sums.zip(scaled) {
                    let rest = self.scale.to_sum(scaled, n_terms);
                    batch.rest.push(rest);
                    batch.bounds.push(max_of(sums).saturating_add(rest));
                }
                continue;
            };
            for ((block, sums), &scaled) in blocks.zip(sums).zip(scaled) {
                let rest = self.scale.to_sum(scaled, n_terms);
                batch.rest.push(rest);
                let max = max_of_masked(sums, mask.block(block));
                let bound = max.map_or(0, |max| rest.saturating_add(max));
                batch.bounds.push(bound);
            }
        }
    }

    /// Adds what the terms from row `first_row` on contribute to `candidates`, which ascend and are
    /// of one block, most important terms first. Drops those that cannot reach `min_sum`. Returns
    /// how many postings it added.
    pub(super) fn complete(
        &mut self,
        first_row: usize,
        block: usize,
        min_sum: u32,
        candidates: &mut Vec<Candidate>,
    ) -> u64 {
        self.order.clear();
        let mut remaining: u32 = 0;
        for (idx, term) in self.rows.iter().enumerate().skip(first_row) {
            let bound = term.block_bound(block);
            if bound > 0 {
                self.order.push((bound, idx));
                remaining = remaining.saturating_add(bound);
            }
        }
        self.order
            .sort_unstable_by_key(|&(bound, _)| Reverse(bound));
        let mut n_added = 0;
        for &(bound, idx) in &self.order {
            candidates.retain(|candidate| candidate.sum.saturating_add(remaining) >= min_sum);
            let Some(first) = candidates.first() else {
                break;
            };
            remaining = remaining.saturating_sub(bound);
            let cursor = &mut self.cursors[idx];
            cursor.seek_anywhere(first.doc);
            for candidate in candidates.iter_mut() {
                if cursor.seek(candidate.doc) == candidate.doc {
                    candidate.sum = candidate.sum.wrapping_add(cursor.contribution());
                    n_added += 1;
                }
            }
        }
        candidates.retain(|candidate| candidate.sum >= min_sum);
        n_added
    }
}

/// What some terms can add in each block of some superblocks, which ascend.
fn block_bounds(terms: &[RowTerm<'_>], superblocks: &[usize]) -> Vec<u16> {
    let mut bounds = vec![0; superblocks.len() * BLOCKS_PER_SUPERBLOCK];
    let runs = runs(superblocks.iter().copied());
    for term in terms {
        term.add_block_bounds(&runs, &mut bounds);
    }
    bounds
}

/// A document with what was summed of it so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) doc: DocId,
    pub(super) sum: u32,
}

/// The largest of those sums whose bits are set, or somewhat more; `None` where none is.
#[inline]
fn max_of_masked(sums: &[u32], mut mask: u64) -> Option<u32> {
    const MANY: u32 = 16;
    if mask == 0 {
        return None;
    }
    if mask.count_ones() >= MANY {
        return Some(max_of(sums));
    }
    let mut max = 0;
    while mask != 0 {
        max = sums
            .get(mask.trailing_zeros() as usize)
            .copied()
            .unwrap_or(0)
            .max(max);
        mask &= mask - 1;
    }
    Some(max)
}

#[inline]
fn sum(cursors: &mut [Cursor], window: &Window, sums: &mut [u32], n_scored: &mut u64) {
    let sums = &mut sums[window.place.clone()];
    for cursor in cursors.iter_mut() {
        cursor.approach(window.start);
    }
    for cursor in cursors {
        cursor.seek(window.start);
        *n_scored += cursor.accumulate(window.start, sums) as u64;
    }
}

/// The first document of a block.
pub(super) fn doc_of_block(block: usize) -> DocId {
    u32::try_from(block << BLOCK_BITS).unwrap_or(DocId::MAX)
}

/// The first document of a superblock.
fn doc_of(superblock: usize) -> DocId {
    u32::try_from(superblock << SUPERBLOCK_BITS).unwrap_or(DocId::MAX)
}
