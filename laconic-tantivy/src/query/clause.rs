//! [`Clause`]: a part of a query that is any Tantivy query.

use std::collections::HashMap;
use std::sync::Arc;

use tantivy::index::SegmentId;
use tantivy::query::{EnableScoring, Explanation, Query, Weight};
use tantivy::{DocId, Score, SegmentReader, TERMINATED};

use crate::Error;
use crate::postings::{Contribution, PostingList, in_fixed_point};

/// Any Tantivy query, with the factor of its scores. All its matches are found before the search,
/// and searched like the posting list of a term.
pub(super) struct Clause {
    weight: Box<dyn Weight>,
    factor: f32,
    matches: HashMap<SegmentId, Matches>,
    /// No match scores more, `factor` included.
    pub(super) max_score: f32,
}

/// The documents of a segment that match, ascending, with their scores.
struct Matches {
    docs: PostingList,
    scores: Vec<Score>,
}

impl Clause {
    /// Finds all matches in the segments of the searcher, if there is one.
    pub(super) fn new(
        query: &dyn Query,
        factor: f32,
        scoring: EnableScoring<'_>,
    ) -> Result<Clause, Error> {
        let mut clause = Clause {
            weight: query.weight(scoring)?,
            factor,
            matches: HashMap::new(),
            max_score: 0.0,
        };
        let readers = match &scoring {
            EnableScoring::Enabled { searcher, .. } => searcher.segment_readers(),
            EnableScoring::Disabled { .. } => &[],
        };
        for reader in readers {
            let matches = clause.find(reader)?;
            let max = matches.scores.iter().copied().fold(0.0, f32::max);
            clause.max_score = clause.max_score.max(max);
            clause.matches.insert(reader.segment_id(), matches);
        }
        Ok(clause)
    }

    fn find(&self, reader: &SegmentReader) -> tantivy::Result<Matches> {
        let mut scorer = self.weight.scorer(reader, 1.0)?;
        let (mut docs, mut scores) = (Vec::<DocId>::new(), Vec::new());
        while scorer.doc() != TERMINATED {
            let score = scorer.score() * self.factor;
            if !score.is_finite() || score < 0.0 {
                return Err(Error::invalid(format!(
                    "a clause of the query gives document {} the score {score}; scores that are \
                     added up have to be finite and not negative",
                    scorer.doc()
                ))
                .into());
            }
            docs.push(scorer.doc());
            scores.push(score);
            scorer.advance();
        }
        let docs = PostingList::of_docs(&docs);
        Ok(Matches { docs, scores })
    }

    /// Matches in a segment as a posting list, in units of `1 / one`.
    pub(super) fn list(
        &self,
        reader: &SegmentReader,
        one: f32,
    ) -> tantivy::Result<(PostingList, Contribution)> {
        let found;
        let matches = match self.matches.get(&reader.segment_id()) {
            Some(matches) => matches,
            // Without a searcher nobody asks for scores.
            None => {
                found = self.find(reader)?;
                &found
            }
        };
        let limit = self.max_score * one;
        let fixed = |score: &Score| in_fixed_point((score * one).min(limit));
        let contributions: Arc<[u32]> = matches.scores.iter().map(fixed).collect();
        Ok((matches.docs.clone(), Contribution::Listed(contributions)))
    }

    /// Tantivy's account of the score of one document, with the factor; `None` where it does not
    /// match.
    pub(super) fn explain(
        &self,
        reader: &SegmentReader,
        doc: DocId,
    ) -> tantivy::Result<Option<Explanation>> {
        let mut scorer = self.weight.scorer(reader, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Ok(None);
        }
        let score = scorer.score() * self.factor;
        let mut explanation = Explanation::new("clause, product of...", score);
        explanation.add_const("weight of the clause", self.factor);
        explanation.add_detail(self.weight.explain(reader, doc)?);
        Ok(Some(explanation))
    }
}
