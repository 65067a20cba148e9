//! [`BlockMaxima`]: the largest impacts of one term, block by block.

use tantivy::DocId;

use super::{BLOCK_BITS, SUPERBLOCK_LEVELS, n_superblocks};

/// The largest impact of a term in each block of a segment; 0 where it does not occur.
pub(super) struct BlockMaxima(Vec<u8>);

impl BlockMaxima {
    pub(super) fn new(max_doc: DocId) -> BlockMaxima {
        BlockMaxima(vec![0; n_superblocks(max_doc) << SUPERBLOCK_LEVELS])
    }

    #[inline]
    pub(super) fn add(&mut self, doc: DocId, impact: u8) {
        if let Some(max) = self.0.get_mut((doc >> BLOCK_BITS) as usize) {
            *max = impact.max(*max);
        }
    }

    /// For the next term.
    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub(super) fn n_occupied(&self) -> usize {
        self.0.iter().filter(|max| **max > 0).count()
    }

    /// The largest impact in each superblock.
    pub(super) fn superblocks(&self) -> impl Iterator<Item = u8> {
        self.0.chunks(1 << SUPERBLOCK_LEVELS).map(max_of)
    }

    /// The largest impact in each of the 2^`level` cells of the superblocks where the term
    /// occurs; nothing at level 0.
    pub(super) fn cells(&self, level: u8) -> impl Iterator<Item = u8> {
        let per_cell = 1 << (SUPERBLOCK_LEVELS - u32::from(level).min(SUPERBLOCK_LEVELS));
        let superblocks = self.0.chunks(1 << SUPERBLOCK_LEVELS);
        let occupied = superblocks.filter(move |blocks| level > 0 && max_of(blocks) > 0);
        occupied.flat_map(move |blocks| blocks.chunks(per_cell).map(max_of))
    }
}

fn max_of(maxima: &[u8]) -> u8 {
    maxima.iter().fold(0, |max, &other| max.max(other))
}
