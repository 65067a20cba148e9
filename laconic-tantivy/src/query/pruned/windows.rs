//! [`Windows`]: some superblocks, with room for the sums of their documents.

use std::ops::Range;

use tantivy::DocId;

use super::terms::doc_of;
use crate::bounds::SUPERBLOCK_BITS;
use crate::query::sweep::WINDOW;

/// Superblocks in ascending order, neighbours put together into windows that fit a cache.
#[derive(Default)]
pub(super) struct Windows(Vec<Window>);

pub(super) struct Window {
    pub(super) superblocks: Range<usize>,
    /// Its first document.
    pub(super) start: DocId,
    /// Where its documents are in the sums of all windows.
    pub(super) place: Range<usize>,
}

impl Windows {
    /// `superblocks` ascend; documents end at `max_doc`.
    pub(super) fn of(superblocks: impl Iterator<Item = usize>, max_doc: DocId) -> Windows {
        let mut windows: Vec<Window> = Vec::new();
        let mut end = 0;
        for superblock in superblocks {
            let n_docs = doc_of(superblock + 1).min(max_doc) - doc_of(superblock).min(max_doc);
            let begin = end;
            end += n_docs as usize;
            match windows.last_mut() {
                Some(last)
                    if last.superblocks.end == superblock
                        && last.superblocks.len() < WINDOW >> SUPERBLOCK_BITS =>
                {
                    last.superblocks.end += 1;
                    last.place.end = end;
                }
                _ => windows.push(Window {
                    superblocks: superblock..superblock + 1,
                    start: doc_of(superblock),
                    place: begin..end,
                }),
            }
        }
        Windows(windows)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Window> {
        self.0.iter()
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
