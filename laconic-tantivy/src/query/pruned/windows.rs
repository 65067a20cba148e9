//! [`Windows`]: some blocks, with room for the sums of their documents.

use std::ops::Range;

use tantivy::DocId;

use super::BLOCK;
use super::row::BLOCKS_PER_SUPERBLOCK;
use super::terms::doc_of_block;
use crate::query::sweep::WINDOW;

/// Blocks in ascending order, neighbours put together into windows that fit a cache.
#[derive(Default)]
pub(super) struct Windows(Vec<Window>);

pub(super) struct Window {
    pub(super) blocks: Range<usize>,
    /// Its first document.
    pub(super) start: DocId,
    /// Where its documents are in the sums of all windows.
    pub(super) place: Range<usize>,
}

impl Windows {
    /// `superblocks` ascend; documents end at `max_doc`.
    pub(super) fn of_superblocks(
        superblocks: impl Iterator<Item = usize>,
        max_doc: DocId,
    ) -> Windows {
        let runs = superblocks.map(|superblock| {
            let first = superblock * BLOCKS_PER_SUPERBLOCK;
            first..first + BLOCKS_PER_SUPERBLOCK
        });
        Windows::of_runs(runs, max_doc)
    }

    /// `blocks` ascend; documents end at `max_doc`.
    pub(super) fn of(blocks: impl Iterator<Item = usize>, max_doc: DocId) -> Windows {
        Windows::of_runs(blocks.map(|block| block..block + 1), max_doc)
    }

    fn of_runs(runs: impl Iterator<Item = Range<usize>>, max_doc: DocId) -> Windows {
        let n_blocks = (max_doc as usize).div_ceil(BLOCK);
        let mut windows: Vec<Window> = Vec::new();
        let mut end = 0;
        for run in runs {
            let run = run.start..run.end.min(n_blocks);
            if run.is_empty() {
                continue;
            }
            let n_docs = doc_of_block(run.end).min(max_doc) - doc_of_block(run.start);
            let begin = end;
            end += n_docs as usize;
            match windows.last_mut() {
                Some(last)
                    if last.blocks.end == run.start
                        && last.blocks.len() + run.len() <= WINDOW / BLOCK =>
                {
                    last.blocks.end = run.end;
                    last.place.end = end;
                }
                _ => windows.push(Window {
                    start: doc_of_block(run.start),
                    blocks: run,
                    place: begin..end,
                }),
            }
        }
        Windows(windows)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The superblocks that the blocks are of, each once.
    pub(super) fn superblocks(&self) -> Vec<usize> {
        let blocks = self.0.iter().flat_map(|window| {
            window.blocks.start / BLOCKS_PER_SUPERBLOCK
                ..window.blocks.end.div_ceil(BLOCKS_PER_SUPERBLOCK)
        });
        let mut superblocks: Vec<usize> = blocks.collect();
        superblocks.dedup();
        superblocks
    }

    /// The window that has a document at `place` of the sums.
    pub(super) fn containing(&self, place: usize) -> Option<&Window> {
        let idx = self.0.partition_point(|window| window.place.end <= place);
        self.0.get(idx)
    }

    pub(super) fn n_docs(&self) -> usize {
        self.0.last().map_or(0, |window| window.place.end)
    }
}
