//! [`Query`]: a line of a BEIR `queries.jsonl`.

use super::error::Malformed;
use super::lines::LineReader;
use super::object::Object;
use super::records::{Record, Records};

/// A query: `{"_id": "q1", "text": "…"}`; further fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// `_id`, under the same rules as a document's.
    pub id: String,
    /// `text`, which may be empty.
    pub text: String,
}

impl Record for Query {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The queries of a file, one a line.
pub fn queries(lines: LineReader) -> Records<Query> {
    Records::new(lines, parse)
}

fn parse(line: &str) -> Result<Query, Malformed> {
    let mut object = Object::parse(line)?;
    Ok(Query {
        id: object.take_id()?,
        text: object.take_string("text")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_id_and_text() {
        let query = parse(r#"{"_id": "q", "text": "what?", "metadata": {}}"#).unwrap();
        assert_eq!(
            query,
            Query {
                id: "q".into(),
                text: "what?".into()
            }
        );
    }
}
