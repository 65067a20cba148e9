//! Which family of networks a `config.json` describes.

use serde_json::{Map, Value};

use crate::bert::BertConfig;
use crate::config::{Config, Fields, parse_object};
use crate::error::Error;
use crate::weights::{Architecture, Expected};

/// The config of a network that can be run.
#[derive(Clone, Debug)]
pub(crate) enum Family {
    Llama(Config),
    Bert(BertConfig),
}

impl Family {
    /// Parses the bytes of a `config.json`, and refuses other families by name.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let map = parse_object(bytes)?;
        match model_type(&map)? {
            "llama" => Config::from_map(&map).map(Self::Llama),
            "bert" => BertConfig::bert(&map).map(Self::Bert),
            "distilbert" => BertConfig::distilbert(&map).map(Self::Bert),
            _ => {
                let fields = Fields {
                    map: &map,
                    within: "",
                };
                let key = "model_type";
                let runs = "`llama`, `bert` and `distilbert`";
                Err(fields.unsupported(key, fields.required(key)?, runs))
            }
        }
    }

    /// The config of a Llama; others are refused for the purpose named.
    pub(crate) fn into_llama(self, purpose: &str) -> Result<Config, Error> {
        match self {
            Self::Llama(config) => Ok(config),
            Self::Bert(config) => Err(Error::unsupported(format!(
                "{purpose}: the checkpoint is of the family `{}`, and this works with `llama` only; \
                 name a Llama checkpoint, or make one with `laconic model new`",
                config.names.family
            ))),
        }
    }

    /// As transformers names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Llama(_) => "llama",
            Self::Bert(config) => config.names.family,
        }
    }

    pub(crate) fn vocab_size(&self) -> usize {
        match self {
            Self::Llama(config) => config.vocab_size,
            Self::Bert(config) => config.vocab_size,
        }
    }

    /// Longest text, in tokens, that the network has positions for.
    pub(crate) fn max_positions(&self) -> usize {
        match self {
            Self::Llama(config) => config.max_positions,
            Self::Bert(config) => config.max_positions,
        }
    }

    fn architecture(&self) -> &dyn Architecture {
        match self {
            Self::Llama(config) => config,
            Self::Bert(config) => config,
        }
    }
}

impl Architecture for Family {
    fn manifest(&self) -> Vec<Expected> {
        self.architecture().manifest()
    }

    fn optional(&self) -> Vec<Expected> {
        self.architecture().optional()
    }

    fn renamed(&self, name: &str) -> Option<String> {
        self.architecture().renamed(name)
    }

    fn is_harmless(&self, name: &str) -> bool {
        self.architecture().is_harmless(name)
    }

    fn summary(&self) -> String {
        self.architecture().summary()
    }
}

/// Whether these are the bytes of a Llama's `config.json`.
pub(crate) fn is_llama(bytes: &[u8]) -> bool {
    parse_object(bytes).is_ok_and(|map| model_type(&map).is_ok_and(|name| name == "llama"))
}

fn model_type(map: &Map<String, Value>) -> Result<&str, Error> {
    let fields = Fields { map, within: "" };
    let value = fields.required("model_type")?;
    value
        .as_str()
        .ok_or_else(|| fields.refuse("model_type", value, "a name"))
}
