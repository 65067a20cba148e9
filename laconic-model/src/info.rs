//! What a checkpoint's folder holds, without loading its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::family::Family;
use crate::folder::{Fingerprint, Folder};
use crate::matmul::packed_bytes;
use crate::options::{LoadOptions, WeightFormat};
use crate::parts::{CONFIG, Parts, TOKENIZER, model_id};
use crate::preset::{Preset, SIDE_FILE};
use crate::weights::{Expected, Stored};

/// Files beside weights that may decide what a model computes.
const FILES: [&str; 10] = [
    CONFIG,
    TOKENIZER,
    "vocab.txt",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "router_config.json",
    "model.safetensors.index.json",
    SIDE_FILE,
];

/// A checkpoint's folder, checked as [`Encoder::load`](crate::Encoder::load) checks it except for
/// weights that are not finite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The family of the network, as `model_type` of `config.json` names it.
    pub family: String,
    /// Sizes of the network, by the names of its `config.json`.
    pub shape: Vec<(&'static str, usize)>,
    /// Numbers in all tensors of the network.
    pub n_parameters: u64,
    /// How many of them the files hold in each type, such as `F32` or `BF16`.
    pub stored_as: BTreeMap<String, u64>,
    /// Entries of the tokenizer's vocabulary.
    pub n_terms: usize,
    /// The tokens that come before and after a text.
    pub special_tokens: [Option<String>; 2],
    /// How queries are encoded.
    pub queries: QueryEncoding,
    /// The preset in force.
    pub preset: Preset,
    /// The files that were read, by their paths in the folder.
    pub files: Vec<FileInfo>,
    /// What [`Encoder::fingerprint`](crate::Encoder::fingerprint) will be.
    pub fingerprint: String,
    /// What [`Encoder::model_id`](crate::Encoder::model_id) will be.
    pub model_id: String,
    /// Bytes that the weights will take in memory, in each format.
    pub memory: Vec<(WeightFormat, u64)>,
}

/// How queries become vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryEncoding {
    /// By the network, as documents.
    Network,
    /// By looking up their tokens in a table of `n_terms` weights.
    Table {
        /// Tokens that have a weight.
        n_terms: usize,
    },
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct FileInfo {
    /// Path in the folder, with `/` between names.
    pub path: String,
    /// Length in bytes.
    pub n_bytes: u64,
}

impl ModelInfo {
    /// Reads a folder. The weights are read once, to hash them, and not kept.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`](crate::Encoder::load).
    pub fn read(folder: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(folder.as_ref())?;
        let (folder, name) = (checkpoint.folder().clone(), checkpoint.name().to_owned());
        let mut fingerprint = Fingerprint::new();
        let parts = Parts::open(&checkpoint, options, &mut fingerprint)?;
        let stored = checkpoint.inspect(&parts, &mut fingerprint)?;
        let fingerprint = fingerprint.finish();
        let term = |id: Option<u32>| {
            id.and_then(|id| parts.tokenizer.term(id))
                .map(str::to_owned)
        };
        let mut stored_as = BTreeMap::new();
        for tensor in &stored {
            *stored_as.entry(tensor.dtype.clone()).or_insert(0) += count(&tensor.tensor);
        }
        let formats = WeightFormat::MADE;
        let memory = |format| {
            let tensors = stored.iter().map(|stored| &stored.tensor);
            (format, tensors.map(|tensor| memory(tensor, format)).sum())
        };
        Ok(Self {
            family: parts.family.name().to_owned(),
            shape: shape(&parts.family),
            n_parameters: stored.iter().map(|stored| count(&stored.tensor)).sum(),
            stored_as,
            n_terms: parts.tokenizer.has_term().filter(|has| *has).count(),
            special_tokens: [term(parts.specials.bos), term(parts.specials.eos)],
            queries: match &parts.query_table {
                None => QueryEncoding::Network,
                Some(table) => QueryEncoding::Table {
                    n_terms: table.n_terms(),
                },
            },
            files: files(&folder, &parts, &stored)?,
            model_id: model_id(&name, &fingerprint),
            fingerprint,
            preset: parts.preset,
            memory: formats.map(memory).to_vec(),
        })
    }
}

fn shape(family: &Family) -> Vec<(&'static str, usize)> {
    match family {
        Family::Llama(config) => vec![
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("num_hidden_layers", config.n_layers),
            ("num_attention_heads", config.n_heads),
            ("num_key_value_heads", config.n_kv_heads),
            ("head_dim", config.head_dim),
            ("max_position_embeddings", config.max_positions),
        ],
        Family::Bert(config) => vec![
            ("vocab_size", config.vocab_size),
            (config.names.hidden, config.hidden_size),
            (config.names.inner, config.intermediate_size),
            (config.names.layers, config.n_layers),
            (config.names.heads, config.n_heads),
            ("max_position_embeddings", config.max_positions),
        ],
    }
}

fn count(tensor: &Expected) -> u64 {
    u64::try_from(tensor.n_elements()).unwrap_or(u64::MAX)
}

/// Bytes of a tensor once it is packed; matrices have whole groups of outputs.
fn memory(tensor: &Expected, format: WeightFormat) -> u64 {
    let (Some(inputs), Some((_, outputs))) = (tensor.inputs(), tensor.dims.first()) else {
        return 4 * count(tensor);
    };
    let n_bytes = packed_bytes(format, *outputs, inputs);
    u64::try_from(n_bytes).unwrap_or(u64::MAX)
}

fn files(root: &Folder, parts: &Parts, stored: &[Stored]) -> Result<Vec<FileInfo>, Error> {
    let layout = &parts.layout;
    let mut files = BTreeSet::new();
    let mut add = |folder: &Folder, name: &str| -> Result<(), Error> {
        if let Some(file) = folder.file(name)? {
            let within = folder.path().strip_prefix(root.path()).ok();
            let within = within.map(|path| path.to_string_lossy().into_owned());
            let path = match within.filter(|path| !path.is_empty()) {
                None => name.to_owned(),
                Some(within) => format!("{within}/{name}"),
            };
            let n_bytes = file.len;
            files.insert(FileInfo { path, n_bytes });
        }
        Ok(())
    };
    for name in FILES {
        add(root, name)?;
        add(&layout.network, name)?;
    }
    for tensor in stored {
        add(&layout.network, &tensor.shard)?;
    }
    if let Some(table) = &layout.query_table {
        add(&table.folder, &table.name)?;
        add(&table.folder, TOKENIZER)?;
    }
    Ok(files.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Architecture, Weights};

    /// Widths that are no multiples of anything.
    #[test]
    fn memory_is_what_packing_takes() {
        let family = Family::parse(
            br#"{"model_type": "bert", "vocab_size": 41, "hidden_size": 134, "type_vocab_size": 2,
            "intermediate_size": 261, "num_hidden_layers": 1, "num_attention_heads": 2,
            "max_position_embeddings": 16, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}"#,
        )
        .unwrap();
        for format in [WeightFormat::F32, WeightFormat::Int8] {
            let weights =
                Weights::generate(&family, format, |tensor| vec![0.5; tensor.n_elements()]);
            let expected: u64 = family.manifest().iter().map(|t| memory(t, format)).sum();
            assert_eq!(
                u64::try_from(weights.n_bytes()).unwrap(),
                expected,
                "{format:?}"
            );
        }
    }
}
