//! The text for the encoder: the query with what acted as syntax cut out.

use std::ops::Range;

/// Pieces of a query that are kept, in order.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Range<usize>, String)>);

impl Kept {
    /// Keeps `place` of the query, as `text`.
    pub(super) fn push(&mut self, place: Range<usize>, text: impl Into<String>) {
        self.0.push((place, text.into()));
    }

    /// The pieces with what is between them: white space as it is; a space for anything that was
    /// cut out between words. A query without syntax comes out unchanged.
    pub(super) fn join(self, query: &str) -> String {
        let mut text = String::new();
        let mut end = 0;
        let n_kept = self.0.len();
        let last = (query.len()..query.len(), String::new());
        for (idx, (place, piece)) in self.0.into_iter().chain([last]).enumerate() {
            let between = query.get(end..place.start).unwrap_or_default();
            if between.trim().is_empty() {
                text.push_str(between);
            } else if idx > 0 && idx < n_kept && is_gap(&text, between, &piece) {
                text.push(' ');
            }
            text.push_str(&piece);
            end = place.end;
        }
        text
    }
}

/// Whether two pieces would run together that did not.
fn is_gap(before: &str, between: &str, after: &str) -> bool {
    let runs_on =
        before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric);
    between.contains(char::is_whitespace) || runs_on
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(query: &str, words: &[&str]) -> String {
        let mut kept = Kept::default();
        for word in words {
            let at = query.find(word).unwrap();
            kept.push(at..at + word.len(), *word);
        }
        kept.join(query)
    }

    #[test]
    fn white_space_stays_and_syntax_leaves_at_most_a_space() {
        assert_eq!(kept("  a\tb \n", &["a", "b"]), "  a\tb \n");
        assert_eq!(kept("+a^2 -x b", &["a", "b"]), "a b");
        assert_eq!(kept("\"a\", b", &["a", ",", "b"]), "a, b");
        assert_eq!(kept("\"a\"b", &["a", "b"]), "a b");
        assert_eq!(kept("x:1", &[]), "");
        assert_eq!(kept(" ", &[]), " ");
        assert_eq!(kept("x:1 a ", &["a"]), "a ");
    }
}
