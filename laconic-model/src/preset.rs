//! What a checkpoint family needs around its network: prefixes, special
//! tokens, truncation, cut. Data, not code paths.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::Error;

/// Longest truncation length that can be asked for, in tokens.
///
/// Rotary tables and buffers are sized by the truncation length, so it is
/// bounded whatever `config.json` says.
pub(crate) const MAX_LENGTH_LIMIT: usize = 32_768;

/// The knobs of one checkpoint family.
///
/// Each knob has a name, a text form and a range; [`Preset::knobs`] lists
/// them. A folder may carry a side file `laconic.json` (one JSON object, knob
/// to value) that overrides the preset it is loaded with, and a caller may
/// override both with [`Preset::set`].
///
/// ```
/// let mut preset = laconic_model::Preset::laconic();
/// preset.set("top_k", "64")?;
/// assert_eq!(preset.top_k(), Some(64));
/// assert_ne!(preset.hash(), laconic_model::Preset::laconic().hash());
/// # Ok::<(), laconic_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    name: String,
    query_prefix: String,
    document_prefix: String,
    title_separator: String,
    empty_title_space: bool,
    add_bos: bool,
    add_eos: bool,
    max_length: usize,
    top_k: Option<usize>,
}

impl Preset {
    /// The LACONIC checkpoints, as their authors encode: no BOS, no EOS,
    /// `query: ` and `passage: ` prefixes, 256 tokens, 512 largest weights.
    pub fn laconic() -> Self {
        Self {
            name: "laconic".to_owned(),
            query_prefix: "query: ".to_owned(),
            document_prefix: "passage: ".to_owned(),
            title_separator: " ".to_owned(),
            empty_title_space: false,
            add_bos: false,
            add_eos: false,
            max_length: 256,
            top_k: Some(512),
        }
    }

    /// Sets one knob from its text form, the way a command line gives it.
    ///
    /// # Errors
    ///
    /// If no knob has this name (the message lists those there are) or if the
    /// value is not in the knob's range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let Some(knob) = KNOBS.iter().find(|knob| knob.key == key) else {
            return Err(unknown_knob(key));
        };
        (knob.set)(self, value).map_err(|expected| {
            Error::invalid_input(format!(
                "setting preset knob `{key}` to {value:?}: expected {expected}"
            ))
        })
    }

    /// Every knob as (name, meaning and range), in the order they are hashed.
    pub fn knobs() -> impl Iterator<Item = (&'static str, &'static str)> {
        KNOBS.iter().map(|knob| (knob.key, knob.meaning))
    }

    /// Every knob as (name, value in its text form).
    pub fn values(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        KNOBS.iter().map(|knob| (knob.key, (knob.show)(self)))
    }

    /// 128-bit hash of every knob's value, as 32 hexadecimal digits.
    ///
    /// Stable across releases as long as the list of knobs is; the name is
    /// left out, since it changes no vector.
    pub fn hash(&self) -> String {
        let mut text = String::new();
        for (key, value) in self.values() {
            // JSON's quoting, unlike Rust's, is the same in every release.
            text.push_str(&format!("{key}={}\n", Value::from(value)));
        }
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    /// Name of the preset this one started from, such as `laconic`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Text put before every query.
    pub fn query_prefix(&self) -> &str {
        &self.query_prefix
    }

    /// Text put before every document, before its title.
    pub fn document_prefix(&self) -> &str {
        &self.document_prefix
    }

    /// Text between a document's title and its body.
    pub fn title_separator(&self) -> &str {
        &self.title_separator
    }

    /// Whether an empty-string title still puts the separator before the body,
    /// as the authors' released code does.
    pub fn empty_title_space(&self) -> bool {
        self.empty_title_space
    }

    /// Whether the beginning-of-text token of `config.json` comes first.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether the end-of-text token of `config.json` comes last.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// Tokens kept of a text, prefix and special tokens included.
    ///
    /// (The authors' code keeps one fewer of a text that is too long when no
    /// BOS is added; this crate keeps what the number says.)
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// How many of the largest term weights are kept; all if `None`.
    pub fn top_k(&self) -> Option<usize> {
        self.top_k
    }

    /// Overrides knobs from the bytes of a side file.
    pub(crate) fn apply_side_file(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let describe = |error: Error| {
            Error::invalid_input(format!("reading {SIDE_FILE}: {error}")).with_source(error)
        };
        let Ok(Value::Object(entries)) = serde_json::from_slice(bytes) else {
            return Err(Error::invalid_input(format!(
                "reading {SIDE_FILE}: expected one JSON object of preset knobs; mend or remove it"
            )));
        };
        for (key, value) in &entries {
            self.set_json(key, value).map_err(describe)?;
        }
        Ok(())
    }

    fn set_json(&mut self, key: &str, value: &Value) -> Result<(), Error> {
        match value {
            Value::String(text) => self.set(key, text),
            Value::Bool(_) | Value::Number(_) => self.set(key, &value.to_string()),
            Value::Null if key == "top_k" => self.set(key, "none"),
            _ => Err(Error::invalid_input(format!(
                "setting preset knob `{key}` to {value}: expected a string, a number or a boolean"
            ))),
        }
    }
}

impl Default for Preset {
    fn default() -> Self {
        Self::laconic()
    }
}

/// Name of the file beside a checkpoint that overrides preset knobs.
pub(crate) const SIDE_FILE: &str = "laconic.json";

struct Knob {
    key: &'static str,
    meaning: &'static str,
    show: fn(&Preset) -> String,
    set: fn(&mut Preset, &str) -> Result<(), &'static str>,
}

const KNOBS: &[Knob] = &[
    Knob {
        key: "query_prefix",
        meaning: "text before every query",
        show: |preset| preset.query_prefix.clone(),
        set: |preset, value| parse_text(value).map(|v| preset.query_prefix = v),
    },
    Knob {
        key: "document_prefix",
        meaning: "text before every document, before its title",
        show: |preset| preset.document_prefix.clone(),
        set: |preset, value| parse_text(value).map(|v| preset.document_prefix = v),
    },
    Knob {
        key: "title_separator",
        meaning: "text between a document's title and body",
        show: |preset| preset.title_separator.clone(),
        set: |preset, value| parse_text(value).map(|v| preset.title_separator = v),
    },
    Knob {
        key: "empty_title_space",
        meaning: "true or false: an empty-string title still puts the separator before the body",
        show: |preset| preset.empty_title_space.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.empty_title_space = v),
    },
    Knob {
        key: "add_bos",
        meaning: "true or false: the beginning-of-text token comes first",
        show: |preset| preset.add_bos.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.add_bos = v),
    },
    Knob {
        key: "add_eos",
        meaning: "true or false: the end-of-text token comes last",
        show: |preset| preset.add_eos.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.add_eos = v),
    },
    Knob {
        key: "max_length",
        meaning: "tokens kept of a text, prefix included: 4 to 32768",
        show: |preset| preset.max_length.to_string(),
        set: |preset, value| parse_max_length(value).map(|v| preset.max_length = v),
    },
    Knob {
        key: "top_k",
        meaning: "largest term weights kept: 1 or more, or none for all",
        show: |preset| preset.top_k.map_or("none".to_owned(), |k| k.to_string()),
        set: |preset, value| parse_top_k(value).map(|v| preset.top_k = v),
    },
];

fn unknown_knob(key: &str) -> Error {
    let known: Vec<&str> = KNOBS.iter().map(|knob| knob.key).collect();
    Error::invalid_input(format!(
        "setting preset knob `{key}`: there is no such knob; known are {}",
        known.join(", ")
    ))
}

fn parse_text(value: &str) -> Result<String, &'static str> {
    if value.len() > 1024 {
        return Err("a text of at most 1024 bytes");
    }
    Ok(value.to_owned())
}

fn parse_flag(value: &str) -> Result<bool, &'static str> {
    value.parse().map_err(|_| "true or false")
}

fn parse_max_length(value: &str) -> Result<usize, &'static str> {
    // Below 4 a special token at each end leaves next to nothing of the text.
    match value.parse() {
        Ok(length) if (4..=MAX_LENGTH_LIMIT).contains(&length) => Ok(length),
        _ => Err("a whole number from 4 to 32768"),
    }
}

fn parse_top_k(value: &str) -> Result<Option<usize>, &'static str> {
    match value.parse() {
        Ok(k) if k > 0 => Ok(Some(k)),
        _ if value == "none" => Ok(None),
        _ => Err("a whole number of at least 1, or none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_changes_the_hash() {
        let base = Preset::laconic();
        for (key, value) in [
            ("query_prefix", "q"),
            ("document_prefix", "d"),
            ("title_separator", "\n"),
            ("empty_title_space", "true"),
            ("add_bos", "true"),
            ("add_eos", "true"),
            ("max_length", "257"),
            ("top_k", "none"),
        ] {
            let mut changed = base.clone();
            changed.set(key, value).unwrap();
            assert_ne!(changed.hash(), base.hash(), "{key}");
            let shown: Vec<_> = changed.values().filter(|(name, _)| *name == key).collect();
            assert_eq!(shown, [(key, value.to_owned())]);
        }
        assert_eq!(Preset::knobs().count(), 8, "a new knob needs a line above");
    }

    /// Indexes remember this hash: it may change only with the list of knobs.
    #[test]
    fn the_hash_of_the_laconic_preset_is_pinned() {
        assert_eq!(Preset::laconic().hash(), "e6a9d5a43b685c183ddb3385b65ab584");
    }

    #[test]
    fn moving_text_between_knobs_changes_the_hash() {
        let mut left = Preset::laconic();
        left.set("query_prefix", "a\"\ndocument_prefix=\"b")
            .unwrap();
        let mut right = Preset::laconic();
        right.set("query_prefix", "a").unwrap();
        right.set("document_prefix", "b").unwrap();
        assert_ne!(left.hash(), right.hash());
    }

    #[test]
    fn unknown_knobs_are_refused_with_the_list() {
        let error = Preset::laconic().set("topk", "1").unwrap_err();
        assert!(error.is_invalid_input());
        assert!(
            error.to_string().contains("query_prefix, document_prefix"),
            "{error}"
        );
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (key, value) in [
            ("top_k", "0"),
            ("top_k", "-1"),
            ("top_k", "None"),
            ("max_length", "0"),
            ("max_length", "3"),
            ("max_length", "32769"),
            ("max_length", "9223372036854775808"),
            ("add_bos", "yes"),
        ] {
            let error = Preset::laconic().set(key, value).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn a_side_file_overrides_by_json_type() {
        let mut preset = Preset::laconic();
        preset
            .apply_side_file(
                br#"{"top_k": null, "max_length": 128, "add_bos": true, "query_prefix": ""}"#,
            )
            .unwrap();
        assert_eq!((preset.top_k(), preset.max_length()), (None, 128));
        assert!(preset.add_bos() && preset.query_prefix().is_empty());
        for bad in [
            &b"[]"[..],
            b"{",
            br#"{"top_k": []}"#,
            br#"{"pool": "max"}"#,
            b"\xff",
        ] {
            let error = preset.clone().apply_side_file(bad).unwrap_err();
            assert!(error.to_string().contains("laconic.json"), "{error}");
        }
    }
}
