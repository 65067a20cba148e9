//! [`Batch`]: blocks under evaluation.

use super::BLOCK;
use super::windows::Windows;

/// Blocks under evaluation. The documents of all windows have their *places* one after the
/// other; a block's place is that of its first document divided by the block's size.
pub(super) struct Batch {
    pub(super) windows: Windows,
    /// So many of the terms with rows are in the sums; the others are bounded.
    pub(super) n_summed: usize,
    /// For each block, what the bounded terms can add to a sum.
    pub(super) rest: Vec<u32>,
    /// For each block, an upper bound of its sums.
    pub(super) bounds: Vec<u32>,
    /// Places of documents that were offered before the others, ascending.
    pub(super) offered: Vec<usize>,
}

impl Batch {
    pub(super) fn new(windows: Windows, n_summed: usize) -> Batch {
        Batch {
            windows,
            n_summed,
            rest: Vec::new(),
            bounds: Vec::new(),
            offered: Vec::new(),
        }
    }

    /// The number of the block at a place.
    pub(super) fn block(&self, place: usize) -> Option<usize> {
        let window = self.windows.containing(place * BLOCK)?;
        let offset = place - window.place.start / BLOCK;
        Some(window.blocks.start + offset)
    }
}
