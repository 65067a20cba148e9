//! A line's JSON object with every key given once, and complaints about JSON in plain words.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::Malformed;
use super::ids::check_id;

/// The fields of a line. `serde_json` itself would silently keep the last of two equal keys;
/// within nested values it still does.
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn parse(line: &str) -> Result<Object, Malformed> {
        parse_json(line)
    }

    /// Removes the record's id.
    pub(super) fn take_id(&mut self) -> Result<String, Malformed> {
        let value = self.0.remove("_id").ok_or_else(|| missing("_id"))?;
        id_from("_id", value)
    }

    /// Removes a string that has to be there.
    pub(super) fn take_string(&mut self, field: &str) -> Result<String, Malformed> {
        match self.0.remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong_type(field, &other, "a string")),
            None => Err(missing(field)),
        }
    }

    /// Removes a string that may be left out or null.
    pub(super) fn take_optional_string(
        &mut self,
        field: &str,
    ) -> Result<Option<String>, Malformed> {
        match self.0.remove(field) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) | None => Ok(None),
            Some(other) => Err(wrong_type(field, &other, "a string or null")),
        }
    }

    /// Removes a value that may be left out.
    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    /// What has not been taken.
    pub(super) fn into_rest(self) -> Map<String, Value> {
        self.0
    }
}

/// An id is a string; an integer stands for its decimal form.
pub(super) fn id_from(field: &str, value: Value) -> Result<String, Malformed> {
    let id = match value {
        Value::String(id) => id,
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        other => return Err(wrong_type(field, &other, "a string or an integer")),
    };
    check_id(field, &id)?;
    Ok(id)
}

pub(super) fn missing(field: &str) -> Malformed {
    Malformed::content(format!("`{field}` is missing"))
}

pub(super) fn given_twice(field: &str) -> String {
    format!("key `{field}` is given twice in one object")
}

pub(super) fn wrong_type(field: &str, found: &Value, expected: &str) -> Malformed {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Malformed::content(format!("`{field}` is {found} where {expected} belongs"))
}

/// Parses a whole line as one JSON value.
pub(super) fn parse_json<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(line).map_err(|error| explain(&error, line))
}

fn explain(error: &serde_json::Error, line: &str) -> Malformed {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&position).unwrap_or(&message);
    if error.is_data() {
        return Malformed::content(message);
    }
    let why = explain_literal(line, error.column()).unwrap_or(message);
    Malformed::syntax(format!("not JSON at byte {}: {why}", error.column()))
}

/// What JSON has no word for but other writers produce. The parser stops at the first byte of
/// such a literal or at the one behind it.
fn explain_literal(line: &str, column: usize) -> Option<&'static str> {
    let starts = [column.checked_sub(1)?, column.saturating_sub(2)];
    starts
        .iter()
        .find_map(|start| name_literal(line.get(*start..)?))
}

fn name_literal(text: &str) -> Option<&'static str> {
    const LITERALS: [(&str, &str); 5] = [
        ("NaN", "a number may not be NaN"),
        ("nan", "a number may not be NaN"),
        ("Inf", "a number may not be infinite"),
        ("inf", "a number may not be infinite"),
        ("\u{feff}", "a byte-order mark stands where a value belongs"),
    ];
    let text = text.trim_start_matches('-');
    LITERALS
        .iter()
        .find(|(literal, _)| text.starts_with(literal))
        .map(|(_, why)| *why)
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(given_twice(&key)));
            }
            fields.insert(key, entries.next_value()?);
        }
        Ok(Object(fields))
    }
}
