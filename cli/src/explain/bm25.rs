//! The BM25 part of an explanation: what each clause gave.

use anyhow::Result;
use tantivy::query::{BooleanQuery, Explanation, Occur, Query};
use tantivy::{DocAddress, Score, Searcher, TantivyError};

/// A scored clause of a BM25 query, and how to call it.
#[derive(Debug)]
pub struct Bm25Clause {
    /// Field and word or phrase, as `text:density`.
    pub label: String,
    /// What it is counted with.
    pub boost: Score,
    /// The clause, boost included.
    pub query: Box<dyn Query>,
}

/// What BM25 gave to a document.
#[derive(Debug, Clone)]
pub struct Bm25Part {
    /// The score of all clauses together.
    pub score: Score,
    /// The clauses that matched, largest score first.
    pub clauses: Vec<Bm25Match>,
}

/// A clause that matched.
#[derive(Debug, Clone)]
pub struct Bm25Match {
    /// Field and word or phrase.
    pub label: String,
    /// What it is counted with.
    pub boost: Score,
    /// What it adds.
    pub score: Score,
    /// That as a share of the score, 0 to 1.
    pub share: f32,
    /// Tantivy's account of it.
    pub explanation: Explanation,
}

impl Bm25Part {
    /// The part of a document.
    ///
    /// # Errors
    /// Tantivy's.
    pub fn of(
        searcher: &Searcher,
        address: DocAddress,
        clauses: &[Bm25Clause],
    ) -> Result<Bm25Part> {
        let all = clauses
            .iter()
            .map(|clause| (Occur::Should, clause.query.box_clone()));
        let all = BooleanQuery::new(all.collect());
        let score = explained(&all, searcher, address)?.map_or(0.0, |all| all.value());
        let mut matched = Vec::new();
        for Bm25Clause {
            label,
            boost,
            query,
        } in clauses
        {
            if let Some(explanation) = explained(query.as_ref(), searcher, address)? {
                matched.push(Bm25Match {
                    label: label.clone(),
                    boost: *boost,
                    score: explanation.value(),
                    share: if score > 0.0 {
                        explanation.value() / score
                    } else {
                        0.0
                    },
                    explanation,
                });
            }
        }
        matched.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(Bm25Part {
            score,
            clauses: matched,
        })
    }

    /// The part as Tantivy explains scores.
    pub fn explanation(&self) -> Explanation {
        let mut explanation = Explanation::new("BM25, sum of clauses", self.score);
        for clause in &self.clauses {
            explanation.add_detail(clause.explanation.clone());
        }
        explanation
    }
}

/// Tantivy's explanation, if the document matches.
fn explained(
    query: &dyn Query,
    searcher: &Searcher,
    address: DocAddress,
) -> Result<Option<Explanation>> {
    match query.explain(searcher, address) {
        Ok(explanation) => Ok(Some(explanation)),
        // So Tantivy says that a document does not match.
        Err(TantivyError::InvalidArgument(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
