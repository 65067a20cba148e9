//! The checkpoint that training starts from, and what becomes of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Tensor, Var};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

use super::dropout::Dropout;
use super::network::{Layer, MASKED, Network};
use super::parameter::{Adapter, Linear, Parameter};
use super::random::Random;
use super::recipe::{Lora, Recipe};
use crate::config::Config;
use crate::device::{PROJECTIONS, Shape, fine, rope_tables};
use crate::error::Error;
use crate::folder::{Fingerprint, Folder};
use crate::options::LoadOptions;
use crate::parts::{
    CONFIG, MAX_CONFIG, TOKENIZER, check_length, read_config, specials, tokenizer_bytes,
};
use crate::preset::{Preset, SIDE_FILE};
use crate::tokenize::{Specials, TextTokenizer};
use crate::weights::{EMBEDDING, LM_HEAD, read_each};

/// Everything of a checkpoint but its weights.
pub(super) struct Base {
    pub(super) preset: Preset,
    pub(super) specials: Specials,
    pub(super) tokenizer: TextTokenizer,
    /// Hash over config, tokenizer and weights.
    pub(super) fingerprint: String,
    config: Config,
    config_json: Map<String, Value>,
    tokenizer_json: Vec<u8>,
}

/// How the weights of a checkpoint are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoredAs {
    /// 4 bytes a weight, exactly as trained.
    F32,
    /// 2 bytes a weight, 11 significant bits.
    #[default]
    F16,
    /// 2 bytes a weight, 8 significant bits, the range of f32.
    Bf16,
}

/// Types and place of the tensors under training.
#[derive(Clone)]
pub(super) struct Kinds {
    pub(super) device: candle_core::Device,
    /// Of weights that are trained, and of norms.
    pub(super) master: DType,
    /// Of matrices that are not.
    pub(super) compute: DType,
}

impl Base {
    pub(super) fn load(
        path: &Path,
        options: &LoadOptions,
        recipe: &Recipe,
        kinds: &Kinds,
    ) -> Result<(Self, Network), Error> {
        let folder = Folder::open(path)?;
        let mut fingerprint = Fingerprint::new();
        let config = read_config(&folder, &mut fingerprint)?.into_llama("training")?;
        let mut preset = options.resolve_preset(&folder, None, Preset::laconic())?;
        let longest = recipe.query_length.max(recipe.document_length);
        preset.set("max_length", &longest.to_string())?;
        check_length(&preset, false, config.max_positions)?;
        let preset = options.resolve_preset(&folder, None, Preset::laconic())?;
        let specials = specials(&preset, config.bos_id, config.eos_id)?;
        let tokenizer_json = tokenizer_bytes(&folder, options)?;
        fingerprint.part("tokenizer", &tokenizer_json);
        let tokenizer = TextTokenizer::parse(&tokenizer_json, config.vocab_size)?;
        let config_json = folder.read(CONFIG, MAX_CONFIG)?.unwrap_or_default();
        let config_json = serde_json::from_slice(&config_json).map_err(|source| {
            Error::corrupt(format!("reading {CONFIG}: {source}")).with_source(source)
        })?;
        let mut tensors = HashMap::new();
        let mut failed = None;
        read_each(&folder, &config, &mut fingerprint, |expected, values| {
            let shape = expected.shape();
            match parameter(values, &shape, recipe, kinds) {
                Ok(parameter) => drop(tensors.insert(expected.name.clone(), parameter)),
                Err(error) => failed = Some(error),
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let has_term: Vec<bool> = tokenizer.has_term().collect();
        let network = assemble(&config, tensors, &has_term, recipe, kinds)?;
        let base = Self {
            preset,
            specials,
            tokenizer,
            fingerprint: fingerprint.finish(),
            config,
            config_json,
            tokenizer_json,
        };
        Ok((base, network))
    }

    /// Writes a plain checkpoint: config, tokenizer, preset knobs, and weights with their
    /// adapters merged.
    pub(super) fn write(
        &self,
        network: &Network,
        dir: &Path,
        stored: StoredAs,
    ) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(|source| Error::io("writing", &path, source))
        };
        let mut config = self.config_json.clone();
        for key in ["torch_dtype", "dtype"] {
            if key == "torch_dtype" || config.contains_key(key) {
                config.insert(key.to_owned(), Value::from(stored.torch_name()));
            }
        }
        write(CONFIG, format!("{:#}\n", Value::from(config)).as_bytes())?;
        write(TOKENIZER, &self.tokenizer_json)?;
        write(SIDE_FILE, format!("{:#}\n", self.knobs()).as_bytes())?;
        let mut names = vec![
            (EMBEDDING.to_owned(), network.embed_tokens.value()),
            ("model.norm.weight".to_owned(), network.norm.value()),
        ];
        if let Some(head) = &network.lm_head {
            names.push((LM_HEAD.to_owned(), head.value()));
        }
        for (idx, layer) in network.layers.iter().enumerate() {
            let path = format!("model.layers.{idx}");
            let norms = [
                ("input_layernorm", &layer.input_layernorm),
                ("post_attention_layernorm", &layer.post_attention_layernorm),
            ];
            for (name, norm) in norms {
                names.push((format!("{path}.{name}.weight"), norm.value()));
            }
            for (name, linear) in PROJECTIONS.iter().zip(&layer.projections) {
                names.push((format!("{path}.{name}.weight"), linear.merged()?));
            }
        }
        write_tensors(&dir.join("model.safetensors"), names, stored)
    }

    /// Preset knobs that differ from the LACONIC preset.
    fn knobs(&self) -> Value {
        let standard = Preset::laconic();
        let knobs = self.preset.values().zip(standard.values());
        let other = knobs.filter(|(own, standard)| own != standard);
        other
            .map(|((key, value), _)| (key.to_owned(), Value::from(value)))
            .collect::<Map<_, _>>()
            .into()
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }
}

impl StoredAs {
    fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => values
                .iter()
                .flat_map(|x| half::f16::from_f32(*x).to_le_bytes())
                .collect(),
            Self::Bf16 => values
                .iter()
                .flat_map(|x| half::bf16::from_f32(*x).to_le_bytes())
                .collect(),
        }
    }
}

/// Writes tensors to a safetensors file, which appears whole or not at all.
pub(super) fn write_tensors(
    path: &Path,
    tensors: Vec<(String, Tensor)>,
    stored: StoredAs,
) -> Result<(), Error> {
    let mut named = Vec::new();
    for (name, tensor) in tensors {
        let values = tensor
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let bytes = stored.bytes(&values);
        if stored == StoredAs::F16
            && values
                .iter()
                .any(|x| x.is_finite() && !half::f16::from_f32(*x).is_finite())
        {
            return Err(Error::training(format!(
                "writing {}: a weight of {name} is too large for f16; store the model as bf16 or \
                 f32",
                path.display()
            )));
        }
        named.push((name, tensor.dims().to_vec(), bytes));
    }
    let views: Result<Vec<(&str, TensorView<'_>)>, _> = named
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(stored.dtype(), shape.clone(), bytes)?,
            ))
        })
        .collect();
    let fail = |source: safetensors::SafeTensorError| {
        Error::training(format!("writing {}: {source}", path.display())).with_source(source)
    };
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let partial = path.with_extension("partial");
    let describe = |source| Error::io("writing", path, source);
    // The library replaces the file by one that only its owner may read.
    let permissions = fs::File::create(&partial)
        .and_then(|file| file.metadata())
        .map_err(describe)?
        .permissions();
    safetensors::serialize_to_file(views.map_err(fail)?, Some(metadata), &partial).map_err(fail)?;
    let finish = || {
        fs::set_permissions(&partial, permissions)?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, path)
    };
    finish().map_err(describe)
}

/// With adapters everything else is frozen; without, everything is trained.
fn parameter(
    values: Vec<f32>,
    shape: &[usize],
    recipe: &Recipe,
    kinds: &Kinds,
) -> candle_core::Result<Parameter> {
    let tensor = Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?;
    let is_frozen = recipe.lora.is_some();
    let dtype = match is_frozen && shape.len() > 1 {
        true => kinds.compute,
        false => kinds.master,
    };
    let tensor = tensor.to_dtype(dtype)?.to_device(&kinds.device)?;
    Ok(match is_frozen {
        true => Parameter::Frozen(tensor),
        false => Parameter::Trained(Var::from_tensor(&tensor)?),
    })
}

/// Puts a network together from its tensors by name.
pub(super) fn assemble(
    config: &Config,
    mut tensors: HashMap<String, Parameter>,
    has_term: &[bool],
    recipe: &Recipe,
    kinds: &Kinds,
) -> Result<Network, Error> {
    let mut take = |name: &str| {
        tensors
            .remove(name)
            .ok_or_else(|| Error::corrupt(format!("building the network: {name} is missing")))
    };
    let mut layers = Vec::new();
    for idx in 0..config.n_layers {
        let path = format!("model.layers.{idx}");
        let mut projections = Vec::new();
        for (at, name) in PROJECTIONS.iter().enumerate() {
            let weight = take(&format!("{path}.{name}.weight"))?;
            let site = u64::try_from(idx * PROJECTIONS.len() + at).unwrap_or(u64::MAX);
            let adapter = recipe
                .lora
                .map(|lora| adapter(&weight, lora, site, recipe.seed, kinds));
            projections.push(Linear {
                weight,
                adapter: adapter.transpose()?,
            });
        }
        layers.push(Layer {
            input_layernorm: take(&format!("{path}.input_layernorm.weight"))?,
            post_attention_layernorm: take(&format!("{path}.post_attention_layernorm.weight"))?,
            projections: projections
                .try_into()
                .map_err(|_| Error::corrupt("building the network: a layer lacks projections"))?,
        });
    }
    let lm_head = match config.is_tied {
        true => None,
        false => Some(take(LM_HEAD)?),
    };
    let longest = recipe.query_length.max(recipe.document_length);
    Ok(Network {
        embed_tokens: take(EMBEDDING)?,
        norm: take("model.norm.weight")?,
        lm_head,
        layers,
        shape: Shape::of(config),
        rope: rope_tables(config, longest, fine(kinds.master), &kinds.device)?,
        padding: padding(has_term, &kinds.device)?,
    })
}

fn padding(has_term: &[bool], device: &candle_core::Device) -> Result<Option<Tensor>, Error> {
    if has_term.iter().all(|has_term| *has_term) {
        return Ok(None);
    }
    let values = has_term
        .iter()
        .map(|has_term| if *has_term { 0.0 } else { MASKED });
    Ok(Some(Tensor::from_iter(values, device)?.unsqueeze(0)?))
}

/// A starts uniform within ±1/√inputs, as PEFT's Kaiming start with a = √5 is; B at zero.
fn adapter(
    weight: &Parameter,
    lora: Lora,
    site: u64,
    seed: u64,
    kinds: &Kinds,
) -> candle_core::Result<Adapter> {
    let (outputs, inputs) = weight.value().dims2()?;
    let mut random = Random::keyed(&[seed, site, 0x6c6f_7261]);
    let bound = to_f32(inputs).sqrt().recip();
    let values: Vec<f32> = (0..lora.rank * inputs)
        .map(|_| (2.0 * random.unit() - 1.0) * bound)
        .collect();
    let a = Tensor::from_vec(values, (lora.rank, inputs), &candle_core::Device::Cpu)?;
    let a = a.to_dtype(kinds.master)?.to_device(&kinds.device)?;
    let b = Tensor::zeros((outputs, lora.rank), kinds.master, &kinds.device)?;
    Ok(Adapter {
        a: Var::from_tensor(&a)?,
        b: Var::from_tensor(&b)?,
        scale: lora.alpha / f64::from(to_f32(lora.rank)),
        dropout: Dropout {
            share: lora.dropout,
            site,
        },
    })
}

/// Exact: widths stay below 2²⁴.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of layers are far below 2^24"
)]
fn to_f32(count: usize) -> f32 {
    count as f32
}
