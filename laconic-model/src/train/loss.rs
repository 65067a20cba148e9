//! The loss of a batch and its gradient for every term weight.

use candle_core::{D, DType, Result, Tensor, Var};

use super::recipe::to_f64;

/// Weights of the parts of the loss, as they are at one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossWeights {
    pub(super) temperature: f64,
    pub(super) query_flops: f64,
    pub(super) document_flops: f64,
}

/// The loss of a batch, its parts, and what the vectors were like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossValue {
    pub(super) loss: f64,
    pub(super) contrast: f64,
    pub(super) query_flops: f64,
    pub(super) document_flops: f64,
    /// Share of the queries whose own passage scores highest.
    pub(super) accuracy: f64,
    /// Mean number of terms.
    pub(super) query_terms: f64,
    pub(super) document_terms: f64,
}

impl LossValue {
    pub(super) fn mean(values: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| values.iter().map(of).sum::<f64>() / to_f64(values.len());
        Self {
            loss: mean(|value| value.loss),
            contrast: mean(|value| value.contrast),
            query_flops: mean(|value| value.query_flops),
            document_flops: mean(|value| value.document_flops),
            accuracy: mean(|value| value.accuracy),
            query_terms: mean(|value| value.query_terms),
            document_terms: mean(|value| value.document_terms),
        }
    }
}

/// Gradients of the winning logits, texts × vocabulary.
pub(super) struct LogitGradients {
    pub(super) queries: Tensor,
    pub(super) documents: Tensor,
}

/// Which passages count as wrong answers, queries × passages: 0, or a score no softmax gives any
/// weight, for the passages that are right although another query brought them.
pub(super) type Exempt = Tensor;

/// The loss of winning logits.
///
/// A term weight is log(1 + max(0, logit)). Passages lie example by example: passage
/// `i * per_query` is right for query `i`; all others are wrong, but for those exempt.
///
/// > InfoNCE + λ_q · FLOPs(queries) + λ_d · FLOPs(passages)
///
/// InfoNCE (van den Oord et al. 2018, equation 4) of inner products over the temperature; FLOPs
/// (Paria et al. 2020, equation 4): the square of a term's mean weight, summed over terms.
pub(super) fn loss(
    query_logits: &Tensor,
    document_logits: &Tensor,
    per_query: usize,
    exempt: Option<&Exempt>,
    weights: LossWeights,
) -> Result<(LossValue, LogitGradients)> {
    let query_logits = Var::from_tensor(&query_logits.detach())?;
    let document_logits = Var::from_tensor(&document_logits.detach())?;
    let queries = term_weights(query_logits.as_tensor())?;
    let documents = term_weights(document_logits.as_tensor())?;
    let n_queries = queries.dim(0)?;
    let scores = (queries.matmul(&documents.t()?)? / weights.temperature)?;
    let scores = match exempt {
        Some(exempt) => (scores + exempt.to_dtype(queries.dtype())?)?,
        None => scores,
    };
    let own: Vec<u32> = (0..n_queries)
        .filter_map(|query| u32::try_from(query * per_query).ok())
        .collect();
    let own = Tensor::from_vec(own, (n_queries, 1), queries.device())?;
    let right = scores.gather(&own, 1)?;
    // The largest score cancels: no gradient goes through it.
    let max = scores.detach().max_keepdim(D::Minus1)?;
    let log_sum = (scores
        .broadcast_sub(&max)?
        .exp()?
        .sum_keepdim(D::Minus1)?
        .log()?
        + &max)?;
    let contrast = (log_sum - &right)?.mean_all()?;
    let (query_flops, document_flops) = (flops(&queries)?, flops(&documents)?);
    let total = (&contrast
        + ((&query_flops * weights.query_flops)? + (&document_flops * weights.document_flops)?)?)?;
    let grads = total.backward()?;
    let grad = |var: &Var| match grads.get(var) {
        Some(grad) => Ok(grad.clone()),
        None => var.as_tensor().zeros_like(),
    };
    let is_right = right.detach().ge(&max)?.to_dtype(DType::F64)?;
    let value = LossValue {
        loss: scalar(&total)?,
        contrast: scalar(&contrast)?,
        query_flops: scalar(&query_flops)?,
        document_flops: scalar(&document_flops)?,
        accuracy: scalar(&is_right.mean_all()?)?,
        query_terms: n_terms(&queries)?,
        document_terms: n_terms(&documents)?,
    };
    let gradients = LogitGradients {
        queries: grad(&query_logits)?,
        documents: grad(&document_logits)?,
    };
    Ok((value, gradients))
}

/// log(1 + max(0, logit)).
pub(super) fn term_weights(logits: &Tensor) -> Result<Tensor> {
    (logits.relu()? + 1.0)?.log()
}

/// Σ over terms of (mean over texts of the weight)².
fn flops(weights: &Tensor) -> Result<Tensor> {
    weights.mean(0)?.sqr()?.sum_all()
}

/// Mean number of terms.
pub(super) fn n_terms(weights: &Tensor) -> Result<f64> {
    let active = weights.detach().gt(0.0)?.to_dtype(DType::F64)?;
    scalar(&active.sum(D::Minus1)?.mean_all()?)
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    tensor.detach().to_dtype(DType::F64)?.to_scalar()
}
