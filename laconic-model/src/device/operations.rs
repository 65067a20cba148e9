//! Operations of a Llama that inference and training share. All of them have gradients: candle's
//! own `rms_norm`, `rope` and `softmax_last_dim` drop them without a word, none of them is used.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::config::Config;
use crate::rope::RopeTable;

/// The numbers of a config that a forward pass needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) eps: f64,
}

impl Shape {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            eps: f64::from(config.rms_norm_eps),
        }
    }

    /// What scores are multiplied with: 1/√head_dim.
    pub(crate) fn score_scale(&self) -> f64 {
        let head_dim = u32::try_from(self.head_dim).unwrap_or(u32::MAX);
        f64::from(head_dim).sqrt().recip()
    }
}

/// The linear projections of a layer, by their names in a checkpoint.
pub(crate) const PROJECTIONS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The type of sums and exponentials beside matrix products of type `dtype`.
pub(crate) fn fine(dtype: DType) -> DType {
    match dtype {
        DType::BF16 | DType::F16 => DType::F32,
        other => other,
    }
}

/// Cosines and sines for texts of up to `longest` tokens, each positions × head_dim / 2.
pub(crate) fn rope_tables(
    config: &Config,
    longest: usize,
    dtype: DType,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let rope = RopeTable::new(config, longest);
    let (cos, sin) = rope.tables();
    let table = |values: &[f32]| {
        Tensor::from_slice(values, (longest, config.head_dim / 2), device)?.to_dtype(dtype)
    };
    Ok((table(cos)?, table(sin)?))
}

/// x / √(mean(x²) + ε) · w, by row (Zhang and Sennrich 2019, equation 4), in the type of `weight`.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.to_dtype(weight.dtype())?;
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = x.broadcast_div(&(mean + eps)?.sqrt()?)?;
    normed.broadcast_mul(weight)
}

/// Turns pairs (i, i + head_dim / 2) of the last dimension, as [`RopeTable`]; cosines and sines
/// are broadcast.
pub(crate) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let left = x.narrow(D::Minus1, 0, half)?;
    let right = x.narrow(D::Minus1, half, half)?;
    let turned_left = (left.broadcast_mul(cos)? - right.broadcast_mul(sin)?)?;
    let turned_right = (right.broadcast_mul(cos)? + left.broadcast_mul(sin)?)?;
    Tensor::cat(&[turned_left, turned_right], D::Minus1)
}

/// Over the last dimension, in f32 or finer.
pub(crate) fn softmax(scores: &Tensor) -> Result<Tensor> {
    let fine_scores = scores.to_dtype(fine(scores.dtype()))?;
    // The largest score cancels: no gradient goes through it.
    let max = fine_scores.detach().max_keepdim(D::Minus1)?;
    let weights = fine_scores.broadcast_sub(&max)?.exp()?;
    let sum = weights.sum_keepdim(D::Minus1)?;
    weights.broadcast_div(&sum)?.to_dtype(scores.dtype())
}
