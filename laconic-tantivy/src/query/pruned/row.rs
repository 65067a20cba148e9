//! [`RowTerm`]: a query term that has bounds.

use std::cmp::Reverse;
use std::ops::Range;

use super::scale::{Scale, ScaledWeight};
use crate::bounds::{Row, SUPERBLOCK_LEVELS};
use crate::query::segment::TermRow;

pub(super) const BLOCKS_PER_SUPERBLOCK: usize = 1 << SUPERBLOCK_LEVELS;

/// A term with its row of bounds.
pub(super) struct RowTerm<'a> {
    pub(super) row: Row<'a>,
    pub(super) doc_freq: u32,
    /// What one unit of a bound stands for.
    code_weight: u32,
    scaled_weight: ScaledWeight,
    /// How much a posting can tell: the largest contribution, divided by the number of postings.
    benefit: u64,
    /// Where a superblock's cells are; none if the term occurs in every superblock.
    ranks: Vec<Ranks>,
}

/// Which of 64 superblocks have cells, and how many in front of them have.
#[derive(Clone, Copy)]
struct Ranks {
    n_before: u32,
    present: u64,
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
        let ranks = match is_everywhere {
            true => Vec::new(),
            false => ranks(row.superblocks),
        };
        let contribution = u64::from(max) * u64::from(code_weight);
        RowTerm {
            row,
            doc_freq,
            code_weight,
            scaled_weight: scale.weight(code_weight, code_bits),
            benefit: (contribution << 20) / u64::from(doc_freq.max(1)),
            ranks,
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
        let start = self.rank(superblock) << self.row.level;
        self.row.cells.get(start..).unwrap_or_default()
    }

    /// How many superblocks in front of this one have cells.
    #[inline]
    fn rank(&self, superblock: usize) -> usize {
        let Some(ranks) = self.ranks.get(superblock / 64) else {
            return superblock;
        };
        let before = ranks.present & ((1 << (superblock % 64)) - 1);
        (ranks.n_before + before.count_ones()) as usize
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

    /// Adds the bounds of the blocks of some runs of superblocks to `bounds`.
    pub(super) fn add_block_bounds(&self, runs: &[Range<usize>], bounds: &mut [u16]) {
        let (bounds, _) = bounds.as_chunks_mut::<BLOCKS_PER_SUPERBLOCK>();
        match self.row.level {
            0 => self.add_superblocks(runs, bounds),
            1 => self.add_cells_of::<2, 8>(runs, bounds),
            2 => self.add_cells_of::<4, 4>(runs, bounds),
            3 => self.add_cells_of::<8, 2>(runs, bounds),
            _ => self.add_cells_of::<16, 1>(runs, bounds),
        }
    }

    /// As [`add_block_bounds`](Self::add_block_bounds), of a row that has no cells.
    fn add_superblocks(&self, runs: &[Range<usize>], bounds: &mut [[u16; BLOCKS_PER_SUPERBLOCK]]) {
        let superblocks = runs.iter().cloned().flatten();
        for (superblock, bounds) in superblocks.zip(bounds) {
            let max = self.max(superblock);
            add_cells::<BLOCKS_PER_SUPERBLOCK>(self.scaled_weight, &[max], bounds);
        }
    }

    /// As [`add_block_bounds`](Self::add_block_bounds), where so many cells of a superblock bound
    /// so many blocks each.
    #[inline]
    fn add_cells_of<const CELLS: usize, const BLOCKS: usize>(
        &self,
        runs: &[Range<usize>],
        mut bounds: &mut [[u16; BLOCKS_PER_SUPERBLOCK]],
    ) {
        for run in runs {
            let bounds = bounds.split_off_mut(..run.len()).unwrap_or_default();
            let mut cells = self.cells(run.start);
            if self.ranks.is_empty() {
                add_cells::<BLOCKS>(self.scaled_weight, cells, bounds.as_flattened_mut());
                continue;
            }
            for (superblock, bounds) in run.clone().zip(bounds) {
                if self.max(superblock) == 0 {
                    continue;
                }
                if let Some((first, others)) = cells.split_first_chunk::<CELLS>() {
                    add_cells::<BLOCKS>(self.scaled_weight, first, bounds);
                    cells = others;
                }
            }
        }
    }
}

/// Ascending numbers as runs of neighbours.
pub(super) fn runs(numbers: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

fn ranks(superblocks: &[u8]) -> Vec<Ranks> {
    let mut n_before = 0;
    let chunks = superblocks.chunks(64);
    let ranks = chunks.map(|chunk| {
        let bits = (0..)
            .zip(chunk)
            .map(|(bit, max)| u64::from(*max > 0) << bit);
        let present: u64 = bits.sum();
        let ranks = Ranks { n_before, present };
        n_before += present.count_ones();
        ranks
    });
    ranks.collect()
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
