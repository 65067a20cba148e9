//! [`LaconicWeight`]: a laconic query tied to a schema.

use std::sync::Arc;

use tantivy::query::{EmptyScorer, Explanation, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, Score, SegmentReader, TantivyError, Term};

use super::cursor::Cursor;
use super::fixed_point::FixedPoint;
use super::scorer::LaconicScorer;
use super::sweep::Sweep;
use crate::{Error, ImpactQuantizer, LaconicField, SparseVector};

pub(crate) struct LaconicWeight {
    field: Field,
    quantizer: ImpactQuantizer,
    vector: Arc<SparseVector>,
    terms: Arc<[Term]>,
    fixed_point: FixedPoint,
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

    /// Cursors of the query terms that occur in the segment, with their place in the query.
    fn cursors(&self, reader: &SegmentReader) -> tantivy::Result<Vec<(usize, Cursor)>> {
        let inverted_index = reader.inverted_index(self.field)?;
        let mut cursors = Vec::with_capacity(self.terms.len());
        for (idx, term) in self.terms.iter().enumerate() {
            let option = IndexRecordOption::WithFreqs;
            if let Some(postings) = inverted_index.read_block_postings(term, option)? {
                let query_weight = self.fixed_point.query_weights[idx];
                let max_impact = self.quantizer.max_impact();
                cursors.push((idx, Cursor::new(postings, query_weight, max_impact)));
            }
        }
        Ok(cursors)
    }

    fn sweep(&self, reader: &SegmentReader) -> tantivy::Result<Sweep> {
        Ok(Sweep::new(self.bare_cursors(reader)?, reader.max_doc()))
    }

    fn bare_cursors(&self, reader: &SegmentReader) -> tantivy::Result<Vec<Cursor>> {
        let cursors = self.cursors(reader)?.into_iter();
        Ok(cursors.map(|(_, cursor)| cursor).collect())
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
        for (idx, mut cursor) in self.cursors(reader)? {
            if cursor.seek(doc) == doc {
                found.push((idx, cursor.impact(), cursor.contribution()));
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
        let cursors = self.bare_cursors(reader)?;
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
        self.sweep(reader)?.for_each(|doc, _| {
            count += u32::from(alive.is_none_or(|alive| alive.is_alive(doc)));
        });
        Ok(count)
    }

    fn for_each(
        &self,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(DocId, Score),
    ) -> tantivy::Result<()> {
        let score_of = self.fixed_point.score_of();
        self.sweep(reader)?
            .for_each(|doc, sum| callback(doc, score_of.score(sum)));
        Ok(())
    }

    fn for_each_no_score(
        &self,
        reader: &SegmentReader,
        callback: &mut dyn FnMut(&[DocId]),
    ) -> tantivy::Result<()> {
        let mut buffer = Vec::with_capacity(COLLECT_BLOCK_BUFFER_LEN);
        self.sweep(reader)?.for_each(|doc, _| {
            buffer.push(doc);
            if buffer.len() == COLLECT_BLOCK_BUFFER_LEN {
                callback(&buffer);
                buffer.clear();
            }
        });
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
        let Some(min_sum) = score_of.smallest_sum_above(threshold) else {
            return Ok(());
        };
        let (mut threshold, mut min_sum) = (threshold, Some(min_sum));
        self.sweep(reader)?
            .for_each_at_least(min_sum.unwrap_or(1), |doc, sum| {
                let raised = callback(doc, score_of.score(sum));
                if raised != threshold {
                    threshold = raised;
                    min_sum = score_of.smallest_sum_above(threshold);
                }
                min_sum
            });
        Ok(())
    }
}
