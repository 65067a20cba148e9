//! [`LaconicWeight`]: a laconic query tied to a schema.

use std::ops::Range;
use std::sync::Arc;

use tantivy::query::{EmptyScorer, Explanation, Scorer, Weight};
use tantivy::schema::Field;
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, Score, SegmentReader, TantivyError, Term};

use super::collect::{Callback, Collect};
use super::fixed_point::{FixedPoint, ScoreOf};
use super::scorer::LaconicScorer;
use super::segment::{Evaluation, EvaluationMode, SegmentTerms, n_postings};
use crate::postings::{Cursor, FieldReader, QueryTerm};
use crate::{Error, ImpactQuantizer, LaconicField, SparseVector};

/// A collector does not tell how many documents it wants.
const ASSUMED_K: usize = 10;

pub(crate) struct LaconicWeight {
    field: Field,
    quantizer: ImpactQuantizer,
    vector: Arc<SparseVector>,
    terms: Arc<[Term]>,
    fixed_point: FixedPoint,
}

/// A laconic field of a segment, held open, with the terms of a query.
pub(crate) struct OpenSegment<'r> {
    pub(crate) reader: &'r SegmentReader,
    field_reader: Arc<FieldReader>,
    found: Vec<QueryTerm>,
}

impl OpenSegment<'_> {
    /// Postings of the query terms.
    pub(crate) fn n_postings(&self) -> u64 {
        n_postings(&self.found)
    }
}

/// What one term adds to one document's score.
#[derive(Debug, Clone, PartialEq)]
pub struct TermContribution {
    /// The term as indexed.
    pub term: String,
    /// Impact stored in the document.
    pub impact: u8,
    /// The term weight that impact stands for.
    pub document_weight: f32,
    /// The query's weight of the term.
    pub query_weight: f32,
    /// What the term adds to the score.
    pub contribution: f32,
    /// That as a share of the score, 0 to 1.
    pub share: f32,
}

impl LaconicWeight {
    pub(crate) fn new(
        field: &LaconicField,
        vector: Arc<SparseVector>,
        terms: Arc<[Term]>,
    ) -> Result<LaconicWeight, Error> {
        let quantizer = field.identity().quantizer;
        let fixed_point = FixedPoint::new(&vector, quantizer)?;
        Ok(LaconicWeight {
            field: field.field(),
            quantizer,
            vector,
            terms,
            fixed_point,
        })
    }

    /// Opens the field in a segment and looks the query terms up.
    pub(crate) fn open<'r>(&self, reader: &'r SegmentReader) -> tantivy::Result<OpenSegment<'r>> {
        let (field_reader, inverted_index) = FieldReader::open(reader, self.field)?;
        let found = field_reader.query_terms(&inverted_index, &self.terms)?;
        Ok(OpenSegment {
            reader,
            field_reader,
            found,
        })
    }

    fn segment_terms(&self, found: Vec<QueryTerm>) -> SegmentTerms<'_> {
        SegmentTerms {
            found,
            query_weights: &self.fixed_point.query_weights,
            max_impact: self.quantizer.max_impact(),
        }
    }

    /// Prepares the evaluation of some documents of an open segment.
    pub(crate) fn evaluation<'a>(
        &self,
        segment: &'a OpenSegment<'_>,
        docs: Range<DocId>,
        mode: EvaluationMode,
    ) -> Evaluation<'a> {
        let terms = self.segment_terms(segment.found.clone());
        Evaluation::choose(terms, &segment.field_reader, docs, mode)
    }

    /// Offers every document of a segment that can matter to `collector`.
    fn collect(
        &self,
        reader: &SegmentReader,
        mode: EvaluationMode,
        collector: &mut impl Collect,
    ) -> tantivy::Result<()> {
        let segment = self.open(reader)?;
        let evaluation = self.evaluation(&segment, 0..reader.max_doc(), mode);
        evaluation.collect(collector);
        Ok(())
    }

    /// Calls `visit` for every matching document, in ascending order.
    fn for_each_sum(
        &self,
        reader: &SegmentReader,
        mut visit: impl FnMut(DocId, u32),
    ) -> tantivy::Result<()> {
        let mut all = Callback::new(1, |doc, sum| {
            visit(doc, sum);
            1
        });
        self.collect(reader, EvaluationMode::Exhaustive, &mut all)
    }

    pub(crate) fn score_of(&self) -> ScoreOf {
        self.fixed_point.score_of()
    }

    /// Cursors of the query terms that occur in the segment.
    pub(crate) fn cursors(&self, reader: &SegmentReader) -> tantivy::Result<Vec<Cursor>> {
        let found = self.open(reader)?.found;
        Ok(self.segment_terms(found).into_cursors())
    }

    pub(crate) fn contributions(
        &self,
        reader: &SegmentReader,
        doc: DocId,
    ) -> tantivy::Result<Vec<TermContribution>> {
        Ok(self.score_and_contributions(reader, doc)?.1)
    }

    /// The score of a document and where it comes from, largest contribution first.
    fn score_and_contributions(
        &self,
        reader: &SegmentReader,
        doc: DocId,
    ) -> tantivy::Result<(Score, Vec<TermContribution>)> {
        let mut found = Vec::new();
        for term in self.open(reader)?.found {
            let query_weight = self.fixed_point.query_weights[term.idx];
            let mut cursor = Cursor::new(term.list, query_weight, self.quantizer.max_impact());
            if cursor.seek(doc) == doc {
                found.push((term.idx, cursor.impact(), cursor.contribution()));
            }
        }
        let sum = found
            .iter()
            .fold(0u32, |sum, (.., part)| sum.wrapping_add(*part));
        found.sort_by_key(|&(idx, _, part)| (std::cmp::Reverse(part), idx));
        let terms: Vec<(&str, f32)> = self.vector.iter().collect();
        let contribution = |(idx, impact, part): (usize, u32, u32)| {
            self.contribution(terms[idx], impact, part, sum)
        };
        let contributions = found.into_iter().map(contribution).collect();
        Ok((self.fixed_point.score_of().score(sum), contributions))
    }

    fn contribution(
        &self,
        (term, query_weight): (&str, f32),
        impact: u32,
        part: u32,
        sum: u32,
    ) -> TermContribution {
        let score_of = self.fixed_point.score_of();
        let impact = u8::try_from(impact).unwrap_or(u8::MAX);
        TermContribution {
            term: term.to_owned(),
            impact,
            document_weight: self.quantizer.weight(impact),
            query_weight,
            contribution: score_of.score(part),
            share: score_of.score(part) / score_of.score(sum),
        }
    }
}

impl Weight for LaconicWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let cursors = self.cursors(reader)?;
        if cursors.is_empty() {
            return Ok(Box::new(EmptyScorer));
        }
        let score_of = self.fixed_point.score_of();
        Ok(Box::new(LaconicScorer::new(
            cursors,
            score_of,
            boost,
            reader.max_doc(),
        )))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let (score, contributions) = self.score_and_contributions(reader, doc)?;
        if contributions.is_empty() {
            let message = format!("document {doc} shares no term with the laconic query");
            return Err(TantivyError::InvalidArgument(message));
        }
        let mut explanation =
            Explanation::new("LaconicQuery, sum of impact/scale × query weight", score);
        for part in contributions {
            let description = format!(
                "term `{}`: impact {} (weight {}) × query weight {}, {:.1} % of the score",
                part.term,
                part.impact,
                part.document_weight,
                part.query_weight,
                100.0 * part.share
            );
            explanation.add_detail(Explanation::new_with_string(description, part.contribution));
        }
        Ok(explanation)
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
        let score_of = self.fixed_point.score_of();
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
        let score_of = self.fixed_point.score_of();
        let smallest_sum = |threshold| score_of.smallest_sum_above(threshold).unwrap_or(u32::MAX);
        let (mut threshold, mut min_sum) = (threshold, smallest_sum(threshold));
        let mut collector = Callback::new(min_sum, |doc, sum| {
            let score = score_of.score(sum);
            // Nothing is above a threshold that no sum exceeds, not even the largest sum.
            if score > threshold {
                let raised = callback(doc, score);
                if raised != threshold {
                    threshold = raised;
                    min_sum = smallest_sum(threshold);
                }
            }
            min_sum
        });
        self.collect(
            reader,
            EvaluationMode::Pruned {
                n_wanted: ASSUMED_K,
            },
            &mut collector,
        )
    }
}
