//! What someone would write over Tantivy's public interface to get the dot product: a scorer of
//! their own, a union of posting lists driven by a heap, one document at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use tantivy::postings::{Postings, SegmentPostings};
use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED};

use super::plain::PlainQuery;

/// A dot product by a heap union.
#[derive(Debug, Clone)]
pub(super) struct UnionQuery(pub(super) PlainQuery);

impl Query for UnionQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(UnionWeight(self.0.clone())))
    }
}

struct UnionWeight(PlainQuery);

impl Weight for UnionWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let inverted_index = reader.inverted_index(self.0.field)?;
        let mut lists = Vec::with_capacity(self.0.terms.len());
        for (term, query_weight) in &self.0.terms {
            let option = IndexRecordOption::WithFreqs;
            if let Some(postings) = inverted_index.read_postings(term, option)? {
                lists.push((postings, *query_weight));
            }
        }
        if lists.is_empty() {
            return Ok(Box::new(EmptyScorer));
        }
        Ok(Box::new(UnionScorer::new(
            lists,
            boost * self.0.score(1),
            reader.max_doc(),
        )))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("a dot product", 0.0))
    }
}

struct UnionScorer {
    lists: Vec<(SegmentPostings, u32)>,
    /// The document each list stands on, the smallest on top.
    heap: BinaryHeap<Reverse<(DocId, usize)>>,
    unit: Score,
    max_doc: DocId,
    doc: DocId,
    sum: u32,
}

impl UnionScorer {
    fn new(lists: Vec<(SegmentPostings, u32)>, unit: Score, max_doc: DocId) -> UnionScorer {
        let docs = lists.iter().enumerate();
        let heap = docs
            .map(|(idx, (postings, _))| Reverse((postings.doc(), idx)))
            .collect();
        let mut scorer = UnionScorer {
            lists,
            heap,
            unit,
            max_doc,
            doc: 0,
            sum: 0,
        };
        scorer.advance();
        scorer
    }
}

impl DocSet for UnionScorer {
    fn advance(&mut self) -> DocId {
        self.doc = self
            .heap
            .peek()
            .map_or(TERMINATED, |Reverse((doc, _))| *doc);
        self.sum = 0;
        while let Some(mut top) = self.heap.peek_mut() {
            let Reverse((doc, idx)) = *top;
            if doc != self.doc || doc == TERMINATED {
                break;
            }
            let (postings, query_weight) = &mut self.lists[idx];
            self.sum += postings.term_freq() * *query_weight;
            match postings.advance() {
                TERMINATED => {
                    PeekMut::pop(top);
                }
                next => *top = Reverse((next, idx)),
            }
        }
        self.doc
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        self.max_doc
    }
}

impl Scorer for UnionScorer {
    #[expect(clippy::cast_precision_loss, reason = "the one rounding of a score")]
    fn score(&mut self) -> Score {
        self.sum as f32 * self.unit
    }
}
