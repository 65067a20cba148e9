//! The encoder of both families, and the part of their head that comes before the vocabulary.
//!
//! Texts of a batch are laid end to end, without padding, as in [`crate::backbone`].

use std::sync::Arc;

use rayon::prelude::*;

use crate::attention::{Heads, Projections, attend};
use crate::backbone::{Pack, slabs};
use crate::bert::activation::Activation;
use crate::bert::config::BertConfig;
use crate::bert::layers::{LayerNorm, Linear};
use crate::error::Error;
use crate::matmul::{Matrix, Rows};
use crate::timings::{Part, Timings};
use crate::weights::Weights;

pub(crate) struct Backbone {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    transform: Linear,
    transform_norm: LayerNorm,
    activation: Activation,
}

struct Embeddings {
    /// A tied head is the same.
    words: Arc<Matrix>,
    /// Positions × hidden, the embedding of the first token type added to each.
    positions: Vec<f32>,
    norm: LayerNorm,
}

struct Layer {
    qkv: Linear,
    /// Columns of a product at which queries, keys and values begin.
    starts: [usize; 3],
    attention_output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
    heads: Heads,
    activation: Activation,
    inner: usize,
}

/// What a forward pass needs room for, used again by every layer.
#[derive(Default)]
struct Room {
    wide: Vec<f32>,
    mixed: Vec<f32>,
    out: Vec<f32>,
}

impl Backbone {
    /// Takes its tensors out of `weights`; texts may be `max_length` tokens long.
    pub(crate) fn new(
        config: &BertConfig,
        weights: &mut Weights,
        max_length: usize,
    ) -> Result<Self, Error> {
        let names = config.names;
        let layers = (0..config.n_layers).map(|idx| Layer::new(config, weights, idx));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            embeddings: Embeddings::new(config, weights, max_length)?,
            transform: Linear::new(weights, names.transform)?,
            transform_norm: LayerNorm::new(weights, names.transform_norm, config.norm_eps)?,
            activation: config.activation,
        })
    }

    /// The embedding matrix, vocabulary × hidden; a tied head is the same.
    pub(crate) fn words(&self) -> Arc<Matrix> {
        Arc::clone(&self.embeddings.words)
    }

    /// Every matrix but the embedding.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.attention_output, &layer.up, &layer.down]);
        layers.chain([&self.transform]).map(|linear| &linear.weight)
    }

    /// What the vocabulary is multiplied with, tokens × hidden: the last hidden state after the
    /// head's own layer and norm.
    pub(crate) fn forward(&self, pack: &Pack, timings: &mut Timings) -> Vec<f32> {
        let mut room = Room::default();
        let mut x = self.embeddings.forward(pack);
        for layer in &self.layers {
            layer.forward(&mut x, pack, &mut room, timings);
        }
        timings.time(Part::Linear, || self.transformed(&mut x, &mut room));
        x
    }

    fn transformed(&self, x: &mut [f32], room: &mut Room) {
        let hidden = self.transform.weight.inputs();
        for x in slabs(x, hidden) {
            let rows = Rows::of(x, hidden);
            self.transform
                .activated(&rows, self.activation, &mut room.out);
            let rows = room.out.chunks_exact(self.transform.width());
            for (x, out) in x.chunks_exact_mut(hidden).zip(rows) {
                x.copy_from_slice(&out[..hidden]);
            }
            self.transform_norm.forward(x);
        }
    }
}

impl Embeddings {
    fn new(config: &BertConfig, weights: &mut Weights, max_length: usize) -> Result<Self, Error> {
        let name = |part: &str| format!("{}.{part}", config.names.embeddings);
        let hidden = config.hidden_size;
        let mut positions = weights.vector(&name("position_embeddings.weight"))?;
        positions.truncate(max_length.saturating_mul(hidden));
        if config.n_token_types > 0 {
            let types = weights.vector(&name("token_type_embeddings.weight"))?;
            for row in positions.chunks_exact_mut(hidden) {
                for (position, first) in row.iter_mut().zip(&types) {
                    *position += first;
                }
            }
        }
        Ok(Self {
            words: Arc::new(weights.matrix(&name("word_embeddings.weight"))?),
            positions,
            norm: LayerNorm::new(weights, &name("LayerNorm"), config.norm_eps)?,
        })
    }

    fn forward(&self, pack: &Pack) -> Vec<f32> {
        let hidden = self.words.inputs();
        let mut x = vec![0.0; pack.ids().len() * hidden];
        let mut rest = x.as_mut_slice();
        for span in pack.spans() {
            let text = rest
                .split_off_mut(..span.len() * hidden)
                .unwrap_or_default();
            let rows = text.par_chunks_exact_mut(hidden);
            let positions = self.positions.par_chunks_exact(hidden);
            rows.zip(positions)
                .zip(&pack.ids()[span.clone()])
                .for_each(|((row, position), id)| {
                    let id = usize::try_from(*id).expect("a token id below the vocabulary's size");
                    self.words.row(id, row);
                    for (value, position) in row.iter_mut().zip(position) {
                        *value += position;
                    }
                });
        }
        self.norm.forward(&mut x);
        x
    }
}

impl Layer {
    fn new(config: &BertConfig, weights: &mut Weights, idx: usize) -> Result<Self, Error> {
        let names = config.names;
        let name = |part: &str| format!("{}.{idx}.{part}", names.layer);
        let mut linear = |part: &str| Linear::new(weights, &name(part));
        let (q, k, v) = (
            linear(names.query)?,
            linear(names.key)?,
            linear(names.value)?,
        );
        Ok(Self {
            heads: Heads {
                n_kv: config.n_heads,
                per_kv: 1,
                dim: config.hidden_size / config.n_heads,
                precision: q.weight.precision(),
            },
            starts: [0, q.width(), q.width() + k.width()],
            qkv: Linear::stack([q, k, v]),
            attention_output: linear(names.attention_output)?,
            up: linear(names.up)?,
            down: linear(names.down)?,
            attention_norm: LayerNorm::new(weights, &name(names.attention_norm), config.norm_eps)?,
            output_norm: LayerNorm::new(weights, &name(names.output_norm), config.norm_eps)?,
            activation: config.activation,
            inner: config.intermediate_size,
        })
    }

    fn forward(&self, x: &mut [f32], pack: &Pack, room: &mut Room, timings: &mut Timings) {
        let hidden = self.qkv.weight.inputs();
        timings.time(Part::Linear, || {
            self.qkv.forward(&Rows::of(x, hidden), &mut room.wide);
        });
        timings.time(Part::Attention, || {
            let projections = Projections {
                rows: Rows::of(&room.wide, self.qkv.width()),
                starts: self.starts,
                rope: None,
            };
            attend(&self.heads, &projections, pack.spans(), &mut room.mixed);
        });
        timings.time(Part::Linear, || {
            let mixed = Rows::of(&room.mixed, self.heads.q_width());
            self.attention_output.product(&mixed, &mut room.out);
        });
        self.attention_norm
            .add(x, &room.out, &self.attention_output);
        for x in slabs(x, hidden) {
            timings.time(Part::Linear, || {
                let rows = Rows::of(x, hidden);
                self.up.activated(&rows, self.activation, &mut room.wide);
                let activated = Rows::of(&room.wide, self.up.width()).columns(0..self.inner);
                self.down.product(&activated, &mut room.out);
            });
            self.output_norm.add(x, &room.out, &self.down);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;
    use crate::head::Pooled;
    use crate::network::Network;
    use crate::options::WeightFormat;
    use crate::saturation::Saturation;
    use crate::weights::Architecture;
    use std::collections::HashMap;

    fn family(json: &str) -> Family {
        Family::parse(json.as_bytes()).unwrap()
    }

    fn families() -> [Family; 2] {
        [
            family(
                r#"{"model_type": "bert", "vocab_size": 40, "hidden_size": 8, "type_vocab_size": 2,
                "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
                "max_position_embeddings": 16, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
                "tie_word_embeddings": false}"#,
            ),
            family(
                r#"{"model_type": "distilbert", "vocab_size": 40, "dim": 8, "hidden_dim": 12,
                "n_layers": 2, "n_heads": 2, "max_position_embeddings": 16, "activation": "relu"}"#,
            ),
        ]
    }

    /// Both names of BERT's bias, so that it has one.
    fn tensors(family: &Family) -> HashMap<String, Vec<f32>> {
        let mut step = 0.0_f32;
        let mut next = || {
            step += 0.7;
            step.sin()
        };
        let all = family.manifest().into_iter();
        all.map(|tensor| {
            let values = (0..tensor.n_elements()).map(|_| next()).collect();
            (tensor.name, values)
        })
        .collect()
    }

    fn run(family: &Family, tensors: &HashMap<String, Vec<f32>>) -> [Pooled; 2] {
        let mut weights = Weights::generate(family, WeightFormat::F32, |tensor| {
            tensors[&tensor.name].clone()
        });
        let bias = vec![0.25; family.vocab_size()];
        weights.put_vector("cls.predictions.bias", bias);
        let network = Network::new(family, &mut weights, 16).unwrap();
        let pack = Pack::new([&[1, 2, 3][..], &[0, 4]]);
        let hidden = network.hidden(&pack, &mut Timings::default());
        let (head, spans) = (network.head(), pack.spans());
        [
            head.max_logits(&hidden, spans),
            head.sums(&hidden, spans, Saturation::Once),
        ]
    }

    /// As of a Llama: on load such weights are refused; here they get past the door, and the head
    /// must still see each of them.
    #[test]
    fn a_poisoned_weight_of_any_tensor_reaches_the_head_as_not_finite() {
        let mut n_reported = 0;
        for family in families() {
            let clean = tensors(&family);
            for pooled in run(&family, &clean) {
                assert!(matches!(pooled, Pooled::Logits(_)));
            }
            for name in clean.keys() {
                for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut tensors = clean.clone();
                    tensors.get_mut(name).unwrap()[1] = poison;
                    for pooled in run(&family, &tensors) {
                        let is_seen = matches!(pooled, Pooled::NotFinite(_));
                        assert!(is_seen, "{name} with {poison}");
                        n_reported += 1;
                    }
                }
            }
        }
        assert_eq!(n_reported, (42 + 41) * 3 * 2);
    }
}
