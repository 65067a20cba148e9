//! The exhaustive reference: every posting of every query term, one at a time.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::Postings;
use tantivy::query::{EnableScoring, Query};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, Score, Searcher, SegmentReader, TERMINATED, Term};

use super::Bm25Query;
use super::sum_query::{Parts, SumQuery};
use super::weight::{LearnedPart, SumWeight};
use super::word::Word;
use crate::Error;

/// The `k` best documents of a query by plain accumulation over Tantivy's iterators: score
/// descending, then document address ascending.
///
/// This is the oracle: it shares with the fast paths only the fixed-point query weights, their
/// unit, and the formula of BM25. It is slow, and public so that anyone can check what the fast
/// paths return.
///
/// # Errors
/// As searching with the query.
pub fn exhaustive_top_k(
    searcher: &Searcher,
    query: &dyn SumQuery,
    k: usize,
) -> Result<Vec<(Score, DocAddress)>, Error> {
    let parts = query.parts();
    let scoring = EnableScoring::enabled_from_searcher(searcher);
    let weight = SumWeight::new(&parts, scoring)?;
    let mut hits = Vec::new();
    for (segment_ord, reader) in (0u32..).zip(searcher.segment_readers()) {
        let mut sums = HashMap::new();
        if let Some(learned) = &weight.learned {
            add_learned(reader, learned, &mut sums)?;
        }
        for word in &weight.words {
            add_word(reader, word, weight.score_of.one(), &mut sums)?;
        }
        add_clauses(reader, &parts, scoring, &weight, &mut sums)?;
        let passing = match parts.filter {
            Some(filter) => Some(all_docs(reader, filter, scoring)?),
            None => None,
        };
        sums.retain(|doc, _| {
            !reader.is_deleted(*doc) && passing.as_ref().is_none_or(|docs| docs.contains(doc))
        });
        let address = |doc| DocAddress::new(segment_ord, doc);
        let score_of = weight.score_of;
        hits.extend(
            sums.into_iter()
                .map(|(doc, sum)| (score_of.score(sum), address(doc))),
        );
    }
    hits.sort_by(best_first);
    hits.truncate(k);
    Ok(hits)
}

type SumsByDoc = HashMap<DocId, u32>;

fn add_learned(
    reader: &SegmentReader,
    learned: &LearnedPart,
    sums: &mut SumsByDoc,
) -> Result<(), Error> {
    let max_impact = u32::from(learned.quantizer.max_impact());
    for (term, query_weight) in learned.terms.iter().zip(&learned.query_weights) {
        for_each_posting(reader, term, |doc, freq| {
            *sums.entry(doc).or_default() += freq.min(max_impact) * query_weight;
        })?;
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a sum is not negative, and fits"
)]
fn add_word(
    reader: &SegmentReader,
    word: &Word,
    one: f32,
    sums: &mut SumsByDoc,
) -> Result<(), Error> {
    let field = word.term.field();
    let lengths = reader.fieldnorms_readers().get_field(field)?;
    let lengths = lengths.unwrap_or_else(|| FieldNormReader::constant(reader.max_doc(), 1));
    let of_field = &word.lengths;
    for_each_posting(reader, &word.term, |doc, freq| {
        let norm = of_field
            .parameters
            .norm(lengths.fieldnorm(doc), of_field.average);
        let score = word.weight * (freq as f32 / (freq as f32 + norm));
        *sums.entry(doc).or_default() += ((score * one + 0.5) as u32).max(1);
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum is not negative, and fits"
)]
fn add_clauses(
    reader: &SegmentReader,
    parts: &Parts<'_>,
    scoring: EnableScoring<'_>,
    weight: &SumWeight,
    sums: &mut SumsByDoc,
) -> Result<(), Error> {
    let is_clause = |query: &dyn Query| Bm25Query::of_query(query, scoring.schema()).is_none();
    for &(query, factor) in parts.clauses.iter().filter(|(query, _)| is_clause(*query)) {
        let mut scorer = query.weight(scoring)?.scorer(reader, 1.0)?;
        while scorer.doc() != TERMINATED {
            let score = scorer.score() * factor;
            let sum = (score * weight.score_of.one() + 0.5) as u32;
            *sums.entry(scorer.doc()).or_default() += sum.max(1);
            scorer.advance();
        }
    }
    Ok(())
}

fn all_docs(
    reader: &SegmentReader,
    query: &dyn Query,
    scoring: EnableScoring<'_>,
) -> Result<HashSet<DocId>, Error> {
    let mut docs = HashSet::new();
    query.weight(scoring)?.for_each(reader, &mut |doc, _| {
        docs.insert(doc);
    })?;
    Ok(docs)
}

fn for_each_posting(
    reader: &SegmentReader,
    term: &Term,
    mut visit: impl FnMut(DocId, u32),
) -> Result<(), Error> {
    let inverted_index = reader.inverted_index(term.field())?;
    let postings = inverted_index.read_postings(term, IndexRecordOption::WithFreqs);
    let postings = postings.map_err(|e| Error::during("reading a posting list", e))?;
    let Some(mut postings) = postings else {
        return Ok(());
    };
    while postings.doc() != TERMINATED {
        visit(postings.doc(), postings.term_freq());
        postings.advance();
    }
    Ok(())
}

fn best_first(a: &(Score, DocAddress), b: &(Score, DocAddress)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}
