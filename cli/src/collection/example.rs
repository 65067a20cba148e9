//! [`ExampleRecord`]: a line of a file of training pairs.

use laconic_model::train::{Example, Passage};
use serde_json::{Value, json};

use super::error::Malformed;
use super::lines::LineReader;
use super::object::{Object, missing, wrong_type};
use super::records::{Record, Records};

/// `{"query": "…", "positive": PASSAGE, "negatives": [PASSAGE, …], "group": "d1"}`; a passage is
/// `{"title": "…", "text": "…"}` or a string. Negatives and group may be left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExampleRecord(pub(crate) Example);

impl Record for ExampleRecord {
    /// Pairs have none; it is never asked for, as they are not read with unique ids.
    fn id(&self) -> &str {
        ""
    }
}

/// The pairs of a file, one a line.
pub(crate) fn examples(lines: LineReader) -> Records<ExampleRecord> {
    Records::new(lines, parse)
}

/// The line that reads as `example`.
pub(crate) fn example_json(example: &Example) -> Value {
    let passage = |passage: &Passage| match &passage.title {
        Some(title) => json!({"title": title, "text": passage.body}),
        None => json!({"text": passage.body}),
    };
    let mut line = json!({"query": example.query, "positive": passage(&example.positive)});
    if !example.negatives.is_empty() {
        line["negatives"] = example.negatives.iter().map(passage).collect();
    }
    if let Some(group) = &example.group {
        line["group"] = Value::from(group.as_str());
    }
    line
}

fn parse(line: &str) -> Result<ExampleRecord, Malformed> {
    let mut object = Object::parse(line)?;
    let positive = object.take("positive").ok_or_else(|| missing("positive"))?;
    let negatives = match object.take("negatives") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(passages)) => passages
            .into_iter()
            .map(|value| passage("negatives", value))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("negatives", &other, "an array of passages")),
    };
    Ok(ExampleRecord(Example {
        query: object.take_string("query")?,
        positive: passage("positive", positive)?,
        negatives,
        group: object.take_optional_string("group")?,
    }))
}

fn passage(field: &str, value: Value) -> Result<Passage, Malformed> {
    let mut fields = match value {
        Value::String(body) => return Ok(Passage { title: None, body }),
        Value::Object(fields) => fields,
        other => return Err(wrong_type(field, &other, "a passage")),
    };
    let title = match fields.remove("title") {
        None | Some(Value::Null) => None,
        Some(Value::String(title)) => Some(title),
        Some(other) => return Err(wrong_type("title", &other, "a string or null")),
    };
    match fields.remove("text") {
        Some(Value::String(body)) => Ok(Passage { title, body }),
        Some(other) => Err(wrong_type("text", &other, "a string")),
        None => Err(missing("text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_read_as_they_were_written() {
        let passage = |title: Option<&str>, body: &str| Passage {
            title: title.map(str::to_owned),
            body: body.to_owned(),
        };
        for example in [
            Example {
                query: "q".to_owned(),
                positive: passage(Some("t"), "b"),
                negatives: vec![passage(None, "n"), passage(Some(""), "")],
                group: Some("d".to_owned()),
            },
            Example {
                query: "q".to_owned(),
                positive: passage(None, "b"),
                ..Example::default()
            },
        ] {
            let line = example_json(&example).to_string();
            assert_eq!(parse(&line).unwrap(), ExampleRecord(example));
        }
        let short = parse(r#"{"query": "q", "positive": "b", "negatives": ["n"], "x": 1}"#);
        assert_eq!(short.unwrap().0.negatives, [passage(None, "n")]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, field) in [
            (r#"{"positive": "b"}"#, "`query` is missing"),
            (r#"{"query": "q"}"#, "`positive` is missing"),
            (r#"{"query": "q", "positive": 1}"#, "`positive` is a number"),
            (
                r#"{"query": "q", "positive": {"title": "t"}}"#,
                "`text` is missing",
            ),
            (
                r#"{"query": "q", "positive": {"text": "t", "title": 1}}"#,
                "`title` is a number",
            ),
            (
                r#"{"query": "q", "positive": "b", "negatives": "n"}"#,
                "`negatives` is a string",
            ),
            (
                r#"{"query": "q", "positive": "b", "group": 1}"#,
                "`group` is a number",
            ),
        ] {
            let message = format!("{:?}", parse(line).unwrap_err());
            assert!(message.contains(field), "{line}: {message}");
        }
    }
}
