//! Asking: queries from text or vectors, searched by BM25, by learned-sparse impacts, or by both.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use laconic_model::Encoder;
use laconic_tantivy::{
    Approximation, Bm25, Bm25Query, HybridQuery, LaconicQuery, ModelIdentity, ParsedQuery,
    SearchWork, SparseVector, TopHits, exhaustive_top_k,
};
use tantivy::query::Query as TantivyQuery;
use tantivy::{DocAddress, Score, Searcher, Term};

use crate::collection::{self, LineReader, VectorScale};
use crate::corpus::{Corpus, Found};
use crate::encoding;
use crate::eval::Run;
use crate::hybrid::{AskedSides, Hybrid};
use crate::indexing::to_vector;
use crate::paging::Page;
use crate::terminal::UsageError;

/// Largest number of hits a search may ask for: a bound on what a typing error can allocate.
pub const MAX_K: usize = 1_000_000;

/// How documents are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Learned-sparse impacts.
    Sparse,
    /// BM25 over title and text, with Tantivy's k1 = 1.2 and b = 0.75.
    Bm25,
    /// Both, fused into one ranking: see --fusion.
    Hybrid,
}

/// A query to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its id, `1` for one typed on the command line.
    pub id: String,
    /// Its text, if it has one.
    pub text: Option<String>,
    /// Its vector, if it was given.
    pub vector: Option<SparseVector>,
    /// Whether hybrid search reads the text by [`HybridParser`](laconic_tantivy::HybridParser)'s
    /// syntax, as it does what is typed; texts of files are plain.
    pub has_syntax: bool,
}

/// Reads queries as text.
///
/// # Errors
/// On the first line that cannot be read.
pub fn read_queries(path: &Path) -> Result<Vec<Question>> {
    let queries = collection::queries(LineReader::open(path)?).with_unique_ids();
    let question = |query: collection::Query| Question {
        id: query.id,
        text: Some(query.text),
        vector: None,
        has_syntax: false,
    };
    Ok(queries
        .map(|q| q.map(|located| question(located.record)))
        .collect::<Result<_, _>>()?)
}

/// Reads queries as vectors.
///
/// # Errors
/// On the first line that cannot be read.
pub fn read_query_vectors(path: &Path, scale: VectorScale) -> Result<Vec<Question>> {
    let records = collection::vectors(LineReader::open(path)?, scale).with_unique_ids();
    let question = |(id, vector)| Question {
        id,
        text: None,
        vector: Some(vector),
        has_syntax: false,
    };
    let vectors = records.map(|record| record.and_then(to_vector));
    Ok(vectors
        .map(|v| v.map(|located| question(located.record)))
        .collect::<Result<_, _>>()?)
}

/// Gives each question of `texts` the vector of the same id. Vectors of other ids are not asked.
///
/// # Errors
/// When a text has no vector.
pub fn join(mut texts: Vec<Question>, vectors: Vec<Question>) -> Result<Vec<Question>> {
    let vectors = vectors.into_iter().map(|given| (given.id, given.vector));
    let mut vectors: HashMap<String, Option<SparseVector>> = vectors.collect();
    for question in &mut texts {
        question.vector = vectors.remove(&question.id).flatten();
        if question.vector.is_none() {
            let message = format!(
                "query `{}` has a text but no vector; hybrid search needs both, with the same id",
                question.id
            );
            return Err(UsageError(message).into());
        }
    }
    Ok(texts)
}

/// Everything a search needs, prepared once.
pub struct Retriever<'a> {
    /// The index.
    pub corpus: &'a Corpus,
    /// Its last commit.
    pub searcher: Searcher,
    /// How to score.
    pub mode: Mode,
    /// Encoder of text queries, for sparse search.
    pub encoder: Option<&'a Encoder>,
    /// Model behind given vectors, if the user said so.
    pub vectors_of: Option<ModelIdentity>,
    /// Restriction of the hits.
    pub filter: Option<Box<dyn TantivyQuery>>,
    /// Threads of one search.
    pub n_threads: usize,
    /// Parameters of BM25.
    pub bm25: Bm25,
    /// How a search may depart from the exact result.
    pub approximation: Approximation,
    /// How hybrid search fuses.
    pub hybrid: Hybrid,
}

/// A search beside the exhaustive reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// Hits that the search returned.
    pub hits: usize,
    /// Those of them that the reference returned too, with the same bits of the score.
    pub agreeing: usize,
    /// Hits of the reference.
    pub expected: usize,
    /// Whether the two lists are equal, order included.
    pub equal: bool,
    /// What the search did.
    pub work: SearchWork,
}

impl Retriever<'_> {
    /// The `k` best documents for a question, best first.
    ///
    /// # Errors
    /// When the question lacks what the mode needs, or was made by another model than the index.
    pub fn ask(&self, question: &Question, k: usize) -> Result<Vec<Found>> {
        self.page(question, &Page::first(k))
    }

    /// A page of the ranking for a question, best first.
    ///
    /// # Errors
    /// As [`ask`](Retriever::ask), and when the ranking cannot be paged as asked for.
    pub fn page(&self, question: &Question, page: &Page) -> Result<Vec<Found>> {
        self.page_without(question, page, None)
    }

    /// As [`page`](Retriever::page). Fused lists do not hold the document of id `excluded`; other
    /// rankings may.
    fn page_without(
        &self,
        question: &Question,
        page: &Page,
        excluded: Option<&str>,
    ) -> Result<Vec<Found>> {
        self.check_page(page)?;
        match self.fuses_lists() || (self.mode == Mode::Hybrid && self.hybrid.with_parts) {
            true => self.hybrid.page(self, question, page, excluded),
            false => self.search(&self.query(question)?, page),
        }
    }

    /// The query whose scores rank, without the filter: not for rankings fused from lists.
    fn query(&self, question: &Question) -> Result<HybridQuery> {
        match self.mode {
            Mode::Sparse => Ok(self.sparse_query(question)?.into()),
            Mode::Bm25 => Ok(self.bm25_query(question)?.into()),
            Mode::Hybrid => self.hybrid.sum(&AskedSides::of(self, question)?),
        }
    }

    /// A page of what a query matches within the filter.
    pub(crate) fn search(&self, query: &HybridQuery, page: &Page) -> Result<Vec<Found>> {
        let hits = self.top(&self.filtered(query), page)?.hits;
        self.corpus.found(&self.searcher, hits)
    }

    fn filtered(&self, query: &HybridQuery) -> HybridQuery {
        match &self.filter {
            Some(filter) => query.clone().filter(filter.box_clone()),
            None => query.clone(),
        }
    }

    fn top(&self, query: &HybridQuery, page: &Page) -> Result<TopHits> {
        let top_k = page.top_k().threads(self.n_threads);
        let top_k = top_k.approximate(self.approximation);
        Ok(top_k.search(&self.searcher, query)?)
    }

    /// True if score and address tell a place in the ranking, from which one can go on.
    pub fn knows_places(&self) -> bool {
        !self.fuses_lists() && self.approximation == Approximation::default()
    }

    fn fuses_lists(&self) -> bool {
        self.mode == Mode::Hybrid && !self.hybrid.ranks_by_score()
    }

    fn check_page(&self, page: &Page) -> Result<()> {
        let depth = page.depth();
        if page.k < 1 || depth > MAX_K {
            let message = format!("{depth} hits are asked for; 1 to {MAX_K} can be had");
            return Err(UsageError(message).into());
        }
        let Some(after) = page.after else {
            return Ok(());
        };
        if self.fuses_lists() {
            let message = "--after goes by score, and of hybrid rankings only --fusion sum has \
                           scores that do not depend on the lists fused; page with --offset";
            return Err(UsageError(message.to_owned()).into());
        }
        if !self.knows_places() {
            let message = "--after needs exact search; page an approximate one with --offset";
            return Err(UsageError(message.to_owned()).into());
        }
        after.check(&self.searcher)
    }

    /// Refuses searches that cannot be [verified](Retriever::verify).
    ///
    /// # Errors
    /// For rankings fused from lists: there is no exhaustive form of them.
    pub fn check_verifiable(&self) -> Result<()> {
        if !self.fuses_lists() {
            return Ok(());
        }
        let message = "--verify compares pruned with exhaustive search; rankings fused from lists \
                       have no exhaustive form, but --fusion sum has";
        Err(UsageError(message.to_owned()).into())
    }

    /// Asks, and asks the exhaustive reference too.
    ///
    /// # Errors
    /// As [`ask`](Retriever::ask) and [`check_verifiable`](Retriever::check_verifiable).
    pub fn verify(&self, question: &Question, k: usize) -> Result<Verification> {
        self.check_verifiable()?;
        let query = self.filtered(&self.query(question)?);
        let found = self.top(&query, &Page::first(k))?;
        let expected = exhaustive_top_k(&self.searcher, &query, k)?;
        let bits = |&(score, address): &(Score, DocAddress)| (score.to_bits(), address);
        let found_bits: Vec<_> = found.hits.iter().map(bits).collect();
        let expected_bits: Vec<_> = expected.iter().map(bits).collect();
        let known: HashSet<_> = expected_bits.iter().collect();
        Ok(Verification {
            hits: found_bits.len(),
            agreeing: found_bits.iter().filter(|hit| known.contains(hit)).count(),
            expected: expected_bits.len(),
            equal: found_bits == expected_bits,
            work: found.work,
        })
    }

    /// The ranked lists of many questions, `k` hits each. With `exclude_self` a document with the
    /// question's own id is left out. `asked` is called after each question.
    ///
    /// # Errors
    /// As [`ask`](Retriever::ask).
    pub fn ask_all(
        &self,
        questions: &[Question],
        k: usize,
        exclude_self: bool,
        mut asked: impl FnMut(),
    ) -> Result<Run> {
        let mut run = Run::default();
        // One more, as the query itself may take a place; what is out of range stays so. Fused
        // lists are made without it, lest its score be their maximum.
        let is_excluded = self.fuses_lists();
        let depth = match k {
            1..MAX_K => k + usize::from(exclude_self && !is_excluded),
            _ => k,
        };
        for question in questions {
            let excluded = exclude_self.then_some(question.id.as_str());
            let found = self.page_without(question, &Page::first(depth), excluded)?;
            let kept = found
                .into_iter()
                .filter(|hit| !exclude_self || hit.id != question.id);
            let hits = kept.take(k).map(|Found { id, score, .. }| (id, score));
            run.insert(&question.id, hits)?;
            asked();
        }
        Ok(run)
    }

    /// The learned-sparse query of a question.
    ///
    /// # Errors
    /// As [`ask`](Retriever::ask).
    pub fn sparse_query(&self, question: &Question) -> Result<LaconicQuery> {
        let field = self.corpus.require_laconic()?;
        if let Some(vector) = &question.vector {
            // Tantivy's error type, which the query itself has to use, would lose the cause.
            field.identity().check_model(self.vectors_of.as_ref())?;
            let query = LaconicQuery::new(field, vector.clone());
            return Ok(match &self.vectors_of {
                Some(model) => query.encoded_by(model.clone()),
                None => query,
            });
        }
        self.encoded_query(question.text.as_deref().unwrap_or_default())
    }

    /// The learned-sparse query that the encoder makes of a text.
    pub(crate) fn encoded_query(&self, text: &str) -> Result<LaconicQuery> {
        let field = self.corpus.require_laconic()?;
        let encoder = self.encoder.ok_or_else(|| {
            UsageError(
                "a text query needs the encoder in sparse and hybrid mode: name the checkpoint with \
                 `--model`, give vectors with `--query-vectors`, or search with `--mode bm25`"
                    .to_owned(),
            )
        })?;
        let model = encoding::identity(encoder)?;
        field.identity().check_model(Some(&model))?;
        let vector = encoding::encode_query(encoder, text)?;
        Ok(LaconicQuery::new(field, vector).encoded_by(model))
    }

    /// The BM25 query of a question.
    ///
    /// # Errors
    /// As [`ask`](Retriever::ask).
    pub fn bm25_query(&self, question: &Question) -> Result<Bm25Query> {
        self.words(self.parsed(question)?.words)
    }

    pub(crate) fn words(&self, words: Vec<(Term, Score)>) -> Result<Bm25Query> {
        Ok(Bm25Query::new(words)?.with_parameters(self.bm25))
    }

    /// The text of a question, taken apart for both sides.
    pub(crate) fn parsed(&self, question: &Question) -> Result<ParsedQuery> {
        let text = question.text.as_deref().ok_or_else(|| {
            let message =
                "BM25 needs the query as text; give it on the command line or with `--queries`";
            UsageError(message.to_owned())
        })?;
        let parser = self.corpus.parser()?;
        Ok(match self.mode == Mode::Hybrid && question.has_syntax {
            true => parser.parse(text)?,
            false => parser.plain(text),
        })
    }
}
