//! [`RowTerm`]: a query term that has bounds.

use std::cmp::Reverse;
use std::ops::Range;

use super::scale::Scale;
use crate::bounds::{Row, SUPERBLOCK_LEVELS};

pub(super) const BLOCKS_PER_SUPERBLOCK: usize = 1 << SUPERBLOCK_LEVELS;

/// A term with its row of bounds.
pub(super) struct RowTerm<'a> {
    pub(super) row: Row<'a>,
    pub(super) doc_freq: u32,
    pub(super) query_weight: u32,
    /// The weight as `Scale` has it.
    scaled_weight: u16,
    /// How much a posting can tell: the largest contribution, divided by the number of postings.
    benefit: u64,
    /// The term occurs in every superblock.
    is_everywhere: bool,
    /// A superblock, and how many before it have cells.
    at: (usize, usize),
}

impl<'a> RowTerm<'a> {
    pub(super) fn new(
        row: Row<'a>,
        doc_freq: u32,
        query_weight: u32,
        scale: Scale,
    ) -> RowTerm<'a> {
        let max = row.superblocks.iter().fold(0, |max, &m| max.max(m));
        let contribution = u64::from(max) * u64::from(query_weight);
        RowTerm {
            row,
            doc_freq,
            query_weight,
            scaled_weight: scale.weight(query_weight),
            benefit: (contribution << 20) / u64::from(doc_freq.max(1)),
            is_everywhere: row.superblocks.iter().all(|max| *max > 0),
            at: (0, 0),
        }
    }

    /// Smallest for terms that should be summed first: those without cells, then those whose
    /// postings tell most.
    pub(super) fn rank_among_terms(&self) -> impl Ord + use<> {
        (self.row.level > 0, Reverse(self.benefit))
    }

    fn max(&self, superblock: usize) -> u8 {
        self.row.superblocks.get(superblock).copied().unwrap_or(0)
    }

    /// The cells of a superblock where the term occurs, and of those that follow it.
    #[inline]
    fn cells(&mut self, superblock: usize) -> &'a [u8] {
        let rank = match self.is_everywhere {
            true => superblock,
            false => self.rank(superblock),
        };
        self.row.cells.get(rank << self.row.level..).unwrap_or_default()
    }

    fn rank(&mut self, superblock: usize) -> usize {
        if superblock < self.at.0 {
            self.at = (0, 0);
        }
        let (from, mut rank) = self.at;
        let skipped = self.row.superblocks.get(from..superblock);
        let skipped = skipped.unwrap_or_default().iter();
        rank += skipped.filter(|max| **max > 0).count();
        self.at = (superblock, rank);
        rank
    }

    /// Upper bound of the contribution in one block, in units of contributions.
    #[inline]
    pub(super) fn block_bound(&mut self, block: usize) -> u32 {
        let superblock = block >> SUPERBLOCK_LEVELS;
        if self.max(superblock) == 0 {
            return 0;
        }
        let cell = (block % BLOCKS_PER_SUPERBLOCK) >> (SUPERBLOCK_LEVELS - self.row.level);
        let max = self.cells(superblock).get(cell).copied().unwrap_or(0);
        u32::from(max).wrapping_mul(self.query_weight)
    }

    /// Adds the bounds of `superblocks` to `bounds`.
    pub(super) fn add_superblock_bounds(
        &self,
        superblocks: Range<usize>,
        scale: Scale,
        bounds: &mut [u16],
    ) {
        let maxima = self.row.superblocks.get(superblocks).unwrap_or_default();
        add_cells::<1>(scale, self.scaled_weight, maxima, bounds);
    }

    /// Adds the bounds of the blocks of `superblocks` to `bounds`.
    #[inline]
    pub(super) fn add_block_bounds(&mut self, superblocks: Range<usize>, scale: Scale, bounds: &mut [u16]) {
        if self.is_everywhere && self.row.level == SUPERBLOCK_LEVELS {
            let cells = self.cells(superblocks.start);
            return add_cells::<1>(scale, self.scaled_weight, cells, bounds);
        }
        let (bounds, _) = bounds.as_chunks_mut::<BLOCKS_PER_SUPERBLOCK>();
        for (superblock, bounds) in superblocks.zip(bounds) {
            if self.max(superblock) > 0 {
                let cells = self.cells(superblock);
                match SUPERBLOCK_LEVELS - self.row.level {
                    0 => add_cells::<1>(scale, self.scaled_weight, cells, bounds),
                    1 => add_cells::<2>(scale, self.scaled_weight, cells, bounds),
                    2 => add_cells::<4>(scale, self.scaled_weight, cells, bounds),
                    3 => add_cells::<8>(scale, self.scaled_weight, cells, bounds),
                    _ => add_cells::<16>(scale, self.scaled_weight, cells, bounds),
                }
            }
        }
    }
}

/// Adds `cells`, each of which bounds a few blocks, to the bounds of the blocks.
#[inline]
fn add_cells<const BLOCKS: usize>(scale: Scale, weight: u16, cells: &[u8], bounds: &mut [u16]) {
    let (chunks, _) = bounds.as_chunks_mut::<BLOCKS>();
    for (chunk, &max) in chunks.iter_mut().zip(cells) {
        for bound in chunk {
            *bound = bound.wrapping_add(scale.bound(max, weight));
        }
    }
}
