//! [`Pruned`]: evaluation guided by upper bounds.
//!
//! The terms of a query are split in two, as in MaxScore (Turtle and Flood, 1995): few postings
//! that tell most are summed document by document, the frequent rest is bounded block by block.
//! Both together bound every block much more tightly than block maxima alone, and only documents
//! that can matter, the most promising first, are completed with the postings of the rest.
//!
//! Documents are taken in batches of superblocks. In a segment whose order brings documents with
//! common terms together, bounds of superblocks come first: they choose a small first batch, whose
//! threshold rules out most of the others, and most blocks of what is left, before anything of them
//! is summed.

mod batch;
mod decoded;
mod listed;
mod row;
mod scale;
mod terms;
mod windows;

use std::cmp::Reverse;
use std::ops::Range;

use tantivy::DocId;

use super::collect::Collect;
use super::mask::Mask;
use super::segment::{Place, SegmentTerm};
use super::sums::Sums;
use super::sweep::WINDOW;
use super::top_hits::SearchWork;
use crate::bounds::{BLOCK_BITS, SUPERBLOCK_BITS, SUPERBLOCK_LEVELS};
pub(super) use listed::Listed;

use batch::Batch;
use terms::{Candidate, Terms};
use windows::Windows;

const BLOCK: usize = 1 << BLOCK_BITS;

/// Superblocks of a batch: a megabyte of sums.
const BATCH: usize = 1 << (18 - SUPERBLOCK_BITS);

/// One in so many superblocks is in the first batch, where bounds tell superblocks apart.
const FIRST_BATCH_SHARE: usize = 64;
const MIN_FIRST_BATCH: usize = 3;
/// Where a filter leaves few documents, the best of them are spread over more.
const FIRST_MASKED_BATCH_SHARE: usize = 32;

/// Blocks that are completed in the order of their bounds, at least.
const MOST_PROMISING: usize = 16;

/// Share of the postings that are summed in that first batch: as there is no threshold yet, all
/// terms of its best documents have to be looked at anyway.
const FIRST_SUMMED_SHARE: f64 = 0.4;

/// Share of the postings that are summed elsewhere, as a multiple of the root of the share of
/// documents that is wanted. The best for ten of 50,000 and of 200,000 and a hundred of 200,000
/// lies close to this; it matters little.
const SUMMED_SHARE: f64 = 16.0;
const MIN_SUMMED_SHARE: f64 = 0.1;
const MAX_SUMMED_SHARE: f64 = 0.5;

/// From so many terms on, a larger share.
const MANY_TERMS: f64 = 128.0;

/// Where no more than one block in so many can matter, sums are taken block by block. More of them
/// stand so close that whole superblocks, which have fewer beginnings to find, take less time.
const MAX_SCATTERED: usize = 8;

/// Rough costs in nanoseconds, from `benches/search.rs`; only their ratios matter.
mod cost {
    /// Adding up one posting in a window.
    pub(super) const POSTING: u64 = 2;
    /// Finding one term's postings of a window, beyond those themselves.
    pub(super) const TERM_OF_WINDOW: u64 = 120;
    /// Finding one term of one document, with the block of postings that it is in.
    pub(super) const TERM_OF_DOCUMENT: u64 = 200;
    /// Completing a block in which most terms turn out not to be needed, and each term's share.
    pub(super) const BLOCK: u64 = 400;
    pub(super) const TERM_IN_BLOCK: u64 = 15;
}

/// Evaluation of one query over a range of superblocks of one segment.
pub(crate) struct Pruned<'a> {
    terms: Terms<'a>,
    superblocks: Range<usize>,
    /// Upper bounds of `superblocks`; 0 for what is done.
    bounds: Vec<u32>,
    is_ordered: bool,
    max_doc: DocId,
    /// Other documents cannot be in the result.
    mask: Option<&'a Mask>,
    overestimate: f32,
    sums: Sums,
    candidates: Vec<Candidate>,
    work: SearchWork,
}

impl<'a> Pruned<'a> {
    /// Prepares the evaluation: reads the bounds of the superblocks.
    pub(super) fn new(
        terms: Vec<SegmentTerm<'a>>,
        place: Place<'a>,
        superblocks: Range<usize>,
    ) -> Pruned<'a> {
        let Place {
            max_doc,
            is_ordered,
            mask,
        } = place;
        let mut terms = Terms::new(terms);
        let mut sums = Sums::default();
        if is_ordered {
            sums.make_room(WINDOW);
            sums.as_mut_slice()[..WINDOW].fill(0);
        }
        let window = sums.as_mut_slice().get_mut(..WINDOW).unwrap_or_default();
        let mut bounds = terms.superblock_bounds(&superblocks, is_ordered, window);
        if let Some(mask) = mask {
            for (superblock, bound) in superblocks.clone().zip(&mut bounds) {
                let blocks = superblock << SUPERBLOCK_LEVELS;
                if mask.is_empty(blocks..blocks + (1 << SUPERBLOCK_LEVELS)) {
                    *bound = 0;
                }
            }
        }
        // A query prepares many segments before it evaluates the first: they share the room.
        drop(sums);
        Pruned {
            terms,
            superblocks,
            bounds,
            is_ordered,
            max_doc,
            mask,
            overestimate: 1.0,
            sums: Sums::default(),
            candidates: Vec::new(),
            work: SearchWork::default(),
        }
    }

    /// Passes over what cannot beat the threshold by this factor.
    pub(crate) fn overestimate(&mut self, factor: f32) {
        self.overestimate = factor;
    }

    /// No document has a larger sum.
    pub(crate) fn max_bound(&self) -> u32 {
        self.bounds.iter().copied().max().unwrap_or(0)
    }

    /// Offers every document that can matter to `collector`.
    pub(crate) fn collect(mut self, collector: &mut impl Collect) -> SearchWork {
        let mut batch_len = BATCH;
        if !collector.takes_any_order() {
            // Only an earlier batch tells which documents can be passed over.
            batch_len = WINDOW >> SUPERBLOCK_BITS;
        } else if self.is_ordered {
            let share = match self.mask {
                None => FIRST_BATCH_SHARE,
                Some(_) => FIRST_MASKED_BATCH_SHARE,
            };
            let n = self.bounds.len() / share;
            let first = self.take_most_promising(n.clamp(MIN_FIRST_BATCH, BATCH));
            self.evaluate(first, usize::MAX, collector);
        }
        let mut next = 0;
        while next < self.bounds.len() {
            let windows = self.next_windows(&mut next, batch_len, collector);
            self.evaluate(windows, usize::MAX, collector);
        }
        self.work
    }

    /// What can matter from superblock number `next` on, as much as `n` superblocks have blocks.
    fn next_windows(&self, next: &mut usize, n: usize, collector: &impl Collect) -> Windows {
        let first = self.superblocks.start;
        let min_sum = self.min_sum(collector);
        let above = |next: &mut usize, n: usize| {
            let mut superblocks = Vec::with_capacity(n.min(self.bounds.len()));
            while *next < self.bounds.len() && superblocks.len() < n {
                if self.bounds[*next] >= min_sum {
                    superblocks.push(first + *next);
                }
                *next += 1;
            }
            superblocks
        };
        if !self.is_ordered || min_sum <= 1 {
            return Windows::of_superblocks(above(next, n).into_iter(), self.max_doc);
        }
        let n_blocks = n << SUPERBLOCK_LEVELS;
        let (mut blocks, mut n_superblocks) = (Vec::new(), 0);
        while *next < self.bounds.len() && blocks.len() < n_blocks {
            let n = (n_blocks - blocks.len()).div_ceil(1 << SUPERBLOCK_LEVELS);
            let superblocks = above(next, n);
            n_superblocks += superblocks.len();
            self.terms
                .promising_blocks(&superblocks, first, min_sum, self.mask, &mut blocks);
            if blocks.len() * MAX_SCATTERED > n_superblocks << SUPERBLOCK_LEVELS {
                let superblocks = blocks.iter().map(|block| block >> SUPERBLOCK_LEVELS);
                let mut superblocks: Vec<usize> = superblocks.collect();
                superblocks.dedup();
                if superblocks.len() <= n {
                    return Windows::of_superblocks(superblocks.into_iter(), self.max_doc);
                }
                break;
            }
        }
        Windows::of(blocks.into_iter(), self.max_doc)
    }

    /// Offers documents of about `n_blocks` blocks, those with the highest bounds first.
    pub(crate) fn collect_most_promising(
        mut self,
        n_blocks: usize,
        collector: &mut impl Collect,
    ) -> SearchWork {
        let mut n_left = n_blocks;
        while n_left > 0 {
            let batch = self.take_most_promising(BATCH);
            if batch.n_docs() == 0 {
                break;
            }
            n_left -= self.evaluate(batch, n_left, collector).min(n_left);
        }
        self.work
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "only the approximate factor goes through a float; the cast saturates"
    )]
    fn min_sum(&self, collector: &impl Collect) -> u32 {
        let min_sum = collector.min_sum();
        if self.overestimate > 1.0 {
            return (min_sum as f32 * self.overestimate) as u32;
        }
        min_sum
    }

    /// Up to `n` superblocks that are not done, those with the highest bounds. They are done then.
    fn take_most_promising(&mut self, n: usize) -> Windows {
        let left = (0..self.bounds.len()).filter(|&idx| self.bounds[idx] > 0);
        let mut left: Vec<usize> = left.collect();
        if n < left.len() {
            left.select_nth_unstable_by_key(n, |&idx| Reverse(self.bounds[idx]));
            left.truncate(n);
            left.sort_unstable();
        }
        for &idx in &left {
            self.bounds[idx] = 0;
        }
        let first = self.superblocks.start;
        Windows::of_superblocks(left.iter().map(|idx| first + idx), self.max_doc)
    }

    /// How many terms to sum in a batch of `n_docs` documents.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share needs no more precision"
    )]
    fn n_summed(&self, n_docs: usize, collector: &impl Collect) -> usize {
        let wanted = collector.n_wanted().max(10) as f64 / f64::from(self.max_doc.max(1));
        // In an order without structure, bounds of blocks tell less.
        let factor = if self.is_ordered { 1.0 } else { 2.0 };
        // So do sums of very many bounds.
        let factor = factor * (self.terms.n_rows() as f64 / MANY_TERMS).max(1.0);
        let share = (wanted.sqrt() * SUMMED_SHARE).max(MIN_SUMMED_SHARE) * factor;
        let mut share = share.min(MAX_SUMMED_SHARE);
        if self.min_sum(collector) <= 1 && n_docs < self.max_doc as usize / 8 {
            share = share.max(FIRST_SUMMED_SHARE);
        }
        let n_postings = self.terms.n_postings() as f64 * share;
        self.terms.n_within(n_postings as u64)
    }

    /// Offers what can matter in some blocks, but from no more than `max_blocks` of them. Returns
    /// from how many.
    fn evaluate(
        &mut self,
        windows: Windows,
        max_blocks: usize,
        collector: &mut impl Collect,
    ) -> usize {
        let n_summed = self.n_summed(windows.n_docs(), collector);
        let mut batch = Batch::new(windows, n_summed);
        self.sums.make_room(batch.windows.n_docs());
        let (sums, n_scored) = (self.sums.as_mut_slice(), &mut self.work.postings_scored);
        self.terms
            .sum_first(n_summed, &batch.windows, sums, n_scored);
        if max_blocks < usize::MAX {
            self.bound_blocks(&mut batch);
            return self.complete_most_promising(&mut batch, max_blocks, collector);
        }
        if n_summed == self.terms.n_rows() || !self.may_pay(&batch, collector) {
            return self.sweep(&mut batch, collector);
        }
        loop {
            self.bound_blocks(&mut batch);
            if self.min_sum(collector) <= 1 {
                self.complete_first(&mut batch, collector);
            }
            let completing = self.completing_cost(&batch, collector);
            if completing >= self.sweep_cost(&batch, self.terms.n_rows()) {
                return self.sweep(&mut batch, collector);
            }
            // Twice the sums leave less than half the candidates, if they leave many.
            let n_postings = self.terms.n_postings_summed(batch.n_summed);
            let more = self.terms.n_within(2 * n_postings);
            if completing < 2 * self.sweep_cost(&batch, more) || more == batch.n_summed {
                break;
            }
            self.sum_more(&mut batch, more);
        }
        match collector.takes_any_order() {
            true => self.complete_most_promising(&mut batch, max_blocks, collector),
            false => self.complete_in_order(&batch, collector),
        }
    }

    fn bound_blocks(&mut self, batch: &mut Batch) {
        let sums = self.sums.as_mut_slice();
        self.terms.bound_blocks(batch, sums, self.mask);
    }

    /// Sums the terms up to row `n_rows` as well.
    fn sum_more(&mut self, batch: &mut Batch, n_rows: usize) {
        let (sums, n_scored) = (self.sums.as_mut_slice(), &mut self.work.postings_scored);
        let rows = batch.n_summed..n_rows;
        self.terms.sum_more(rows, &batch.windows, sums, n_scored);
        batch.n_summed = n_rows;
    }

    /// What it takes to sum the terms up to row `n_rows` as well.
    fn sweep_cost(&self, batch: &Batch, n_rows: usize) -> u64 {
        let n_postings = self.terms.n_postings_of(batch.n_summed..n_rows);
        let n_docs = batch.windows.n_docs() as u64;
        let adding = n_postings.saturating_mul(n_docs) / u64::from(self.max_doc.max(1));
        let finding = (n_rows - batch.n_summed) as u64 * batch.windows.len() as u64;
        adding * cost::POSTING + finding * cost::TERM_OF_WINDOW
    }

    /// Whether it can pay to bound the blocks of a batch: without a threshold, finding one must be
    /// worth it.
    fn may_pay(&self, batch: &Batch, collector: &impl Collect) -> bool {
        if self.min_sum(collector) > 1 {
            return true;
        }
        let n_bounded = (self.terms.n_rows() - batch.n_summed) as u64;
        let n_terms = n_bounded.saturating_mul(n_first(collector) as u64);
        let finding = n_terms.saturating_mul(cost::TERM_OF_DOCUMENT);
        collector.takes_any_order() && finding < self.sweep_cost(batch, self.terms.n_rows())
    }

    /// What it takes to complete the blocks that can matter.
    fn completing_cost(&self, batch: &Batch, collector: &impl Collect) -> u64 {
        let min_sum = self.min_sum(collector);
        let n_blocks = batch.bounds.iter().filter(|bound| **bound >= min_sum);
        let n_bounded = (self.terms.n_rows() - batch.n_summed) as u64;
        let cost = n_blocks.count() as u64 * (cost::BLOCK + n_bounded * cost::TERM_IN_BLOCK);
        match self.mask {
            None => cost,
            // Most documents of the blocks do not pass.
            Some(_) => cost / 2,
        }
    }

    /// Sums the rest of the terms and offers every document.
    fn sweep(&mut self, batch: &mut Batch, collector: &mut impl Collect) -> usize {
        self.sum_more(batch, self.terms.n_rows());
        let sums = self.sums.as_mut_slice();
        for &place in &batch.offered {
            if let Some(sum) = sums.get_mut(place) {
                *sum = 0;
            }
        }
        for window in batch.windows.iter() {
            collector.collect(window.start, &sums[window.place.clone()]);
        }
        let n_blocks = batch.windows.n_docs().div_ceil(BLOCK);
        self.work.blocks_evaluated += n_blocks as u64;
        n_blocks
    }

    /// Completes about as many documents as are wanted, those with the highest bounds, to get a
    /// threshold.
    fn complete_first(&mut self, batch: &mut Batch, collector: &mut impl Collect) {
        let mut places: Vec<usize> = (0..batch.bounds.len()).collect();
        let by_bound = |place: &usize| Reverse(batch.bounds[*place]);
        let n_first = n_first(collector);
        if n_first >= places.len() {
            return;
        }
        // Every document of a block would matter without a threshold, but not so much as the best
        // ones of other blocks.
        let (first, nth, _) = places.select_nth_unstable_by_key(n_first, by_bound);
        let above = batch.bounds[*nth].saturating_add(1);
        first.sort_unstable_by_key(by_bound);
        // What was offered before is searched meanwhile, so it has to stay in order.
        let mut offered = Vec::new();
        for &place in first.iter() {
            self.complete_block(batch, place, above, collector);
            for candidate in &self.candidates {
                let offset = candidate.doc as usize % BLOCK;
                offered.push(place * BLOCK + offset);
            }
        }
        batch.offered.extend(offered);
        batch.offered.sort_unstable();
    }

    /// Completes blocks as long as they can matter, those with the highest bounds first.
    fn complete_most_promising(
        &mut self,
        batch: &mut Batch,
        max_blocks: usize,
        collector: &mut impl Collect,
    ) -> usize {
        let min_sum = self.min_sum(collector);
        let places = (0..batch.bounds.len()).filter(|&place| batch.bounds[place] >= min_sum);
        let mut places: Vec<usize> = places.collect();
        let by_bound = |place: &usize| Reverse(batch.bounds[*place]);
        let n_first = n_first(collector).max(MOST_PROMISING).min(places.len());
        if n_first < places.len() {
            places.select_nth_unstable_by_key(n_first, by_bound);
        }
        // The most promising ones raise the threshold; the others then come as they lie in memory.
        let (first, others) = places.split_at_mut(n_first);
        first.sort_unstable_by_key(by_bound);
        if max_blocks == usize::MAX {
            others.sort_unstable();
        } else {
            others.sort_unstable_by_key(by_bound);
        }
        let mut n_completed = 0;
        for &place in &places {
            if n_completed >= max_blocks {
                break;
            }
            if batch.bounds[place] >= self.min_sum(collector) {
                self.complete_block(batch, place, 0, collector);
                n_completed += 1;
            }
        }
        n_completed
    }

    /// Completes blocks that can matter, in the order of documents.
    fn complete_in_order(&mut self, batch: &Batch, collector: &mut impl Collect) -> usize {
        let mut n_completed = 0;
        for (place, &bound) in batch.bounds.iter().enumerate() {
            if bound >= self.min_sum(collector) {
                self.complete_block(batch, place, 0, collector);
                n_completed += 1;
            }
        }
        n_completed
    }

    /// Completes and offers the documents of a block that can matter and have a bound of at least
    /// `low`. They are in `candidates` afterwards.
    fn complete_block(
        &mut self,
        batch: &Batch,
        place: usize,
        low: u32,
        collector: &mut impl Collect,
    ) {
        let min_sum = self.min_sum(collector);
        let low = min_sum.max(low);
        self.candidates.clear();
        let (Some(block), Some(&rest)) = (batch.block(place), batch.rest.get(place)) else {
            return;
        };
        let start = u32::try_from(block << BLOCK_BITS).unwrap_or(DocId::MAX);
        let end = batch.windows.n_docs().min((place + 1) * BLOCK);
        let sums = &self.sums.as_mut_slice()[place * BLOCK..end];
        let passing = self.mask.map_or(u64::MAX, |mask| mask.block(block));
        for (offset, &sum) in (0u32..).zip(sums) {
            let is_new = || {
                let place = place * BLOCK + offset as usize;
                batch.offered.binary_search(&place).is_err()
            };
            if sum.saturating_add(rest) >= low && passing >> offset & 1 != 0 && is_new() {
                let doc = start + offset;
                self.candidates.push(Candidate { doc, sum });
            }
        }
        if self.candidates.is_empty() {
            return;
        }
        self.work.blocks_evaluated += 1;
        let candidates = &mut self.candidates;
        self.work.postings_scored +=
            self.terms
                .complete(batch.n_summed, block, min_sum, candidates);
        for candidate in &self.candidates {
            collector.collect(candidate.doc, &[candidate.sum]);
        }
    }
}

/// How many documents to complete before there is a threshold: a few more than wanted, since some
/// may be deleted.
fn n_first(collector: &impl Collect) -> usize {
    let n_to_offer = collector.n_to_offer();
    n_to_offer.saturating_add(n_to_offer / 8 + 2)
}
