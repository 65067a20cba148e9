//! `config.json`: the numbers of the network, each checked against a range
//! before anything is sized by it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::Error;

/// The shape of a Llama network, as its `config.json` states it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) n_layers: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rms_norm_eps: f32,
    pub(crate) max_positions: usize,
    pub(crate) rope: Rope,
    pub(crate) is_tied: bool,
    pub(crate) bos_id: Option<u32>,
    pub(crate) eos_id: Option<u32>,
}

/// Rotary embedding: base and, for Llama 3.1 and later, its scaling.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    pub(crate) theta: f64,
    pub(crate) scaling: Option<Llama3Scaling>,
    /// What inverse frequencies are divided by, where a file states that instead of `scaling`.
    pub(crate) factors: Option<Vec<f32>>,
}

/// The parameters of `rope_type: llama3`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Llama3Scaling {
    pub(crate) factor: f64,
    pub(crate) low_freq_factor: f64,
    pub(crate) high_freq_factor: f64,
    pub(crate) original_max_positions: f64,
}

impl Config {
    /// Parses the bytes of a `config.json`.
    ///
    /// Unknown fields are ignored, as everywhere in this format; those that
    /// would change the network (biases, other activations, quantized
    /// weights) are refused by name.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_map(&parse_object(bytes)?)
    }

    /// As [`parse`](Self::parse), of an object that was parsed already.
    pub(crate) fn from_map(map: &Map<String, Value>) -> Result<Self, Error> {
        let fields = Fields { map, within: "" };
        refuse_other_networks(&fields)?;
        Self::from_fields(&fields)
    }

    fn from_fields(fields: &Fields<'_>) -> Result<Self, Error> {
        let vocab_size = fields.integer("vocab_size", 1..=1 << 20)?;
        let hidden_size = fields.integer("hidden_size", 1..=1 << 16)?;
        let n_heads = fields.integer("num_attention_heads", 1..=1024)?;
        Ok(Self {
            vocab_size,
            hidden_size,
            intermediate_size: fields.integer("intermediate_size", 1..=1 << 19)?,
            n_layers: fields.integer("num_hidden_layers", 1..=512)?,
            n_heads,
            n_kv_heads: n_kv_heads(fields, n_heads)?,
            head_dim: head_dim(fields, hidden_size, n_heads)?,
            rms_norm_eps: rms_norm_eps(fields)?,
            max_positions: fields.integer("max_position_embeddings", 1..=1 << 24)?,
            rope: Rope::from_fields(fields)?,
            is_tied: fields.flag("tie_word_embeddings")?,
            bos_id: special_id(fields, "bos_token_id", vocab_size)?,
            eos_id: special_id(fields, "eos_token_id", vocab_size)?,
        })
    }

    /// Width of all query heads together.
    pub(crate) fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }
}

impl Rope {
    /// Accepts both spellings: `rope_scaling` with a top-level `rope_theta`
    /// (transformers 4) and `rope_parameters` that holds both (5).
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Error> {
        match (
            fields.object("rope_parameters")?,
            fields.object("rope_scaling")?,
        ) {
            (Some(_), Some(_)) => Err(Error::corrupt(
                "reading config.json: both `rope_parameters` and `rope_scaling` are given, and \
                 they may disagree; keep the one the weights were trained with",
            )),
            (Some(parameters), None) => Self::newer(fields, &parameters),
            (None, Some(scaling)) => Self::older(fields, &scaling),
            (None, None) => Ok(Self {
                theta: theta(fields)?,
                scaling: None,
                factors: None,
            }),
        }
    }

    fn newer(fields: &Fields<'_>, parameters: &Fields<'_>) -> Result<Self, Error> {
        let theta = match (
            parameters.present("rope_theta"),
            fields.present("rope_theta"),
        ) {
            (None, _) => theta(fields)?,
            (Some(inner), Some(outer)) if inner != outer => {
                return Err(fields.refuse("rope_theta", outer, "the value in `rope_parameters`"));
            }
            (Some(_), _) => theta(parameters)?,
        };
        Ok(Self {
            theta,
            scaling: Llama3Scaling::from_fields(parameters)?,
            factors: None,
        })
    }

    fn older(fields: &Fields<'_>, scaling: &Fields<'_>) -> Result<Self, Error> {
        Ok(Self {
            theta: theta(fields)?,
            scaling: Llama3Scaling::from_fields(scaling)?,
            factors: None,
        })
    }
}

impl Llama3Scaling {
    fn from_fields(fields: &Fields<'_>) -> Result<Option<Self>, Error> {
        // transformers read `type` before it was renamed `rope_type`.
        let key = if fields.present("rope_type").is_some() {
            "rope_type"
        } else {
            "type"
        };
        let value = fields
            .present(key)
            .ok_or_else(|| fields.missing("rope_type"))?;
        match value.as_str() {
            Some("default") => Ok(None),
            Some("llama3") => Self::llama3(fields).map(Some),
            _ => Err(fields.unsupported(key, value, "`llama3` or `default`")),
        }
    }

    fn llama3(fields: &Fields<'_>) -> Result<Self, Error> {
        let low_freq_factor = fields.number("low_freq_factor", 1e-3..=1e6)?;
        let high_freq_factor = fields.number("high_freq_factor", 1e-3..=1e6)?;
        if high_freq_factor <= low_freq_factor {
            let value = Value::from(high_freq_factor);
            return Err(fields.refuse("high_freq_factor", &value, "more than `low_freq_factor`"));
        }
        Ok(Self {
            factor: fields.number("factor", 1.0..=1e6)?,
            low_freq_factor,
            high_freq_factor,
            original_max_positions: fields
                .number("original_max_position_embeddings", 1.0..=16_777_216.0)?,
        })
    }
}

/// The JSON object that a `config.json` is.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let value: Value = serde_json::from_slice(bytes).map_err(|source| {
        Error::corrupt(format!("reading config.json: {source}")).with_source(source)
    })?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Error::corrupt(
            "reading config.json: it is not a JSON object",
        )),
    }
}

fn refuse_other_networks(fields: &Fields<'_>) -> Result<(), Error> {
    fields.only("model_type", "llama")?;
    if fields.present("hidden_act").is_some() {
        fields.only("hidden_act", "silu")?;
    }
    for key in ["attention_bias", "mlp_bias"] {
        if fields.flag(key)? {
            return Err(fields.unsupported(key, &Value::Bool(true), "false"));
        }
    }
    if let Some(value) = fields.present("quantization_config") {
        return Err(fields.unsupported("quantization_config", value, "f32, f16 or bf16 weights"));
    }
    match fields.present("partial_rotary_factor") {
        Some(value) if value.as_f64() != Some(1.0) => {
            Err(fields.unsupported("partial_rotary_factor", value, "1"))
        }
        _ => Ok(()),
    }
}

fn n_kv_heads(fields: &Fields<'_>, n_heads: usize) -> Result<usize, Error> {
    let key = "num_key_value_heads";
    let n_kv_heads = fields.integer(key, 1..=1024)?;
    if !n_heads.is_multiple_of(n_kv_heads) {
        let value = Value::from(n_kv_heads);
        return Err(fields.refuse(key, &value, "a divisor of `num_attention_heads`"));
    }
    Ok(n_kv_heads)
}

/// `head_dim` when stated, else hidden size over heads, as transformers does.
fn head_dim(fields: &Fields<'_>, hidden_size: usize, n_heads: usize) -> Result<usize, Error> {
    let key = "head_dim";
    let stated = match fields.present(key) {
        Some(_) => fields.integer(key, 2..=512)?,
        None if !hidden_size.is_multiple_of(n_heads) => return Err(fields.missing(key)),
        None => hidden_size / n_heads,
    };
    if !(2..=512).contains(&stated) || !stated.is_multiple_of(2) {
        let value = Value::from(stated);
        return Err(fields.refuse(key, &value, "an even number from 2 to 512"));
    }
    Ok(stated)
}

fn theta(fields: &Fields<'_>) -> Result<f64, Error> {
    // The frequencies are powers of the base: 1 or less has no meaning.
    fields.number("rope_theta", 1.5..=1e12)
}

fn rms_norm_eps(fields: &Fields<'_>) -> Result<f32, Error> {
    let eps = fields.number("rms_norm_eps", 1e-12..=0.1)?;
    Ok(narrow(eps))
}

/// The nearest `f32` of a number already known to be in its range.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
pub(crate) fn narrow(value: f64) -> f32 {
    value as f32
}

/// A special token's id: absent, one number, or a list whose first counts
/// (Llama 3 instruction checkpoints list several ends of text).
fn special_id(fields: &Fields<'_>, key: &str, vocab_size: usize) -> Result<Option<u32>, Error> {
    let Some(value) = fields.present(key) else {
        return Ok(None);
    };
    let first = match value {
        Value::Array(ids) => ids.first().unwrap_or(value),
        _ => value,
    };
    let expected = "a token id below `vocab_size`";
    let id = first.as_u64().and_then(|id| u32::try_from(id).ok());
    match id {
        Some(id) if usize::try_from(id).is_ok_and(|id| id < vocab_size) => Ok(Some(id)),
        _ => Err(fields.refuse(key, value, expected)),
    }
}

/// A JSON object whose fields are read by name, with errors that name them.
pub(crate) struct Fields<'a> {
    pub(crate) map: &'a Map<String, Value>,
    pub(crate) within: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn present(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, key: &str) -> Result<&'a Value, Error> {
        self.present(key).ok_or_else(|| self.missing(key))
    }

    pub(crate) fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Result<usize, Error> {
        let value = self.required(key)?;
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let number = value.as_u64().filter(|number| range.contains(number));
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.refuse(key, value, expected()))
    }

    pub(crate) fn number(&self, key: &str, range: RangeInclusive<f64>) -> Result<f64, Error> {
        let value = self.required(key)?;
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let number = value.as_f64().filter(|number| range.contains(number));
        number.ok_or_else(|| self.refuse(key, value, expected()))
    }

    /// A boolean that is false when absent, as transformers has it.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Error> {
        match self.present(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.refuse(key, value, "true or false")),
        }
    }

    pub(crate) fn only(&self, key: &str, wanted: &str) -> Result<(), Error> {
        let value = self.required(key)?;
        if value.as_str() == Some(wanted) {
            return Ok(());
        }
        Err(self.unsupported(key, value, format!("`{wanted}`")))
    }

    fn object(&self, key: &'static str) -> Result<Option<Fields<'a>>, Error> {
        match self.present(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields { map, within: key })),
            Some(value) => Err(self.refuse(key, value, "an object")),
        }
    }

    fn path(&self, key: &str) -> String {
        if self.within.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.within)
        }
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::corrupt(format!(
            "reading config.json: `{}` is missing; use the config.json that belongs to the weights",
            self.path(key)
        ))
    }

    pub(crate) fn refuse(&self, key: &str, value: &Value, expected: impl Display) -> Error {
        Error::corrupt(format!(
            "reading config.json: `{}` is {}, expected {expected}; use the config.json that \
             belongs to the weights",
            self.path(key),
            shortened(value)
        ))
    }

    pub(crate) fn unsupported(&self, key: &str, value: &Value, runs: impl Display) -> Error {
        Error::unsupported(format!(
            "reading config.json: `{}` is {}, and this encoder runs only {runs}; load another \
             checkpoint",
            self.path(key),
            shortened(value)
        ))
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 512, "hidden_size": 64,
            "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048,
            "rope_theta": 500000.0, "tie_word_embeddings": true
        })
    }

    fn parse(config: &Value) -> Result<Config, Error> {
        Config::parse(config.to_string().as_bytes())
    }

    fn with(key: &str, value: Value) -> Value {
        let mut config = llama();
        config[key] = value;
        config
    }

    #[test]
    fn head_dim_is_derived_only_when_absent() {
        assert_eq!(parse(&llama()).unwrap().head_dim, 16);
        assert_eq!(parse(&with("head_dim", json!(24))).unwrap().head_dim, 24);
        assert!(parse(&with("head_dim", json!(15))).is_err());
        assert!(parse(&with("hidden_size", json!(66))).is_err());
    }

    #[test]
    fn both_spellings_of_rope_scaling_mean_the_same() {
        let scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64
        });
        let older = parse(&with("rope_scaling", scaling.clone())).unwrap();
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(500000.0);
        let mut config = with("rope_parameters", parameters.clone());
        assert_eq!(parse(&config).unwrap(), older);
        config.as_object_mut().unwrap().remove("rope_theta");
        assert_eq!(parse(&config).unwrap(), older);
        assert_eq!(older.rope.scaling.unwrap().factor, 8.0);
        config["rope_scaling"] = scaling;
        assert!(
            parse(&config)
                .unwrap_err()
                .to_string()
                .contains("rope_scaling")
        );
        let mut clash = with("rope_parameters", parameters);
        clash["rope_theta"] = json!(10000.0);
        assert!(
            parse(&clash)
                .unwrap_err()
                .to_string()
                .contains("rope_theta")
        );
    }

    #[test]
    fn other_networks_are_refused_by_name() {
        for (key, value) in [
            ("model_type", json!("mistral")),
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("mlp_bias", json!(true)),
            ("quantization_config", json!({"bits": 4})),
            ("partial_rotary_factor", json!(0.5)),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 2.0})),
            ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ] {
            let error = parse(&with(key, value)).unwrap_err();
            assert!(
                error.is_unsupported() && error.to_string().contains(key),
                "{error}"
            );
        }
    }

    #[test]
    fn a_list_of_ends_of_text_gives_its_first() {
        let config = parse(&with("eos_token_id", json!([300, 301]))).unwrap();
        assert_eq!((config.eos_id, config.bos_id), (Some(300), None));
        assert!(parse(&with("eos_token_id", json!([]))).is_err());
        assert!(parse(&with("bos_token_id", json!(512))).is_err());
    }

    #[test]
    fn a_huge_value_is_not_echoed_whole() {
        let error = parse(&with("vocab_size", json!("é".repeat(1 << 16)))).unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
    }
}
