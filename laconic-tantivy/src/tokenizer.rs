//! [`LaconicTokenizer`]: field text (a JSON object term → weight) → each term repeated as often
//! as its impact says.
//!
//! This is the way in for `IndexWriter::add_document` and for pipelines that know nothing of us:
//! Tantivy counts the repetitions into a term frequency. It is two orders of magnitude slower
//! than [`bulk`](crate::BulkWriter), which writes the frequency itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use crate::{ImpactQuantizer, SparseVector};

/// Tokenizer of laconic fields.
///
/// A token stream cannot return an error. Text that is not a vector yields no tokens, is logged,
/// and is counted in [`rejected`](LaconicTokenizer::rejected); validate before
/// `add_document` by building the text with [`SparseVector::to_json`].
#[derive(Debug, Clone)]
pub struct LaconicTokenizer {
    quantizer: ImpactQuantizer,
    rejected: Arc<AtomicU64>,
}

impl LaconicTokenizer {
    /// A tokenizer that quantizes with `quantizer`.
    pub fn new(quantizer: ImpactQuantizer) -> LaconicTokenizer {
        LaconicTokenizer {
            quantizer,
            rejected: Arc::default(),
        }
    }

    /// Number of field texts so far that were not vectors, over all clones of this tokenizer.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    fn impacts(&self, text: &str) -> Vec<(String, u8)> {
        match SparseVector::from_json(text) {
            Ok(vector) => self.owned_impacts(&vector),
            Err(error) => {
                if self.rejected.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::warn!("text of a laconic field yields no terms (logged once): {error}");
                }
                Vec::new()
            }
        }
    }

    fn owned_impacts(&self, vector: &SparseVector) -> Vec<(String, u8)> {
        let (impacts, _) = self.quantizer.quantize(vector);
        impacts
            .into_iter()
            .map(|(term, impact)| (term.to_owned(), impact))
            .collect()
    }
}

impl Tokenizer for LaconicTokenizer {
    type TokenStream<'a> = ImpactStream;

    fn token_stream(&mut self, text: &str) -> ImpactStream {
        ImpactStream {
            rest: self.impacts(text).into_iter(),
            left: 0,
            token: blank_token(),
        }
    }
}

/// A fresh `Token` has position `usize::MAX`, which overflows in Tantivy's postings writer.
fn blank_token() -> Token {
    Token {
        position: 0,
        position_length: 1,
        ..Token::default()
    }
}

/// The tokens of one field text.
#[derive(Debug)]
pub struct ImpactStream {
    rest: std::vec::IntoIter<(String, u8)>,
    left: u8,
    token: Token,
}

impl TokenStream for ImpactStream {
    fn advance(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        let Some((term, impact)) = self.rest.next() else {
            return false;
        };
        self.token.text = term;
        self.left = impact - 1; // impacts are at least 1: the quantizer drops zeros
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn counts(tokenizer: &mut LaconicTokenizer, text: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        tokenizer.token_stream(text).process(&mut |token| {
            assert_eq!(token.position, 0);
            *counts.entry(token.text.clone()).or_default() += 1;
        });
        counts
    }

    #[test]
    fn repeats_terms_by_impact() {
        let mut tokenizer = LaconicTokenizer::new(ImpactQuantizer::with_bits(8).unwrap());
        let counts = counts(
            &mut tokenizer,
            r#"{"Ġa": 1, "b": 0.5, "c": 99, "d": 0.001}"#,
        );
        let expected = [("b", 32), ("c", 255), ("Ġa", 64)].map(|(t, n)| (t.to_owned(), n));
        assert_eq!(counts, expected.into_iter().collect());
        assert_eq!(tokenizer.rejected(), 0);
    }

    #[test]
    fn anything_else_yields_nothing_and_is_counted() {
        let mut tokenizer = LaconicTokenizer::new(ImpactQuantizer::default());
        for text in [
            "",
            "plain text",
            "[1]",
            r#"{"a": 1e39}"#,
            r#"{"a": -1}"#,
            r#"{"a": 4e9"#,
        ] {
            assert!(counts(&mut tokenizer.clone(), text).is_empty(), "{text}");
        }
        assert_eq!(tokenizer.rejected(), 6);
        assert!(counts(&mut tokenizer, "{}").is_empty());
        assert_eq!(tokenizer.rejected(), 6, "an empty vector is a vector");
    }

    proptest! {
        #[test]
        fn total_and_bounded(text in "\\PC{0,200}") {
            let mut tokenizer = LaconicTokenizer::new(ImpactQuantizer::default());
            let total: usize = counts(&mut tokenizer, &text).values().sum();
            prop_assert!(total <= 255 * text.len());
        }
    }
}
