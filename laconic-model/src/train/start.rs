//! A model to begin with where there is none: a small Llama whose every position weighs its own
//! token, by how rare it is, and nothing else.
//!
//! A few thousand documents cannot teach a network from random weights which words match; they
//! can teach one that starts by matching equal words what to add. So the network starts as the
//! lexical matcher that its shape allows.
//!
//! **How.** Token *j* has the embedding
//!
//! > *E_j* = *κ* · (*L_j* / *L̄*) · (√(1 − *ρ*) · *u_j*, √*ρ*)
//!
//! with *u_j* a random unit vector in all channels but the last and *L_j* the logit that the
//! token shall have at its own position. Output projections of attention and MLP are zero, so the
//! residual stream is the embedding until training makes them something, and the final norm
//! divides its length away: a position that holds *t* leaves it as √*d* · (√(1 − *ρ*) *u_t*, √*ρ*)
//! times the gains. With gains *G* / (√*d* (1 − *ρ*)) for ordinary channels, −*β* *G* / (√*d* *ρ*)
//! for the last and *G* = *L̄* / ((1 − *β*) *κ*), the head, which is the embedding again, gives
//!
//! > logit of *j* at *t* = *L_j* · (*u_t*·*u_j* − *β*) / (1 − *β*)
//!
//! that is *L_j* at its own position and, as the cosine of two random vectors seldom exceeds
//! *β*, less than 0 elsewhere. The last channel is a bias that a network without biases can have.
//!
//! The weight log(1 + *L_j*) is 0.6 + *idf_j* / ln *N*, where *idf* is BM25's over the *N* texts the
//! tokenizer is trained on. A steeper rise matches words better at once, and is harder to train: the
//! lengths of embeddings, and with them the steps their directions take, are then far apart.

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{NormalizerWrapper, Tokenizer};

use super::base::{StoredAs, write_tensors};
use super::random::Random;
use super::recipe::to_f64;
use crate::config::Config;
use crate::error::Error;
use crate::parts::{CONFIG, TOKENIZER};
use crate::preset::SIDE_FILE;
use crate::weights::{EMBEDDING, manifest};

/// Share of an embedding's squared length in the channel that serves as bias: ρ.
const BIAS_SHARE: f64 = 0.2;
/// Cosine below which two tokens have nothing in common, in deviations of the cosine of two random
/// vectors, 1/√(d − 1): exceeded by three pairs in a million. This makes β.
const DEVIATIONS: f64 = 4.5;
/// Mean length of an embedding, so that it is not small beside an optimizer's steps: κ.
const LENGTH: f64 = 4.0;

/// The shape of a model made from nothing, and of its tokenizer.
///
/// ```
/// use laconic_model::train::NewModel;
/// use laconic_model::{Encoder, LoadOptions};
///
/// let texts = ["Copper conducts electricity well.", "Rubber does not conduct electricity."];
/// let dir = tempfile::tempdir()?;
/// let shape = NewModel { vocab_size: 300, ..NewModel::default() };
/// shape.write(dir.path(), &texts)?;
/// let encoder = Encoder::load(dir.path(), LoadOptions::new())?;
/// assert!(!encoder.encode_query("copper")?.weights.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewModel {
    /// Most entries of the vocabulary; at least 256.
    pub vocab_size: usize,
    /// Width of the residual stream; a multiple of `heads`.
    pub hidden_size: usize,
    /// Inner width of the MLPs.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; `hidden_size / heads` is even.
    pub heads: usize,
    /// Tokens that the model reads of a text.
    pub max_length: usize,
    /// Seed of all random values.
    pub seed: u64,
}

impl Default for NewModel {
    /// The shape of laconic-nano.
    fn default() -> Self {
        Self {
            vocab_size: 24_000,
            hidden_size: 128,
            intermediate_size: 384,
            layers: 2,
            heads: 4,
            max_length: 256,
            seed: 1,
        }
    }
}

impl NewModel {
    /// Trains a byte-level BPE tokenizer on the texts, in lower case, and writes a checkpoint in
    /// f32 into folder `dir`: `config.json`, `tokenizer.json`, `laconic.json` (no prefixes),
    /// `model.safetensors`.
    ///
    /// The texts are gone through twice: for the tokenizer, and for how many of them hold each
    /// token.
    ///
    /// # Errors
    ///
    /// If the shape is none, there are no texts, or a file cannot be written.
    pub fn write<S: AsRef<str> + Sync>(&self, dir: &Path, texts: &[S]) -> Result<(), Error> {
        self.check(texts.len())?;
        let tokenizer = self.tokenizer(texts)?;
        let frequencies = document_frequencies(&tokenizer, texts)?;
        let config_json = self.config_json(frequencies.len());
        let config = Config::parse(config_json.as_bytes())?;
        let tensors = self.tensors(&config, &own_logits(&frequencies, texts.len()))?;
        fs::create_dir_all(dir).map_err(|source| Error::io("creating", dir, source))?;
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| Error::io("writing", &path, source))
        };
        write(CONFIG, &config_json)?;
        write(TOKENIZER, &tokenizer.to_string(false).map_err(untrainable)?)?;
        let knobs = json!({
            "query_prefix": "", "document_prefix": "", "max_length": self.max_length,
        });
        write(SIDE_FILE, &format!("{knobs:#}\n"))?;
        write_tensors(&dir.join("model.safetensors"), tensors, StoredAs::F32)
    }

    fn check(&self, n_texts: usize) -> Result<(), Error> {
        let heads = self.heads.max(1);
        for (is_sound, why) in [
            (
                n_texts > 1,
                "there are fewer than 2 texts to train its tokenizer on",
            ),
            (
                self.vocab_size >= 256,
                "vocab_size is below 256, one for each byte",
            ),
            (
                self.heads > 0 && self.layers > 0,
                "it needs heads and layers",
            ),
            (
                self.hidden_size > 1 && self.hidden_size.is_multiple_of(2 * heads),
                "hidden_size is not an even multiple of heads",
            ),
        ] {
            if !is_sound {
                return Err(Error::invalid_input(format!("making a model: {why}")));
            }
        }
        Ok(())
    }

    fn tokenizer<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tokenizer, Error> {
        let mut tokenizer = Tokenizer::new(BPE::default());
        let normalizers: [NormalizerWrapper; 2] = [NFKC.into(), Lowercase.into()];
        tokenizer
            .with_normalizer(Some(Sequence::new(normalizers.to_vec())))
            .map_err(untrainable)?;
        // A word has the same token at the start of a text as within it.
        let byte_level = ByteLevel::default().add_prefix_space(true);
        tokenizer.with_pre_tokenizer(Some(byte_level));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(self.vocab_size)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(false)
            .build()
            .into();
        tokenizer
            .train(&mut trainer, texts.iter().map(AsRef::as_ref))
            .map_err(untrainable)?;
        Ok(tokenizer)
    }

    fn config_json(&self, vocab_size: usize) -> String {
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "head_dim": self.hidden_size / self.heads,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": self.max_length.max(512),
            "rope_theta": 10000.0,
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        });
        format!("{config:#}\n")
    }

    fn tensors(&self, config: &Config, logits: &[f64]) -> Result<Vec<(String, Tensor)>, Error> {
        let mean = logits.iter().sum::<f64>() / to_f64(logits.len());
        let mut tensors = Vec::new();
        for (idx, expected) in manifest(config).into_iter().enumerate() {
            let site = u64::try_from(idx).unwrap_or(u64::MAX);
            let mut random = Random::keyed(&[self.seed, site, 0x0073_7461_7274]);
            let values: Vec<f64> = match (expected.name.as_str(), expected.inputs()) {
                (EMBEDDING, _) => logits
                    .iter()
                    .flat_map(|logit| self.embedding(LENGTH * logit / mean, &mut random))
                    .collect(),
                ("model.norm.weight", _) => self.gains(mean),
                (_, None) => vec![1.0; expected.n_elements()],
                (name, Some(_)) if name.contains("o_proj") || name.contains("down_proj") => {
                    vec![0.0; expected.n_elements()]
                }
                (_, Some(inputs)) => {
                    let deviation = to_f64(inputs).sqrt().recip();
                    let draw = |_| deviation * f64::from(random.normal());
                    (0..expected.n_elements()).map(draw).collect()
                }
            };
            let tensor = Tensor::from_vec(values, expected.shape(), &Device::Cpu)?;
            tensors.push((expected.name, tensor));
        }
        Ok(tensors)
    }

    fn embedding(&self, length: f64, random: &mut Random) -> Vec<f64> {
        let direction: Vec<f64> = (1..self.hidden_size)
            .map(|_| f64::from(random.normal()))
            .collect();
        let norm = direction
            .iter()
            .map(|x| x * x)
            .sum::<f64>()
            .sqrt()
            .max(1e-9);
        let scale = length * (1.0 - BIAS_SHARE).sqrt() / norm;
        let channels = direction.into_iter().map(|x| x * scale);
        channels.chain([length * BIAS_SHARE.sqrt()]).collect()
    }

    fn gains(&self, mean: f64) -> Vec<f64> {
        let threshold = (DEVIATIONS / to_f64(self.hidden_size - 1).sqrt()).min(0.9);
        let gain = mean / (1.0 - threshold) / LENGTH / to_f64(self.hidden_size).sqrt();
        let mut gains = vec![gain / (1.0 - BIAS_SHARE); self.hidden_size];
        if let Some(last) = gains.last_mut() {
            *last = -threshold * gain / BIAS_SHARE;
        }
        gains
    }
}

fn untrainable(source: tokenizers::Error) -> Error {
    Error::training(format!("training a tokenizer: {source}")).with_source(source)
}

/// In how many texts each token occurs.
fn document_frequencies<S: AsRef<str> + Sync>(
    tokenizer: &Tokenizer,
    texts: &[S],
) -> Result<Vec<usize>, Error> {
    let mut frequencies = vec![0; tokenizer.get_vocab_size(true)];
    for texts in texts.chunks(1024) {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        for encoding in tokenizer
            .encode_batch_fast(texts, false)
            .map_err(untrainable)?
        {
            let mut ids = encoding.get_ids().to_vec();
            ids.sort_unstable();
            ids.dedup();
            for id in ids {
                if let Some(count) = usize::try_from(id)
                    .ok()
                    .and_then(|id| frequencies.get_mut(id))
                {
                    *count += 1;
                }
            }
        }
    }
    Ok(frequencies)
}

/// The logit of each token at its own position.
fn own_logits(frequencies: &[usize], n_texts: usize) -> Vec<f64> {
    let n_texts = to_f64(n_texts);
    let logit = |frequency: &usize| {
        let frequency = to_f64(*frequency);
        let idf = (1.0 + (n_texts - frequency + 0.5) / (frequency + 0.5))
            .ln()
            .max(0.0);
        (0.6 + idf / n_texts.ln()).exp_m1()
    };
    frequencies.iter().map(logit).collect()
}
