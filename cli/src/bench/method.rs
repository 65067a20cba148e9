//! [`Method`]: the ways to find the best documents that are compared.

use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::Result;
use laconic_tantivy::{
    Approximation, LaconicField, LaconicQuery, LaconicTopK, SparseVector, TopHits,
};
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{Searcher, Term};

use super::plain::PlainQuery;
use super::union::UnionQuery;

/// A way to find the best documents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    Laconic,
    Exhaustive,
    TopDocs,
    Plain,
    CustomScorer,
    Boolean,
    Approximate(Approximation),
}

/// What a method's scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scores {
    /// Those of the exhaustive evaluation, always.
    Exact,
    /// Of documents that may not be the best.
    Approximate,
    /// Something else: comparing documents would mean nothing.
    Other,
}

impl Method {
    /// All but the approximate ones, which have parameters.
    pub(crate) const NAMED: [Method; 6] = [
        Method::Laconic,
        Method::Exhaustive,
        Method::TopDocs,
        Method::Plain,
        Method::CustomScorer,
        Method::Boolean,
    ];

    pub(crate) fn scores(self) -> Scores {
        match self {
            Method::Boolean => Scores::Other,
            Method::Approximate(_) => Scores::Approximate,
            _ => Scores::Exact,
        }
    }

    /// Runs the method. What is not laconic's own search counts no work.
    pub(super) fn run(
        self,
        question: &Question,
        searcher: &Searcher,
        k: usize,
        n_threads: usize,
    ) -> Result<TopHits> {
        let laconic = LaconicTopK::new(k).threads(n_threads);
        let query: &dyn Query = match self {
            Method::Laconic => return Ok(laconic.search(searcher, &question.laconic)?),
            Method::Exhaustive => {
                return Ok(laconic.exhaustive().search(searcher, &question.laconic)?);
            }
            Method::Approximate(approximation) => {
                let laconic = laconic.approximate(approximation);
                return Ok(laconic.search(searcher, &question.laconic)?);
            }
            Method::Plain => {
                let hits = question.plain.search(searcher, k)?;
                return Ok(without_work(hits));
            }
            Method::TopDocs => &question.laconic,
            Method::CustomScorer => &question.union,
            Method::Boolean => &question.boolean,
        };
        let hits = searcher.search(query, &TopDocs::with_limit(k).order_by_score())?;
        Ok(without_work(hits))
    }
}

fn without_work(hits: Vec<(tantivy::Score, tantivy::DocAddress)>) -> TopHits {
    TopHits {
        hits,
        ..TopHits::default()
    }
}

/// A query in the form each method takes it, made before the clock starts.
pub(super) struct Question {
    pub(super) laconic: LaconicQuery,
    plain: PlainQuery,
    union: UnionQuery,
    boolean: BooleanQuery,
}

impl Question {
    pub(super) fn new(field: &LaconicField, vector: &SparseVector) -> Question {
        let plain = PlainQuery::new(field.field(), vector, field.identity().quantizer);
        Question {
            laconic: LaconicQuery::new(field, vector.clone()),
            union: UnionQuery(plain.clone()),
            plain,
            boolean: boolean(field, vector),
        }
    }

    pub(super) fn terms(&self) -> impl Iterator<Item = &Term> {
        self.plain.terms.iter().map(|(term, _)| term)
    }
}

/// What Tantivy offers without us. Its scores are BM25's, times the query weights.
fn boolean(field: &LaconicField, vector: &SparseVector) -> BooleanQuery {
    let clause = |(term, weight)| {
        let term = Term::from_field_text(field.field(), term);
        let term = TermQuery::new(term, IndexRecordOption::WithFreqs);
        let boosted: Box<dyn Query> = Box::new(BoostQuery::new(Box::new(term), weight));
        (Occur::Should, boosted)
    };
    BooleanQuery::new(vector.iter().map(clause).collect())
}

impl Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let approximation = match self {
            Method::Laconic => return f.write_str("laconic"),
            Method::Exhaustive => return f.write_str("exhaustive"),
            Method::TopDocs => return f.write_str("topdocs"),
            Method::Plain => return f.write_str("plain"),
            Method::CustomScorer => return f.write_str("custom-scorer"),
            Method::Boolean => return f.write_str("boolean"),
            Method::Approximate(approximation) => approximation,
        };
        let Approximation {
            query_terms,
            overestimate,
            max_documents,
        } = approximation;
        let parts = [
            query_terms.map(|n| format!("query-terms={n}")),
            overestimate.map(|factor| format!("overestimate={factor}")),
            max_documents.map(|n| format!("max-documents={n}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join("+"))
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Method, String> {
        let named = Method::NAMED.into_iter().find(|m| m.to_string() == text);
        if let Some(method) = named {
            return Ok(method);
        }
        let mut approximation = Approximation::default();
        for part in text.split('+') {
            set(&mut approximation, part).ok_or_else(|| {
                format!(
                    "`{part}` is no method: there are {}, and query-terms=N, overestimate=F and \
                     max-documents=N, joined by + for several at once",
                    Method::NAMED.map(|method| method.to_string()).join(", ")
                )
            })?;
        }
        Ok(Method::Approximate(approximation))
    }
}

fn set(approximation: &mut Approximation, part: &str) -> Option<()> {
    let (name, value) = part.split_once('=')?;
    match name {
        "query-terms" => approximation.query_terms = Some(value.parse().ok()?),
        "overestimate" => approximation.overestimate = Some(value.parse().ok()?),
        "max-documents" => approximation.max_documents = Some(value.parse().ok()?),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let approximate = "query-terms=8+overestimate=1.2+max-documents=5000";
        for method in Method::NAMED
            .into_iter()
            .chain([approximate.parse().unwrap()])
        {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        for wrong in [
            "",
            "wand",
            "overestimate",
            "query-terms=-1",
            "laconic+topdocs",
        ] {
            assert!(wrong.parse::<Method>().is_err(), "{wrong}");
        }
    }
}
