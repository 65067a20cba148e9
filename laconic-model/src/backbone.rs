//! The Llama network without its causal mask, in the order of the paper
//! (Touvron et al. 2023, Grattafiori et al. 2024), fields named as the
//! checkpoint names them.
//!
//! Texts of a batch are laid end to end, without padding. Linear layers and
//! norms see one tall matrix; attention runs text by text, so that no key of
//! another text, and no padded key, is ever in sight. That is what masking
//! padded keys amounts to, at none of its cost.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::attention::{Heads, Projections, attend};
use crate::config::Config;
use crate::error::Error;
use crate::kernels::{add, rms_norm, silu_mul};
use crate::rope::RopeTable;
use crate::weights::{EMBEDDING, Weights};

/// Token ids of several texts, end to end.
pub(crate) struct Pack {
    ids: Vec<u32>,
    spans: Vec<Range<usize>>,
}

impl Pack {
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut pack = Self {
            ids: Vec::new(),
            spans: Vec::new(),
        };
        for text in texts {
            let start = pack.ids.len();
            pack.ids.extend_from_slice(text);
            pack.spans.push(start..pack.ids.len());
        }
        pack
    }

    /// Where each text lies among the rows of the pack.
    pub(crate) fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    pub(crate) fn n_tokens(&self) -> usize {
        self.ids.len()
    }
}

pub(crate) struct Backbone {
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    rope: RopeTable,
}

struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    heads: Heads,
}

struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

/// y = x Wᵀ, without bias.
struct Linear {
    /// Outputs × inputs, as in the checkpoint.
    weight: Tensor,
}

impl Backbone {
    /// Takes its tensors out of `weights`; texts may be `max_length` tokens
    /// long.
    pub(crate) fn new(
        config: &Config,
        weights: &mut Weights,
        max_length: usize,
    ) -> Result<Self, Error> {
        let hidden = config.hidden_size;
        let layers = (0..config.n_layers).map(|idx| Layer::new(config, weights, idx));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            embed_tokens: weights.matrix(EMBEDDING, config.vocab_size, hidden)?,
            norm: RmsNorm::new(config, weights, "model.norm.weight")?,
            rope: RopeTable::new(config, max_length),
        })
    }

    /// The embedding matrix, vocabulary × hidden; a tied head is the same.
    pub(crate) fn embed_tokens(&self) -> &Tensor {
        &self.embed_tokens
    }

    /// Last hidden state after the final norm, tokens × hidden.
    pub(crate) fn forward(&self, pack: &Pack) -> Result<Tensor, Error> {
        let ids = Tensor::new(pack.ids.as_slice(), &Device::Cpu)?;
        let embedded = self.embed_tokens.index_select(&ids, 0)?;
        let shape = embedded.shape().clone();
        let mut x = to_vec(&embedded)?;
        for layer in &self.layers {
            layer.forward(&mut x, pack, &self.rope)?;
        }
        Ok(Tensor::from_vec(
            self.norm.forward(&x),
            shape,
            &Device::Cpu,
        )?)
    }
}

impl Layer {
    fn new(config: &Config, weights: &mut Weights, idx: usize) -> Result<Self, Error> {
        let name = |part: &str| format!("model.layers.{idx}.{part}");
        let after = name("post_attention_layernorm.weight");
        Ok(Self {
            input_layernorm: RmsNorm::new(config, weights, &name("input_layernorm.weight"))?,
            self_attn: Attention::new(config, weights, &name("self_attn"))?,
            post_attention_layernorm: RmsNorm::new(config, weights, &after)?,
            mlp: Mlp::new(config, weights, &name("mlp"))?,
        })
    }

    fn forward(&self, x: &mut [f32], pack: &Pack, rope: &RopeTable) -> Result<(), Error> {
        let normed = self.input_layernorm.rows(x)?;
        add(x, &self.self_attn.forward(&normed, pack, rope)?);
        let normed = self.post_attention_layernorm.rows(x)?;
        add(x, &self.mlp.forward(&normed)?);
        Ok(())
    }
}

impl Attention {
    fn new(config: &Config, weights: &mut Weights, path: &str) -> Result<Self, Error> {
        let (hidden, q, kv) = (config.hidden_size, config.q_width(), config.kv_width());
        let mut linear = |part: &str, outputs: usize, inputs: usize| {
            Linear::new(weights, &format!("{path}.{part}.weight"), outputs, inputs)
        };
        Ok(Self {
            q_proj: linear("q_proj", q, hidden)?,
            k_proj: linear("k_proj", kv, hidden)?,
            v_proj: linear("v_proj", kv, hidden)?,
            o_proj: linear("o_proj", hidden, q)?,
            heads: Heads {
                n_kv: config.n_kv_heads,
                per_kv: config.n_heads / config.n_kv_heads,
                dim: config.head_dim,
            },
        })
    }

    fn forward(&self, x: &Tensor, pack: &Pack, rope: &RopeTable) -> Result<Vec<f32>, Error> {
        let mut rows = Projections {
            q: to_vec(&self.q_proj.forward(x)?)?,
            k: to_vec(&self.k_proj.forward(x)?)?,
            v: to_vec(&self.v_proj.forward(x)?)?,
        };
        rotate(&mut rows.q, self.heads.q_width(), pack, rope);
        rotate(&mut rows.k, self.heads.kv_width(), pack, rope);
        let mixed = attend(&self.heads, &rows, pack.spans())?;
        let mixed = Tensor::from_vec(mixed, (pack.n_tokens(), self.heads.q_width()), &Device::Cpu)?;
        to_vec(&self.o_proj.forward(&mixed)?)
    }
}

impl Mlp {
    fn new(config: &Config, weights: &mut Weights, path: &str) -> Result<Self, Error> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut linear = |part: &str, outputs: usize, inputs: usize| {
            Linear::new(weights, &format!("{path}.{part}.weight"), outputs, inputs)
        };
        Ok(Self {
            gate_proj: linear("gate_proj", inner, hidden)?,
            up_proj: linear("up_proj", inner, hidden)?,
            down_proj: linear("down_proj", hidden, inner)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Vec<f32>, Error> {
        let gate = self.gate_proj.forward(x)?;
        let shape = gate.shape().clone();
        let mut gate = to_vec(&gate)?;
        silu_mul(&mut gate, &to_vec(&self.up_proj.forward(x)?)?);
        to_vec(
            &self
                .down_proj
                .forward(&Tensor::from_vec(gate, shape, &Device::Cpu)?)?,
        )
    }
}

impl RmsNorm {
    fn new(config: &Config, weights: &mut Weights, name: &str) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.vector(name)?,
            eps: config.rms_norm_eps,
        })
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        rms_norm(x, &self.weight, self.eps)
    }

    fn rows(&self, x: &[f32]) -> Result<Tensor, Error> {
        let width = self.weight.len();
        Ok(Tensor::from_vec(
            self.forward(x),
            (x.len() / width, width),
            &Device::Cpu,
        )?)
    }
}

impl Linear {
    fn new(
        weights: &mut Weights,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.matrix(name, outputs, inputs)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.matmul(&self.weight.t()?)?)
    }
}

fn rotate(rows: &mut [f32], width: usize, pack: &Pack, rope: &RopeTable) {
    for span in pack.spans() {
        let text = &mut rows[span.start * width..span.end * width];
        for (position, row) in text.chunks_exact_mut(width).enumerate() {
            rope.rotate(row, position);
        }
    }
}

/// The numbers of a tensor, row by row.
pub(crate) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Head, Pooled};
    use crate::weights::{LM_HEAD, manifest};
    use std::collections::HashMap;

    fn config() -> Config {
        Config::parse(
            br#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 8,
            "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64, "rope_theta": 10000.0}"#,
        )
        .unwrap()
    }

    fn tensors(config: &Config) -> HashMap<String, Vec<f32>> {
        let mut step = 0.0_f32;
        let mut next = || {
            step += 0.7;
            step.sin()
        };
        manifest(config)
            .iter()
            .map(|tensor| {
                (
                    tensor.name.clone(),
                    (0..tensor.n_elements()).map(|_| next()).collect(),
                )
            })
            .collect()
    }

    fn run(config: &Config, tensors: HashMap<String, Vec<f32>>) -> Pooled {
        let mut weights = Weights::from_map(tensors);
        let backbone = Backbone::new(config, &mut weights, 16).unwrap();
        let head = weights
            .matrix(LM_HEAD, config.vocab_size, config.hidden_size)
            .unwrap();
        let pack = Pack::new([&[1, 2, 3][..], &[0, 4]]);
        let hidden = backbone.forward(&pack).unwrap();
        Head::new(head)
            .unwrap()
            .max_logits(&hidden, pack.spans())
            .unwrap()
    }

    /// The second line of defence. On load such weights are refused; here they
    /// get past the door, and the head must still see each of them.
    #[test]
    fn a_poisoned_weight_of_any_tensor_reaches_the_head_as_not_finite() {
        let config = config();
        let clean = tensors(&config);
        assert!(matches!(run(&config, clean.clone()), Pooled::Logits(_)));
        let mut n_reported = 0;
        for name in clean.keys() {
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut tensors = clean.clone();
                tensors.get_mut(name).unwrap()[1] = poison;
                let pooled = run(&config, tensors);
                assert!(
                    matches!(pooled, Pooled::NotFinite(_)),
                    "{name} with {poison}"
                );
                n_reported += 1;
            }
        }
        assert_eq!(n_reported, 21 * 3);
    }
}
