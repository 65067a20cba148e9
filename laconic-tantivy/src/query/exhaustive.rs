//! The exhaustive reference: every posting of every query term, one at a time.

use std::cmp::Ordering;
use std::collections::HashMap;

use tantivy::postings::Postings;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, Score, Searcher, SegmentReader, TERMINATED};

use super::LaconicQuery;
use super::fixed_point::FixedPoint;
use crate::{Error, LaconicField};

/// The `k` best documents of a query by plain accumulation over Tantivy's posting iterators:
/// score descending, then document address ascending.
///
/// This is the oracle: it shares with the fast paths only the fixed-point query weights. It is
/// slow, and public so that anyone can check what the fast paths return.
///
/// # Errors
/// As searching with the query.
pub fn exhaustive_top_k(
    searcher: &Searcher,
    query: &LaconicQuery,
    k: usize,
) -> Result<Vec<(Score, DocAddress)>, Error> {
    let field = LaconicField::of(searcher.schema(), query.field)?;
    field.identity().check_model(query.model.as_ref())?;
    let fixed_point = FixedPoint::new(query.vector(), field.identity().quantizer)?;
    let mut hits = Vec::new();
    for (segment_ord, reader) in (0u32..).zip(searcher.segment_readers()) {
        let max_impact = u32::from(field.identity().quantizer.max_impact());
        let sums = segment_sums(reader, query, &fixed_point.query_weights, max_impact)?;
        let alive = sums.into_iter().filter(|(doc, _)| !reader.is_deleted(*doc));
        let score_of = fixed_point.score_of();
        hits.extend(alive.map(|(doc, s)| (score_of.score(s), DocAddress::new(segment_ord, doc))));
    }
    hits.sort_by(best_first);
    hits.truncate(k);
    Ok(hits)
}

fn segment_sums(
    reader: &SegmentReader,
    query: &LaconicQuery,
    query_weights: &[u32],
    max_impact: u32,
) -> Result<HashMap<DocId, u32>, Error> {
    let inverted_index = reader.inverted_index(query.field)?;
    let mut sums = HashMap::new();
    for (term, query_weight) in query.terms.iter().zip(query_weights) {
        let postings = inverted_index.read_postings(term, IndexRecordOption::WithFreqs);
        let postings = postings.map_err(|e| Error::during("reading a posting list", e))?;
        let Some(mut postings) = postings else {
            continue;
        };
        while postings.doc() != TERMINATED {
            *sums.entry(postings.doc()).or_default() +=
                postings.term_freq().min(max_impact) * query_weight;
            postings.advance();
        }
    }
    Ok(sums)
}

fn best_first(a: &(Score, DocAddress), b: &(Score, DocAddress)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}
