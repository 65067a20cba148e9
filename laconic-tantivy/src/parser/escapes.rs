//! Backslashes, quotes, and where what they open ends.

/// Characters that a backslash makes plain ones.
pub(super) const SPECIAL: &str = "+-^`:{}\"'[]()!\\*<>/~ ";

pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace()
}

/// Where `quote` stands without a backslash before it.
pub(super) fn unescaped(text: &str, quote: char) -> impl Iterator<Item = usize> + '_ {
    let mut chars = text.char_indices();
    std::iter::from_fn(move || {
        while let Some((idx, c)) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                _ if c == quote => return Some(idx),
                _ => {}
            }
        }
        None
    })
}

/// Whether a `'` can be the end of a phrase: inside a word it is an apostrophe.
pub(super) fn closes(text: &str, quote: usize) -> bool {
    !text[quote + 1..].starts_with(char::is_alphanumeric)
}

/// Where the bracket of `IN [` stands.
pub(super) fn set_bracket(text: &str) -> Option<usize> {
    let after = text.strip_prefix("IN")?.trim_start_matches(is_blank);
    after.starts_with('[').then(|| text.len() - after.len())
}

/// The bracket that closes a set; those in quotes do not.
pub(super) fn end_of_set(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((idx, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                chars.next();
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (']', None) => return Some(idx),
            _ => {}
        }
    }
    None
}

/// Takes away the backslashes before characters that `is_special`.
pub(super) fn without_backslashes(text: &str, is_special: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            match chars.next() {
                Some(next) if is_special(next) => plain.push(next),
                next => plain.extend([Some(c), next].into_iter().flatten()),
            }
        } else {
            plain.push(c);
        }
    }
    plain
}
