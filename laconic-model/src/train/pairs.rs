//! Weakly supervised pairs out of documents alone.
//!
//! A text that belongs to a document stands in for a query that the document answers: its title,
//! one of its sentences (Lee et al. 2019, the inverse cloze task), or a span cropped out of it
//! (Gao and Callan 2022, coCondenser; Izacard et al. 2022, Contriever). What stands in is taken
//! out of the passage, so that finding it again takes more than comparing strings.

use unicode_segmentation::UnicodeSegmentation;

use super::example::{Example, Passage};
use super::random::Random;

/// What to make of each document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRecipe {
    /// Whether the title, as a query, is paired with the body.
    pub title: bool,
    /// Sentences that are paired with title and remaining sentences; fewer if there are fewer.
    pub sentences: usize,
    /// Spans of words that are paired with what is around them.
    pub spans: usize,
    /// Fewest words of a span.
    pub shortest_span: usize,
    /// Most words of a span.
    pub longest_span: usize,
    /// Decides which sentences and spans are drawn.
    pub seed: u64,
}

impl Default for PairRecipe {
    /// The title, two sentences and one span of 8 to 32 words.
    fn default() -> Self {
        Self {
            title: true,
            sentences: 2,
            spans: 1,
            shortest_span: 8,
            longest_span: 32,
            seed: 0,
        }
    }
}

/// Fewest words of a sentence that may stand for a query; shorter ones belong to the one before.
const SHORTEST_SENTENCE: usize = 5;

impl PairRecipe {
    /// The pairs of one document. All are of the group `id`.
    ///
    /// They depend on the seed, the id and the text, not on other documents.
    pub fn pairs(&self, id: &str, title: Option<&str>, body: &str) -> Vec<Example> {
        let key = xxhash_rust::xxh3::xxh3_64(id.as_bytes());
        let mut random = Random::keyed(&[self.seed, key, 0x0070_6169_7273]);
        let title = title.filter(|title| !title.trim().is_empty());
        let mut pairs = Vec::new();
        let mut pair = |query: &str, title: Option<&str>, body: String| {
            let (query, body) = (query.trim(), body.trim());
            if !query.is_empty() && !body.is_empty() {
                pairs.push(Example {
                    query: query.to_owned(),
                    positive: Passage {
                        title: title.map(str::to_owned),
                        body: body.to_owned(),
                    },
                    negatives: Vec::new(),
                    group: Some(id.to_owned()),
                });
            }
        };
        if let Some(title) = title.filter(|_| self.title) {
            pair(title, None, body.to_owned());
        }
        let sentences = sentences(body);
        if sentences.len() > 1 {
            let drawn = random.permutation(sentences.len());
            for at in drawn.into_iter().take(self.sentences) {
                let rest = [sentences[..at].concat(), sentences[at + 1..].concat()].concat();
                pair(sentences[at], title, rest);
            }
        }
        let words: Vec<&str> = body.split_whitespace().collect();
        let spread = self.longest_span.saturating_sub(self.shortest_span);
        for _ in 0..self.spans {
            let len = self.shortest_span + random.below(spread + 1);
            // At least as much is left as is taken out.
            if len > 0 && words.len() >= 2 * len {
                let start = random.below(words.len() - len + 1);
                let rest = [&words[..start], &words[start + len..]].concat().join(" ");
                pair(&words[start..start + len].join(" "), title, rest);
            }
        }
        pairs
    }
}

/// Sentences with the white space that follows them: together they are the text. Splits by
/// Unicode's rules (UAX 29), which take "et al." for an end, so short pieces are joined to what
/// precedes them.
fn sentences(text: &str) -> Vec<&str> {
    let mut ends: Vec<usize> = Vec::new();
    let mut start = 0;
    for (at, sentence) in text.split_sentence_bound_indices() {
        let end = at + sentence.len();
        let is_short = sentence.split_whitespace().count() < SHORTEST_SENTENCE;
        match ends.last_mut() {
            Some(last) if is_short => *last = end,
            _ => ends.push(end),
        }
    }
    let mut take = |end: usize| {
        let sentence = &text[start..end];
        start = end;
        sentence
    };
    ends.into_iter().map(&mut take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "Copper conducts electricity very well. Its atoms give away electrons \
                        freely (Smith et al. 1999). Rubber does not conduct at all, as it holds \
                        on to them. This is why cables have both of them inside.";

    #[test]
    fn sentences_are_the_text_and_abbreviations_do_not_end_them() {
        let found = sentences(BODY);
        assert_eq!(found.concat(), BODY);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[1].starts_with("Its atoms") && found[1].contains("1999"));
        assert!(sentences("").is_empty());
        assert_eq!(sentences("two words"), ["two words"]);
    }

    #[test]
    fn what_stands_for_the_query_is_not_in_the_passage() {
        let recipe = PairRecipe {
            sentences: 9,
            spans: 3,
            longest_span: 16,
            ..PairRecipe::default()
        };
        let pairs = recipe.pairs("d", Some("Conductors"), BODY);
        assert_eq!(pairs.len(), 1 + 4 + 3);
        assert_eq!(
            (pairs[0].query.as_str(), pairs[0].positive.title.as_deref()),
            ("Conductors", None)
        );
        assert_eq!(pairs[0].positive.body, BODY);
        for pair in &pairs[1..] {
            assert!(!pair.positive.body.contains(&pair.query), "{pair:?}");
            assert_eq!(pair.positive.title.as_deref(), Some("Conductors"));
            let words = |text: &str| text.split_whitespace().count();
            assert_eq!(words(&pair.query) + words(&pair.positive.body), words(BODY));
            assert_eq!(pair.group.as_deref(), Some("d"));
        }
        assert_eq!(pairs, recipe.pairs("d", Some("Conductors"), BODY));
        assert_ne!(pairs, recipe.pairs("e", Some("Conductors"), BODY));
    }

    #[test]
    fn a_document_with_nothing_to_take_out_gives_nothing() {
        let recipe = PairRecipe::default();
        for (title, body) in [
            (None, ""),
            (Some(" "), "one two three"),
            (Some("title"), "  "),
        ] {
            assert_eq!(recipe.pairs("d", title, body), []);
        }
    }
}
