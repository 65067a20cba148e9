//! [`Method`]: the ways to find the best documents that are compared.

use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::Result;
use laconic_tantivy::{
    Approximation, Bm25Query, CachedFilter, FusedHit, Fusion, HybridQuery, LaconicField,
    LaconicQuery, LaconicTopK, RankedList, SparseVector, SumQuery, TopHits,
};
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, Score, Searcher, Term};

use super::plain::PlainQuery;
use super::text::{TAGS, TextFields};
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
    Bm25,
    TantivyBm25,
    Hybrid,
    HybridExhaustive,
    HybridParts,
    HybridBoolean,
    HybridRrf,
    /// By the place of the tag among the selectivities.
    Filtered(usize),
    HybridFiltered(usize),
    /// As `Filtered`, the filter's documents remembered from query to query.
    CachedFiltered(usize),
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
    pub(crate) const NAMED: [Method; 25] = [
        Method::Laconic,
        Method::Exhaustive,
        Method::TopDocs,
        Method::Plain,
        Method::CustomScorer,
        Method::Boolean,
        Method::Bm25,
        Method::TantivyBm25,
        Method::Hybrid,
        Method::HybridExhaustive,
        Method::HybridParts,
        Method::HybridBoolean,
        Method::HybridRrf,
        Method::Filtered(0),
        Method::Filtered(1),
        Method::Filtered(2),
        Method::Filtered(3),
        Method::HybridFiltered(0),
        Method::HybridFiltered(1),
        Method::HybridFiltered(2),
        Method::HybridFiltered(3),
        Method::CachedFiltered(0),
        Method::CachedFiltered(1),
        Method::CachedFiltered(2),
        Method::CachedFiltered(3),
    ];

    /// Whether documents and queries need words and tags.
    pub(crate) fn needs_text(self) -> bool {
        !matches!(
            self,
            Method::Laconic
                | Method::Exhaustive
                | Method::TopDocs
                | Method::Plain
                | Method::CustomScorer
                | Method::Boolean
                | Method::Approximate(_)
        )
    }

    pub(crate) fn scores(self) -> Scores {
        match self {
            Method::Boolean | Method::TantivyBm25 | Method::HybridParts | Method::HybridBoolean => {
                Scores::Other
            }
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
        let text = question.text.as_ref();
        if let (true, Some(text)) = (self.needs_text(), text) {
            return self.run_with_text(question, text, searcher, &laconic, k);
        }
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
            _ => &question.boolean,
        };
        let hits = searcher.search(query, &TopDocs::with_limit(k).order_by_score())?;
        Ok(without_work(hits))
    }

    fn run_with_text(
        self,
        question: &Question,
        text: &TextQuestion,
        searcher: &Searcher,
        laconic: &LaconicTopK,
        k: usize,
    ) -> Result<TopHits> {
        let query: &dyn Query = match self {
            Method::HybridExhaustive => {
                return Ok(laconic
                    .clone()
                    .exhaustive()
                    .search(searcher, &text.hybrid)?);
            }
            Method::HybridParts => {
                let words = laconic.search(searcher, &text.bm25)?;
                std::hint::black_box(words);
                return Ok(laconic.search(searcher, &question.laconic)?);
            }
            Method::HybridRrf => {
                let both: [&dyn SumQuery; 2] = [&question.laconic, &text.bm25];
                let hits = fuse(both, searcher, k)?;
                return Ok(without_work(hits));
            }
            Method::TantivyBm25 => &text.boolean,
            Method::HybridBoolean => &text.hybrid_boolean,
            _ => return Ok(laconic.search(searcher, self.reference(question))?),
        };
        let hits = searcher.search(query, &TopDocs::with_limit(k).order_by_score())?;
        Ok(without_work(hits))
    }

    /// The query whose exhaustive evaluation the method is held to.
    pub(super) fn reference(self, question: &Question) -> &dyn SumQuery {
        let Some(text) = &question.text else {
            return &question.laconic;
        };
        match self {
            Method::Bm25 | Method::TantivyBm25 => &text.bm25,
            Method::Hybrid | Method::HybridExhaustive | Method::HybridBoolean => &text.hybrid,
            Method::Filtered(tag) => &text.filtered[tag],
            Method::HybridFiltered(tag) => &text.hybrid_filtered[tag],
            Method::CachedFiltered(tag) => &text.cached_filtered[tag],
            _ => &question.laconic,
        }
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
    text: Option<TextQuestion>,
}

/// The parts of a query that need words and tags.
struct TextQuestion {
    bm25: Bm25Query,
    boolean: BooleanQuery,
    hybrid: HybridQuery,
    hybrid_boolean: BooleanQuery,
    filtered: Vec<HybridQuery>,
    hybrid_filtered: Vec<HybridQuery>,
    cached_filtered: Vec<HybridQuery>,
}

impl Question {
    /// Query number `number`; `filters` are those of the tags.
    pub(super) fn new(
        field: &LaconicField,
        text: Option<TextFields>,
        filters: &[CachedFilter],
        vector: &SparseVector,
        number: u64,
    ) -> Result<Question> {
        let plain = PlainQuery::new(field.field(), vector, field.identity().quantizer);
        let laconic = LaconicQuery::new(field, vector.clone());
        let text = text.map(|fields| {
            let words = fields.words(vector, number);
            TextQuestion::new(&laconic, &words, fields, filters)
        });
        Ok(Question {
            union: UnionQuery(plain.clone()),
            plain,
            boolean: boolean(field, vector),
            text: text.transpose()?,
            laconic,
        })
    }

    pub(super) fn terms(&self) -> impl Iterator<Item = &Term> {
        self.plain.terms.iter().map(|(term, _)| term)
    }
}

impl TextQuestion {
    fn new(
        laconic: &LaconicQuery,
        words: &[Term],
        fields: TextFields,
        filters: &[CachedFilter],
    ) -> Result<TextQuestion> {
        let bm25 = TextFields::bm25(words)?;
        let boolean = optional_terms(words);
        let hybrid = HybridQuery::new()
            .learned(laconic.clone(), 1.0)?
            .words(bm25.clone(), 1.0)?;
        let filtered = |query: HybridQuery| -> Vec<HybridQuery> {
            let tagged = |(tag, _)| query.clone().filter(Box::new(fields.tagged(tag)));
            TAGS.into_iter().map(tagged).collect()
        };
        let cached = |filter: &CachedFilter| {
            HybridQuery::from(laconic.clone()).filter(Box::new(filter.clone()))
        };
        Ok(TextQuestion {
            cached_filtered: filters.iter().map(cached).collect(),
            filtered: filtered(laconic.clone().into()),
            hybrid_filtered: filtered(hybrid.clone()),
            hybrid_boolean: BooleanQuery::union(vec![
                Box::new(laconic.clone()),
                Box::new(boolean.clone()),
            ]),
            bm25,
            boolean,
            hybrid,
        })
    }
}

/// Both searches, ten candidates for every hit, and reciprocal rank fusion.
fn fuse(
    queries: [&dyn SumQuery; 2],
    searcher: &Searcher,
    k: usize,
) -> Result<Vec<(Score, DocAddress)>> {
    let candidates = LaconicTopK::new(k.saturating_mul(10).max(100));
    let mut lists = Vec::with_capacity(2);
    for (name, query) in ["sparse", "bm25"].into_iter().zip(queries) {
        let hits = candidates.search(searcher, query)?.hits.into_iter();
        lists.push(RankedList::new(
            name,
            hits.map(|(score, address)| (address, score)),
        )?);
    }
    let fused = Fusion::RECIPROCAL_RANK.fuse(&lists, k)?.into_iter();
    #[expect(clippy::cast_possible_truncation, reason = "scores are of 32 bits")]
    let hit = |hit: FusedHit<DocAddress>| (hit.score as Score, hit.id);
    Ok(fused.map(hit).collect())
}

fn optional_terms(terms: &[Term]) -> BooleanQuery {
    let clause = |term: &Term| -> Box<dyn Query> {
        Box::new(TermQuery::new(term.clone(), IndexRecordOption::WithFreqs))
    };
    BooleanQuery::union(terms.iter().map(clause).collect())
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
            Method::Bm25 => return f.write_str("bm25"),
            Method::TantivyBm25 => return f.write_str("tantivy-bm25"),
            Method::Hybrid => return f.write_str("hybrid"),
            Method::HybridExhaustive => return f.write_str("hybrid-exhaustive"),
            Method::HybridParts => return f.write_str("hybrid-parts"),
            Method::HybridBoolean => return f.write_str("hybrid-boolean"),
            Method::HybridRrf => return f.write_str("hybrid-rrf"),
            Method::Filtered(tag) => return write!(f, "filter={}", TAGS[*tag].0),
            Method::HybridFiltered(tag) => return write!(f, "hybrid-filter={}", TAGS[*tag].0),
            Method::CachedFiltered(tag) => return write!(f, "cached-filter={}", TAGS[*tag].0),
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
