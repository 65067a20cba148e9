//! [`Decoded`]: posting lists that are read as a whole before they are used.

use std::ops::Range;

use tantivy::DocId;

use super::windows::Windows;
use crate::bounds::BLOCK_BITS;
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

    /// Adds the contributions of the documents of windows to their `sums`. Returns how many postings
    /// there were.
    pub(super) fn accumulate(&self, windows: &Windows, sums: &mut [u32]) -> usize {
        let mut n = 0;
        for term in &self.terms {
            let mut docs = self.docs.get(term.clone()).unwrap_or_default();
            let mut contributions = self.contributions.get(term.clone()).unwrap_or_default();
            for window in windows.iter() {
                let n_before = n_below(docs, window.start);
                (docs, contributions) = (&docs[n_before..], &contributions[n_before..]);
                let sums = &mut sums[window.place.clone()];
                for (&doc, &contribution) in docs.iter().zip(contributions) {
                    let Some(sum) = sums.get_mut(doc.wrapping_sub(window.start) as usize) else {
                        break;
                    };
                    *sum = sum.wrapping_add(contribution);
                    n += 1;
                }
            }
        }
        n
    }

    /// The largest sum in each block from that of document `start` on, into `maxima`.
    /// `sums` is room for a window of documents, all 0 before and after.
    ///
    /// The maximum of the sums is a much lower bound than the sum of the terms' maxima: rare terms
    /// seldom meet in one document.
    pub(super) fn block_maxima(&self, start: DocId, sums: &mut [u32], maxima: &mut [u32]) {
        let mut ahead: Vec<usize> = self.terms.iter().map(|term| term.start).collect();
        let window = u32::try_from(sums.len()).unwrap_or(u32::MAX).max(1);
        let n_docs = u32::try_from(maxima.len() << BLOCK_BITS).unwrap_or(u32::MAX);
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
            let block = doc.wrapping_sub(start) >> BLOCK_BITS;
            if let Some(max) = maxima.get_mut(block as usize) {
                *max = (*sum).max(*max);
            }
            stop += 1;
        }
        stop
    }
}

/// How many ascending documents are in front of `doc`, which is likely near.
fn n_below(docs: &[DocId], doc: DocId) -> usize {
    let mut end = 1;
    while docs.get(end).is_some_and(|&next| next < doc) {
        end *= 2;
    }
    let start = end / 2;
    let end = docs.len().min(end + 1);
    let Some(docs) = docs.get(start..end) else {
        return 0;
    };
    start + docs.partition_point(|&next| next < doc)
}
