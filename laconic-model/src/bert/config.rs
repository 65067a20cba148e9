//! `config.json` of the BERT families.

use serde_json::{Map, Value};

use crate::bert::activation::Activation;
use crate::bert::names::{BERT, DISTILBERT, Names};
use crate::config::{Fields, narrow};
use crate::error::Error;

/// The shape of a BERT or DistilBERT network, as its `config.json` states it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BertConfig {
    pub(crate) names: &'static Names,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) n_layers: usize,
    pub(crate) n_heads: usize,
    pub(crate) max_positions: usize,
    /// Rows of the token type embedding; DistilBERT has none.
    pub(crate) n_token_types: usize,
    pub(crate) norm_eps: f32,
    pub(crate) activation: Activation,
    /// Whether the output matrix is the embedding, unless the checkpoint holds another.
    pub(crate) is_tied: bool,
}

impl BertConfig {
    /// Reads the fields of a `config.json` whose `model_type` is `bert`.
    ///
    /// Fields that would change the network are refused by name.
    pub(crate) fn bert(map: &Map<String, Value>) -> Result<Self, Error> {
        let fields = Fields { map, within: "" };
        refuse_other_networks(&fields, "BertForMaskedLM")?;
        if fields.present("position_embedding_type").is_some() {
            fields.only("position_embedding_type", "absolute")?;
        }
        Self {
            names: &BERT,
            vocab_size: fields.integer("vocab_size", 1..=1 << 20)?,
            hidden_size: fields.integer("hidden_size", 1..=1 << 16)?,
            intermediate_size: fields.integer("intermediate_size", 1..=1 << 19)?,
            n_layers: fields.integer("num_hidden_layers", 1..=512)?,
            n_heads: fields.integer("num_attention_heads", 1..=1024)?,
            max_positions: fields.integer("max_position_embeddings", 1..=1 << 24)?,
            n_token_types: fields.integer("type_vocab_size", 1..=1 << 16)?,
            norm_eps: narrow(fields.number("layer_norm_eps", 1e-15..=0.1)?),
            activation: Activation::from_field(&fields, "hidden_act")?,
            is_tied: is_tied(&fields)?,
        }
        .checked(&fields)
    }

    /// As [`bert`](Self::bert), for `distilbert`.
    pub(crate) fn distilbert(map: &Map<String, Value>) -> Result<Self, Error> {
        let fields = Fields { map, within: "" };
        refuse_other_networks(&fields, "DistilBertForMaskedLM")?;
        Self {
            names: &DISTILBERT,
            vocab_size: fields.integer("vocab_size", 1..=1 << 20)?,
            hidden_size: fields.integer("dim", 1..=1 << 16)?,
            intermediate_size: fields.integer("hidden_dim", 1..=1 << 19)?,
            n_layers: fields.integer("n_layers", 1..=512)?,
            n_heads: fields.integer("n_heads", 1..=1024)?,
            max_positions: fields.integer("max_position_embeddings", 1..=1 << 24)?,
            n_token_types: 0,
            // Not in the config: transformers has it in the code.
            norm_eps: 1e-12,
            activation: Activation::from_field(&fields, "activation")?,
            is_tied: is_tied(&fields)?,
        }
        .checked(&fields)
    }

    fn checked(self, fields: &Fields<'_>) -> Result<Self, Error> {
        let width = self.hidden_size / self.n_heads;
        if self.hidden_size.is_multiple_of(self.n_heads) && width <= 512 {
            return Ok(self);
        }
        let value = Value::from(self.n_heads);
        let expected = format!(
            "a divisor of `{}` ({}) that leaves heads of at most 512",
            self.names.hidden, self.hidden_size
        );
        Err(fields.refuse(self.names.heads, &value, expected))
    }
}

/// Refuses what would make another network of the same tensors, or names none that is a masked
/// language model.
fn refuse_other_networks(fields: &Fields<'_>, architecture: &str) -> Result<(), Error> {
    for key in [
        "is_decoder",
        "add_cross_attention",
        "chunk_size_feed_forward",
    ] {
        match fields.present(key) {
            None | Some(Value::Bool(false)) => {}
            Some(value) if value.as_u64() == Some(0) => {}
            Some(value) => return Err(fields.unsupported(key, value, "false")),
        }
    }
    if let Some(value) = fields.present("quantization_config") {
        return Err(fields.unsupported("quantization_config", value, "f32, f16 or bf16 weights"));
    }
    match fields.present("architectures") {
        Some(Value::Array(names)) if !names.iter().any(|name| name == architecture) => {
            let value = Value::Array(names.clone());
            Err(fields.unsupported("architectures", &value, format!("`{architecture}`")))
        }
        _ => Ok(()),
    }
}

/// True when absent, as transformers has it.
fn is_tied(fields: &Fields<'_>) -> Result<bool, Error> {
    match fields.present("tie_word_embeddings") {
        None => Ok(true),
        Some(_) => fields.flag("tie_word_embeddings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bert() -> Value {
        json!({
            "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 300,
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 64, "type_vocab_size": 2,
            "layer_norm_eps": 1e-12, "hidden_act": "gelu"
        })
    }

    fn parse(config: &Value) -> Result<BertConfig, Error> {
        BertConfig::bert(config.as_object().unwrap())
    }

    #[test]
    fn every_field_has_a_range() {
        assert!(parse(&bert()).unwrap().is_tied);
        for (key, value) in [
            ("vocab_size", json!(0)),
            ("hidden_size", json!(1_u64 << 40)),
            ("hidden_size", json!(33)),
            ("intermediate_size", json!(-1)),
            ("num_hidden_layers", json!(1e9)),
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(3)),
            ("max_position_embeddings", json!("64")),
            ("type_vocab_size", json!(0)),
            ("layer_norm_eps", json!(0.0)),
            ("tie_word_embeddings", json!(1)),
        ] {
            let mut config = bert();
            config[key] = value;
            let error = parse(&config).unwrap_err();
            let names_it = error.to_string().contains(key);
            assert!(error.is_corrupt(), "{error}");
            assert!(names_it || error.to_string().contains("num_attention_heads"));
        }
    }

    #[test]
    fn other_networks_are_refused_by_name() {
        for (key, value) in [
            ("hidden_act", json!("mish")),
            ("position_embedding_type", json!("relative_key")),
            ("is_decoder", json!(true)),
            ("add_cross_attention", json!(true)),
            ("architectures", json!(["BertForSequenceClassification"])),
            ("quantization_config", json!({"bits": 4})),
        ] {
            let mut config = bert();
            config[key] = value;
            let error = parse(&config).unwrap_err();
            assert!(
                error.is_unsupported() && error.to_string().contains(key),
                "{error}"
            );
        }
    }
}
