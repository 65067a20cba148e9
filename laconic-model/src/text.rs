//! What is encoded: a query, or a document with or without a title.

use crate::preset::Preset;

/// A text to encode, borrowed from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// A query: the preset's query prefix, then the text.
    Query(&'a str),
    /// A document: the preset's document prefix, then title, separator and
    /// body; the body alone if there is no title.
    Document {
        /// The title, if there is one. An empty string counts as none, unless
        /// the preset's `empty_title_space` is set.
        title: Option<&'a str>,
        /// The body.
        body: &'a str,
    },
}

impl<'a> Text<'a> {
    /// A document without a title.
    pub fn document(body: &'a str) -> Self {
        Self::Document { title: None, body }
    }

    /// A document with a title.
    pub fn titled(title: &'a str, body: &'a str) -> Self {
        Self::Document {
            title: Some(title),
            body,
        }
    }

    /// The pieces that are put together, in order: prefix, title, separator, and query or body.
    fn parts(self, preset: &'a Preset) -> [&'a str; 4] {
        match self {
            Self::Query(query) => [preset.query_prefix(), "", "", query],
            Self::Document { title, body } => {
                let prefix = preset.document_prefix();
                let separator = preset.title_separator();
                match title {
                    Some("") if !preset.empty_title_space() => [prefix, "", "", body],
                    Some(title) => [prefix, title, separator, body],
                    None => [prefix, "", "", body],
                }
            }
        }
    }
}

/// The text that is tokenized, cut to a number of bytes.
pub(crate) struct Prompt {
    pub(crate) text: String,
    /// Where each of the parts of [`Text::parts`] ends in `text`.
    pub(crate) ends: [usize; 4],
    /// Bytes that were never looked at.
    pub(crate) n_dropped_bytes: usize,
}

impl Prompt {
    pub(crate) fn new(text: Text<'_>, preset: &Preset, max_bytes: usize) -> Self {
        let mut prompt = Self {
            text: String::new(),
            ends: [0; 4],
            n_dropped_bytes: 0,
        };
        for (part, end) in text.parts(preset).into_iter().zip(0..4) {
            let kept = head(part, max_bytes - prompt.text.len());
            // Once a part is cut, what follows it must not close up to it.
            let kept = if prompt.n_dropped_bytes == 0 {
                kept
            } else {
                ""
            };
            prompt.text.push_str(kept);
            prompt.ends[end] = prompt.text.len();
            prompt.n_dropped_bytes += part.len() - kept.len();
        }
        prompt
    }
}

/// The longest beginning of `text` of at most `max_bytes` bytes.
fn head(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(text: Text<'_>, preset: &Preset) -> String {
        Prompt::new(text, preset, 1000).text
    }

    #[test]
    fn parts_are_put_together_as_the_preset_says() {
        let mut preset = Preset::laconic();
        assert_eq!(prompt(Text::Query("q"), &preset), "query: q");
        assert_eq!(prompt(Text::titled("t", "b"), &preset), "passage: t b");
        assert_eq!(prompt(Text::document("b"), &preset), "passage: b");
        assert_eq!(prompt(Text::titled("", "b"), &preset), "passage: b");
        assert_eq!(prompt(Text::titled("t", ""), &preset), "passage: t ");
        preset.set("empty_title_space", "true").unwrap();
        assert_eq!(prompt(Text::titled("", "b"), &preset), "passage:  b");
        assert_eq!(prompt(Text::document("b"), &preset), "passage: b");
        preset.set("title_separator", "\n").unwrap();
        assert_eq!(prompt(Text::titled("t", "b"), &preset), "passage: t\nb");
    }

    #[test]
    fn a_cut_falls_between_characters_and_is_counted() {
        let preset = Preset::laconic();
        for max in 0..30 {
            let cut = Prompt::new(Text::titled("é東🚀", "ab"), &preset, max);
            let whole = "passage: é東🚀 ab";
            assert!(
                whole.starts_with(&cut.text) && cut.text.len() <= max,
                "{max}"
            );
            assert_eq!(cut.text.len() + cut.n_dropped_bytes, whole.len());
        }
    }
}
