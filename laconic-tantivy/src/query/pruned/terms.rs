//! [`Terms`]: the terms of a query in a segment, with their bounds.

use std::cmp::Reverse;
use std::ops::Range;

use tantivy::DocId;

use super::decoded::Decoded;
use crate::bounds::{BLOCK_BITS, Bounds, Row, SUPERBLOCK_BITS, SUPERBLOCK_LEVELS};
use crate::postings::Cursor;
use crate::query::segment::SegmentTerms;

pub(super) const BLOCKS_PER_SUPERBLOCK: usize = 1 << SUPERBLOCK_LEVELS;

/// Upper bounds of the blocks of one superblock.
pub(super) type BlockBounds = [u32; BLOCKS_PER_SUPERBLOCK];

/// The terms of a query in a range of superblocks of a segment.
///
/// There are three kinds. A *rare* term has no row: it is decoded as a whole in the beginning,
/// which gives exact block maxima. A *sparse* term has a row without cells: its postings in a
/// superblock are decoded when the blocks of that superblock are looked at. A *dense* term has
/// cells, and its postings are decoded only where a block is evaluated.
///
/// Bounds are in units of 2^`shift`, rounded up, so that products of an impact and a query weight
/// need 24 bits.
pub(super) struct Terms<'a> {
    rare: Vec<RareTerm>,
    sparse: Vec<RowTerm<'a>>,
    dense: Vec<RowTerm<'a>>,
    superblocks: Range<usize>,
    shift: u32,
    rare_postings: Decoded,
    /// What the rare terms can add up to, for every block of `superblocks`.
    rare_bounds: Vec<u32>,
    /// Postings of the sparse terms in the superblock of the last `block_bounds`.
    sparse_postings: Decoded,
    /// Dense terms of the block under evaluation, with their bounds.
    order: Vec<(u32, usize)>,
}

struct RareTerm {
    cursor: Cursor,
    postings: Range<usize>,
}

struct RowTerm<'a> {
    cursor: Cursor,
    row: Row<'a>,
    /// Query weight in units of 2^`shift`, rounded up.
    weight: u16,
    /// A superblock, and how many before it have cells.
    at: (usize, usize),
    /// Of a sparse term: its postings in `sparse_postings`.
    postings: Range<usize>,
}

impl<'a> RowTerm<'a> {
    fn max(&self, superblock: usize) -> u8 {
        self.row.superblocks.get(superblock).copied().unwrap_or(0)
    }

    /// The cells of a superblock where the term occurs.
    #[inline]
    fn cells(&mut self, superblock: usize) -> &'a [u8] {
        if superblock < self.at.0 {
            self.at = (0, 0);
        }
        let (from, mut rank) = self.at;
        let skipped = self
            .row
            .superblocks
            .get(from..superblock)
            .unwrap_or_default();
        rank += skipped.iter().filter(|max| **max > 0).count();
        self.at = (superblock, rank);
        let n_cells = 1 << self.row.level;
        let cells = self.row.cells.get(rank * n_cells..).unwrap_or_default();
        cells.get(..n_cells).unwrap_or_default()
    }

    /// Upper bound of the term in one block.
    #[inline]
    fn block_bound(&mut self, block: usize) -> u32 {
        let superblock = block >> SUPERBLOCK_LEVELS;
        if self.max(superblock) == 0 {
            return 0;
        }
        let cell = (block % BLOCKS_PER_SUPERBLOCK) >> (SUPERBLOCK_LEVELS - self.row.level);
        let max = self.cells(superblock).get(cell).copied().unwrap_or(0);
        u32::from(max) * u32::from(self.weight)
    }

    #[inline]
    fn add_block_bounds(&mut self, superblock: usize, bounds: &mut BlockBounds) {
        if self.max(superblock) > 0 {
            let (cells, weight) = (self.cells(superblock), u32::from(self.weight));
            match self.row.level {
                1 => add_cells::<16>(bounds, cells, weight),
                2 => add_cells::<8>(bounds, cells, weight),
                3 => add_cells::<4>(bounds, cells, weight),
                4 => add_cells::<2>(bounds, cells, weight),
                _ => add_cells::<1>(bounds, cells, weight),
            }
        }
    }
}

/// Adds `cells`, each of which bounds a few blocks, to the bounds of the blocks.
#[inline]
fn add_cells<const BLOCKS_PER_CELL: usize>(bounds: &mut BlockBounds, cells: &[u8], weight: u32) {
    let (chunks, _) = bounds.as_chunks_mut::<BLOCKS_PER_CELL>();
    for (chunk, &max) in chunks.iter_mut().zip(cells) {
        for bound in chunk {
            *bound += u32::from(max) * weight;
        }
    }
}

impl<'a> Terms<'a> {
    pub(super) fn new(
        terms: SegmentTerms<'_>,
        bounds: &'a Bounds,
        superblocks: Range<usize>,
    ) -> Terms<'a> {
        let SegmentTerms {
            found,
            query_weights,
            max_impact,
        } = terms;
        // The same in every segment: bounds of segments are compared.
        let largest = query_weights.iter().copied().max().unwrap_or(0);
        let shift = (u32::BITS - largest.leading_zeros()).saturating_sub(16);
        let mut terms = Terms {
            rare: Vec::new(),
            sparse: Vec::new(),
            dense: Vec::with_capacity(found.len()),
            rare_bounds: vec![0; superblocks.len() * BLOCKS_PER_SUPERBLOCK],
            superblocks,
            shift,
            rare_postings: Decoded::default(),
            sparse_postings: Decoded::default(),
            order: Vec::with_capacity(found.len()),
        };
        for term in found {
            let query_weight = query_weights[term.idx];
            let cursor = Cursor::new(term.list, query_weight, max_impact);
            let Some(row) = term.row.and_then(|row| bounds.row(row)) else {
                let postings = 0..0;
                terms.rare.push(RareTerm { cursor, postings });
                continue;
            };
            let kind = match row.level {
                0 => &mut terms.sparse,
                _ => &mut terms.dense,
            };
            kind.push(RowTerm {
                cursor,
                row,
                weight: u16::try_from(query_weight.div_ceil(1 << shift)).unwrap_or(u16::MAX),
                at: (0, 0),
                postings: 0..0,
            });
        }
        terms
    }

    /// The smallest bound that can reach a sum of `min_sum`.
    pub(super) fn smallest_bound(&self, min_sum: u32) -> u32 {
        min_sum.div_ceil(1 << self.shift)
    }

    pub(super) fn n_dense(&self) -> usize {
        self.dense.len()
    }

    pub(super) fn n_sparse(&self) -> usize {
        self.sparse.len()
    }

    /// Upper bounds of the superblocks. Decodes the rare terms.
    pub(super) fn superblock_bounds(&mut self) -> Vec<u32> {
        let mut bounds = vec![0; self.superblocks.len()];
        for term in self.dense.iter().chain(&self.sparse) {
            let maxima = term.row.superblocks.get(self.superblocks.clone());
            for (bound, &max) in bounds.iter_mut().zip(maxima.unwrap_or_default()) {
                *bound += u32::from(max) * u32::from(term.weight);
            }
        }
        let (start, end) = (doc_of(self.superblocks.start), doc_of(self.superblocks.end));
        for term in &mut self.rare {
            term.cursor.seek_anywhere(start);
            term.postings = self.rare_postings.read(&mut term.cursor, end);
            let (first_block, bounds) = (start >> BLOCK_BITS, &mut self.rare_bounds);
            self.rare_postings
                .add_block_maxima(&term.postings, first_block, self.shift, bounds);
        }
        let rare = self.rare_bounds.chunks(BLOCKS_PER_SUPERBLOCK);
        for (bound, rare) in bounds.iter_mut().zip(rare) {
            *bound += rare.iter().fold(0, |max, &other| max.max(other));
        }
        bounds
    }

    /// Upper bounds of the blocks of one superblock.
    pub(super) fn block_bounds(&mut self, superblock: usize) -> BlockBounds {
        let mut bounds = [0; BLOCKS_PER_SUPERBLOCK];
        let rare = (superblock - self.superblocks.start) * BLOCKS_PER_SUPERBLOCK;
        let rare = self.rare_bounds.get(rare..).unwrap_or_default();
        for (bound, rare) in bounds.iter_mut().zip(rare) {
            *bound = *rare;
        }
        for term in &mut self.dense {
            term.add_block_bounds(superblock, &mut bounds);
        }
        self.sparse_postings.clear();
        let (start, end) = (doc_of(superblock), doc_of(superblock + 1));
        for term in &mut self.sparse {
            term.postings = 0..0;
            if term.max(superblock) > 0 {
                term.cursor.seek_anywhere(start);
                term.postings = self.sparse_postings.read(&mut term.cursor, end);
                let first_block = start >> BLOCK_BITS;
                self.sparse_postings.add_block_maxima(
                    &term.postings,
                    first_block,
                    self.shift,
                    &mut bounds,
                );
            }
        }
        bounds
    }

    /// Sums the documents of one block of the superblock that `block_bounds` was last asked for,
    /// most important terms first. Gives up, with false, when nothing in it can reach `min_sum`.
    pub(super) fn sum_block(
        &mut self,
        block: usize,
        min_sum: u32,
        sums: &mut [u32],
        n_scored: &mut u64,
    ) -> bool {
        let start = u32::try_from(block << BLOCK_BITS).unwrap_or(DocId::MAX);
        for term in &self.rare {
            let n = self.rare_postings.accumulate(&term.postings, start, sums);
            *n_scored += n as u64;
        }
        for term in &self.sparse {
            let n = self.sparse_postings.accumulate(&term.postings, start, sums);
            *n_scored += n as u64;
        }
        self.order.clear();
        for (idx, term) in self.dense.iter_mut().enumerate() {
            let bound = term.block_bound(block);
            if bound > 0 {
                self.order.push((bound, idx));
            }
        }
        self.order
            .sort_unstable_by_key(|&(bound, _)| Reverse(bound));
        let mut remaining: u32 = self.order.iter().map(|&(bound, _)| bound).sum();
        let smallest_bound = min_sum.div_ceil(1 << self.shift);
        for terms in self.order.chunks(4) {
            let max = sums.iter().fold(0, |max: u32, &sum| max.max(sum));
            if max.div_ceil(1 << self.shift) + remaining < smallest_bound {
                return false;
            }
            for &(bound, idx) in terms {
                remaining -= bound;
                let cursor = &mut self.dense[idx].cursor;
                cursor.seek_anywhere(start);
                *n_scored += cursor.accumulate(start, sums) as u64;
            }
        }
        true
    }

    /// Sums the documents `[start, start + sums.len())`.
    pub(super) fn sum_all(&mut self, start: DocId, sums: &mut [u32], n_scored: &mut u64) {
        for term in &self.rare {
            *n_scored += self.rare_postings.accumulate(&term.postings, start, sums) as u64;
        }
        for term in self.dense.iter_mut().chain(&mut self.sparse) {
            term.cursor.seek_anywhere(start);
            *n_scored += term.cursor.accumulate(start, sums) as u64;
        }
    }
}

/// The first document of a superblock.
pub(super) fn doc_of(superblock: usize) -> DocId {
    u32::try_from(superblock << SUPERBLOCK_BITS).unwrap_or(DocId::MAX)
}
