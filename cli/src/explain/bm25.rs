//! The BM25 part of an explanation: what each clause gave.

use anyhow::Result;
use laconic_tantivy::ParsedQuery;
use tantivy::query::{BooleanQuery, EnableScoring, Explanation, Occur, Query};
use tantivy::schema::Schema;
use tantivy::{DocAddress, Score, Searcher, Term};

use crate::retrieval::Retriever;

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

impl Bm25Clause {
    /// The clauses of a question.
    ///
    /// # Errors
    /// Never for a question that can be asked.
    pub(super) fn of(retriever: &Retriever<'_>, parsed: ParsedQuery) -> Result<Vec<Bm25Clause>> {
        let schema = retriever.searcher.schema();
        let mut clauses = Vec::new();
        let words = retriever.words(parsed.words)?;
        for (term, boost) in words.terms() {
            clauses.push(Bm25Clause {
                label: label(schema, std::iter::once(term)),
                boost,
                query: Box::new(retriever.words(vec![(term.clone(), boost)])?),
            });
        }
        for query in parsed.clauses {
            let mut terms = Vec::new();
            query.query_terms(&mut |term, _| terms.push(term));
            clauses.push(Bm25Clause {
                label: label(schema, terms.into_iter()),
                boost: 1.0,
                query: query.box_clone(),
            });
        }
        Ok(clauses)
    }
}

/// `text:density`, or `text:"bone density"`.
fn label<'t>(schema: &Schema, terms: impl Iterator<Item = &'t Term>) -> String {
    let mut field = None;
    let words = terms.map(|term| {
        field = Some(term.field());
        term.value().as_str().unwrap_or_default().to_owned()
    });
    let words: Vec<String> = words.collect();
    let field = field.map_or("", |field| schema.get_field_name(field));
    match &words[..] {
        [word] => format!("{field}:{word}"),
        words => format!("{field}:\"{}\"", words.join(" ")),
    }
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
        let score = score(&all, searcher, address)?.unwrap_or_default();
        let mut matched = Vec::new();
        for Bm25Clause {
            label,
            boost,
            query,
        } in clauses
        {
            if self::score(query.as_ref(), searcher, address)?.is_some() {
                let explanation = query.explain(searcher, address)?;
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

/// The score that a document has, if it matches.
///
/// Explaining does not find that out: Tantivy takes a document before the first match for a
/// mistake of the caller.
fn score(query: &dyn Query, searcher: &Searcher, address: DocAddress) -> Result<Option<Score>> {
    let weight = query.weight(EnableScoring::enabled_from_searcher(searcher))?;
    let reader = searcher.segment_reader(address.segment_ord);
    let mut scorer = weight.scorer(reader, 1.0)?;
    if scorer.doc() < address.doc_id {
        scorer.seek(address.doc_id);
    }
    let is_match = scorer.doc() == address.doc_id;
    Ok(is_match.then(|| scorer.score()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tantivy::query::{BoostQuery, PhraseQuery, TermQuery};
    use tantivy::schema::{IndexRecordOption, Schema, TEXT};
    use tantivy::{Index, Term, doc};

    #[test]
    fn clauses_add_up_and_those_that_do_not_match_are_left_out() {
        let mut schema = Schema::builder();
        let text = schema.add_text_field("text", TEXT);
        let index = Index::create_in_ram(schema.build());
        let mut writer = index.writer_with_num_threads(1, 15_000_000).unwrap();
        for content in ["x", "b a a", "a b", "y"] {
            writer.add_document(doc!(text => content)).unwrap();
        }
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        let term = |word| Term::from_field_text(text, word);
        let word = TermQuery::new(term("a"), IndexRecordOption::WithFreqs);
        let phrase = PhraseQuery::new(vec![term("a"), term("b")]);
        let clause = |label: &str, boost, query: Box<dyn Query>| Bm25Clause {
            label: label.to_owned(),
            boost,
            query: Box::new(BoostQuery::new(query, boost)),
        };
        let clauses = [
            clause("a", 1.0, Box::new(word)),
            clause("\"a b\"", 3.0, Box::new(phrase)),
        ];
        let part = |doc| Bm25Part::of(&searcher, DocAddress::new(0, doc), &clauses).unwrap();
        let labels = |part: &Bm25Part| {
            let labels = part.clauses.iter().map(|clause| clause.label.clone());
            labels.collect::<Vec<_>>()
        };
        for doc in [0, 3] {
            let none = part(doc);
            assert_eq!((none.score.to_bits(), none.clauses.len()), (0, 0));
        }
        assert_eq!(labels(&part(1)), ["a"]);
        let both = part(2);
        assert_eq!(labels(&both), ["\"a b\"", "a"]);
        let sum: Score = both.clauses.iter().map(|clause| clause.score).sum();
        let share: f32 = both.clauses.iter().map(|clause| clause.share).sum();
        assert!((sum - both.score).abs() < 1e-5 && (share - 1.0).abs() < 1e-5);
        assert!(both.score > part(1).score);
        assert!((both.explanation().value() - both.score).abs() < 1e-9);
    }
}
