//! [`Sweep`]: windowed term-at-a-time evaluation of everything.
//!
//! Exhaustive, and several times faster than a document-at-a-time union: the accumulators of a
//! window stay in cache while each posting list runs through it block by block.

use std::ops::Range;

use tantivy::DocId;

use super::collect::Collect;
use super::sums::Sums;
use super::top_hits::SearchWork;
use crate::postings::Cursor;

/// Documents per window: 128 KiB of accumulators, which fit the second-level cache of every
/// core of the last decade. `benches/search.rs` compares sizes.
pub(crate) const WINDOW: usize = 1 << 15;

/// Evaluation of one query over a range of documents of one segment.
pub(crate) struct Sweep {
    cursors: Vec<Cursor>,
    docs: Range<DocId>,
}

impl Sweep {
    pub(crate) fn new(mut cursors: Vec<Cursor>, docs: Range<DocId>) -> Sweep {
        if docs.start > 0 {
            for cursor in &mut cursors {
                cursor.seek(docs.start);
            }
        }
        Sweep { cursors, docs }
    }

    /// Offers every matching document to `collector`.
    pub(crate) fn collect(mut self, collector: &mut impl Collect) -> SearchWork {
        let mut work = SearchWork::default();
        let mut room = Sums::default();
        let len = WINDOW.min(self.docs.len());
        room.make_room(len);
        let sums = &mut room.as_mut_slice()[..len];
        sums.fill(0);
        while let Some(start) = self.next_start() {
            if collector.min_sum() == u32::MAX {
                break;
            }
            let sums = &mut sums[..WINDOW.min((self.docs.end - start) as usize)];
            for cursor in &mut self.cursors {
                work.postings_scored += cursor.accumulate(start, sums) as u64;
            }
            collector.collect(start, sums);
            sums.fill(0);
        }
        work
    }

    /// Where the next window begins: windows without any posting are never touched.
    fn next_start(&mut self) -> Option<DocId> {
        let start = self.cursors.iter_mut().map(Cursor::doc).min()?;
        (start < self.docs.end).then_some(start)
    }
}
