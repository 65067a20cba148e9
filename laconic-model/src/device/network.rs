//! The network of [`backbone`](crate::backbone) in tensor operations, for one device.
//!
//! Matrix products are of one type, f32 or bf16; norms, softmax, rotation and the residual stream
//! are f32 in any case.

use candle_core::{DType, Device, Result, Tensor};

use super::attention::{MAX_SCORES, Run, attend};
use super::operations::{Shape, rms_norm, rotate};
use crate::backbone::Pack;

pub(crate) struct Network {
    /// Vocabulary × hidden.
    pub(super) embed_tokens: Tensor,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Tensor,
    /// Vocabulary × hidden; a tied one is the embedding.
    pub(super) head: Tensor,
    pub(super) shape: Shape,
    /// Cosines and sines, positions × head_dim / 2.
    pub(super) rope: (Tensor, Tensor),
}

/// Norms are f32, projections of the type that is computed with, outputs × inputs.
pub(super) struct Layer {
    pub(super) input_layernorm: Tensor,
    pub(super) post_attention_layernorm: Tensor,
    /// In the order of [`PROJECTIONS`](super::operations::PROJECTIONS).
    pub(super) projections: [Tensor; 7],
}

/// A pack, as the layers need it.
struct Batch {
    runs: Vec<Run>,
    /// Of each token's position, tokens × 1 × head_dim / 2.
    cos: Tensor,
    sin: Tensor,
}

impl Network {
    /// Hidden states after the final norm, tokens × hidden, in f32.
    pub(crate) fn hidden(&self, pack: &Pack) -> Result<Tensor> {
        let batch = self.batch(pack)?;
        let ids = Tensor::new(pack.ids(), self.device())?;
        let mut x = self
            .embed_tokens
            .index_select(&ids, 0)?
            .to_dtype(DType::F32)?;
        for layer in &self.layers {
            let normed = rms_norm(&x, &layer.input_layernorm, self.shape.eps)?;
            x = (x + self.attention(layer, &normed, &batch)?)?;
            let normed = rms_norm(&x, &layer.post_attention_layernorm, self.shape.eps)?;
            x = (x + mlp(layer, &normed)?)?;
        }
        rms_norm(&x, &self.norm, self.shape.eps)
    }

    pub(super) fn device(&self) -> &Device {
        self.embed_tokens.device()
    }

    fn batch(&self, pack: &Pack) -> Result<Batch> {
        let spans = pack.spans().iter();
        let positions: Vec<u32> = spans.flat_map(|span| (0..).take(span.len())).collect();
        let positions = Tensor::new(positions, self.device())?;
        let rows = |table: &Tensor| table.index_select(&positions, 0)?.unsqueeze(1);
        Ok(Batch {
            runs: Run::all(pack.spans()),
            cos: rows(&self.rope.0)?,
            sin: rows(&self.rope.1)?,
        })
    }

    fn attention(&self, layer: &Layer, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let [q_proj, k_proj, v_proj, o_proj, ..] = &layer.projections;
        let x = x.to_dtype(q_proj.dtype())?;
        let heads = |weight: &Tensor, n_heads: usize| {
            let rows = x.matmul(&weight.t()?)?.to_dtype(DType::F32)?;
            rows.reshape((x.dim(0)?, n_heads, self.shape.head_dim))
        };
        let q = heads(q_proj, self.shape.n_heads)?;
        let k = heads(k_proj, self.shape.n_kv_heads)?;
        let turned = |x: &Tensor| rotate(x, &batch.cos, &batch.sin)?.to_dtype(q_proj.dtype());
        let (q, k) = (turned(&q)?, turned(&k)?);
        let v = heads(v_proj, self.shape.n_kv_heads)?.to_dtype(q_proj.dtype())?;
        let mixed = attend(&self.shape, [&q, &k, &v], &batch.runs, MAX_SCORES)?;
        linear(&mixed, o_proj)
    }
}

/// W_down · (silu(W_gate · x) ⊙ W_up · x) (Shazeer 2020, SwiGLU).
fn mlp(layer: &Layer, x: &Tensor) -> Result<Tensor> {
    let [.., gate_proj, up_proj, down_proj] = &layer.projections;
    let x = x.to_dtype(gate_proj.dtype())?;
    let gated = (x.matmul(&gate_proj.t()?)?.silu()? * x.matmul(&up_proj.t()?)?)?;
    linear(&gated, down_proj)
}

/// Rows × inputs to rows × outputs, in f32.
fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.to_dtype(DType::F32)
}
