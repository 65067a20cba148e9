//! The learned-sparse part of an explanation: which terms matched, and which words gave them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use anyhow::Result;
use laconic_model::{Attribution, Encoder, Part, Source, Text};
use laconic_tantivy::{LaconicQuery, TermContribution};
use tantivy::query::Explanation;
use tantivy::{DocAddress, Score, Searcher};

use super::readable::readable;
use crate::corpus::StoredDocument;

/// What learned-sparse scoring gave to a document.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedPart {
    /// The sum of the contributions.
    pub score: Score,
    /// The terms that matched, largest contribution first.
    pub terms: Vec<LearnedTerm>,
    /// Whether it is known which terms are expansions of the document, and of the query.
    pub knows: Sides<bool>,
}

/// Something of the document and the same of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides<T> {
    /// The document's.
    pub document: T,
    /// The query's.
    pub query: T,
}

/// A term that matched.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedTerm {
    /// Term, impact, weights, contribution and share.
    pub contribution: TermContribution,
    /// The term as a person reads it.
    pub readable: String,
    /// Whether the term is an expansion: not among the text's own tokens. `None` where there is
    /// no encoder to tell.
    pub is_expansion: Sides<Option<bool>>,
    /// The word that put the weight there.
    pub source: Sides<Option<SourceWord>>,
}

/// A word that put a weight on a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceWord {
    /// `title`, `body` or `query`; `prefix`, `separator` or `special` for what is no text.
    pub part: &'static str,
    /// The word; empty for what is no text.
    pub word: String,
    /// Bytes of the token in that part, and the same in characters.
    pub place: Option<(Range<usize>, Range<usize>)>,
}

/// A text's own tokens, and the word behind each of its terms.
struct Attributed {
    own: HashSet<String>,
    sources: HashMap<String, SourceWord>,
}

/// The learned-sparse side of a question.
pub(super) struct LearnedSide {
    query: LaconicQuery,
    attributed: Option<Attributed>,
}

impl LearnedSide {
    /// For a query vector, which the encoder made of `text` if both are given.
    pub(super) fn new(
        query: LaconicQuery,
        encoder: Option<&Encoder>,
        text: Option<&str>,
    ) -> Result<LearnedSide> {
        let attributed = match (encoder, text) {
            (Some(encoder), Some(text)) => Some(Attributed::new(encoder, Text::Query(text))?),
            _ => None,
        };
        Ok(LearnedSide { query, attributed })
    }

    /// The part of a document, which is encoded anew where there is an encoder.
    pub(super) fn explain(
        &self,
        searcher: &Searcher,
        address: DocAddress,
        encoder: Option<&Encoder>,
        stored: &StoredDocument,
    ) -> Result<LearnedPart> {
        let contributions = self.query.contributions(searcher, address)?;
        let text = Text::Document {
            title: stored.title.as_deref(),
            body: &stored.text,
        };
        let document = match encoder {
            Some(encoder) if !contributions.is_empty() => Some(Attributed::new(encoder, text)?),
            _ => None,
        };
        let sides = Sides {
            document: document.as_ref(),
            query: self.attributed.as_ref(),
        };
        let score = contributions.iter().map(|part| part.contribution).sum();
        let terms = contributions.into_iter();
        Ok(LearnedPart {
            score,
            terms: terms.map(|part| LearnedTerm::new(part, sides)).collect(),
            knows: Sides {
                document: encoder.is_some(),
                query: self.attributed.is_some(),
            },
        })
    }
}

impl<T> Sides<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Sides<U> {
        Sides {
            document: change(self.document),
            query: change(self.query),
        }
    }
}

impl LearnedTerm {
    fn new(contribution: TermContribution, sides: Sides<Option<&Attributed>>) -> LearnedTerm {
        let term = contribution.term.as_str();
        LearnedTerm {
            readable: readable(term),
            is_expansion: sides.map(|side| side.map(|side| !side.own.contains(term))),
            source: sides.map(|side| side.and_then(|side| side.sources.get(term).cloned())),
            contribution,
        }
    }
}

impl LearnedPart {
    /// The part as Tantivy explains scores.
    pub fn explanation(&self) -> Explanation {
        let name = "learned-sparse, sum of document weight × query weight";
        let mut explanation = Explanation::new(name, self.score);
        for term in &self.terms {
            let part = &term.contribution;
            let name = format!(
                "term `{}`: impact {} (weight {}) × query weight {}",
                part.term, part.impact, part.document_weight, part.query_weight
            );
            let mut detail = Explanation::new_with_string(name, part.contribution);
            for (side, source) in [
                ("document", &term.source.document),
                ("query", &term.source.query),
            ] {
                if let Some(source) = source {
                    detail.add_context(format!("{side}: {source}"));
                }
            }
            explanation.add_detail(detail);
        }
        explanation
    }
}

impl Attributed {
    fn new(encoder: &Encoder, text: Text<'_>) -> Result<Attributed> {
        let attribution = encoder.encode_with_attribution(text)?;
        let name = |token_id| encoder.term(token_id).map(str::to_owned);
        Ok(Attributed {
            own: own_tokens(&attribution).filter_map(name).collect(),
            sources: attribution
                .terms()
                .filter_map(|term| Some((name(term.token_id)?, SourceWord::new(text, term.source))))
                .collect(),
        })
    }
}

/// The tokens of the text itself, without what the preset adds.
fn own_tokens(attribution: &Attribution) -> impl Iterator<Item = u32> {
    let tokens = attribution.tokens();
    tokens.filter_map(|(id, source)| matches!(source, Source::Text(_)).then_some(id))
}

impl SourceWord {
    fn new(text: Text<'_>, source: &Source) -> SourceWord {
        let without_place = |part| SourceWord {
            part,
            word: String::new(),
            place: None,
        };
        let span = match source {
            Source::Text(span) => span,
            Source::Prefix => return without_place("prefix"),
            Source::Separator => return without_place("separator"),
            Source::Special => return without_place("special"),
        };
        let (part, string) = match (span.part, text) {
            (Part::Query, Text::Query(query)) => ("query", query),
            (Part::Title, Text::Document { title, .. }) => ("title", title.unwrap_or_default()),
            (_, Text::Document { body, .. }) => ("body", body),
            (_, Text::Query(query)) => ("query", query),
        };
        SourceWord {
            part,
            word: string.get(span.word.clone()).unwrap_or_default().to_owned(),
            place: Some((span.bytes.clone(), span.chars.clone())),
        }
    }
}

impl std::fmt::Display for SourceWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.word.as_str() {
            "" => write!(f, "the {}", self.part),
            word => write!(f, "`{word}` ({})", self.part),
        }
    }
}
