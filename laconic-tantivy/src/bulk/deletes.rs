//! [`DeleteOlder`]: deletes by id that reach only the segments which were there before them.
//!
//! Tantivy orders deletes and additions by a queue whose positions are private, and a segment
//! handed to `IndexWriter::add_segment` may still see deletes that were issued before it. So a
//! delete of ours knows the age of every segment of its session and passes over younger ones.
//! Segments that are built side by side are of one age: their documents do not replace each other.
//! That holds as long as no two segments of a session are merged before they are committed,
//! which the bulk writer makes sure of.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tantivy::index::SegmentId;
use tantivy::query::{
    BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{BitSet, DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError, Term};

/// When each segment of the session was added: 1, 2, 3, …, the same for those whose documents do
/// not replace each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct SegmentAges(Arc<RwLock<HashMap<SegmentId, u64>>>);

impl SegmentAges {
    pub(crate) fn enter(&self, segment: SegmentId, age: u64) {
        // Nothing panics while it holds the lock, and the map is valid at every step.
        let mut ages = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ages.insert(segment, age);
    }

    /// The segment's number; 0 for one that the session did not add.
    fn of(&self, segment: SegmentId) -> u64 {
        let ages = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ages.get(&segment).copied().unwrap_or(0)
    }
}

/// Matches documents with one of `ids`, in segments numbered below `before`.
#[derive(Debug, Clone)]
pub(crate) struct DeleteOlder {
    pub(crate) ids: Arc<[Term]>,
    pub(crate) before: u64,
    pub(crate) ages: SegmentAges,
}

impl Query for DeleteOlder {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl DeleteOlder {
    fn matches(&self, reader: &SegmentReader) -> tantivy::Result<BitSet> {
        let mut matches = BitSet::with_max_value(reader.max_doc());
        for id in self.ids.iter() {
            let inverted_index = reader.inverted_index(id.field())?;
            let postings = inverted_index.read_postings(id, IndexRecordOption::Basic)?;
            let Some(mut postings) = postings else {
                continue;
            };
            while postings.doc() != TERMINATED {
                matches.insert(postings.doc());
                postings.advance();
            }
        }
        Ok(matches)
    }
}

impl Weight for DeleteOlder {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        if self.ages.of(reader.segment_id()) >= self.before {
            return Ok(Box::new(EmptyScorer));
        }
        let docs = BitSetDocSet::from(self.matches(reader)?);
        Ok(Box::new(ConstScorer::new(docs, boost)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        if self.scorer(reader, 1.0)?.seek(doc) == doc {
            return Ok(Explanation::new("document has one of the ids", 1.0));
        }
        Err(TantivyError::InvalidArgument(format!(
            "document {doc} has none of the ids"
        )))
    }
}
