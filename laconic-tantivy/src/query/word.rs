//! [`Word`]: a term of a BM25 query with what its score is made of.

use std::sync::Arc;

use tantivy::Term;
use tantivy::fieldnorm::FieldNormReader;
use tantivy::query::EnableScoring;
use tantivy::schema::Field;

use super::Bm25Query;
use super::bm25_query::{Bm25, check_field};
use crate::Error;
use crate::postings::Bm25Contribution;

/// A term of a BM25 query, the same for all segments.
#[derive(Clone)]
pub(super) struct Word {
    pub(super) term: Term,
    pub(super) boost: f32,
    pub(super) doc_freq: u64,
    pub(super) n_docs: u64,
    pub(super) lengths: Arc<FieldLengths>,
    /// idf × (k1 + 1) × boost.
    pub(super) weight: f32,
}

/// How the lengths of a field's documents count.
pub(super) struct FieldLengths {
    pub(super) field: Field,
    pub(super) parameters: Bm25,
    pub(super) average: f32,
    /// k1 × (1 − b + b × length / average length), by Tantivy's code of the length.
    pub(super) norms: Arc<[f32; 256]>,
}

/// The words of a part of a query, whose boosts are multiplied by `factor`.
pub(super) fn words(
    query: &Bm25Query,
    factor: f32,
    scoring: EnableScoring<'_>,
) -> Result<Vec<Word>, Error> {
    let mut of_fields: Vec<Arc<FieldLengths>> = Vec::new();
    let mut words = Vec::new();
    for (term, boost) in query.terms() {
        let field = term.field();
        let known = of_fields.iter().find(|lengths| lengths.field == field);
        let lengths = if let Some(lengths) = known {
            lengths.clone()
        } else {
            check_field(scoring.schema(), field)?;
            let parameters = query.parameters_of(field);
            of_fields.push(Arc::new(FieldLengths::new(field, parameters, scoring)?));
            of_fields[of_fields.len() - 1].clone()
        };
        words.push(Word::new(term.clone(), boost * factor, lengths, scoring)?);
    }
    Ok(words)
}

impl FieldLengths {
    #[expect(clippy::cast_precision_loss, reason = "as Tantivy computes it")]
    fn new(
        field: Field,
        parameters: Bm25,
        scoring: EnableScoring<'_>,
    ) -> Result<FieldLengths, Error> {
        let average = match scoring {
            EnableScoring::Enabled {
                statistics_provider: statistics,
                ..
            } => statistics.total_num_tokens(field)? as f32 / statistics.total_num_docs()? as f32,
            EnableScoring::Disabled { .. } => 1.0,
        };
        let norm = |code| parameters.norm(FieldNormReader::id_to_fieldnorm(code), average);
        Ok(FieldLengths {
            field,
            parameters,
            average,
            norms: Arc::new(std::array::from_fn(|code| {
                norm(u8::try_from(code).unwrap_or(u8::MAX))
            })),
        })
    }

    /// The smallest share that is left of any norm when a segment's own, by Tantivy's parameters
    /// and the average length when it was written, become these: every norm is at least that
    /// share of the segment's own.
    pub(super) fn smallest_ratio_to(&self, segment_average: f32) -> f64 {
        let own = |code| {
            let length = FieldNormReader::id_to_fieldnorm(code);
            Bm25::default().norm(length, segment_average)
        };
        let ratio = |(code, norm): (u8, &f32)| f64::from(*norm) / f64::from(own(code));
        let ratios = (0..=u8::MAX).zip(self.norms.iter()).map(ratio);
        // A ratio that is no number tells nothing.
        ratios.fold(f64::INFINITY, |min, ratio| match ratio >= 0.0 {
            true => min.min(ratio),
            false => 0.0,
        })
    }
}

impl Bm25 {
    #[expect(clippy::cast_precision_loss, reason = "as Tantivy computes it")]
    pub(super) fn norm(self, length: u32, average: f32) -> f32 {
        self.k1 * (1.0 - self.b + self.b * length as f32 / average)
    }
}

impl Word {
    fn new(
        term: Term,
        boost: f32,
        lengths: Arc<FieldLengths>,
        scoring: EnableScoring<'_>,
    ) -> Result<Word, Error> {
        let (doc_freq, n_docs) = match scoring {
            EnableScoring::Enabled {
                statistics_provider: statistics,
                ..
            } => (statistics.doc_freq(&term)?, statistics.total_num_docs()?),
            EnableScoring::Disabled { .. } => (1, 1),
        };
        let weight = idf(doc_freq, n_docs) * (1.0 + lengths.parameters.k1) * boost;
        Ok(Word {
            term,
            boost,
            doc_freq,
            n_docs,
            lengths,
            weight,
        })
    }

    pub(super) fn idf(&self) -> f32 {
        idf(self.doc_freq, self.n_docs)
    }

    /// What its postings add in a segment with these codes of lengths.
    pub(super) fn contribution(
        &self,
        lengths: tantivy::directory::OwnedBytes,
        one: f32,
    ) -> Bm25Contribution {
        Bm25Contribution {
            weight: self.weight,
            norms: self.lengths.norms.clone(),
            lengths,
            one,
        }
    }
}

/// ln(1 + (N − n + 0.5) / (n + 0.5)), as Tantivy and Lucene have it: never negative.
#[expect(clippy::cast_precision_loss, reason = "as Tantivy computes it")]
fn idf(doc_freq: u64, n_docs: u64) -> f32 {
    // Statistics of another source than the index may contradict themselves.
    let others = n_docs.saturating_sub(doc_freq);
    let odds = (others as f32 + 0.5) / (doc_freq as f32 + 0.5);
    (1.0 + odds).ln()
}
