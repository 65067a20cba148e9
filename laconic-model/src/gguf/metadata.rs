//! Metadata of a GGUF file and the config they stand for.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::header::Gguf;
use super::names::ROPE_FREQS;
use super::reader::Value;
use crate::config::Config;
use crate::error::Error;
use crate::rope::scaling_factors;
use crate::weights::{EMBEDDING, LM_HEAD};

/// Ours: the `config.json` that the file was made of, for what llama.cpp has no keys for.
pub(super) const CONFIG: &str = "laconic.config";
/// Ours: knobs of the preset, as in `laconic.json`.
pub(super) const PRESET: &str = "laconic.preset";

/// What JSON holds of `config.json`, by key of the metadata.
const FIELDS: [(&str, &str); 10] = [
    ("llama.embedding_length", "hidden_size"),
    ("llama.feed_forward_length", "intermediate_size"),
    ("llama.block_count", "num_hidden_layers"),
    ("llama.attention.head_count", "num_attention_heads"),
    ("llama.attention.head_count_kv", "num_key_value_heads"),
    ("llama.attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("llama.context_length", "max_position_embeddings"),
    ("llama.rope.freq_base", "rope_theta"),
    ("tokenizer.ggml.bos_token_id", "bos_token_id"),
    ("tokenizer.ggml.eos_token_id", "eos_token_id"),
];

impl Gguf {
    /// The config, with the ranges of `config.json`; `factors` is the tensor of rope frequencies.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        self.check_kind()?;
        let mut stated = self.parse(&self.stated()?.to_string())?;
        let factors = self.rope_factors(&stated)?;
        let Some(Value::Text(text)) = self.metadata.get(CONFIG) else {
            stated.rope.factors = factors;
            return Ok(stated);
        };
        let config = self.parse(text)?;
        if !is_same_network(&config, &stated) {
            return Err(self.damaged(format!("{CONFIG} and the keys of llama disagree")));
        }
        let implied = scaling_factors(&config);
        let is_near = |(a, b): (&f32, &f32)| (a / b - 1.0).abs() < 1e-4;
        let agrees = match (&factors, &implied) {
            (Some(ours), Some(implied)) => ours.iter().zip(implied).all(is_near),
            (None, None) => true,
            _ => false,
        };
        match agrees {
            true => Ok(config),
            false => Err(self.damaged(format!("{CONFIG} and {ROPE_FREQS} disagree"))),
        }
    }

    /// Knobs of the preset, if the file has any.
    pub(crate) fn preset(&self) -> Option<&str> {
        self.text(PRESET)
    }

    /// The `config.json` that the file was made of, if it says so.
    pub(crate) fn config_json(&self) -> Option<&str> {
        self.text(CONFIG)
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn check_kind(&self) -> Result<(), Error> {
        let unsupported = |key: &str, runs: &str| {
            Err(Error::unsupported(format!(
                "reading {}: {key} is {:?}, and this encoder runs only {runs}; load another \
                 checkpoint",
                self.name,
                self.metadata.get(key)
            )))
        };
        if self.text("general.architecture") != Some("llama") {
            return unsupported("general.architecture", "llama");
        }
        let scaling = "llama.rope.scaling.type";
        if self.metadata.contains_key(scaling) && self.text(scaling) != Some("none") {
            return unsupported(scaling, "rope_freqs.weight or none");
        }
        for key in ["split.count", "llama.expert_count"] {
            if !matches!(self.metadata.get(key), None | Some(Value::Unsigned(0 | 1))) {
                return unsupported(key, "single files of one network (0 or 1)");
            }
        }
        Ok(())
    }

    fn parse(&self, text: &str) -> Result<Config, Error> {
        Config::parse(text.as_bytes()).map_err(|error| {
            let message = format!(
                "reading {}, its metadata as config.json: {error}",
                self.name
            );
            let wrapped = match error.is_unsupported() {
                true => Error::unsupported(message),
                false => Error::corrupt(message),
            };
            wrapped.with_source(error)
        })
    }

    /// The keys of llama as `config.json` has them.
    fn stated(&self) -> Result<serde_json::Value, Error> {
        let mut map = Map::new();
        map.insert("model_type".to_owned(), json!("llama"));
        for (key, field) in FIELDS {
            if let Some(value) = self.metadata.get(key) {
                map.insert(field.to_owned(), as_json(value));
            }
        }
        let head = "num_attention_heads";
        if !map.contains_key("num_key_value_heads") {
            map.insert("num_key_value_heads".to_owned(), map[head].clone());
        }
        // llama.cpp's own default.
        map.entry("rope_theta").or_insert(json!(10_000.0));
        let widths = [
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
        ];
        let widths = widths.map(|key| self.metadata.get(&format!("llama.{key}")));
        let mut stated = widths.into_iter().flatten();
        if let Some(first) = stated.next() {
            if stated.any(|width| width != first) {
                return Err(self.damaged("key, value and rope lengths of llama differ"));
            }
            map.insert("head_dim".to_owned(), as_json(first));
        }
        let shape = |name: &str| {
            let name = super::names::to_gguf(name)?;
            let tensor = self.tensors.iter().find(|tensor| tensor.name == name)?;
            tensor.shape.first().copied()
        };
        map.insert("vocab_size".to_owned(), json!(shape(EMBEDDING)));
        map.insert(
            "tie_word_embeddings".to_owned(),
            json!(shape(LM_HEAD).is_none()),
        );
        Ok(serde_json::Value::Object(map))
    }

    /// The tensor of rope frequencies, one for each pair of channels.
    fn rope_factors(&self, config: &Config) -> Result<Option<Vec<f32>>, Error> {
        let found = self.tensors.iter().find(|tensor| tensor.name == ROPE_FREQS);
        let Some(info) = found else { return Ok(None) };
        if info.shape != [config.head_dim / 2] || info.kind != super::TensorType::F32 {
            return Err(self.damaged(format!(
                "{ROPE_FREQS} is {:?} of shape {:?}, expected F32 of {}",
                info.kind,
                info.shape,
                config.head_dim / 2
            )));
        }
        let factors = self.read_floats(info)?;
        match factors.iter().all(|factor| (1e-3..=1e6).contains(factor)) {
            true => Ok(Some(factors)),
            false => Err(self.damaged(format!("{ROPE_FREQS} has factors beyond 0.001 to 10^6"))),
        }
    }

    pub(super) fn damaged(&self, why: impl std::fmt::Display) -> Error {
        super::reader::damaged(&self.name, why)
    }
}

/// Whether both have the same shape; `stated` knows numbers as f32.
fn is_same_network(config: &Config, stated: &Config) -> bool {
    let mut narrowed = config.clone();
    narrowed.rope.scaling = None;
    narrowed.rope.theta = stated.rope.theta;
    (config.rope.theta / stated.rope.theta - 1.0).abs() < 1e-6 && narrowed == *stated
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Unsigned(value) => json!(value),
        Value::Signed(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::Flag(value) => json!(value),
        Value::Text(value) => json!(value),
        Value::Array(len) => json!(vec![*len]),
    }
}

/// Metadata to be written, in order, with their types.
pub(super) enum Entry {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
}

/// What a reader of llama.cpp's Llama needs to know, and our own keys.
pub(super) fn entries(
    config: &Config,
    name: &str,
    config_json: Option<&str>,
    preset_json: Option<&str>,
    file_type: u32,
) -> BTreeMap<String, Entry> {
    let count = |value: usize| Entry::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let mut all = BTreeMap::new();
    let mut add = |key: &str, entry: Entry| {
        all.insert(key.to_owned(), entry);
    };
    add("general.architecture", Entry::Text("llama".to_owned()));
    add("general.name", Entry::Text(name.to_owned()));
    add("general.file_type", Entry::U32(file_type));
    add("general.quantization_version", Entry::U32(2));
    add("llama.vocab_size", count(config.vocab_size));
    add("llama.embedding_length", count(config.hidden_size));
    add("llama.feed_forward_length", count(config.intermediate_size));
    add("llama.block_count", count(config.n_layers));
    add("llama.attention.head_count", count(config.n_heads));
    add("llama.attention.head_count_kv", count(config.n_kv_heads));
    add("llama.attention.key_length", count(config.head_dim));
    add("llama.attention.value_length", count(config.head_dim));
    add("llama.rope.dimension_count", count(config.head_dim));
    add(
        "llama.attention.layer_norm_rms_epsilon",
        Entry::F32(config.rms_norm_eps),
    );
    add("llama.attention.causal", Entry::Flag(false));
    add("llama.context_length", count(config.max_positions));
    add(
        "llama.rope.freq_base",
        Entry::F32(narrow(config.rope.theta)),
    );
    for (key, id) in [("bos", config.bos_id), ("eos", config.eos_id)] {
        if let Some(id) = id {
            add(&format!("tokenizer.ggml.{key}_token_id"), Entry::U32(id));
        }
    }
    // The tokenizer stays in tokenizer.json, beside the file.
    add("tokenizer.ggml.model", Entry::Text("none".to_owned()));
    for (key, json) in [(CONFIG, config_json), (PRESET, preset_json)] {
        if let Some(json) = json {
            add(key, Entry::Text(json.to_owned()));
        }
    }
    all
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}
