//! [`FilteredScorer`]: a scorer restricted to what passes a filter.

use tantivy::query::Scorer;
use tantivy::{DocId, DocSet, Score, TERMINATED};

/// The documents of `inner` that `filter` has too, with the scores of `inner`.
pub(super) struct FilteredScorer<S> {
    inner: S,
    filter: Box<dyn Scorer>,
}

impl<S: Scorer> FilteredScorer<S> {
    pub(super) fn new(inner: S, filter: Box<dyn Scorer>) -> FilteredScorer<S> {
        let mut scorer = FilteredScorer { inner, filter };
        scorer.agree(scorer.inner.doc());
        scorer
    }

    /// Goes to the first common document from `doc` on, where `inner` stands.
    fn agree(&mut self, mut doc: DocId) -> DocId {
        while doc != TERMINATED {
            let passing = match self.filter.doc() {
                at if at < doc => self.filter.seek(doc),
                at => at,
            };
            if passing == doc {
                break;
            }
            doc = self.inner.seek(passing);
        }
        doc
    }
}

impl<S: Scorer> DocSet for FilteredScorer<S> {
    fn advance(&mut self) -> DocId {
        let doc = self.inner.advance();
        self.agree(doc)
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if target <= self.inner.doc() {
            return self.inner.doc();
        }
        let doc = self.inner.seek(target);
        self.agree(doc)
    }

    fn doc(&self) -> DocId {
        self.inner.doc()
    }

    fn size_hint(&self) -> u32 {
        self.inner.size_hint().min(self.filter.size_hint())
    }

    fn cost(&self) -> u64 {
        self.inner.cost().min(self.filter.cost())
    }
}

impl<S: Scorer> Scorer for FilteredScorer<S> {
    fn score(&mut self) -> Score {
        self.inner.score()
    }
}
