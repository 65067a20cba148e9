//! [`Pruned`]: evaluation guided by upper bounds.
//!
//! Bounds of superblocks say where the best documents can be at all. The most promising blocks
//! are evaluated first, to raise the threshold. Then a sample of the superblocks that are left
//! tells which of two ways is cheaper, in document order and passing over superblocks that cannot
//! matter: *guided*, which sums the bounds of their blocks and evaluates single blocks, or the
//! *sweep*, which sums everything in them.

mod decoded;
mod terms;

use std::cmp::Reverse;
use std::ops::Range;

use tantivy::DocId;

use super::collect::Collect;
use super::segment::SegmentTerms;
use super::sweep::WINDOW;
use super::top_k::SearchWork;
use crate::bounds::{BLOCK_BITS, Bounds, SUPERBLOCK_BITS, SUPERBLOCK_LEVELS};
use terms::{BLOCKS_PER_SUPERBLOCK, Terms, doc_of};

const BLOCK: usize = 1 << BLOCK_BITS;

/// Superblocks per window of a sweep.
const SWEEP_SUPERBLOCKS: usize = WINDOW >> SUPERBLOCK_BITS;

/// Superblocks looked at to choose between the two ways.
const SAMPLE: usize = 6;

/// Rough costs in nanoseconds, from `benches/search.rs`; only their ratios matter.
mod cost {
    /// Adding up one posting in a sweep.
    pub(super) const POSTING: u64 = 2;
    /// Finding and adding up the postings of one term in one block.
    pub(super) const TERM_IN_BLOCK: u64 = 60;
    /// Summing the cells of one term in one superblock.
    pub(super) const CELLS: u64 = 10;
    /// Reading a sparse term in one superblock.
    pub(super) const SPARSE: u64 = 150;
    /// One in so many parts of a sweep may go into raising the threshold beforehand.
    pub(super) const SEEDING_SHARE: u64 = 12;
}

/// Evaluation of one query over a range of superblocks of one segment.
pub(crate) struct Pruned<'a> {
    terms: Terms<'a>,
    superblocks: Range<usize>,
    /// Upper bounds of `superblocks`.
    bounds: Vec<u32>,
    max_doc: DocId,
    sweep_cost: u64,
    overestimate: f32,
    /// Blocks that were evaluated in a superblock that is not done.
    evaluated: Vec<usize>,
    sums: Vec<u32>,
    work: SearchWork,
}

impl<'a> Pruned<'a> {
    /// Prepares the evaluation: reads the bounds of the superblocks.
    pub(crate) fn new(
        terms: SegmentTerms<'_>,
        bounds: &'a Bounds,
        max_doc: DocId,
        superblocks: Range<usize>,
    ) -> Pruned<'a> {
        let n_postings = terms.n_postings();
        let share = superblocks.len() as u64;
        let n_superblocks = bounds.n_superblocks().max(1) as u64;
        let mut terms = Terms::new(terms, bounds, superblocks.clone());
        let bounds = terms.superblock_bounds();
        Pruned {
            terms,
            superblocks,
            bounds,
            max_doc,
            sweep_cost: n_postings.saturating_mul(cost::POSTING) / n_superblocks * share,
            overestimate: 1.0,
            evaluated: Vec::new(),
            sums: vec![0; WINDOW.min(max_doc as usize)],
            work: SearchWork::default(),
        }
    }

    /// Passes over what cannot beat the threshold by this factor.
    pub(crate) fn overestimate(&mut self, factor: f32) {
        self.overestimate = factor;
    }

    /// No document has a larger sum, in units that are the same for all segments of a query.
    pub(crate) fn max_bound(&self) -> u32 {
        self.bounds.iter().copied().max().unwrap_or(0)
    }

    /// Offers every document that can matter to `collector`.
    pub(crate) fn collect(mut self, collector: &mut impl Collect) -> SearchWork {
        if collector.takes_any_order() {
            self.best_first(self.affordable_blocks(collector), collector);
        }
        let mut rest = self.superblocks.clone();
        if collector.min_sum() <= 1 {
            rest.start = self.sweep_window(rest.clone(), collector);
        }
        if self.guided_is_cheaper(rest.clone(), collector) {
            self.guided(rest, collector);
        } else {
            while !rest.is_empty() {
                rest.start = self.sweep_window(rest.clone(), collector);
            }
        }
        self.work
    }

    /// Offers the documents of about `n_blocks` blocks, those with the highest bounds first.
    pub(crate) fn collect_most_promising(
        mut self,
        n_blocks: usize,
        collector: &mut impl Collect,
    ) -> SearchWork {
        self.best_first(n_blocks, collector);
        self.work
    }

    /// How many blocks may be evaluated to raise the threshold, before it is clear what to do.
    fn affordable_blocks(&self, collector: &impl Collect) -> usize {
        let affordable = self.sweep_cost / cost::SEEDING_SHARE / (self.block_cost() + 1);
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
        // With too few there is no threshold, and they would be evaluated for nothing.
        match affordable > collector.n_wanted() / 32 {
            true => affordable,
            false => 0,
        }
    }

    /// The smallest bound that can matter.
    fn smallest_bound(&self, collector: &impl Collect) -> u32 {
        self.terms.smallest_bound(self.min_sum(collector))
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

    fn matters(&self, superblock: usize, collector: &impl Collect) -> bool {
        let bound = self.bounds[superblock - self.superblocks.start];
        // A superblock that is done has a bound of 0.
        bound > 0 && bound >= self.smallest_bound(collector)
    }

    /// Nanoseconds to evaluate a block.
    fn block_cost(&self) -> u64 {
        self.terms.n_dense() as u64 * cost::TERM_IN_BLOCK
    }

    /// Evaluates blocks, those of the most promising superblock first, until `n_blocks` are
    /// evaluated or nothing is left that matters. Superblocks that are done get a bound of 0.
    fn best_first(&mut self, n_blocks: usize, collector: &mut impl Collect) {
        let mut left = n_blocks;
        let mut order: Vec<usize> = self.superblocks.clone().collect();
        let first = self.superblocks.start;
        order.sort_unstable_by_key(|&superblock| Reverse(self.bounds[superblock - first]));
        for superblock in order {
            if left == 0 || !self.matters(superblock, collector) {
                return;
            }
            let first_block = superblock * BLOCKS_PER_SUPERBLOCK;
            let bounds = self.terms.block_bounds(superblock);
            let mut blocks: Vec<(u32, usize)> = bounds.into_iter().zip(first_block..).collect();
            let smallest_bound = self.smallest_bound(collector);
            blocks.retain(|&(bound, block)| {
                bound >= smallest_bound && !self.evaluated.contains(&block)
            });
            blocks.sort_unstable_by_key(|&(bound, _)| Reverse(bound));
            for (bound, block) in blocks {
                if bound < self.smallest_bound(collector) {
                    break;
                }
                if left == 0 {
                    return;
                }
                left -= 1;
                self.evaluate(block, collector);
                self.evaluated.push(block);
            }
            self.evaluated.clear();
            self.bounds[superblock - first] = 0;
        }
    }

    /// Estimates from a sample what guided evaluation of the superblocks would cost.
    fn guided_is_cheaper(&mut self, superblocks: Range<usize>, collector: &impl Collect) -> bool {
        if collector.min_sum() <= 1 {
            return false;
        }
        let smallest_bound = self.smallest_bound(collector);
        let n_all = superblocks.len() as u64;
        let matters = superblocks.filter(|&superblock| self.matters(superblock, collector));
        let left: Vec<usize> = matters.collect();
        let step = left.len().div_ceil(SAMPLE).max(1);
        let (mut n_sampled, mut n_blocks) = (0, 0);
        for &superblock in left.iter().skip(step / 2).step_by(step) {
            let bounds = self.terms.block_bounds(superblock);
            n_blocks += bounds
                .iter()
                .filter(|bound| **bound >= smallest_bound)
                .count() as u64;
            n_sampled += 1;
        }
        let per_superblock = self.terms.n_dense() as u64 * cost::CELLS
            + self.terms.n_sparse() as u64 * cost::SPARSE
            + n_blocks * self.block_cost() / n_sampled.max(1);
        per_superblock * n_all < self.sweep_cost * n_all / self.superblocks.len().max(1) as u64
    }

    /// Evaluates the blocks that can matter.
    fn guided(&mut self, superblocks: Range<usize>, collector: &mut impl Collect) {
        for superblock in superblocks {
            if !self.matters(superblock, collector) {
                continue;
            }
            let bounds = self.terms.block_bounds(superblock);
            for (block, bound) in (superblock * BLOCKS_PER_SUPERBLOCK..).zip(bounds) {
                if bound >= self.smallest_bound(collector) && !self.evaluated.contains(&block) {
                    self.evaluate(block, collector);
                }
            }
        }
    }

    fn evaluate(&mut self, block: usize, collector: &mut impl Collect) {
        let start = block << BLOCK_BITS;
        let len = BLOCK.min((self.max_doc as usize).saturating_sub(start));
        if len == 0 {
            return;
        }
        let min_sum = self.min_sum(collector);
        let sums = &mut self.sums[..len];
        sums.fill(0);
        self.work.blocks_evaluated += 1;
        let n_scored = &mut self.work.postings_scored;
        if self.terms.sum_block(block, min_sum, sums, n_scored) {
            collector.collect(u32::try_from(start).unwrap_or(DocId::MAX), sums);
        }
    }

    /// Sums everything in the next superblocks that matter, at most a window of them. Returns
    /// the superblock to go on with.
    fn sweep_window(&mut self, superblocks: Range<usize>, collector: &mut impl Collect) -> usize {
        let mut all = superblocks.clone();
        let Some(first) = all.find(|&superblock| self.matters(superblock, collector)) else {
            return superblocks.end;
        };
        let mut end = superblocks.end.min(first + SWEEP_SUPERBLOCKS);
        let mut others = first..end;
        if let Some(other) = others.find(|&superblock| !self.matters(superblock, collector)) {
            end = other;
        }
        let (start, end_doc) = (doc_of(first), doc_of(end).min(self.max_doc));
        let sums = &mut self.sums[..(end_doc - start) as usize];
        sums.fill(0);
        self.work.blocks_evaluated += sums.len().div_ceil(BLOCK) as u64;
        self.terms
            .sum_all(start, sums, &mut self.work.postings_scored);
        for &block in &self.evaluated {
            // Its documents were offered already.
            if (first..end).contains(&(block >> SUPERBLOCK_LEVELS)) {
                let offset = (block << BLOCK_BITS) - start as usize;
                let offset_end = sums.len().min(offset + BLOCK);
                sums[offset..offset_end].fill(0);
            }
        }
        collector.collect(start, sums);
        end
    }
}
