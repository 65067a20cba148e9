//! The weights of a folder: found, compared with what the config implies, and
//! only then read.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use safetensors::tensor::TensorInfo;
use serde::Deserialize;

use crate::config::Config;
use crate::error::Error;
use crate::folder::{Fingerprint, Folder};
use crate::matmul::Matrix;
use crate::options::WeightFormat;
use crate::shard::{Shard, UniqueMap, is_readable};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const MAX_INDEX: u64 = 16 << 20;
const MAX_SHARDS: usize = 1024;

/// Name of the output projection, absent from tied checkpoints.
pub(crate) const LM_HEAD: &str = "lm_head.weight";
/// Name of the embedding, which is also the head of tied checkpoints.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the last norm.
pub(crate) const NORM: &str = "model.norm.weight";

/// What a family's config implies for the tensors of its checkpoints.
pub(crate) trait Architecture {
    /// Tensors that have to be there.
    fn manifest(&self) -> Vec<Expected>;

    /// Tensors that are read if they are there.
    fn optional(&self) -> Vec<Expected> {
        Vec::new()
    }

    /// The name that a tensor has today, if this is an older one.
    fn renamed(&self, _name: &str) -> Option<String> {
        None
    }

    /// Whether a tensor that the network does not use is known and changes nothing.
    fn is_harmless(&self, name: &str) -> bool;

    /// The fields of the config that decide which tensors there are, for errors.
    fn summary(&self) -> String;
}

impl Architecture for Config {
    fn manifest(&self) -> Vec<Expected> {
        manifest(self)
    }

    /// `…rotary_emb.inv_freq`, which old exporters wrote, and `lm_head.weight` beside a tied
    /// embedding, which is ignored as transformers does.
    fn is_harmless(&self, name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq") || (self.is_tied && name == LM_HEAD)
    }

    fn summary(&self) -> String {
        format!(
            "num_hidden_layers = {}, tie_word_embeddings = {}",
            self.n_layers, self.is_tied
        )
    }
}

/// Every tensor of the network, by its name in the checkpoint.
pub(crate) struct Weights(HashMap<String, Weight>);

/// A tensor, ready to compute with.
pub(crate) enum Weight {
    Vector(Vec<f32>),
    Matrix(Matrix),
}

impl Weights {
    pub(crate) fn new(tensors: HashMap<String, Weight>) -> Self {
        Self(tensors)
    }

    /// Loads the folder's safetensors, one file or sharded. Matrices are packed one by one as they
    /// are read, so that only one is in memory as it lies in the file.
    ///
    /// Names, shapes and types of all tensors are compared with `config`
    /// before any data is read. Tensors the network does not use are refused,
    /// except those that are common and harmless.
    pub(crate) fn load(
        folder: &Folder,
        config: &dyn Architecture,
        format: WeightFormat,
        fingerprint: &mut Fingerprint,
    ) -> Result<Self, Error> {
        let mut tensors = HashMap::new();
        read_each(folder, config, fingerprint, |tensor, values| {
            tensors.insert(tensor.name.clone(), tensor.pack(values, format));
        })?;
        Ok(Self(tensors))
    }

    /// Makes up every tensor of a network.
    pub(crate) fn generate(
        config: &dyn Architecture,
        format: WeightFormat,
        mut values: impl FnMut(&Expected) -> Vec<f32>,
    ) -> Self {
        let tensors = config.manifest().into_iter().map(|tensor| {
            let weight = tensor.pack(values(&tensor), format);
            (tensor.name, weight)
        });
        Self(tensors.collect())
    }

    /// Takes a matrix out.
    pub(crate) fn matrix(&mut self, name: &str) -> Result<Matrix, Error> {
        match self.0.remove(name) {
            Some(Weight::Matrix(matrix)) => Ok(matrix),
            _ => Err(missing(name)),
        }
    }

    /// Whether a tensor is there, and still to be taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes a vector out.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        match self.0.remove(name) {
            Some(Weight::Vector(vector)) => Ok(vector),
            _ => Err(missing(name)),
        }
    }

    /// Bytes that they take in memory.
    #[cfg(test)]
    pub(crate) fn n_bytes(&self) -> usize {
        let bytes = |weight: &Weight| match weight {
            Weight::Vector(vector) => size_of_val(vector.as_slice()),
            Weight::Matrix(matrix) => matrix.n_bytes(),
        };
        self.0.values().map(bytes).sum()
    }

    /// Puts in one of the tensors that may be there.
    #[cfg(test)]
    pub(crate) fn put_vector(&mut self, name: &str, values: Vec<f32>) {
        self.0.insert(name.to_owned(), Weight::Vector(values));
    }

    #[cfg(test)]
    pub(crate) fn from_map(config: &Config, tensors: &HashMap<String, Vec<f32>>) -> Self {
        Self::generate(config, WeightFormat::F32, |tensor| {
            tensors[&tensor.name].clone()
        })
    }
}

/// Checks all tensors against `config`, then hands those of the network over one by one.
pub(crate) fn read_each(
    folder: &Folder,
    config: &dyn Architecture,
    fingerprint: &mut Fingerprint,
    mut accept: impl FnMut(&Expected, Vec<f32>),
) -> Result<(), Error> {
    let shards = open_renamed(folder, config)?;
    let mut expected = config.manifest();
    let optional = check_manifest(&expected, &shards, config)?;
    expected.extend(optional);
    let wanted: HashMap<&str, &Expected> = expected
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    for shard in shards {
        log::debug!("reading {} tensors of {}", shard.tensors.len(), shard.name);
        let is_wanted = |name: &str| wanted.contains_key(name);
        shard.read(fingerprint, is_wanted, |name, values| {
            if let Some(tensor) = wanted.get(name.as_str()) {
                accept(tensor, values);
            }
        })?;
    }
    Ok(())
}

/// A tensor of the network as it lies in a file.
pub(crate) struct Stored {
    pub(crate) tensor: Expected,
    pub(crate) shard: String,
    pub(crate) dtype: String,
}

/// Checks all tensors against `config` and hashes them, without keeping any.
pub(crate) fn inspect(
    folder: &Folder,
    config: &dyn Architecture,
    fingerprint: &mut Fingerprint,
) -> Result<Vec<Stored>, Error> {
    let shards = open_renamed(folder, config)?;
    let mut expected = config.manifest();
    let optional = check_manifest(&expected, &shards, config)?;
    expected.extend(optional);
    let found = collect(&shards)?;
    let stored = expected.into_iter().filter_map(|tensor| {
        let (shard, info) = found.get(tensor.name.as_str())?;
        Some(Stored {
            dtype: format!("{:?}", info.dtype),
            shard: (*shard).to_owned(),
            tensor,
        })
    });
    let stored = stored.collect();
    for shard in shards {
        shard.read(fingerprint, |_| false, |_, _| {})?;
    }
    Ok(stored)
}

fn missing(name: &str) -> Error {
    Error::corrupt(format!("building the network: {name} is missing"))
}

/// A tensor that the config implies, its dimensions with the fields they come
/// from.
#[derive(Clone)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) dims: Vec<(&'static str, usize)>,
    /// Rows that are looked up, never multiplied with: they stay f32, whatever the format.
    is_table: bool,
}

impl Expected {
    /// A vector, or a matrix of one output a row.
    pub(crate) fn new(name: String, dims: &[(&'static str, usize)]) -> Self {
        Self {
            name,
            dims: dims.to_vec(),
            is_table: false,
        }
    }

    /// Rows that are looked up.
    pub(crate) fn table(name: String, dims: &[(&'static str, usize)]) -> Self {
        Self {
            is_table: true,
            ..Self::new(name, dims)
        }
    }

    /// Sizes of its dimensions.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.dims.iter().map(|(_, size)| *size).collect()
    }

    pub(crate) fn n_elements(&self) -> usize {
        self.dims.iter().map(|(_, size)| size).product()
    }

    /// Inputs of a matrix, one output a row; `None` for a vector.
    pub(crate) fn inputs(&self) -> Option<usize> {
        match self.dims.as_slice() {
            [_, (_, inputs)] if !self.is_table => Some(*inputs),
            _ => None,
        }
    }

    pub(crate) fn pack(&self, values: Vec<f32>, format: WeightFormat) -> Weight {
        match self.inputs() {
            Some(inputs) => {
                let fitting = format.for_inputs(inputs);
                if fitting != format {
                    let name = &self.name;
                    log::info!(
                        "{name}: rows of {inputs} do not fit {format:?}, held as {fitting:?}"
                    );
                }
                Weight::Matrix(Matrix::pack(fitting, &values, inputs))
            }
            None => Weight::Vector(values),
        }
    }

    pub(crate) fn is_shape(&self, shape: &[usize]) -> bool {
        self.dims.iter().map(|(_, size)| size).eq(shape)
    }

    pub(crate) fn shape_text(&self) -> String {
        let mut text = String::new();
        for (field, size) in &self.dims {
            let separator = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}{size} ({field})");
        }
        text
    }
}

/// Every tensor of a Llama network of this shape.
pub(crate) fn manifest(config: &Config) -> Vec<Expected> {
    let hidden = ("hidden_size", config.hidden_size);
    let vocab = ("vocab_size", config.vocab_size);
    let mlp = ("intermediate_size", config.intermediate_size);
    let q = ("num_attention_heads × head_dim", config.q_width());
    let kv = ("num_key_value_heads × head_dim", config.kv_width());
    let layer = [
        ("input_layernorm.weight", vec![hidden]),
        ("self_attn.q_proj.weight", vec![q, hidden]),
        ("self_attn.k_proj.weight", vec![kv, hidden]),
        ("self_attn.v_proj.weight", vec![kv, hidden]),
        ("self_attn.o_proj.weight", vec![hidden, q]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("mlp.gate_proj.weight", vec![mlp, hidden]),
        ("mlp.up_proj.weight", vec![mlp, hidden]),
        ("mlp.down_proj.weight", vec![hidden, mlp]),
    ];
    let expect = Expected::new;
    let mut all = vec![expect(EMBEDDING.to_owned(), &[vocab, hidden])];
    for idx in 0..config.n_layers {
        all.extend(
            layer
                .iter()
                .map(|(name, dims)| expect(format!("model.layers.{idx}.{name}"), dims)),
        );
    }
    all.push(expect(NORM.to_owned(), &[hidden]));
    if !config.is_tied {
        all.push(expect(LM_HEAD.to_owned(), &[vocab, hidden]));
    }
    all
}

/// Compares what is there with what has to be; returns what is there of what may be.
fn check_manifest(
    expected: &[Expected],
    shards: &[Shard],
    config: &dyn Architecture,
) -> Result<Vec<Expected>, Error> {
    let mut found = collect(shards)?;
    for tensor in expected {
        let Some((shard, info)) = found.remove(tensor.name.as_str()) else {
            return Err(Error::corrupt(format!(
                "checking the weights against config.json: tensor {} is missing ({}); use the \
                 config.json that belongs to the weights",
                tensor.name,
                config.summary()
            )));
        };
        check_tensor(tensor, shard, info)?;
    }
    let mut optional = config.optional();
    optional.retain(|tensor| found.contains_key(tensor.name.as_str()));
    for tensor in &optional {
        if let Some((shard, info)) = found.remove(tensor.name.as_str()) {
            check_tensor(tensor, shard, info)?;
        }
    }
    match found.keys().filter(|name| !config.is_harmless(name)).min() {
        None => Ok(optional),
        Some(extra) => Err(Error::corrupt(format!(
            "checking the weights against config.json: the network of {} has no tensor {extra:?}; \
             use the config.json that belongs to the weights",
            config.summary()
        ))),
    }
}

fn check_tensor(tensor: &Expected, shard: &str, info: &TensorInfo) -> Result<(), Error> {
    if !tensor.is_shape(&info.shape) {
        return Err(Error::corrupt(format!(
            "checking the weights against config.json: tensor {} of {shard} has shape {:?}, the \
             config implies {}; use the config.json that belongs to the weights",
            tensor.name,
            info.shape,
            tensor.shape_text()
        )));
    }
    if !is_readable(info.dtype) {
        return Err(Error::unsupported(format!(
            "checking the weights against config.json: tensor {} of {shard} is {:?}, and only F32, \
             F16 and BF16 are read; convert the checkpoint",
            tensor.name, info.dtype
        )));
    }
    Ok(())
}

type Found<'a> = HashMap<&'a str, (&'a str, &'a TensorInfo)>;

fn collect(shards: &[Shard]) -> Result<Found<'_>, Error> {
    let mut found: Found<'_> = HashMap::new();
    for shard in shards {
        for (name, info) in &shard.tensors {
            if let Some((other, _)) = found.insert(name, (&shard.name, info)) {
                return Err(Error::corrupt(format!(
                    "checking the weights: tensor {name} is in {other} and again in {}; download \
                     the checkpoint again",
                    shard.name
                )));
            }
        }
    }
    Ok(found)
}

/// Whether a folder has weights of ours.
pub(crate) fn has_safetensors(folder: &Folder) -> Result<bool, Error> {
    Ok(folder.file(SINGLE)?.is_some() || folder.file(INDEX)?.is_some())
}

/// The shards, their tensors under today's names.
fn open_renamed(folder: &Folder, config: &dyn Architecture) -> Result<Vec<Shard>, Error> {
    let mut shards = open_shards(folder)?;
    for (name, _) in shards.iter_mut().flat_map(|shard| &mut shard.tensors) {
        if let Some(renamed) = config.renamed(name) {
            *name = renamed;
        }
    }
    Ok(shards)
}

fn open_shards(folder: &Folder) -> Result<Vec<Shard>, Error> {
    // The order of transformers: the single file wins over an index.
    if let Some(shard) = Shard::open(folder, SINGLE)? {
        return Ok(vec![shard]);
    }
    match folder.read(INDEX, MAX_INDEX)? {
        Some(bytes) => open_indexed(folder, &bytes),
        None => Err(no_weights(folder)?),
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: UniqueMap<String>,
}

fn open_indexed(folder: &Folder, bytes: &[u8]) -> Result<Vec<Shard>, Error> {
    let index: Index = serde_json::from_slice(bytes).map_err(|source| {
        Error::corrupt(format!("reading {INDEX}: {source}; download it again")).with_source(source)
    })?;
    let UniqueMap(places) = index.weight_map;
    let mut names: Vec<&str> = places.iter().map(|(_, file)| file.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_SHARDS {
        return Err(Error::corrupt(format!(
            "reading {INDEX}: it names {} files, over {MAX_SHARDS}; download it again",
            names.len()
        )));
    }
    let shards = names
        .iter()
        .map(|name| open_shard(folder, name))
        .collect::<Result<Vec<_>, _>>()?;
    check_places(&places, &shards)?;
    Ok(shards)
}

fn open_shard(folder: &Folder, name: &str) -> Result<Shard, Error> {
    if !name.ends_with(".safetensors") {
        return Err(Error::unsupported(format!(
            "opening {name:?}, named by {INDEX}: it is not a .safetensors file, and nothing else \
             is read (pickles can run code); convert the checkpoint to safetensors"
        )));
    }
    Shard::open(folder, name)?.ok_or_else(|| {
        Error::missing(format!(
            "opening {name}, named by {INDEX}: it is not in {}; download the missing shard",
            folder.path().display()
        ))
    })
}

/// The index and the shards must say the same about who holds what.
fn check_places(places: &[(String, String)], shards: &[Shard]) -> Result<(), Error> {
    let found = collect(shards)?;
    let disagree = |name: &str, file: &str| {
        Error::corrupt(format!(
            "reading {INDEX}: it and the shards disagree about tensor {name} in {file}; download \
             the checkpoint again"
        ))
    };
    for (name, file) in places {
        if found
            .get(name.as_str())
            .is_none_or(|(shard, _)| shard != file)
        {
            return Err(disagree(name, file));
        }
    }
    if found.len() == places.len() {
        return Ok(());
    }
    let listed: HashSet<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    match found.iter().find(|(name, _)| !listed.contains(*name)) {
        Some((name, (shard, _))) => Err(disagree(name, shard)),
        None => Ok(()),
    }
}

/// The error for a folder without safetensors: names what is there instead.
fn no_weights(folder: &Folder) -> Result<Error, Error> {
    const OTHERS: [&str; 8] = ["bin", "pt", "pth", "pkl", "pickle", "ckpt", "gguf", "h5"];
    let is_other = |name: &String| {
        name.rsplit_once('.')
            .is_some_and(|(_, ext)| OTHERS.contains(&ext.to_ascii_lowercase().as_str()))
    };
    Ok(match folder.names()?.into_iter().find(is_other) {
        Some(other) => Error::unsupported(format!(
            "loading weights from {}: there is {other} but no {SINGLE}; only safetensors and, to \
             encode, GGUF are read (PyTorch pickles can run code), convert the checkpoint with `save_pretrained`",
            folder.path().display()
        )),
        None => Error::missing(format!(
            "loading weights from {}: there is neither {SINGLE} nor {INDEX}; download the \
             checkpoint's weights",
            folder.path().display()
        )),
    })
}
