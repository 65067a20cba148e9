//! How a document's score comes about.

use std::cmp::Reverse;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::query::Explanation;
use tantivy::{DocId, Score, SegmentReader, TantivyError};

use super::filter::Admission;
use super::open_segment::OpenSegment;
use super::segment::EvaluationMode;
use super::weight::{LearnedPart, SumWeight};
use crate::postings::{Bm25Contribution, Contribution, Cursor};

/// What one learned term adds to one document's score.
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
    /// That as a share of the score of the learned part, 0 to 1.
    pub share: f32,
}

impl SumWeight {
    /// What the learned part of a query adds to a document, largest contribution first.
    pub(super) fn contributions(
        &self,
        reader: &SegmentReader,
        doc: DocId,
    ) -> tantivy::Result<Vec<TermContribution>> {
        let segment = self.open(reader, EvaluationMode::Exhaustive)?;
        Ok(self.learned_contributions(&segment, doc).1)
    }

    fn learned_contributions(
        &self,
        segment: &OpenSegment<'_>,
        doc: DocId,
    ) -> (u32, Vec<TermContribution>) {
        let Some(learned) = &self.learned else {
            return (0, Vec::new());
        };
        let mut found = Vec::new();
        for (idx, list) in segment.learned_lists() {
            let contribution = Contribution::Impact {
                query_weight: learned.query_weights[idx],
                max_impact: learned.quantizer.max_impact(),
            };
            let mut cursor = Cursor::new(list, contribution);
            if cursor.seek(doc) == doc {
                found.push((idx, cursor.impact(), cursor.contribution()));
            }
        }
        let add = |sum: u32, part: &(usize, u32, u32)| sum.wrapping_add(part.2);
        let sum = found.iter().fold(0, add);
        found.sort_by_key(|&(idx, _, part)| (Reverse(part), idx));
        let terms: Vec<(&str, f32)> = learned.vector.iter().collect();
        let of_term = |(idx, impact, part): (usize, u32, u32)| {
            self.contribution(learned, terms[idx], impact, part, sum)
        };
        (sum, found.into_iter().map(of_term).collect())
    }

    fn contribution(
        &self,
        learned: &LearnedPart,
        (term, query_weight): (&str, f32),
        impact: u32,
        part: u32,
        sum: u32,
    ) -> TermContribution {
        let impact = u8::try_from(impact).unwrap_or(u8::MAX);
        TermContribution {
            term: term.to_owned(),
            impact,
            document_weight: learned.quantizer.weight(impact),
            query_weight: query_weight * learned.factor,
            contribution: self.score_of.score(part),
            share: self.score_of.score(part) / self.score_of.score(sum),
        }
    }

    /// The account of a document's score, part by part.
    pub(super) fn explanation(
        &self,
        reader: &SegmentReader,
        doc: DocId,
    ) -> tantivy::Result<Explanation> {
        let segment = self.open(reader, EvaluationMode::Exhaustive)?;
        let mut admission = Admission::of_all(reader, &segment.filter);
        let passes = admission.admits(doc);
        if let Some(error) = admission.take_error() {
            return Err(error);
        }
        if !passes {
            return Err(no_match(doc, "does not pass the filter"));
        }
        let (mut sum, contributions) = self.learned_contributions(&segment, doc);
        let mut parts = Vec::new();
        if !contributions.is_empty() {
            parts.push(self.learned_explanation(sum, &contributions));
        }
        for (word, list, contribution) in segment.word_lists(self) {
            let mut cursor = Cursor::new(list.clone(), Contribution::Bm25(contribution.clone()));
            if cursor.seek(doc) == doc {
                sum = sum.wrapping_add(cursor.contribution());
                let score = self.score_of.score(cursor.contribution());
                let mut plain = Cursor::of_impacts(list, u8::MAX);
                plain.seek(doc);
                parts.push(word.explanation(&contribution, doc, plain.impact(), score));
            }
        }
        for (clause, (list, contribution)) in self.clauses.iter().zip(segment.clause_lists()) {
            let mut cursor = Cursor::new(list, contribution);
            if cursor.seek(doc) == doc {
                sum = sum.wrapping_add(cursor.contribution());
                parts.extend(clause.explain(reader, doc)?);
            }
        }
        let is_learned_alone = self.words.is_empty() && self.clauses.is_empty();
        match parts.pop() {
            None => Err(no_match(doc, "shares no term with the query")),
            Some(part) if is_learned_alone => Ok(part),
            Some(last) => {
                let score = self.score_of.score(sum);
                let mut explanation = Explanation::new("sum of the parts of the query", score);
                parts.push(last);
                for part in parts {
                    explanation.add_detail(part);
                }
                Ok(explanation)
            }
        }
    }

    fn learned_explanation(&self, sum: u32, parts: &[TermContribution]) -> Explanation {
        let score = self.score_of.score(sum);
        let name = "LaconicQuery, sum of impact/scale × query weight";
        let mut explanation = Explanation::new(name, score);
        for part in parts {
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
        explanation
    }
}

impl super::word::Word {
    #[expect(clippy::cast_precision_loss, reason = "numbers to read")]
    fn explanation(
        &self,
        contribution: &Bm25Contribution,
        doc: DocId,
        freq: u32,
        score: Score,
    ) -> Explanation {
        let lengths = &self.lengths;
        let code = contribution.length_code(doc);
        let norm = lengths.norms[usize::from(code)];
        let mut tf = Explanation::new(
            "freq / (freq + k1 * (1 - b + b * dl / avgdl))",
            freq as f32 / (freq as f32 + norm),
        );
        tf.add_const("freq, occurrences of term within document", freq as f32);
        tf.add_const("k1, term saturation parameter", lengths.parameters.k1);
        tf.add_const("b, length normalization parameter", lengths.parameters.b);
        let length = FieldNormReader::id_to_fieldnorm(code);
        tf.add_const("dl, length of field", length as f32);
        tf.add_const("avgdl, average length of field", lengths.average);
        let mut idf = Explanation::new(
            "idf, computed as log(1 + (N - n + 0.5) / (n + 0.5))",
            self.idf(),
        );
        idf.add_const(
            "n, number of docs containing this term",
            self.doc_freq as f32,
        );
        idf.add_const("N, total number of docs", self.n_docs as f32);
        let name = format!("BM25 of {:?}, product of...", self.term);
        let mut explanation = Explanation::new_with_string(name, score);
        explanation.add_const("(K1+1)", lengths.parameters.k1 + 1.0);
        explanation.add_const("boost", self.boost);
        explanation.add_detail(idf);
        explanation.add_detail(tf);
        explanation
    }
}

fn no_match(doc: DocId, why: &str) -> TantivyError {
    TantivyError::InvalidArgument(format!("document {doc} does not match: it {why}"))
}
