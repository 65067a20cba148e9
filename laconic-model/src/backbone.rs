//! The Llama network without its causal mask, in the order of the paper
//! (Touvron et al. 2023, Grattafiori et al. 2024), fields named as the
//! checkpoint names them.
//!
//! Texts of a batch are laid end to end, without padding. Linear layers and
//! norms see one tall matrix; attention runs text by text, so that no key of
//! another text, and no padded key, is ever in sight. That is what masking
//! padded keys amounts to, at none of its cost.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::attention::{Heads, Projections, attend};
use crate::config::Config;
use crate::error::Error;
use crate::kernels::{add, rms_norm, silu_mul};
use crate::matmul::{Matrix, Rows};
use crate::rope::RopeTable;
use crate::timings::{Part, Timings};
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

    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where each text lies among the rows of the pack.
    pub(crate) fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }
}

/// Rows that go through an MLP together: what lies between its two halves stays in cache, and does
/// not grow with the batch.
const MLP_ROWS: usize = 512;

pub(crate) struct Backbone {
    /// A tied head is the same.
    embed_tokens: Arc<Matrix>,
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
    qkv_proj: Matrix,
    /// Columns of a product at which queries, keys and values begin.
    starts: [usize; 3],
    o_proj: Matrix,
    heads: Heads,
}

struct Mlp {
    gate_up_proj: Matrix,
    down_proj: Matrix,
    inner: usize,
}

struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

/// What a forward pass needs room for, used again by every layer.
#[derive(Default)]
struct Room {
    normed: Vec<f32>,
    /// Queries, keys and values; gate and up.
    wide: Vec<f32>,
    mixed: Vec<f32>,
    /// What goes back into the residual stream.
    out: Vec<f32>,
}

impl Backbone {
    /// Takes its tensors out of `weights`; texts may be `max_length` tokens
    /// long.
    pub(crate) fn new(
        config: &Config,
        weights: &mut Weights,
        max_length: usize,
    ) -> Result<Self, Error> {
        let layers = (0..config.n_layers).map(|idx| Layer::new(config, weights, idx));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            embed_tokens: Arc::new(weights.matrix(EMBEDDING)?),
            norm: RmsNorm::new(config, weights, "model.norm.weight")?,
            rope: RopeTable::new(config, max_length),
        })
    }

    /// The embedding matrix, vocabulary × hidden; a tied head is the same.
    pub(crate) fn embed_tokens(&self) -> Arc<Matrix> {
        Arc::clone(&self.embed_tokens)
    }

    /// Every matrix but the embedding.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers.iter().flat_map(|layer| {
            let (attention, mlp) = (&layer.self_attn, &layer.mlp);
            [
                &attention.qkv_proj,
                &attention.o_proj,
                &mlp.gate_up_proj,
                &mlp.down_proj,
            ]
        })
    }

    /// Last hidden state after the final norm, tokens × hidden.
    pub(crate) fn forward(&self, pack: &Pack, timings: &mut Timings) -> Vec<f32> {
        let mut room = Room::default();
        let mut x = self.embed(&pack.ids);
        for layer in &self.layers {
            layer.forward(&mut x, pack, &self.rope, &mut room, timings);
        }
        self.norm.forward(&x, &mut room.normed);
        room.normed
    }

    fn embed(&self, ids: &[u32]) -> Vec<f32> {
        let hidden = self.embed_tokens.inputs();
        let mut x = vec![0.0; ids.len() * hidden];
        x.par_chunks_exact_mut(hidden)
            .zip(ids)
            .for_each(|(row, id)| {
                let id = usize::try_from(*id).expect("a token id below the vocabulary's size");
                self.embed_tokens.row(id, row);
            });
        x
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

    fn forward(
        &self,
        x: &mut [f32],
        pack: &Pack,
        rope: &RopeTable,
        room: &mut Room,
        timings: &mut Timings,
    ) {
        let hidden = self.input_layernorm.weight.len();
        self.input_layernorm.forward(x, &mut room.normed);
        self.self_attn.forward(pack, rope, room, timings);
        add(x, hidden, &room.out, self.self_attn.o_proj.width());
        for x in slabs(x, hidden) {
            self.post_attention_layernorm.forward(x, &mut room.normed);
            timings.time(Part::Linear, || self.mlp.forward(room));
            add(x, hidden, &room.out, self.mlp.down_proj.width());
        }
    }
}

/// Cuts rows into slabs of like height.
pub(crate) fn slabs(x: &mut [f32], width: usize) -> impl Iterator<Item = &mut [f32]> {
    let n_rows = x.len() / width;
    let n_slabs = n_rows.div_ceil(MLP_ROWS).max(1);
    x.chunks_mut(n_rows.div_ceil(n_slabs).max(1) * width)
}

impl Attention {
    fn new(config: &Config, weights: &mut Weights, path: &str) -> Result<Self, Error> {
        let mut matrix = |part: &str| weights.matrix(&format!("{path}.{part}.weight"));
        let (q, k, v) = (matrix("q_proj")?, matrix("k_proj")?, matrix("v_proj")?);
        let precision = q.precision();
        Ok(Self {
            starts: [0, q.width(), q.width() + k.width()],
            qkv_proj: Matrix::stack([q, k, v]),
            o_proj: matrix("o_proj")?,
            heads: Heads {
                n_kv: config.n_kv_heads,
                per_kv: config.n_heads / config.n_kv_heads,
                dim: config.head_dim,
                precision,
            },
        })
    }

    fn forward(&self, pack: &Pack, rope: &RopeTable, room: &mut Room, timings: &mut Timings) {
        let width = self.qkv_proj.width();
        timings.time(Part::Linear, || {
            let normed = Rows::of(&room.normed, self.qkv_proj.inputs());
            let input = self.qkv_proj.input(&normed);
            self.qkv_proj.product(&input, &mut room.wide);
        });
        timings.time(Part::Attention, || {
            let projections = Projections {
                rows: Rows::of(&room.wide, width),
                starts: self.starts,
                rope: Some(rope),
            };
            attend(&self.heads, &projections, pack.spans(), &mut room.mixed);
        });
        timings.time(Part::Linear, || {
            let input = self
                .o_proj
                .input(&Rows::of(&room.mixed, self.heads.q_width()));
            self.o_proj.product(&input, &mut room.out);
        });
    }
}

impl Mlp {
    fn new(config: &Config, weights: &mut Weights, path: &str) -> Result<Self, Error> {
        let mut matrix = |part: &str| weights.matrix(&format!("{path}.{part}.weight"));
        Ok(Self {
            gate_up_proj: Matrix::stack([matrix("gate_proj")?, matrix("up_proj")?]),
            down_proj: matrix("down_proj")?,
            inner: config.intermediate_size,
        })
    }

    /// From `normed` to `out`.
    fn forward(&self, room: &mut Room) {
        let width = self.gate_up_proj.width();
        let normed = Rows::of(&room.normed, self.gate_up_proj.inputs());
        let input = self.gate_up_proj.input(&normed);
        self.gate_up_proj.product(&input, &mut room.wide);
        silu_mul(&mut room.wide, width);
        let gated = Rows::of(&room.wide, width).columns(0..self.inner);
        let input = self.down_proj.input(&gated);
        self.down_proj.product(&input, &mut room.out);
    }
}

impl RmsNorm {
    fn new(config: &Config, weights: &mut Weights, name: &str) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.vector(name)?,
            eps: config.rms_norm_eps,
        })
    }

    fn forward(&self, x: &[f32], out: &mut Vec<f32>) {
        rms_norm(x, &self.weight, self.eps, out);
    }
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
        let mut weights = Weights::from_map(config, &tensors);
        let backbone = Backbone::new(config, &mut weights, 16).unwrap();
        let head = weights.matrix(LM_HEAD).unwrap();
        let pack = Pack::new([&[1, 2, 3][..], &[0, 4]]);
        let hidden = backbone.forward(&pack, &mut Timings::default());
        Head::new(Arc::new(head), config.vocab_size).max_logits(&hidden, pack.spans())
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
