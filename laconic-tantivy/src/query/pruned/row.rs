//! [`RowTerm`]: a query term that has bounds.

use std::cmp::Reverse;
use std::ops::Range;

use super::scale::{Scale, ScaledWeight};
use crate::bounds::{Row, SUPERBLOCK_LEVELS};
use crate::query::segment::TermRow;

pub(super) const BLOCKS_PER_SUPERBLOCK: usize = 1 << SUPERBLOCK_LEVELS;

/// Superblocks between two places where the number of those with cells is known.
const CHECKPOINT: usize = 64;

/// A term with its row of bounds.
pub(super) struct RowTerm<'a> {
    pub(super) row: Row<'a>,
    pub(super) doc_freq: u32,
    /// What one unit of a bound stands for.
    code_weight: u32,
    scaled_weight: ScaledWeight,
    /// How much a posting can tell: the largest contribution, divided by the number of postings.
    benefit: u64,
    /// The term occurs in every superblock.
    is_everywhere: bool,
    /// How many superblocks in front of every `CHECKPOINT`-th one have cells.
    checkpoints: Vec<usize>,
}

impl<'a> RowTerm<'a> {
    pub(super) fn new(term: TermRow<'a>, doc_freq: u32, scale: Scale) -> RowTerm<'a> {
        let TermRow {
            row,
            code_weight,
            code_bits,
        } = term;
        let max = row.superblocks.iter().fold(0, |max, &m| max.max(m));
        let is_everywhere = row.superblocks.iter().all(|max| *max > 0);
        let mut checkpoints = Vec::new();
        if !is_everywhere {
            let chunks = row.superblocks.chunks(CHECKPOINT);
            checkpoints.extend(chunks.scan(0, |sum, chunk| {
                let before = *sum;
                *sum += n_present(chunk);
                Some(before)
            }));
        }
        let contribution = u64::from(max) * u64::from(code_weight);
        RowTerm {
            row,
            doc_freq,
            code_weight,
            scaled_weight: scale.weight(code_weight, code_bits),
            benefit: (contribution << 20) / u64::from(doc_freq.max(1)),
            is_everywhere,
            checkpoints,
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
    fn cells(&self, superblock: usize) -> &'a [u8] {
        let rank = match self.is_everywhere {
            true => superblock,
            false => self.rank(superblock),
        };
        self.row
            .cells
            .get(rank << self.row.level..)
            .unwrap_or_default()
    }

    /// How many superblocks in front of this one have cells.
    #[inline]
    fn rank(&self, superblock: usize) -> usize {
        let checkpoint = superblock / CHECKPOINT;
        let behind = checkpoint * CHECKPOINT..superblock;
        let behind = self.row.superblocks.get(behind).unwrap_or_default();
        self.checkpoints.get(checkpoint).copied().unwrap_or(0) + n_present(behind)
    }

    /// Upper bound of the contribution in one block, in units of contributions.
    #[inline]
    pub(super) fn block_bound(&self, block: usize) -> u32 {
        let superblock = block >> SUPERBLOCK_LEVELS;
        if self.max(superblock) == 0 {
            return 0;
        }
        let cell = (block % BLOCKS_PER_SUPERBLOCK) >> (SUPERBLOCK_LEVELS - self.row.level);
        let max = self.cells(superblock).get(cell).copied().unwrap_or(0);
        u32::from(max).wrapping_mul(self.code_weight)
    }

    /// Adds the bounds of `superblocks` to `bounds`.
    pub(super) fn add_superblock_bounds(&self, superblocks: Range<usize>, bounds: &mut [u16]) {
        let maxima = self.row.superblocks.get(superblocks).unwrap_or_default();
        add_cells::<1>(self.scaled_weight, maxima, bounds);
    }

    /// Adds the bounds of the blocks of `superblocks` to `bounds`.
    #[inline]
    pub(super) fn add_block_bounds(&self, superblocks: Range<usize>, bounds: &mut [u16]) {
        if self.is_everywhere && self.row.level == SUPERBLOCK_LEVELS {
            let cells = self.cells(superblocks.start);
            return add_cells::<1>(self.scaled_weight, cells, bounds);
        }
        let (bounds, _) = bounds.as_chunks_mut::<BLOCKS_PER_SUPERBLOCK>();
        let mut cells = self.cells(superblocks.start);
        for (superblock, bounds) in superblocks.zip(bounds) {
            if self.max(superblock) > 0 {
                match SUPERBLOCK_LEVELS - self.row.level {
                    0 => add_cells::<1>(self.scaled_weight, cells, bounds),
                    1 => add_cells::<2>(self.scaled_weight, cells, bounds),
                    2 => add_cells::<4>(self.scaled_weight, cells, bounds),
                    3 => add_cells::<8>(self.scaled_weight, cells, bounds),
                    _ => add_cells::<16>(self.scaled_weight, cells, bounds),
                }
                cells = cells.get(1 << self.row.level..).unwrap_or_default();
            }
        }
    }
}

fn n_present(superblocks: &[u8]) -> usize {
    superblocks.iter().map(|max| usize::from(*max > 0)).sum()
}

/// Adds `cells`, each of which bounds a few blocks, to the bounds of the blocks.
#[inline]
fn add_cells<const BLOCKS: usize>(weight: ScaledWeight, cells: &[u8], bounds: &mut [u16]) {
    let (chunks, _) = bounds.as_chunks_mut::<BLOCKS>();
    for (chunk, &max) in chunks.iter_mut().zip(cells) {
        for bound in chunk {
            *bound = bound.wrapping_add(Scale::bound(max, weight));
        }
    }
}
