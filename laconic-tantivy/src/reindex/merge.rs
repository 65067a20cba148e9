//! [`PieceMerge`]: the pieces of a segment as the posting lists of the whole segment.
//!
//! The pieces are merged by term. Their ranges of documents ascend, so the list of a term is the
//! concatenation of its parts; what is held is one list.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use tantivy::DocId;

use super::piece::{Piece, PieceLists};
use crate::bulk::{ListSource, VisitList};

/// The lists of a segment.
pub(super) struct PieceMerge<'a> {
    /// In order of their documents.
    pub(super) pieces: &'a [Piece],
    pub(super) max_impact: u8,
    /// A document of the source and, from there on, the new numbers, ascending; `None` where they
    /// stay the same.
    pub(super) new_ids: Option<(DocId, &'a [DocId])>,
    /// Told how many bytes of pieces were merged; an error ends the merge.
    pub(super) progress: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl PieceMerge<'_> {
    fn renumber(&self, docs: &mut [DocId]) {
        if let Some((first, new_ids)) = self.new_ids {
            for doc in docs {
                *doc = new_ids[(*doc - first) as usize];
            }
        }
    }
}

/// Told after so many postings.
const REPORT_EVERY: usize = 1 << 18;

impl ListSource for PieceMerge<'_> {
    fn impact_sum(&self) -> u64 {
        let sums = self.pieces.iter().map(|piece| piece.counts().impact_sum);
        sums.sum()
    }

    fn for_each_list(&mut self, visit: &mut VisitList<'_>) -> io::Result<()> {
        let mut lists: Vec<PieceLists<'_>> = self.pieces.iter().map(Piece::lists).collect();
        let mut heap = BinaryHeap::with_capacity(lists.len());
        for (number, list) in lists.iter_mut().enumerate() {
            heap.extend(list.next_term()?.map(|term| Reverse((term, number))));
        }
        let (mut docs, mut impacts) = (Vec::new(), Vec::new());
        let (mut sum, mut unreported) = (0, 0);
        while let Some(&Reverse((term, _))) = heap.peek() {
            docs.clear();
            impacts.clear();
            while let Some(&Reverse((same, number))) = heap.peek() {
                if same != term {
                    break;
                }
                heap.pop();
                let list = &mut lists[number];
                list.read_list(self.max_impact, &mut docs, &mut impacts)?;
                if let Some(next) = list.next_term()? {
                    if next <= term {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "the terms of a piece are out of order; delete it and do its unit again",
                        ));
                    }
                    heap.push(Reverse((next, number)));
                }
            }
            sum += impacts.iter().map(|impact| u64::from(*impact)).sum::<u64>();
            self.renumber(&mut docs);
            visit(term, &docs, &impacts)?;
            unreported += docs.len();
            if unreported >= REPORT_EVERY {
                (self.progress)(unreported as u64)?;
                unreported = 0;
            }
        }
        (self.progress)(unreported as u64)?;
        // Written at the start of the field, before any list was read.
        if sum != self.impact_sum() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the pieces do not hold the impacts that they say",
            ));
        }
        Ok(())
    }
}
