//! The network of [`backbone`](crate::backbone), once more, in operations that have gradients.
//!
//! Same order of operations, same rotary tables, no causal term; but texts of a piece are padded
//! to one length here, and padded keys are masked.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::parameter::{Linear, Parameter, Pass};
use crate::device::{PROJECTIONS, Shape, fine, rms_norm, rotate, softmax};

/// A score that no softmax gives any weight, finite in bfloat16 as well.
pub(super) const MASKED: f32 = -1e9;

/// Texts that go through the network together, padded to the longest.
#[derive(Debug)]
pub(super) struct Piece {
    /// Texts × longest, padded with token 0.
    pub(super) ids: Tensor,
    /// Tokens of each text.
    pub(super) lengths: Vec<usize>,
    /// Length of the longest.
    pub(super) longest: usize,
}

impl Piece {
    pub(super) fn new(texts: &[&[u32]], device: &Device) -> Result<Self> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let padded = texts.iter().flat_map(|text| {
            let padding = std::iter::repeat_n(0, longest - text.len());
            text.iter().copied().chain(padding)
        });
        let ids = Tensor::from_iter(padded, device)?.reshape((texts.len(), longest))?;
        Ok(Self {
            ids,
            lengths,
            longest,
        })
    }

    /// What is added to attention scores, texts × 1 × 1 × longest; `None` without padding.
    fn mask(&self, dtype: DType) -> Result<Option<Tensor>> {
        if self.lengths.iter().all(|len| *len == self.longest) {
            return Ok(None);
        }
        let values = self.lengths.iter().flat_map(|len| {
            (0..self.longest).map(move |key| if key < *len { 0.0 } else { MASKED })
        });
        let mask = Tensor::from_iter(values, self.ids.device())?;
        let shape = (self.lengths.len(), 1, 1, self.longest);
        Ok(Some(mask.reshape(shape)?.to_dtype(dtype)?))
    }
}

#[derive(Debug)]
pub(super) struct Network {
    pub(super) embed_tokens: Parameter,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Parameter,
    /// Absent if the embedding is the head.
    pub(super) lm_head: Option<Parameter>,
    pub(super) shape: Shape,
    /// Cosines and sines, positions × head_dim / 2.
    pub(super) rope: (Tensor, Tensor),
    /// What is added to the winning logits, 1 × vocabulary, so that rows of the head which stand
    /// for no term win nothing; `None` if all do.
    pub(super) padding: Option<Tensor>,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) input_layernorm: Parameter,
    pub(super) post_attention_layernorm: Parameter,
    /// In the order of [`PROJECTIONS`].
    pub(super) projections: [Linear; 7],
}

impl Network {
    /// Hidden states after the final norm, (texts · longest) × hidden; rows of padding mean
    /// nothing.
    pub(super) fn hidden(&self, piece: &Piece, pass: Pass) -> Result<Tensor> {
        let embedding = self.embed_tokens.tensor(pass.dtype, pass.track)?;
        let mut x = embedding.index_select(&piece.ids.flatten_all()?, 0)?;
        let mask = piece.mask(pass.dtype)?;
        for layer in &self.layers {
            let normed = self.rms_norm(&x, &layer.input_layernorm, pass)?;
            x = (x + self.attention(layer, &normed, piece, mask.as_ref(), pass)?)?;
            let normed = self.rms_norm(&x, &layer.post_attention_layernorm, pass)?;
            x = (x + mlp(layer, &normed, pass)?)?;
        }
        self.rms_norm(&x, &self.norm, pass)
    }

    /// Winning logits, texts × vocabulary, with those of rows that stand for no term lowered.
    pub(super) fn without_padding(&self, logits: Tensor) -> Result<Tensor> {
        match &self.padding {
            Some(padding) => logits.broadcast_add(padding),
            None => Ok(logits),
        }
    }

    /// The head's weight, vocabulary × hidden.
    pub(super) fn head(&self) -> &Parameter {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Everything that is trained, by a name of its own, always in the same order.
    pub(super) fn trained(&self) -> Vec<(String, Var)> {
        let mut all = Vec::new();
        let mut take = |name: &str, parameter: &Parameter| {
            all.extend(parameter.var().map(|var| (name.to_owned(), var.clone())));
        };
        take(crate::weights::EMBEDDING, &self.embed_tokens);
        take("model.norm.weight", &self.norm);
        if let Some(head) = &self.lm_head {
            take(crate::weights::LM_HEAD, head);
        }
        for (idx, layer) in self.layers.iter().enumerate() {
            let path = format!("model.layers.{idx}");
            take(
                &format!("{path}.input_layernorm.weight"),
                &layer.input_layernorm,
            );
            take(
                &format!("{path}.post_attention_layernorm.weight"),
                &layer.post_attention_layernorm,
            );
            for (name, linear) in PROJECTIONS.iter().zip(&layer.projections) {
                take(&format!("{path}.{name}.weight"), &linear.weight);
                if let Some(adapter) = &linear.adapter {
                    let named = |part: &str| format!("{path}.{name}.{part}.weight");
                    take(&named("lora_A"), &Parameter::Trained(adapter.a.clone()));
                    take(&named("lora_B"), &Parameter::Trained(adapter.b.clone()));
                }
            }
        }
        all
    }

    /// Norms are taken in f32 or finer.
    fn rms_norm(&self, x: &Tensor, weight: &Parameter, pass: Pass) -> Result<Tensor> {
        let weight = weight.tensor(fine(pass.dtype), pass.track)?;
        rms_norm(x, &weight, self.shape.eps)?.to_dtype(pass.dtype)
    }

    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        piece: &Piece,
        mask: Option<&Tensor>,
        pass: Pass,
    ) -> Result<Tensor> {
        let Shape {
            n_heads,
            n_kv_heads,
            head_dim,
            ..
        } = self.shape;
        let (texts, len) = (piece.lengths.len(), piece.longest);
        let [q_proj, k_proj, v_proj, o_proj, ..] = &layer.projections;
        let heads = |linear: &Linear, n_heads: usize| {
            let rows = linear.forward(x, pass)?;
            let rows = rows.reshape((texts, len, n_heads, head_dim))?;
            rows.transpose(1, 2)?.contiguous()
        };
        let q = self.rotate(&heads(q_proj, n_heads)?, len)?;
        let k = self.rotate(&heads(k_proj, n_kv_heads)?, len)?;
        let v = heads(v_proj, n_kv_heads)?;
        // Query heads that share a key head are rows of one product: keys are not repeated.
        let q = q.reshape((texts, n_kv_heads, n_heads / n_kv_heads * len, head_dim))?;
        let scores = (q.matmul(&k.t()?)? * self.shape.score_scale())?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let mixed = softmax(&scores)?.matmul(&v)?;
        let mixed = mixed.reshape((texts, n_heads, len, head_dim))?;
        let mixed = mixed
            .transpose(1, 2)?
            .reshape((texts * len, n_heads * head_dim))?;
        o_proj.forward(&mixed, pass)
    }

    /// Turns heads by their positions; `x` is texts × heads × len × head_dim.
    fn rotate(&self, x: &Tensor, len: usize) -> Result<Tensor> {
        let table = |table: &Tensor| table.narrow(0, 0, len)?.to_dtype(x.dtype());
        rotate(x, &table(&self.rope.0)?, &table(&self.rope.1)?)
    }
}

/// W_down · (silu(W_gate · x) ⊙ W_up · x) (Shazeer 2020, SwiGLU).
fn mlp(layer: &Layer, x: &Tensor, pass: Pass) -> Result<Tensor> {
    let [.., gate_proj, up_proj, down_proj] = &layer.projections;
    let gated = (gate_proj.forward(x, pass)?.silu()? * up_proj.forward(x, pass)?)?;
    down_proj.forward(&gated, pass)
}
