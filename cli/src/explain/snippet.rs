//! Pieces of the stored text with the words that matched.

use std::ops::Range;

use anyhow::Result;
use tantivy::Searcher;
use tantivy::query::Query;
use tantivy::schema::Field;
use tantivy::snippet::{SnippetGenerator, collapse_overlapped_ranges};

use crate::corpus::StoredDocument;

/// A piece of a stored text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// `title` or `body`.
    pub part: &'static str,
    /// The piece.
    pub text: String,
    /// Its bytes in that part.
    pub place: Range<usize>,
    /// Bytes of the piece that are words of the query.
    pub highlighted: Vec<Range<usize>>,
}

impl Fragment {
    /// The piece, each stretch with whether it is a word of the query.
    pub fn stretches(&self) -> impl Iterator<Item = (&str, bool)> {
        let mut start = 0;
        let mut stretches = Vec::new();
        for word in &self.highlighted {
            stretches.push((&self.text[start..word.start], false));
            stretches.push((&self.text[word.clone()], true));
            start = word.end;
        }
        stretches.push((&self.text[start..], false));
        stretches.into_iter().filter(|(text, _)| !text.is_empty())
    }
}

/// Finds the words of a query in texts.
pub(super) struct Highlighter(SnippetGenerator);

impl Highlighter {
    /// For the words that `query` seeks in `field`.
    pub(super) fn new(searcher: &Searcher, query: &dyn Query, field: Field) -> Result<Highlighter> {
        Ok(Highlighter(SnippetGenerator::create(
            searcher, query, field,
        )?))
    }

    /// The best piece of the title and of the body; none of a part without a word of the query.
    pub(super) fn fragments(&self, stored: &StoredDocument) -> Vec<Fragment> {
        let title = stored.title.as_deref().map(|title| ("title", title));
        let parts = title.into_iter().chain([("body", stored.text.as_str())]);
        parts
            .filter_map(|(part, text)| {
                let snippet = self.0.snippet(text);
                (!snippet.is_empty()).then(|| Fragment {
                    part,
                    text: snippet.fragment().to_owned(),
                    place: snippet.fragment_range(),
                    highlighted: collapse_overlapped_ranges(snippet.highlighted()),
                })
            })
            .collect()
    }
}
