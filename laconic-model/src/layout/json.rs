//! Small JSON files of a model folder, whose errors name file and field.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::folder::Folder;

/// Longest of these files. The largest known have a few kilobytes.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// A JSON object of a file.
pub(super) struct Object {
    /// The file, for errors.
    file: String,
    map: Map<String, Value>,
}

impl Object {
    /// Reads a file that holds an object; `None` if it is not there.
    pub(super) fn read(folder: &Folder, name: &str) -> Result<Option<Self>, Error> {
        let Some(bytes) = folder.read(name, MAX_BYTES)? else {
            return Ok(None);
        };
        match parse(name, &bytes)? {
            Value::Object(map) => Ok(Some(Self::new(name, map))),
            _ => Err(not_of_shape(name, "one JSON object")),
        }
    }

    pub(super) fn new(file: &str, map: Map<String, Value>) -> Self {
        Self {
            file: file.to_owned(),
            map,
        }
    }

    pub(super) fn present(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.present(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.refuse(key, value, "a string")),
        }
    }

    pub(super) fn required_text(&self, key: &str) -> Result<&str, Error> {
        self.text(key)?.ok_or_else(|| {
            Error::corrupt(format!(
                "reading {}: `{key}` is missing; download the checkpoint again",
                self.file
            ))
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.present(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.refuse(key, value, "true or false")),
        }
    }

    /// An object within; one without entries if it is absent.
    pub(super) fn object(&self, key: &str) -> Result<Object, Error> {
        let file = format!("{}, `{key}`", self.file);
        match self.present(key) {
            None => Ok(Self::new(&file, Map::new())),
            Some(Value::Object(map)) => Ok(Self::new(&file, map.clone())),
            Some(value) => Err(self.refuse(key, value, "an object")),
        }
    }

    /// Refuses fields that are neither known nor empty: one that is not understood may change the
    /// vectors.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Error> {
        let is_empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(values) => values.is_empty(),
            _ => false,
        };
        let is_odd =
            |(key, value): &(&String, &Value)| !known.contains(&key.as_str()) && !is_empty(value);
        match self.map.iter().find(is_odd) {
            None => Ok(()),
            Some((key, value)) => Err(self.unsupported(key, value, known.join(", "))),
        }
    }

    pub(super) fn refuse(&self, key: &str, value: &Value, expected: impl Display) -> Error {
        Error::corrupt(format!(
            "reading {}: `{key}` is {}, expected {expected}; download the checkpoint again",
            self.file,
            shortened(value)
        ))
    }

    /// The error for a field that is sound, but asks for what this crate does not do.
    pub(super) fn unsupported(&self, key: &str, value: &Value, known: impl Display) -> Error {
        Error::unsupported(format!(
            "reading {}: `{key}` is {}, and this encoder knows only {known}; load another \
             checkpoint, or the folder of its network alone",
            self.file,
            shortened(value)
        ))
    }
}

/// Parses a file of any JSON.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|source| {
        Error::corrupt(format!("reading {name}: {source}; download it again")).with_source(source)
    })
}

pub(super) fn not_of_shape(name: &str, expected: &str) -> Error {
    Error::corrupt(format!(
        "reading {name}: expected {expected}; download it again"
    ))
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
