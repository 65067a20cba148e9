//! [`FieldLists`]: the posting lists of one field in several segments, term by term.

use std::sync::Arc;

use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::termdict::TermMerger;
use tantivy::{DocId, InvertedIndexReader, SegmentReader, TERMINATED};

pub(crate) struct FieldLists(Vec<Arc<InvertedIndexReader>>);

/// One term's list in one segment.
pub(crate) type List = (usize, TermInfo);

impl FieldLists {
    pub(crate) fn open(readers: &[SegmentReader], field: Field) -> tantivy::Result<FieldLists> {
        let lists = readers.iter().map(|reader| reader.inverted_index(field));
        lists.collect::<Result<_, _>>().map(FieldLists)
    }

    pub(crate) fn segment(&self, segment: usize) -> &InvertedIndexReader {
        &self.0[segment]
    }

    /// Visits the terms in byte order, each with its lists.
    pub(crate) fn for_each_term(
        &self,
        mut visit: impl FnMut(&[u8], &[List]) -> tantivy::Result<()>,
    ) -> tantivy::Result<()> {
        let streams = self.0.iter().map(|lists| lists.terms().stream());
        let mut terms = TermMerger::new(streams.collect::<Result<_, _>>()?);
        let mut lists = Vec::new();
        while terms.advance() {
            lists.clear();
            lists.extend(terms.current_segment_ords_and_term_infos());
            visit(terms.key(), &lists)?;
        }
        Ok(())
    }

    /// Visits the documents of a list with their frequencies, 1 where there are none.
    pub(crate) fn for_each_posting(
        &self,
        (segment, info): &List,
        mut visit: impl FnMut(DocId, u32),
    ) -> tantivy::Result<()> {
        let option = IndexRecordOption::WithFreqs;
        let lists = self.segment(*segment);
        let mut blocks = lists.read_block_postings_from_terminfo(info, option)?;
        while blocks.doc(0) != TERMINATED {
            match blocks.freqs() {
                [] => blocks.docs().iter().for_each(|&doc| visit(doc, 1)),
                freqs => {
                    let postings = blocks.docs().iter().zip(freqs);
                    postings.for_each(|(&doc, &freq)| visit(doc, freq));
                }
            }
            blocks.advance();
        }
        Ok(())
    }
}
