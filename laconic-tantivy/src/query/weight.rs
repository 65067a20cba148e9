//! [`SumWeight`]: a query of posting lists tied to an index.

use std::ops::Range;
use std::sync::Arc;

use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Scorer, Weight};
use tantivy::schema::Field;
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, Score, SegmentReader, Term};

use super::clause::Clause;
use super::collect::{Callback, Collect};
use super::filter::{Admission, Filter, SegmentFilter};
use super::filtered_scorer::FilteredScorer;
use super::fixed_point::{FixedPoint, Others, ScoreOf};
use super::open_segment::OpenSegment;
use super::scorer::LaconicScorer;
use super::segment::{Evaluation, EvaluationMode, cursors};
use super::sum_query::Parts;
use super::word::{Word, words};
use crate::postings::Cursor;
use crate::{Error, ImpactQuantizer, LaconicField, SparseVector};

/// A collector does not tell how many documents it wants.
const ASSUMED_K: usize = 10;

pub(crate) struct SumWeight {
    pub(super) learned: Option<LearnedPart>,
    pub(super) words: Vec<Word>,
    pub(super) clauses: Vec<Clause>,
    pub(super) filter: Option<Filter>,
    pub(super) score_of: ScoreOf,
}

/// The learned part of a query.
pub(super) struct LearnedPart {
    pub(super) field: Field,
    pub(super) quantizer: ImpactQuantizer,
    pub(super) vector: Arc<SparseVector>,
    pub(super) terms: Arc<[Term]>,
    pub(super) factor: f32,
    /// Weights times the factor, in fixed point.
    pub(super) query_weights: Vec<u32>,
}

impl SumWeight {
    pub(super) fn new(parts: &Parts<'_>, scoring: EnableScoring<'_>) -> Result<SumWeight, Error> {
        let mut of_words = Vec::new();
        for &(query, factor) in &parts.words {
            of_words.append(&mut words(query, factor, scoring)?);
        }
        let mut clauses = Vec::new();
        for &(query, factor) in &parts.clauses {
            match super::Bm25Query::of_query(query, scoring.schema()) {
                Some(query) => of_words.append(&mut words(&query, factor, scoring)?),
                None => clauses.push(Clause::new(query, factor, scoring)?),
            }
        }
        let max_scores = of_words.iter().map(|word| word.weight);
        let max_scores = max_scores.chain(clauses.iter().map(|clause| clause.max_score));
        let others = Others {
            n_terms: of_words.len() + clauses.len(),
            max_score: max_scores.map(f64::from).sum(),
        };
        let field = |(query, factor): (&super::LaconicQuery, f32)| {
            let field = LaconicField::of(scoring.schema(), query.field)?;
            field.identity().check_model(query.model.as_ref())?;
            Ok::<_, Error>((query.vector.clone(), query.terms.clone(), field, factor))
        };
        let learned = parts.learned.map(field).transpose()?;
        let weights = learned.as_ref().map(|(vector, _, field, factor)| {
            (vector.as_ref(), *factor, field.identity().quantizer)
        });
        let fixed_point = FixedPoint::new(weights, others)?;
        let score_of = fixed_point.score_of();
        let learned = learned.map(|(vector, terms, field, factor)| LearnedPart {
            field: field.field(),
            quantizer: field.identity().quantizer,
            vector,
            terms,
            factor,
            query_weights: fixed_point.query_weights,
        });
        let filter = parts.filter.map(|filter| Filter::new(filter, scoring));
        Ok(SumWeight {
            learned,
            words: of_words,
            clauses,
            filter: filter.transpose()?,
            score_of,
        })
    }

    /// Opens the fields of a segment and looks the terms up. Bounds that have to be computed are,
    /// where `mode` wants them.
    pub(crate) fn open<'r>(
        &'r self,
        reader: &'r SegmentReader,
        mode: EvaluationMode,
    ) -> tantivy::Result<OpenSegment<'r>> {
        OpenSegment::new(self, reader, mode)
    }

    /// Offers every document of a segment that can matter to `collector`.
    fn collect(
        &self,
        segment: &OpenSegment<'_>,
        mode: EvaluationMode,
        collector: &mut impl Collect,
    ) {
        let docs = 0..segment.reader.max_doc();
        self.evaluation(segment, docs, mode).collect(collector);
    }

    /// Prepares the evaluation of some documents of an open segment.
    pub(crate) fn evaluation<'a>(
        &'a self,
        segment: &'a OpenSegment<'_>,
        docs: Range<DocId>,
        mode: EvaluationMode,
    ) -> Evaluation<'a> {
        Evaluation::choose(segment.terms(self), segment.place(), docs, mode)
    }

    /// Calls `visit` for every matching document, deleted ones included, in ascending order.
    fn for_each_sum(
        &self,
        reader: &SegmentReader,
        mut visit: impl FnMut(DocId, u32),
    ) -> tantivy::Result<()> {
        let mode = EvaluationMode::Exhaustive;
        let segment = self.open(reader, mode)?;
        let mut admission = Admission::of_all(reader, &segment.filter);
        let mut all = Callback::new(1, |doc, sum| {
            if admission.admits(doc) {
                visit(doc, sum);
            }
            1
        });
        self.collect(&segment, mode, &mut all);
        admission.take_error().map_or(Ok(()), Err)
    }

    pub(crate) fn score_of(&self) -> ScoreOf {
        self.score_of
    }

    /// Cursors of all terms that occur in the segment.
    pub(crate) fn cursors(&self, segment: &OpenSegment<'_>) -> Vec<Cursor> {
        cursors(segment.terms(self))
    }
}

impl Weight for SumWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let segment = self.open(reader, EvaluationMode::Exhaustive)?;
        let cursors = self.cursors(&segment);
        if cursors.is_empty() {
            return Ok(Box::new(EmptyScorer));
        }
        let scorer = LaconicScorer::new(cursors, self.score_of, boost, reader.max_doc());
        Ok(match (&self.filter, &segment.filter) {
            (None, _) | (_, SegmentFilter::None) => Box::new(scorer),
            (Some(filter), _) => Box::new(FilteredScorer::new(scorer, filter.scorer(reader)?)),
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        self.explanation(reader, doc)
    }

    fn count(&self, reader: &SegmentReader) -> tantivy::Result<u32> {
        let alive = reader.alive_bitset();
        let mut count = 0u32;
        self.for_each_sum(reader, |doc, _| {
            count += u32::from(alive.is_none_or(|alive| alive.is_alive(doc)));
        })?;
        Ok(count)
    }

    fn for_each(
        &self,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(DocId, Score),
    ) -> tantivy::Result<()> {
        let score_of = self.score_of;
        self.for_each_sum(reader, |doc, sum| callback(doc, score_of.score(sum)))
    }

    fn for_each_no_score(
        &self,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(&[DocId]),
    ) -> tantivy::Result<()> {
        let mut buffer = Vec::with_capacity(COLLECT_BLOCK_BUFFER_LEN);
        self.for_each_sum(reader, |doc, _| {
            buffer.push(doc);
            if buffer.len() == COLLECT_BLOCK_BUFFER_LEN {
                callback(&buffer);
                buffer.clear();
            }
        })?;
        callback(&buffer);
        Ok(())
    }

    fn for_each_pruning(
        &self,
        threshold: Score,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(DocId, Score) -> Score,
    ) -> tantivy::Result<()> {
        let n_wanted = ASSUMED_K;
        let mode = EvaluationMode::Pruned { n_wanted };
        let segment = self.open(reader, mode)?;
        let mut admission = Admission::of_all(reader, &segment.filter);
        let score_of = self.score_of;
        let smallest_sum = |threshold| score_of.smallest_sum_above(threshold).unwrap_or(u32::MAX);
        let (mut threshold, mut min_sum) = (threshold, smallest_sum(threshold));
        let mut collector = Callback::new(min_sum, |doc, sum| {
            let score = score_of.score(sum);
            // Nothing is above a threshold that no sum exceeds, not even the largest sum.
            if score > threshold && admission.admits(doc) {
                let raised = callback(doc, score);
                if raised != threshold {
                    threshold = raised;
                    min_sum = smallest_sum(threshold);
                }
            }
            min_sum
        });
        self.collect(&segment, mode, &mut collector);
        admission.take_error().map_or(Ok(()), Err)
    }
}
