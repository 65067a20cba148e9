//! Why a document was found: as text for people, as JSON, and as Tantivy's `Explanation`.
//!
//! An [`Explainer`] is prepared once per question and asked for each hit. Its sides are
//! independent, so that a search of one side or of both explains itself by the same parts:
//! [`learned`](Explainer::learned) and [`bm25`](Explainer::bm25) give it a side,
//! [`highlighting`](Explainer::highlighting) the words to mark in the stored text.

mod bm25;
mod fusion;
mod json;
mod learned;
mod readable;
mod render;
mod snippet;
mod style;

use anyhow::Result;
use laconic_model::Encoder;
use laconic_tantivy::{FusionPart, LaconicQuery};
use tantivy::Searcher;
use tantivy::query::{BooleanQuery, Explanation, Occur};

use crate::corpus::{Corpus, Found};
use crate::retrieval::{Mode, Question, Retriever};

pub use bm25::{Bm25Clause, Bm25Match, Bm25Part};
pub use learned::{LearnedPart, LearnedTerm, Sides, SourceWord};
pub(crate) use readable::readable;
pub use render::{Shown, legend};
pub use snippet::Fragment;
pub use style::Style;

use learned::LearnedSide;
use snippet::Highlighter;

/// Explains the hits of one question.
pub struct Explainer<'a> {
    corpus: &'a Corpus,
    searcher: &'a Searcher,
    encoder: Option<&'a Encoder>,
    learned: Option<LearnedSide>,
    bm25: Option<Vec<Bm25Clause>>,
    highlighter: Option<Highlighter>,
}

/// Why one document was found.
#[derive(Debug, Clone)]
pub struct HitExplanation {
    /// What each list of a hybrid search gave; empty for other searches.
    pub fusion: Vec<FusionPart>,
    /// What learned-sparse scoring gave, if it was asked.
    pub learned: Option<LearnedPart>,
    /// What BM25 gave, if it was asked.
    pub bm25: Option<Bm25Part>,
    /// Pieces of the stored text with words of the query.
    pub fragments: Vec<Fragment>,
}

impl<'a> Explainer<'a> {
    /// An explainer without a side, to be given some. The encoder, if there is one, tells
    /// expansions and source words.
    pub fn new(
        corpus: &'a Corpus,
        searcher: &'a Searcher,
        encoder: Option<&'a Encoder>,
    ) -> Explainer<'a> {
        Explainer {
            corpus,
            searcher,
            encoder,
            learned: None,
            bm25: None,
            highlighter: None,
        }
    }

    /// An explainer of what `retriever` answers to `question`.
    ///
    /// # Errors
    /// As asking the question.
    pub fn of(retriever: &'a Retriever<'_>, question: &Question) -> Result<Explainer<'a>> {
        let corpus = retriever.corpus;
        let explainer = Explainer::new(corpus, &retriever.searcher, retriever.encoder);
        let parsed = match question.text {
            Some(_) => Some(retriever.parsed(question)?),
            None => None,
        };
        // A vector that was given need not be the encoder's.
        let text = parsed.as_ref().map(|parsed| parsed.text.clone());
        let text = text.filter(|_| question.vector.is_none());
        let clauses = match parsed {
            Some(parsed) => Bm25Clause::of(retriever, parsed)?,
            None => Vec::new(),
        };
        let explainer = explainer.highlighting(&clauses)?;
        match retriever.mode {
            Mode::Bm25 => Ok(explainer.bm25(clauses)),
            Mode::Sparse => explainer.learned(retriever.sparse_query(question)?, text.as_deref()),
            Mode::Hybrid => {
                let query = match &text {
                    Some(text) => retriever.encoded_query(text)?,
                    None => retriever.sparse_query(question)?,
                };
                explainer.bm25(clauses).learned(query, text.as_deref())
            }
        }
    }

    /// Adds the learned-sparse side; `text` is what the encoder made the query of, if it did.
    ///
    /// # Errors
    /// When the text cannot be encoded.
    pub fn learned(mut self, query: LaconicQuery, text: Option<&str>) -> Result<Explainer<'a>> {
        self.learned = Some(LearnedSide::new(query, self.encoder, text)?);
        Ok(self)
    }

    /// Adds the BM25 side.
    #[must_use]
    pub fn bm25(mut self, clauses: Vec<Bm25Clause>) -> Explainer<'a> {
        self.bm25 = Some(clauses);
        self
    }

    /// Marks the words that `clauses` seek in the corpus's text.
    ///
    /// # Errors
    /// Tantivy's.
    pub fn highlighting(mut self, clauses: &[Bm25Clause]) -> Result<Explainer<'a>> {
        let clauses = clauses.iter();
        let clauses = clauses.map(|clause| (Occur::Should, clause.query.box_clone()));
        let query = BooleanQuery::new(clauses.collect());
        let field = self.corpus.text_field();
        self.highlighter = Some(Highlighter::new(self.searcher, &query, field)?);
        Ok(self)
    }

    /// Explains a hit.
    ///
    /// # Errors
    /// When a file is damaged or the document cannot be encoded.
    pub fn explain(&self, hit: &Found) -> Result<HitExplanation> {
        let address = hit.address;
        let stored = self.corpus.document(self.searcher, address)?;
        let learned = self.learned.as_ref();
        let learned = learned
            .map(|side| side.explain(self.searcher, address, self.encoder, &stored))
            .transpose()?;
        let bm25 = self.bm25.as_ref();
        let bm25 = bm25
            .map(|clauses| Bm25Part::of(self.searcher, address, clauses))
            .transpose()?;
        let fragments = self.highlighter.as_ref();
        let fragments = fragments.map(|highlighter| highlighter.fragments(&stored));
        Ok(HitExplanation {
            fusion: hit.parts.clone(),
            learned,
            bm25,
            fragments: fragments.unwrap_or_default(),
        })
    }
}

impl HitExplanation {
    /// The parts as Tantivy explains scores, one tree each; of a hybrid search one tree, of what
    /// fused them.
    pub fn explanations(&self) -> Vec<Explanation> {
        let learned = self.learned.iter().map(LearnedPart::explanation);
        let bm25 = self.bm25.iter().map(Bm25Part::explanation);
        let parts = learned.chain(bm25).collect();
        match self.fusion.is_empty() {
            true => parts,
            false => vec![fusion::explanation(&self.fusion, parts)],
        }
    }
}
