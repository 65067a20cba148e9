//! [`ImpactBuffer`]: the impacts of one segment under construction, document by document, and
//! their transposition into posting lists.

use tantivy::DocId;

use super::term_table::TermTable;
use crate::{ImpactQuantizer, QuantizationLoss, SparseVector};

/// Impacts collected in document order: five bytes a posting.
pub(crate) struct ImpactBuffer {
    quantizer: ImpactQuantizer,
    term_ids: TermTable,
    /// For each posting, in document order: its term and its impact.
    posting_terms: Vec<u32>,
    posting_impacts: Vec<u8>,
    /// For each document, the end of its postings.
    doc_ends: Vec<usize>,
    loss: QuantizationLoss,
}

/// Posting lists in memory, term by term.
pub(crate) struct PostingLists {
    /// Terms in byte order, each with the range of its postings.
    pub(crate) terms: Vec<(Box<str>, std::ops::Range<usize>)>,
    pub(crate) docs: Vec<DocId>,
    pub(crate) impacts: Vec<u8>,
}

impl ImpactBuffer {
    pub(crate) fn new(quantizer: ImpactQuantizer) -> ImpactBuffer {
        ImpactBuffer {
            quantizer,
            term_ids: TermTable::new(),
            posting_terms: Vec::new(),
            posting_impacts: Vec::new(),
            doc_ends: Vec::new(),
            loss: QuantizationLoss::default(),
        }
    }

    /// Appends the next document.
    pub(crate) fn push(&mut self, vector: &SparseVector) {
        for (term, weight) in vector.iter() {
            if let Some(impact) = self.quantizer.counted_impact(weight, &mut self.loss) {
                let term_id = self.term_ids.number(term);
                self.posting_terms.push(term_id);
                self.posting_impacts.push(impact);
            }
        }
        self.doc_ends.push(self.posting_terms.len());
    }

    pub(crate) fn n_postings(&self) -> usize {
        self.posting_terms.len()
    }

    pub(crate) fn loss(&self) -> QuantizationLoss {
        self.loss
    }

    /// Bytes held now and needed on top while transposing.
    pub(crate) fn mem_usage(&self) -> usize {
        let transposed = size_of::<DocId>() + size_of::<u8>();
        let posting = size_of::<u32>() + size_of::<u8>() + transposed;
        // While transposing: where each list begins and ends, and the sorted terms.
        let term = 2 * size_of::<usize>() + size_of::<(Box<str>, std::ops::Range<usize>)>();
        self.n_postings() * posting
            + self.doc_ends.len() * size_of::<usize>()
            + self.term_ids.len() * term
            + self.term_ids.mem_usage()
    }

    /// Posting lists of the documents in the order `old_ids`: the document pushed as number
    /// `old_ids[i]` becomes document `i`.
    ///
    /// A counting sort by term: documents are visited in their new order, so every list comes
    /// out ascending.
    pub(crate) fn into_posting_lists(self, old_ids: &[u64]) -> PostingLists {
        let mut next = self.list_starts();
        let starts = next.clone();
        let mut docs = vec![0; self.posting_terms.len()];
        let mut impacts = vec![0; self.posting_terms.len()];
        for (doc, &old_id) in (0..).zip(old_ids) {
            for posting in self.postings_of(old_id) {
                let slot = &mut next[self.posting_terms[posting] as usize];
                docs[*slot] = doc;
                impacts[*slot] = self.posting_impacts[posting];
                *slot += 1;
            }
        }
        let ranges = starts.into_iter().zip(next).map(|(start, end)| start..end);
        let mut terms: Vec<_> = self.term_ids.into_terms().into_iter().zip(ranges).collect();
        terms.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        PostingLists {
            terms,
            docs,
            impacts,
        }
    }

    /// For each term id, where its list begins.
    fn list_starts(&self) -> Vec<usize> {
        let mut starts = vec![0; self.term_ids.len()];
        for &term_id in &self.posting_terms {
            starts[term_id as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        starts
    }

    fn postings_of(&self, doc: u64) -> std::ops::Range<usize> {
        let doc = usize::try_from(doc).unwrap_or(usize::MAX);
        let end = |idx: usize| self.doc_ends.get(idx).copied().unwrap_or(0);
        doc.checked_sub(1).map_or(0, end)..end(doc)
    }
}
