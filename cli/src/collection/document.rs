//! [`Document`]: a line of a BEIR `corpus.jsonl`.

use serde_json::{Map, Value};

use super::error::Malformed;
use super::lines::LineReader;
use super::object::Object;
use super::records::{Record, Records};

/// A document: `{"_id": "d1", "title": "…", "text": "…", …}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `_id`: not empty, at most [`MAX_ID_BYTES`](super::MAX_ID_BYTES), without white space or
    /// control characters. An integer in the file stands for its decimal form.
    pub id: String,
    /// `title`, which may be left out or null.
    pub title: Option<String>,
    /// `text`, which may be empty.
    pub text: String,
    /// All further fields as they are.
    pub fields: Map<String, Value>,
}

impl Record for Document {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The documents of a file, one a line.
pub fn documents(lines: LineReader) -> Records<Document> {
    Records::new(lines, parse)
}

fn parse(line: &str) -> Result<Document, Malformed> {
    let mut object = Object::parse(line)?;
    Ok(Document {
        id: object.take_id()?,
        title: object.take_optional_string("title")?,
        text: object.take_string("text")?,
        fields: object.into_rest(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_title_and_further_fields() {
        let line =
            r#"{"_id": "d1", "title": "T", "text": "x\u0000y", "year": 1998, "tags": ["a"]}"#;
        let document = parse(line).unwrap();
        assert_eq!(
            (document.id.as_str(), document.title.as_deref()),
            ("d1", Some("T"))
        );
        assert_eq!(document.text, "x\0y");
        assert_eq!(document.fields["year"], 1998);
        assert_eq!(document.fields.len(), 2);
    }

    #[test]
    fn title_is_optional_and_integers_are_ids() {
        for line in [
            r#"{"_id": 7, "text": ""}"#,
            r#"{"text": "", "_id": "7", "title": null}"#,
        ] {
            let document = parse(line).unwrap();
            assert_eq!(
                (document.id.as_str(), document.title, document.text.len()),
                ("7", None, 0)
            );
        }
    }

    #[test]
    fn id_length_boundary() {
        for (n_bytes, is_accepted) in [(1, true), (511, true), (512, true), (513, false)] {
            let line = format!(r#"{{"_id": "{}", "text": ""}}"#, "x".repeat(n_bytes));
            assert_eq!(parse(&line).is_ok(), is_accepted, "{n_bytes} bytes");
        }
    }

    /// The parser gives up at 128 levels instead of exhausting the stack.
    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| {
            format!(
                r#"{{"_id": "d", "text": "", "x": {}{}}}"#,
                "[".repeat(depth),
                "]".repeat(depth)
            )
        };
        assert!(parse(&nested(126)).is_ok());
        for depth in [127, 128, 1_000_000] {
            let message = format!("{:?}", parse(&nested(depth)).unwrap_err());
            assert!(message.contains("recursion limit exceeded"), "{depth}");
        }
    }
}
