//! What a checkpoint family needs around its network: prefixes, special
//! tokens, truncation, cut. Data, not code paths.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::Error;
use crate::saturation::Saturation;
use crate::text::Text;

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
    pooling: Pooling,
    saturation: Saturation,
    drop_specials: bool,
    query_max_length: Option<usize>,
}

/// What becomes of a token's logits over the positions of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The largest, saturated.
    #[default]
    Max,
    /// The sum of all, each saturated.
    Sum,
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
            pooling: Pooling::Max,
            saturation: Saturation::Once,
            drop_specials: false,
            query_max_length: None,
        }
    }

    /// SPLADE (v2, ++, v3) and other encoders on BERT or DistilBERT: no prefixes, `[CLS]` and
    /// `[SEP]` around a text, 512 tokens, all weights.
    ///
    /// A folder of these families has this preset, with its own truncation length, unless
    /// [`LoadOptions::preset`](crate::LoadOptions::preset) names one.
    pub fn splade() -> Self {
        Self {
            name: "splade".to_owned(),
            query_prefix: String::new(),
            document_prefix: String::new(),
            add_bos: true,
            add_eos: true,
            max_length: 512,
            top_k: None,
            ..Self::laconic()
        }
    }

    /// The sparse encoders of OpenSearch, as their model cards encode: [`Preset::splade`], and
    /// special tokens have no weight.
    ///
    /// A folder of BERT or DistilBERT with `idf.json` or `query_token_weights.txt`, and without
    /// `modules.json`, has this preset. From their third version on these models need
    /// `saturations` to be 2, which only `modules.json` says.
    pub fn opensearch() -> Self {
        Self {
            name: "opensearch".to_owned(),
            drop_specials: true,
            ..Self::splade()
        }
    }

    /// What a `SparseEncoder` of sentence-transformers begins with; its files say the rest.
    pub(crate) fn sparse_encoder() -> Self {
        Self {
            name: "sparse-encoder".to_owned(),
            ..Self::splade()
        }
    }

    /// The preset of a name: `laconic`, `splade` or `opensearch`.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn named(name: &str) -> Result<Self, Error> {
        let known = [Self::laconic(), Self::splade(), Self::opensearch()];
        let names = known.each_ref().map(|preset| preset.name.clone());
        let named = known.into_iter().find(|preset| preset.name == name);
        named.ok_or_else(|| {
            Error::invalid_input(format!(
                "choosing preset {name:?}: there is no such preset; known are {}",
                names.join(", ")
            ))
        })
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
    /// Stable across releases: knobs that were added later count only when
    /// they are set to something new. The name is left out, since it changes
    /// no vector.
    pub fn hash(&self) -> String {
        let mut text = String::new();
        for (knob, (key, value)) in KNOBS.iter().zip(self.values()) {
            // JSON's quoting, unlike Rust's, is the same in every release.
            if knob.silent != Some(value.as_str()) {
                text.push_str(&format!("{key}={}\n", Value::from(value)));
            }
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

    /// Tokens kept of a query, if not as many as of a document.
    pub fn query_max_length(&self) -> Option<usize> {
        self.query_max_length
    }

    /// Tokens kept of this text.
    pub(crate) fn max_length_of(&self, text: Text<'_>) -> usize {
        match text {
            Text::Query(_) => self.query_max_length.unwrap_or(self.max_length),
            Text::Document { .. } => self.max_length,
        }
    }

    pub(crate) fn pooling(&self) -> Pooling {
        self.pooling
    }

    pub(crate) fn saturation(&self) -> Saturation {
        self.saturation
    }

    /// Whether special tokens of the vocabulary are no terms.
    pub(crate) fn drop_specials(&self) -> bool {
        self.drop_specials
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
            Value::Null if ["top_k", "query_max_length"].contains(&key) => self.set(key, "none"),
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
    /// The value that is left out of the hash, of a knob that older releases did not have.
    silent: Option<&'static str>,
    show: fn(&Preset) -> String,
    set: fn(&mut Preset, &str) -> Result<(), &'static str>,
}

const KNOBS: &[Knob] = &[
    Knob {
        key: "query_prefix",
        meaning: "text before every query",
        silent: None,
        show: |preset| preset.query_prefix.clone(),
        set: |preset, value| parse_text(value).map(|v| preset.query_prefix = v),
    },
    Knob {
        key: "document_prefix",
        meaning: "text before every document, before its title",
        silent: None,
        show: |preset| preset.document_prefix.clone(),
        set: |preset, value| parse_text(value).map(|v| preset.document_prefix = v),
    },
    Knob {
        key: "title_separator",
        meaning: "text between a document's title and body",
        silent: None,
        show: |preset| preset.title_separator.clone(),
        set: |preset, value| parse_text(value).map(|v| preset.title_separator = v),
    },
    Knob {
        key: "empty_title_space",
        meaning: "true or false: an empty-string title still puts the separator before the body",
        silent: None,
        show: |preset| preset.empty_title_space.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.empty_title_space = v),
    },
    Knob {
        key: "add_bos",
        meaning: "true or false: the beginning-of-text token comes first",
        silent: None,
        show: |preset| preset.add_bos.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.add_bos = v),
    },
    Knob {
        key: "add_eos",
        meaning: "true or false: the end-of-text token comes last",
        silent: None,
        show: |preset| preset.add_eos.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.add_eos = v),
    },
    Knob {
        key: "max_length",
        meaning: "tokens kept of a text, prefix included: 4 to 32768",
        silent: None,
        show: |preset| preset.max_length.to_string(),
        set: |preset, value| parse_max_length(value).map(|v| preset.max_length = v),
    },
    Knob {
        key: "top_k",
        meaning: "largest term weights kept: 1 or more, or none for all",
        silent: None,
        show: |preset| shown_limit(preset.top_k),
        set: |preset, value| parse_top_k(value).map(|v| preset.top_k = v),
    },
    Knob {
        key: "pooling",
        meaning: "max or sum: what becomes of a term's logits over the positions of a text",
        silent: Some("max"),
        show: |preset| match preset.pooling {
            Pooling::Max => "max".to_owned(),
            Pooling::Sum => "sum".to_owned(),
        },
        set: |preset, value| parse_pooling(value).map(|v| preset.pooling = v),
    },
    Knob {
        key: "saturations",
        meaning: "1 or 2: how often log(1 + x) is applied to a logit",
        silent: Some("1"),
        show: |preset| match preset.saturation {
            Saturation::Once => "1".to_owned(),
            Saturation::Twice => "2".to_owned(),
        },
        set: |preset, value| parse_saturation(value).map(|v| preset.saturation = v),
    },
    Knob {
        key: "drop_specials",
        meaning: "true or false: special tokens of the vocabulary have no weight",
        silent: Some("false"),
        show: |preset| preset.drop_specials.to_string(),
        set: |preset, value| parse_flag(value).map(|v| preset.drop_specials = v),
    },
    Knob {
        key: "query_max_length",
        meaning: "tokens kept of a query: 4 to 32768, or none for as many as of a document",
        silent: Some("none"),
        show: |preset| shown_limit(preset.query_max_length),
        set: |preset, value| match value {
            "none" => {
                preset.query_max_length = None;
                Ok(())
            }
            _ => parse_max_length(value).map(|v| preset.query_max_length = Some(v)),
        },
    },
];

fn shown_limit(limit: Option<usize>) -> String {
    limit.map_or("none".to_owned(), |limit| limit.to_string())
}

fn parse_pooling(value: &str) -> Result<Pooling, &'static str> {
    match value {
        "max" => Ok(Pooling::Max),
        "sum" => Ok(Pooling::Sum),
        _ => Err("max or sum"),
    }
}

fn parse_saturation(value: &str) -> Result<Saturation, &'static str> {
    match value {
        "1" => Ok(Saturation::Once),
        "2" => Ok(Saturation::Twice),
        _ => Err("1 or 2"),
    }
}

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
            ("pooling", "sum"),
            ("saturations", "2"),
            ("drop_specials", "true"),
            ("query_max_length", "32"),
        ] {
            let mut changed = base.clone();
            changed.set(key, value).unwrap();
            assert_ne!(changed.hash(), base.hash(), "{key}");
            let shown: Vec<_> = changed.values().filter(|(name, _)| *name == key).collect();
            assert_eq!(shown, [(key, value.to_owned())]);
        }
        assert_eq!(Preset::knobs().count(), 12, "a new knob needs a line above");
    }

    /// Indexes remember this hash: it may not change.
    #[test]
    fn the_hash_of_the_laconic_preset_is_pinned() {
        assert_eq!(Preset::laconic().hash(), "e6a9d5a43b685c183ddb3385b65ab584");
    }

    #[test]
    fn presets_have_names() {
        for preset in [Preset::laconic(), Preset::splade(), Preset::opensearch()] {
            assert_eq!(Preset::named(preset.name()).unwrap(), preset);
        }
        let error = Preset::named("spladee").unwrap_err();
        assert!(error.to_string().contains("laconic, splade, opensearch"));
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
            ("pooling", "mean"),
            ("saturations", "3"),
            ("query_max_length", "0"),
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
