//! [`Decoded`]: posting lists that are read as a whole before they are used.

use std::ops::Range;

use tantivy::DocId;

use crate::bounds::BLOCK_BITS;
use crate::postings::{BLOCK_LEN, Cursor};

/// Decoded postings of several terms, one after the other.
#[derive(Default)]
pub(super) struct Decoded {
    docs: Vec<DocId>,
    contributions: Vec<u32>,
}

impl Decoded {
    pub(super) fn clear(&mut self) {
        self.docs.clear();
        self.contributions.clear();
    }

    /// Appends the postings of a cursor in front of document `end`. Returns where they are.
    pub(super) fn read(&mut self, cursor: &mut Cursor, end: DocId) -> Range<usize> {
        let first = self.docs.len();
        cursor.decode_below(end, &mut self.docs, &mut self.contributions);
        first..self.docs.len()
    }

    /// Adds the contributions of documents in `[start, start + sums.len())`, of the postings in
    /// `range`, to `sums`. Returns how many there were.
    #[inline]
    pub(super) fn accumulate(&self, range: &Range<usize>, start: DocId, sums: &mut [u32]) -> usize {
        let docs = self.docs.get(range.clone()).unwrap_or_default();
        let contributions = self.contributions.get(range.clone()).unwrap_or_default();
        let first = docs.partition_point(|&doc| doc < start);
        let mut n = 0;
        for (&doc, &contribution) in docs[first..].iter().zip(&contributions[first..]) {
            let Some(sum) = sums.get_mut(doc.wrapping_sub(start) as usize) else {
                break;
            };
            *sum = sum.wrapping_add(contribution);
            n += 1;
        }
        n
    }

    /// Adds the largest contribution in each block, of the postings in `range`, to `bounds`, which
    /// begin with block `first_block` and are in units of 2^`shift`.
    pub(super) fn add_block_maxima(
        &self,
        range: &Range<usize>,
        first_block: u32,
        shift: u32,
        bounds: &mut [u32],
    ) {
        let docs = self.docs.get(range.clone()).unwrap_or_default();
        let contributions = self.contributions.get(range.clone()).unwrap_or_default();
        let mut maxima = [(0, 0); BLOCK_LEN + 1];
        for (docs, contributions) in docs.chunks(BLOCK_LEN).zip(contributions.chunks(BLOCK_LEN)) {
            // Postings of one block come one after the other. Writing on every step, and moving
            // on only for a new block, leaves the processor nothing to guess.
            let (mut n, mut block, mut max) = (0, u32::MAX, 0);
            for (&doc, &contribution) in docs.iter().zip(contributions) {
                let next = doc >> BLOCK_BITS;
                let same = next == block;
                n += usize::from(!same);
                max = contribution.max(if same { max } else { 0 });
                block = next;
                if let Some(slot) = maxima.get_mut(n) {
                    *slot = (block, max);
                }
            }
            for &(block, max) in maxima.iter().take(n + 1).skip(1) {
                if let Some(bound) = bounds.get_mut(block.wrapping_sub(first_block) as usize) {
                    *bound += (max >> shift) + 1;
                }
            }
        }
    }
}
