//! [`Rows`]: which document comes from where.

use std::ops::Range;

use tantivy::{DocAddress, DocId, SegmentReader};

/// Marks a document that does not come along.
const GONE: DocId = DocId::MAX;

/// The live documents of several segments, numbered anew.
pub(crate) struct Rows {
    /// For each new number, the old address.
    old: Vec<DocAddress>,
    /// For each segment and each of its documents, the new number.
    new: Vec<Vec<DocId>>,
}

impl Rows {
    /// The documents as they stand, segment after segment.
    pub(crate) fn stacked(readers: &[SegmentReader]) -> Rows {
        let segments = (0u32..).zip(readers);
        let docs = segments.flat_map(|(segment, reader)| {
            let alive = reader.doc_ids_alive();
            alive.map(move |doc| DocAddress::new(segment, doc))
        });
        Rows::new(docs.collect(), readers)
    }

    /// The same documents: at place `i` the one that is at `order[i]` now.
    pub(crate) fn reordered(self, order: &[DocId], readers: &[SegmentReader]) -> Rows {
        let old = order.iter().map(|&doc| self.old[doc as usize]);
        Rows::new(old.collect(), readers)
    }

    fn new(old: Vec<DocAddress>, readers: &[SegmentReader]) -> Rows {
        let sizes = readers.iter().map(|reader| reader.max_doc() as usize);
        let mut new: Vec<_> = sizes.map(|size| vec![GONE; size]).collect();
        for (number, address) in (0..).zip(&old) {
            new[address.segment_ord as usize][address.doc_id as usize] = number;
        }
        Rows { old, new }
    }

    pub(crate) fn n_docs(&self) -> DocId {
        // Tantivy's segments have fewer than 2^31 documents together, or do not merge.
        DocId::try_from(self.old.len()).unwrap_or(DocId::MAX)
    }

    /// Old addresses of a range of new numbers.
    pub(crate) fn old(&self, range: &Range<DocId>) -> &[DocAddress] {
        &self.old[range.start as usize..range.end as usize]
    }

    /// The number of a document within a range, if it is there.
    pub(crate) fn new_in(&self, range: &Range<DocId>, segment: usize, doc: DocId) -> Option<DocId> {
        let number = self.new[segment][doc as usize];
        // `GONE` is in no range.
        range.contains(&number).then(|| number - range.start)
    }
}
