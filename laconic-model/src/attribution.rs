//! Where a weight comes from: the position that won the max-pool, as a place in the caller's text.

use std::ops::Range;

use crate::encoding::Encoding;
use crate::text::{Prompt, Text};

/// An encoding, with the place in the text that gave each term its weight.
///
/// A weight is the largest of one logit per position; the position that reached it (the first of
/// equals) is the term's source. The network mixes all positions before that, so the source is
/// where the weight was read off, not all that it depends on.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Attribution {
    /// What [`Encoder::encode`](crate::Encoder::encode) gives, bit for bit.
    pub encoding: Encoding,
    positions: Vec<usize>,
    token_ids: Vec<u32>,
    sources: Vec<Source>,
}

/// A term of an encoding and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttributedTerm<'a> {
    /// The term, as in [`Encoding::weights`].
    pub token_id: u32,
    /// Its weight.
    pub weight: f32,
    /// The position that won, counted from 0 over all tokens, prefix and specials included.
    pub position: usize,
    /// What stands there.
    pub source: &'a Source,
}

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A special token that the preset adds.
    Special,
    /// The preset's prefix.
    Prefix,
    /// What stands between title and body.
    Separator,
    /// The caller's text.
    Text(Span),
}

/// A piece of the caller's text. Ranges are relative to the [`Part`], as the caller gave it, and
/// lie between characters; a token that holds a part of a character covers all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// Which of the caller's strings.
    pub part: Part,
    /// The token's bytes, without white space around them.
    pub bytes: Range<usize>,
    /// The same range, counted in characters.
    pub chars: Range<usize>,
    /// The bytes of the whole word around the token: letters and digits without a gap, or the
    /// token alone if it has none.
    pub word: Range<usize>,
}

/// One of the caller's strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The query.
    Query,
    /// The document's title.
    Title,
    /// The document's body.
    Body,
}

impl Attribution {
    pub(crate) fn new(
        encoding: Encoding,
        positions: Vec<usize>,
        token_ids: Vec<u32>,
        sources: Vec<Source>,
    ) -> Self {
        Self {
            encoding,
            positions,
            token_ids,
            sources,
        }
    }

    /// The terms in the order of [`Encoding::weights`], with their sources.
    pub fn terms(&self) -> impl Iterator<Item = AttributedTerm<'_>> {
        let terms = self.encoding.weights.iter().zip(&self.positions);
        terms.map(|(&(token_id, weight), &position)| AttributedTerm {
            token_id,
            weight,
            position,
            source: self.sources.get(position).unwrap_or(&Source::Special),
        })
    }

    /// The tokens that went through the network, in order, and what each stands for.
    pub fn tokens(&self) -> impl Iterator<Item = (u32, &Source)> {
        self.token_ids.iter().copied().zip(&self.sources)
    }
}

impl Text<'_> {
    /// What the four pieces of a prompt are, and the caller's string behind each.
    fn pieces(&self) -> [(Source, Option<(Part, &str)>); 4] {
        let (title, last) = match self {
            Text::Query(query) => (None, (Part::Query, *query)),
            Text::Document { title, body } => {
                (title.map(|t| (Part::Title, t)), (Part::Body, *body))
            }
        };
        // The source of a piece of text is what a token of it is if nothing is left of it: blank.
        [
            (Source::Prefix, None),
            (Source::Separator, title),
            (Source::Separator, None),
            (Source::Separator, Some(last)),
        ]
    }
}

impl Prompt {
    /// What the bytes `token` of the prompt stand for.
    ///
    /// A token may begin in one piece and end in the next (byte-level ones take the space before
    /// a word): white space around it does not count, and text counts before what was put there.
    pub(crate) fn source(&self, text: Text<'_>, token: Range<usize>) -> Source {
        let token = trimmed(&self.text, token);
        let mut start = 0;
        let mut otherwise = None;
        for ((source, part), end) in text.pieces().into_iter().zip(self.ends) {
            let piece = start..end;
            start = end;
            let overlap = token.start.max(piece.start)..token.end.min(piece.end);
            let begins_here = piece.contains(&token.start);
            if let Some((part, string)) = part.filter(|_| !overlap.is_empty()) {
                let bytes = overlap.start - piece.start..overlap.end - piece.start;
                return Source::Text(Span::new(part, string, bytes));
            }
            if begins_here || !overlap.is_empty() {
                otherwise.get_or_insert(source);
            }
        }
        otherwise.unwrap_or(Source::Separator)
    }
}

/// The range extended to whole characters, without white space around it if something is left.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let mut start = range.start.min(text.len());
    let mut end = range.end.clamp(start, text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let token = &text[start..end];
    let without_start = token.trim_start();
    match without_start.trim_end() {
        "" => start..end,
        left => {
            let start = end - without_start.len();
            start..start + left.len()
        }
    }
}

impl Span {
    fn new(part: Part, text: &str, bytes: Range<usize>) -> Self {
        let n_chars = |range: Range<usize>| text[range].chars().count();
        let chars = n_chars(0..bytes.start);
        Self {
            part,
            chars: chars..chars + n_chars(bytes.clone()),
            word: word(text, bytes.clone()),
            bytes,
        }
    }
}

/// `bytes` with the letters and digits that adjoin it, if it ends in such itself.
fn word(text: &str, bytes: Range<usize>) -> Range<usize> {
    let token = &text[bytes.clone()];
    let mut word = bytes.clone();
    if token.starts_with(char::is_alphanumeric) {
        let before = text[..bytes.start].trim_end_matches(char::is_alphanumeric);
        word.start = before.len();
    }
    if token.ends_with(char::is_alphanumeric) {
        let after = text[bytes.end..].trim_start_matches(char::is_alphanumeric);
        word.end = text.len() - after.len();
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::Preset;

    fn source(text: Text<'_>, token: &str) -> Source {
        let prompt = Prompt::new(text, &Preset::laconic(), 1000);
        let start = prompt.text.find(token).unwrap();
        prompt.source(text, start..start + token.len())
    }

    #[test]
    fn a_place_in_the_prompt_is_a_place_in_the_callers_text() {
        let span = |part, bytes, chars, word| {
            Source::Text(Span {
                part,
                bytes,
                chars,
                word,
            })
        };
        let text = Text::titled("Grüße an", "東京 tower");
        assert_eq!(source(text, "pass"), Source::Prefix);
        assert_eq!(source(text, ": "), Source::Prefix);
        assert_eq!(source(text, " Gr"), span(Part::Title, 0..2, 0..2, 0..7));
        assert_eq!(source(text, "üß"), span(Part::Title, 2..6, 2..4, 0..7));
        assert_eq!(source(text, " 東"), span(Part::Body, 0..3, 0..1, 0..6));
        assert_eq!(source(text, " tow"), span(Part::Body, 7..10, 3..6, 7..12));
        // From the prefix into the text: the text counts.
        assert_eq!(source(text, "e: Grü"), span(Part::Title, 0..4, 0..3, 0..7));
        let query = Text::Query(" a");
        assert_eq!(source(query, "query"), Source::Prefix);
        assert_eq!(source(query, "a"), span(Part::Query, 1..2, 1..2, 1..2));
        let prompt = Prompt::new(text, &Preset::laconic(), 1000);
        let separator = prompt.ends[1]..prompt.ends[2];
        assert_eq!(prompt.source(text, separator), Source::Separator);
    }

    #[test]
    fn every_range_of_bytes_has_a_source_on_character_boundaries() {
        let text = Text::titled("é東🚀 x", " \u{301}ab\n🚀");
        for max_bytes in [0, 9, 10, 13, 20, 24, 1000] {
            let prompt = Prompt::new(text, &Preset::laconic(), max_bytes);
            for start in 0..=prompt.text.len() {
                for end in start..=prompt.text.len() + 2 {
                    let Source::Text(span) = prompt.source(text, start..end) else {
                        continue;
                    };
                    let string = match span.part {
                        Part::Title => "é東🚀 x",
                        _ => " \u{301}ab\n🚀",
                    };
                    assert!(!string[span.bytes.clone()].is_empty());
                    let chars: Vec<char> = string.chars().collect();
                    let by_chars: String = chars[span.chars.clone()].iter().collect();
                    assert_eq!(by_chars, string[span.bytes.clone()]);
                    assert!(string[span.word.clone()].contains(&by_chars));
                }
            }
        }
    }
}
