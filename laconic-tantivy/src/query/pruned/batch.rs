//! [`Batch`]: superblocks under evaluation, and room for the [`Sums`] of their documents.

use std::cell::RefCell;

use super::BLOCK;
use super::windows::Windows;
use crate::bounds::SUPERBLOCK_LEVELS;

/// Superblocks under evaluation. The documents of all windows have their *places* one after the
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
        Some((window.superblocks.start << SUPERBLOCK_LEVELS) + offset)
    }
}

/// Room for the sums of a batch, kept by the thread from query to query: fresh memory of this size
/// costs more than a short query.
#[derive(Default)]
pub(super) struct Sums(Vec<u32>);

thread_local! {
    static SUMS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Sums {
    /// Makes room for at least `n_docs` sums, of whatever value.
    pub(super) fn make_room(&mut self, n_docs: usize) {
        if self.0.is_empty() {
            self.0 = SUMS.take();
        }
        if self.0.len() < n_docs {
            self.0.resize(n_docs, 0);
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u32] {
        &mut self.0
    }
}

impl Drop for Sums {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            let sums = std::mem::take(&mut self.0);
            // An evaluation may be dropped while its thread ends.
            let _ = SUMS.try_with(|kept| kept.replace(sums));
        }
    }
}
