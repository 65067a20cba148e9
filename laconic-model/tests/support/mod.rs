//! A tiny checkpoint made from a seed, and its outputs computed from the
//! definition in f64, with nothing shared with the crate under test.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "test code, also where a bench includes it"
)]
#![allow(clippy::cast_precision_loss, reason = "small numbers in tests")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

pub(crate) const VOCAB: usize = 260;
pub(crate) const HIDDEN: usize = 16;
pub(crate) const INNER: usize = 24;
pub(crate) const LAYERS: usize = 2;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
/// Not hidden / heads, on purpose.
pub(crate) const HEAD_DIM: usize = 6;
pub(crate) const EPS: f64 = 1e-5;
pub(crate) const THETA: f64 = 500_000.0;

/// Shape and values of one tensor.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A checkpoint before it is written; tests damage it first.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    pub(crate) tokenizer: Value,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// SplitMix64; plain enough to repeat in any language.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    /// Uniform in −1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

pub(crate) fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "rms_norm_eps": EPS,
        "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": false,
        "bos_token_id": 250, "eos_token_id": [251, 252], "rope_theta": THETA,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64
        }
    })
}

/// Byte-level BPE without merges: 256 tokens, one a byte, in the order of
/// their code points. The embedding's last four rows have no token.
pub(crate) fn tokenizer() -> Value {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .collect();
    alphabet.sort_unstable();
    let vocab: serde_json::Map<String, Value> = alphabet
        .iter()
        .enumerate()
        .map(|(id, c)| (c.to_string(), json!(id)))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "vocab": vocab, "merges": []}
    })
}

/// Names and shapes, written out once more rather than taken from the crate.
pub(crate) fn shapes(vocab: usize, is_tied: bool) -> Vec<(String, Vec<usize>)> {
    let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut all = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    if !is_tied {
        all.push(("lm_head.weight".to_owned(), vec![vocab, HIDDEN]));
    }
    for layer in 0..LAYERS {
        let mut add = |part: &str, shape: Vec<usize>| {
            all.push((format!("model.layers.{layer}.{part}.weight"), shape));
        };
        add("input_layernorm", vec![HIDDEN]);
        add("self_attn.q_proj", vec![q, HIDDEN]);
        add("self_attn.k_proj", vec![kv, HIDDEN]);
        add("self_attn.v_proj", vec![kv, HIDDEN]);
        add("self_attn.o_proj", vec![HIDDEN, q]);
        add("post_attention_layernorm", vec![HIDDEN]);
        add("mlp.gate_proj", vec![INNER, HIDDEN]);
        add("mlp.up_proj", vec![INNER, HIDDEN]);
        add("mlp.down_proj", vec![HIDDEN, INNER]);
    }
    all
}

impl Checkpoint {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_vocab(seed, VOCAB)
    }

    pub(crate) fn with_vocab(seed: u64, vocab: usize) -> Self {
        let mut random = Random(seed);
        let tensors = shapes(vocab, false).into_iter().map(|(name, shape)| {
            let n = shape.iter().product();
            let values = (0..n).map(|_| random.float()).collect();
            (name, Tensor { shape, values })
        });
        let tensors = tensors.collect();
        let mut config = config();
        config["vocab_size"] = json!(vocab);
        Self {
            config,
            tokenizer: tokenizer(),
            tensors,
        }
    }

    /// Takes the head away: the embedding does its work.
    pub(crate) fn tied(mut self) -> Self {
        self.tensors.remove("lm_head.weight");
        self.config["tie_word_embeddings"] = json!(true);
        self
    }

    pub(crate) fn write_json(&self, folder: &Path) {
        write(folder, "config.json", self.config.to_string().as_bytes());
        write(
            folder,
            "tokenizer.json",
            self.tokenizer.to_string().as_bytes(),
        );
    }

    pub(crate) fn write(&self, folder: &Path) {
        self.write_json(folder);
        write(folder, "model.safetensors", &self.safetensors());
    }

    /// All tensors as one f32 safetensors file.
    pub(crate) fn safetensors(&self) -> Vec<u8> {
        safetensors(&self.entries(|_| true))
    }

    pub(crate) fn entries(&self, wanted: impl Fn(&str) -> bool) -> Vec<Entry> {
        let wanted = self.tensors.iter().filter(|(name, _)| wanted(name));
        wanted
            .map(|(name, tensor)| Entry::f32(name, &tensor.shape, &tensor.values))
            .collect()
    }
}

pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
}

/// One tensor of a hand-made safetensors file.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl Entry {
    pub(crate) fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            name: name.to_owned(),
            dtype: "F32",
            shape: shape.to_vec(),
            data,
        }
    }

    /// The upper halves of the values: truncation, not rounding.
    pub(crate) fn bf16(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let half = |value: &f32| u16::try_from(value.to_bits() >> 16).unwrap().to_le_bytes();
        let data = values.iter().flat_map(half).collect();
        Self {
            name: name.to_owned(),
            dtype: "BF16",
            shape: shape.to_vec(),
            data,
        }
    }
}

/// A safetensors file by the format's description; keys may repeat.
pub(crate) fn safetensors(entries: &[Entry]) -> Vec<u8> {
    let mut start = 0;
    let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    for entry in entries {
        let end = start + entry.data.len();
        let info = json!({
            "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, end]
        });
        header.push_str(&format!(",{}:{info}", json!(entry.name)));
        start = end;
    }
    header.push('}');
    let data = entries.iter().flat_map(|entry| entry.data.iter().copied());
    with_header(header.as_bytes(), data)
}

pub(crate) fn with_header(header: &[u8], data: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend(data);
    file
}

/// Term weights of one text by the definition, in f64.
pub(crate) fn reference(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f64> {
    let logits = logits(checkpoint, ids);
    let max = |id: usize| logits.iter().map(|row| row[id]).fold(f64::MIN, f64::max);
    let n_tokens = logits.first().map_or(0, Vec::len);
    (0..n_tokens).map(|id| max(id).max(0.0).ln_1p()).collect()
}

/// Logits of one text by the definition, in f64, position by position.
pub(crate) fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<Vec<f64>> {
    let model = Reference(checkpoint);
    let embedding =
        |id: &u32| model.row("model.embed_tokens.weight", usize::try_from(*id).unwrap());
    let mut x: Vec<Vec<f64>> = ids.iter().map(embedding).collect();
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let normed = model.norm(&x, &name("input_layernorm"));
        let mixed = model.attention(&normed, &name);
        for (x, mixed) in x.iter_mut().zip(&mixed) {
            add(x, &model.linear(mixed, &name("self_attn.o_proj")));
        }
        let normed = model.norm(&x, &name("post_attention_layernorm"));
        for (x, normed) in x.iter_mut().zip(&normed) {
            let gate = model.linear(normed, &name("mlp.gate_proj"));
            let up = model.linear(normed, &name("mlp.up_proj"));
            let inner: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            add(x, &model.linear(&inner, &name("mlp.down_proj")));
        }
    }
    let head = if checkpoint.tensors.contains_key("lm_head.weight") {
        "lm_head.weight"
    } else {
        "model.embed_tokens.weight"
    };
    model
        .norm(&x, "model.norm.weight")
        .iter()
        .map(|x| model.linear(x, head))
        .collect()
}

struct Reference<'a>(&'a Checkpoint);

impl Reference<'_> {
    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let tensor = &self.0.tensors[name];
        let width = tensor.shape.get(1).copied().unwrap_or(tensor.shape[0]);
        tensor.values[row * width..(row + 1) * width]
            .iter()
            .map(|x| f64::from(*x))
            .collect()
    }

    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        (0..self.0.tensors[name].shape[0])
            .map(|row| dot(&self.row(name, row), x))
            .collect()
    }

    fn norm(&self, x: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let weight = self.row(name, 0);
        let norm = |x: &Vec<f64>| -> Vec<f64> {
            let scale = (dot(x, x) / x.len() as f64 + EPS).sqrt().recip();
            x.iter().zip(&weight).map(|(x, w)| x * scale * w).collect()
        };
        x.iter().map(norm).collect()
    }

    fn attention(&self, x: &[Vec<f64>], name: &impl Fn(&str) -> String) -> Vec<Vec<f64>> {
        let project = |part: &str| -> Vec<Vec<f64>> {
            x.iter().map(|x| self.linear(x, &name(part))).collect()
        };
        let (q, k, v) = (
            project("self_attn.q_proj"),
            project("self_attn.k_proj"),
            project("self_attn.v_proj"),
        );
        let head = |row: &[f64], head: usize| row[head * HEAD_DIM..(head + 1) * HEAD_DIM].to_vec();
        let mut out = vec![Vec::new(); x.len()];
        for h in 0..HEADS {
            let kv = h * KV_HEADS / HEADS;
            for i in 0..x.len() {
                let query = rotated(&head(&q[i], h), i);
                let score = |j: usize| dot(&query, &rotated(&head(&k[j], kv), j));
                let scores: Vec<f64> = (0..x.len())
                    .map(|j| (score(j) / (HEAD_DIM as f64).sqrt()).exp())
                    .collect();
                let total: f64 = scores.iter().sum();
                let mut mixed = vec![0.0; HEAD_DIM];
                for (j, score) in scores.iter().enumerate() {
                    let value = head(&v[j], kv);
                    mixed
                        .iter_mut()
                        .zip(&value)
                        .for_each(|(m, v)| *m += score / total * v);
                }
                out[i].extend(mixed);
            }
        }
        out
    }
}

/// Rotary embedding with the llama3 scaling of `config()`.
fn rotated(head: &[f64], position: usize) -> Vec<f64> {
    let half = HEAD_DIM / 2;
    let mut out = vec![0.0; HEAD_DIM];
    for i in 0..half {
        let plain = THETA.powf(-(i as f64) / half as f64);
        let wavelength = 2.0 * std::f64::consts::PI / plain;
        let smooth = (64.0 / wavelength - 1.0) / 3.0;
        let blend = smooth.clamp(0.0, 1.0);
        let angle = position as f64 * (plain * blend + plain / 8.0 * (1.0 - blend));
        out[i] = head[i] * angle.cos() - head[i + half] * angle.sin();
        out[i + half] = head[i + half] * angle.cos() + head[i] * angle.sin();
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
