//! A place in a query where something is wrong, and how it is shown.

use crate::Error;

/// Characters of the query shown around the place.
const SHOWN: usize = 72;

/// What is wrong, and the byte of the query where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    message: String,
}

impl Fault {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Fault {
        Fault {
            at,
            message: message.into(),
        }
    }

    /// The error with column and a line that points at it.
    pub(super) fn in_query(&self, query: &str) -> Error {
        let before = query.get(..self.at).unwrap_or(query).chars().count();
        let column = before + 1;
        // A window, so that a long query does not scroll the place away.
        let start = before.saturating_sub(SHOWN / 2);
        let shown: String = query
            .chars()
            .skip(start)
            .take(SHOWN)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let caret = " ".repeat(before - start);
        let message = format!("column {column}: {}\n  {shown}\n  {caret}^", self.message);
        Error::invalid(message).with_column(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_character() {
        let error = Fault::new("für ".len(), "no").in_query("für alle");
        assert_eq!(error.to_string(), "column 5: no\n  für alle\n      ^");
        assert_eq!(error.column(), Some(5));
        let end = Fault::new(1, "no").in_query("\n");
        assert_eq!(end.to_string(), "column 2: no\n   \n   ^");
        let long = "x".repeat(500);
        let far = Fault::new(400, "no").in_query(&long).to_string();
        let lines: Vec<&str> = far.lines().collect();
        assert_eq!(lines[0], "column 401: no");
        assert_eq!(
            (lines[1].len(), lines[2].len()),
            (2 + SHOWN, 2 + SHOWN / 2 + 1)
        );
    }
}
