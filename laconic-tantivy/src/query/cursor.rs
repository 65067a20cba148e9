//! [`Cursor`]: a position in one posting list, with the query weight of its term.

use tantivy::postings::BlockSegmentPostings;
use tantivy::{DocId, TERMINATED};

/// A position in the posting list of one query term.
pub(crate) struct Cursor {
    postings: BlockSegmentPostings,
    /// Index into the current block of 128 postings.
    idx: usize,
    query_weight: u32,
    /// Larger frequencies can only come from a field given twice in one document, which the
    /// sums of [`FixedPoint`](super::fixed_point::FixedPoint) have no room for.
    max_impact: u32,
}

impl Cursor {
    pub(crate) fn new(postings: BlockSegmentPostings, query_weight: u32, max_impact: u8) -> Cursor {
        Cursor {
            postings,
            idx: 0,
            query_weight,
            max_impact: u32::from(max_impact),
        }
    }

    /// The document it stands on, `TERMINATED` past the last.
    pub(crate) fn doc(&self) -> DocId {
        self.postings.doc(self.idx)
    }

    /// Number of postings of the list, deleted documents included.
    pub(crate) fn doc_freq(&self) -> u32 {
        self.postings.doc_freq()
    }

    /// The current document's impact; meaningless past the last.
    pub(crate) fn impact(&self) -> u32 {
        self.postings.freq(self.idx).min(self.max_impact)
    }

    /// The current document's share of the sum.
    pub(crate) fn contribution(&self) -> u32 {
        self.impact().wrapping_mul(self.query_weight)
    }

    /// Goes to the first document at or after `target`, forwards only.
    pub(crate) fn seek(&mut self, target: DocId) -> DocId {
        if self.doc() < target {
            self.idx = self.postings.seek(target);
        }
        self.doc()
    }

    /// Adds the contributions of all documents in `[start, start + sums.len())` to `sums` and
    /// goes to the first document after them. The cursor must stand at `start` or later.
    ///
    /// This loop is where exhaustive search spends its time: whole blocks run without looking
    /// for the end of the window, and an out-of-range document of a damaged file is skipped by
    /// the same comparison that keeps the access in bounds.
    pub(crate) fn accumulate(&mut self, start: DocId, sums: &mut [u32]) {
        let end = start.saturating_add(u32::try_from(sums.len()).unwrap_or(u32::MAX));
        loop {
            let (docs, freqs) = (self.postings.docs(), self.postings.freqs());
            let docs = docs.get(self.idx..).unwrap_or_default();
            let freqs = freqs.get(self.idx..).unwrap_or_default();
            let Some(&last) = docs.last() else { return };
            let whole_block = last < end;
            let n = if whole_block {
                docs.len()
            } else {
                docs.partition_point(|&doc| doc < end)
            };
            for (&doc, &freq) in docs[..n].iter().zip(freqs) {
                if let Some(sum) = sums.get_mut(doc.wrapping_sub(start) as usize) {
                    let impact = freq.min(self.max_impact);
                    *sum = sum.wrapping_add(impact.wrapping_mul(self.query_weight));
                }
            }
            if !whole_block {
                self.idx += n;
                return;
            }
            self.postings.advance();
            self.idx = 0;
            if self.postings.doc(0) == TERMINATED {
                return;
            }
        }
    }
}
