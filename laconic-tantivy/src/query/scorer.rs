//! [`LaconicScorer`]: the document-at-a-time face of a laconic query, for boolean queries,
//! filters and collectors that drive a `Scorer`.

use tantivy::query::Scorer;
use tantivy::{DocId, DocSet, Score, TERMINATED};

use super::fixed_point::ScoreOf;
use crate::postings::Cursor;

/// Smallest and largest look-ahead of `advance`, in documents.
///
/// `advance` sums a window at a time, which is cheap for a scorer that is walked through;
/// `seek` evaluates one document, which is cheap for a scorer that is led by another. A scorer
/// that gets both starts small after each seek and grows while it is walked.
const MIN_WINDOW: usize = 64;
const MAX_WINDOW: usize = 4096;

/// A cursor over the documents that match, with their scores.
///
/// Invariant: either `doc` lies in the window, `sums` holds the sums of the window and every
/// cursor stands at or after the window's end; or the window is empty and every cursor stands at
/// or after `doc`.
pub(crate) struct LaconicScorer {
    cursors: Vec<Cursor>,
    score_of: ScoreOf,
    boost: Score,
    max_doc: DocId,
    sums: Vec<u32>,
    window_start: DocId,
    next_window: usize,
    doc: DocId,
    sum: u32,
}

impl LaconicScorer {
    pub(crate) fn new(
        cursors: Vec<Cursor>,
        score_of: ScoreOf,
        boost: Score,
        max_doc: DocId,
    ) -> LaconicScorer {
        let mut scorer = LaconicScorer {
            cursors,
            score_of,
            boost,
            max_doc,
            sums: Vec::new(),
            window_start: 0,
            next_window: MIN_WINDOW,
            doc: 0,
            sum: 0,
        };
        scorer.evaluate_first();
        scorer
    }

    /// Stands on the smallest document of the cursors and sums it alone.
    fn evaluate_first(&mut self) -> DocId {
        self.sums.clear();
        self.doc = self
            .cursors
            .iter_mut()
            .map(Cursor::doc)
            .min()
            .unwrap_or(TERMINATED);
        let doc = self.doc;
        let contribution = |cursor: &mut Cursor| match cursor.doc() == doc {
            true => cursor.contribution(),
            false => 0,
        };
        let sum = |sum: u32, cursor| sum.wrapping_add(contribution(cursor));
        self.sum = self.cursors.iter_mut().fold(0, sum);
        self.doc
    }

    /// Goes to the first match at or after `from` inside the window, if there is one.
    fn find_in_window(&mut self, from: DocId) -> Option<DocId> {
        let offset = from.wrapping_sub(self.window_start) as usize;
        let rest = self.sums.get(offset..)?;
        let found = offset + rest.iter().position(|&sum| sum > 0)?;
        self.sum = self.sums[found];
        self.doc = self.window_start + u32::try_from(found).unwrap_or(0);
        Some(self.doc)
    }

    fn window_end(&self) -> DocId {
        self.window_start
            .saturating_add(u32::try_from(self.sums.len()).unwrap_or(u32::MAX))
    }

    /// Sums the window that begins with the first match at or after `from`.
    fn fill_window(&mut self, from: DocId) -> DocId {
        self.cursors
            .retain_mut(|cursor| cursor.seek(from) != TERMINATED);
        let Some(start) = self.cursors.iter_mut().map(Cursor::doc).min() else {
            return self.terminate();
        };
        let len = self
            .next_window
            .min(self.max_doc.saturating_sub(start) as usize);
        self.next_window = (2 * self.next_window).min(MAX_WINDOW);
        self.window_start = start;
        self.sums.clear();
        self.sums.resize(len, 0);
        for cursor in &mut self.cursors {
            cursor.accumulate(start, &mut self.sums);
        }
        self.find_in_window(start)
            .unwrap_or_else(|| self.terminate())
    }

    fn terminate(&mut self) -> DocId {
        self.sums.clear();
        self.cursors.clear();
        self.doc = TERMINATED;
        TERMINATED
    }
}

impl DocSet for LaconicScorer {
    fn advance(&mut self) -> DocId {
        if self.doc == TERMINATED {
            return TERMINATED;
        }
        let from = self.doc + 1;
        if let Some(doc) = self.find_in_window(from) {
            return doc;
        }
        let from = if self.sums.is_empty() {
            from
        } else {
            self.window_end()
        };
        self.fill_window(from)
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if target <= self.doc {
            return self.doc;
        }
        if let Some(doc) = self.find_in_window(target) {
            return doc;
        }
        for cursor in &mut self.cursors {
            cursor.seek(target);
        }
        self.next_window = MIN_WINDOW;
        self.evaluate_first()
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        u32::try_from(self.cost())
            .unwrap_or(u32::MAX)
            .min(self.max_doc)
    }

    fn cost(&self) -> u64 {
        self.cursors
            .iter()
            .map(|cursor| u64::from(cursor.doc_freq()))
            .sum()
    }
}

impl Scorer for LaconicScorer {
    fn score(&mut self) -> Score {
        self.score_of.score(self.sum) * self.boost
    }
}
