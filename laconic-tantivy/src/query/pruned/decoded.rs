//! [`Decoded`]: posting lists that are read as a whole before they are used.

use std::ops::Range;

use tantivy::DocId;

use crate::bounds::SUPERBLOCK_BITS;
use crate::postings::Cursor;

/// Decoded postings of several terms, one after the other.
#[derive(Default)]
pub(super) struct Decoded {
    docs: Vec<DocId>,
    contributions: Vec<u32>,
    /// Where the postings of each term are.
    terms: Vec<Range<usize>>,
}

impl Decoded {
    /// Adds a term: its postings in front of document `end`, from where the cursor stands.
    pub(super) fn read(&mut self, cursor: &mut Cursor, end: DocId) {
        let first = self.docs.len();
        cursor.decode_below(end, &mut self.docs, &mut self.contributions);
        self.terms.push(first..self.docs.len());
    }

    /// Adds the contributions of the documents `[start, start + sums.len())` to `sums`. Returns
    /// how many postings there were.
    pub(super) fn accumulate(&self, start: DocId, sums: &mut [u32]) -> usize {
        let mut n = 0;
        for term in &self.terms {
            let docs = self.docs.get(term.clone()).unwrap_or_default();
            let contributions = self.contributions.get(term.clone()).unwrap_or_default();
            let first = docs.partition_point(|&doc| doc < start);
            for (&doc, &contribution) in docs[first..].iter().zip(&contributions[first..]) {
                let Some(sum) = sums.get_mut(doc.wrapping_sub(start) as usize) else {
                    break;
                };
                *sum = sum.wrapping_add(contribution);
                n += 1;
            }
        }
        n
    }

    /// The largest sum in each superblock from that of document `start` on, into `maxima`.
    /// `sums` is room for a window of documents, all 0 before and after.
    ///
    /// The maximum of the sums is a much lower bound than the sum of the terms' maxima: rare terms
    /// seldom meet in one document.
    pub(super) fn superblock_maxima(&self, start: DocId, sums: &mut [u32], maxima: &mut [u32]) {
        let mut ahead: Vec<usize> = self.terms.iter().map(|term| term.start).collect();
        let window = u32::try_from(sums.len()).unwrap_or(u32::MAX).max(1);
        let n_docs = u32::try_from(maxima.len() << SUPERBLOCK_BITS).unwrap_or(u32::MAX);
        for start_of_window in (0..n_docs).step_by(window as usize) {
            let first = start.saturating_add(start_of_window);
            let touched: Vec<Range<usize>> = self
                .terms
                .iter()
                .zip(&mut ahead)
                .map(|(term, ahead)| {
                    let begin = *ahead;
                    *ahead = self.add_window(begin..term.end, first, start, sums, maxima);
                    begin..*ahead
                })
                .collect();
            for doc in touched.into_iter().flat_map(|range| &self.docs[range]) {
                if let Some(sum) = sums.get_mut(doc.wrapping_sub(first) as usize) {
                    *sum = 0;
                }
            }
        }
    }

    /// Adds up postings of one term as far as `sums` reach, and raises `maxima`. Returns where
    /// it stopped.
    #[inline]
    fn add_window(
        &self,
        postings: Range<usize>,
        first: DocId,
        start: DocId,
        sums: &mut [u32],
        maxima: &mut [u32],
    ) -> usize {
        let docs = self.docs.get(postings.clone()).unwrap_or_default();
        let contributions = self.contributions.get(postings.clone()).unwrap_or_default();
        let mut stop = postings.start;
        for (&doc, &contribution) in docs.iter().zip(contributions) {
            let Some(sum) = sums.get_mut(doc.wrapping_sub(first) as usize) else {
                break;
            };
            *sum = sum.wrapping_add(contribution);
            let superblock = doc.wrapping_sub(start) >> SUPERBLOCK_BITS;
            if let Some(max) = maxima.get_mut(superblock as usize) {
                *max = (*sum).max(*max);
            }
            stop += 1;
        }
        stop
    }
}
