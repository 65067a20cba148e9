//! [`Sweep`]: windowed term-at-a-time evaluation of a whole segment.
//!
//! Exhaustive, and several times faster than a document-at-a-time union: the accumulators of a
//! window stay in cache while each posting list runs through it block by block.

use tantivy::{DocId, TERMINATED};

use super::cursor::Cursor;

/// Documents per window: 128 KiB of accumulators, which fit the second-level cache of every
/// core of the last decade. `benches/search.rs` compares sizes.
pub(crate) const WINDOW: usize = 1 << 15;

/// Documents looked at together when searching a window for large sums; one vectorised maximum
/// settles most groups.
const GROUP: usize = 64;

/// Evaluation of one query over one segment.
pub(crate) struct Sweep {
    cursors: Vec<Cursor>,
    max_doc: DocId,
}

impl Sweep {
    pub(crate) fn new(cursors: Vec<Cursor>, max_doc: DocId) -> Sweep {
        Sweep { cursors, max_doc }
    }

    /// Calls `visit(doc, sum)` for every matching document in ascending order.
    pub(crate) fn for_each(self, mut visit: impl FnMut(DocId, u32)) {
        self.for_each_at_least(1, |doc, sum| {
            visit(doc, sum);
            Some(1)
        });
    }

    /// Calls `visit(doc, sum)` in ascending order for every document whose sum is at least the
    /// current minimum: `min_sum` at first, then what `visit` last returned. Stops when that is
    /// `None`.
    pub(crate) fn for_each_at_least(
        mut self,
        min_sum: u32,
        mut visit: impl FnMut(DocId, u32) -> Option<u32>,
    ) {
        let mut min_sum = min_sum.max(1);
        let mut sums = vec![0u32; WINDOW.min(self.max_doc as usize)];
        while let Some(start) = self.next_start() {
            for cursor in &mut self.cursors {
                cursor.accumulate(start, &mut sums);
            }
            match visit_window(start, &sums, min_sum, &mut visit) {
                Some(raised) => min_sum = raised,
                None => return,
            }
            sums.fill(0);
        }
    }

    /// Where the next window begins: windows without any posting are never touched.
    fn next_start(&self) -> Option<DocId> {
        let start = self.cursors.iter().map(Cursor::doc).min()?;
        (start < self.max_doc && start != TERMINATED).then_some(start)
    }
}

fn visit_window(
    start: DocId,
    sums: &[u32],
    mut min_sum: u32,
    visit: &mut impl FnMut(DocId, u32) -> Option<u32>,
) -> Option<u32> {
    for (group_start, group) in (start..).step_by(GROUP).zip(sums.chunks(GROUP)) {
        if group.iter().fold(0, |max, &sum| max.max(sum)) >= min_sum {
            for (doc, &sum) in (group_start..).zip(group) {
                if sum >= min_sum {
                    min_sum = visit(doc, sum)?;
                }
            }
        }
    }
    Some(min_sum)
}
