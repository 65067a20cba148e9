//! Bidirectional grouped-query attention (Ainslie et al. 2023) over texts laid
//! end to end, with bounded memory.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::backbone::to_vec;
use crate::error::Error;
use crate::kernels::softmax;

/// Scores held at once by one task: 1 MiB, so that they stay in cache and a
/// long text does not cost the square of its length in memory.
const MAX_TILE: usize = 1 << 18;

/// How the channels of queries, keys and values divide into heads.
pub(crate) struct Heads {
    pub(crate) n_kv: usize,
    /// Query heads that share one key head.
    pub(crate) per_kv: usize,
    pub(crate) dim: usize,
}

impl Heads {
    pub(crate) fn q_width(&self) -> usize {
        self.n_kv * self.per_kv * self.dim
    }

    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv * self.dim
    }
}

/// softmax(q kᵀ / √dim) v for every text and head, every position seeing
/// every other of its text.
///
/// `q` is tokens × q_width, `k` and `v` tokens × kv_width, all with positions
/// already rotated in; the result is tokens × q_width.
pub(crate) fn attend(
    heads: &Heads,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[Range<usize>],
) -> Result<Vec<f32>, Error> {
    let tasks: Vec<_> = spans
        .iter()
        .flat_map(|span| (0..heads.n_kv).map(move |kv_head| (span.clone(), kv_head)))
        .collect();
    let mixed: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|(span, kv_head)| attend_head(heads, q, k, v, span, *kv_head))
        .collect::<Result<_, _>>()?;
    let mut out = vec![0.0; q.len()];
    for ((span, kv_head), rows) in tasks.iter().zip(&mixed) {
        let columns = query_columns(heads, *kv_head);
        let text = &mut out[span.start * heads.q_width()..span.end * heads.q_width()];
        for (to, from) in text
            .chunks_exact_mut(heads.q_width())
            .zip(rows.chunks_exact(columns.len()))
        {
            to[columns.clone()].copy_from_slice(from);
        }
    }
    Ok(out)
}

/// One text, one key head and the query heads that share it.
///
/// Those query heads lie side by side, so a token's slice of them is `per_kv`
/// rows of one matrix; the result has the same layout.
fn attend_head(
    heads: &Heads,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    span: &Range<usize>,
    kv_head: usize,
) -> Result<Vec<f32>, Error> {
    let n = span.len();
    let kv_columns = kv_head * heads.dim..(kv_head + 1) * heads.dim;
    let rows = n * heads.per_kv;
    let q = gather(q, heads.q_width(), span, query_columns(heads, kv_head));
    let q = matrix(scaled(q, heads.dim), rows, heads.dim)?;
    let k = matrix(
        gather(k, heads.kv_width(), span, kv_columns.clone()),
        n,
        heads.dim,
    )?
    .t()?;
    let v = matrix(gather(v, heads.kv_width(), span, kv_columns), n, heads.dim)?;
    let tile = (MAX_TILE / n.max(1)).max(1);
    let mut mixed = Vec::with_capacity(rows * heads.dim);
    for start in (0..rows).step_by(tile) {
        let height = tile.min(rows - start);
        let mut scores = to_vec(&q.narrow(0, start, height)?.matmul(&k)?)?;
        scores.chunks_exact_mut(n).for_each(softmax);
        mixed.extend(to_vec(&matrix(scores, height, n)?.matmul(&v)?)?);
    }
    Ok(mixed)
}

fn query_columns(heads: &Heads, kv_head: usize) -> Range<usize> {
    let width = heads.per_kv * heads.dim;
    kv_head * width..(kv_head + 1) * width
}

/// Copies some columns of some rows of a matrix `width` wide.
fn gather(matrix: &[f32], width: usize, rows: &Range<usize>, columns: Range<usize>) -> Vec<f32> {
    let rows = &matrix[rows.start * width..rows.end * width];
    rows.chunks_exact(width)
        .flat_map(|row| &row[columns.clone()])
        .copied()
        .collect()
}

fn scaled(mut q: Vec<f32>, dim: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "head_dim is at most 512")]
    let scale = (dim as f32).sqrt().recip();
    q.iter_mut().for_each(|x| *x *= scale);
    q
}

fn matrix(values: Vec<f32>, rows: usize, cols: usize) -> Result<Tensor, Error> {
    Ok(Tensor::from_vec(values, (rows, cols), &Device::Cpu)?)
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;

    /// The definition, term by term, in f64.
    fn naive(heads: &Heads, q: &[f32], k: &[f32], v: &[f32], span: &Range<usize>) -> Vec<f64> {
        let (qw, kw, d) = (heads.q_width(), heads.kv_width(), heads.dim);
        let mut out = Vec::new();
        for i in span.clone() {
            for head in 0..heads.n_kv * heads.per_kv {
                let kv = head / heads.per_kv;
                let dot = |j: usize| -> f64 {
                    (0..d)
                        .map(|c| {
                            f64::from(q[i * qw + head * d + c]) * f64::from(k[j * kw + kv * d + c])
                        })
                        .sum()
                };
                let scores: Vec<f64> = span
                    .clone()
                    .map(|j| (dot(j) / (d as f64).sqrt()).exp())
                    .collect();
                let total: f64 = scores.iter().sum();
                out.extend((0..d).map(|c| {
                    let values = span.clone().map(|j| f64::from(v[j * kw + kv * d + c]));
                    scores
                        .iter()
                        .zip(values)
                        .map(|(s, x)| s / total * x)
                        .sum::<f64>()
                }));
            }
        }
        out
    }

    #[test]
    fn it_is_the_definition_text_by_text() {
        let heads = Heads {
            n_kv: 2,
            per_kv: 3,
            dim: 4,
        };
        let n = 900;
        let wave = |len: usize, step: f32| {
            (0..len)
                .map(|i| (i as f32 * step).sin())
                .collect::<Vec<_>>()
        };
        let (q, k, v) = (wave(n * 24, 0.37), wave(n * 8, 0.73), wave(n * 8, 1.1));
        // One text is longer than a tile is high, one is a single token.
        let spans = [0..1, 1..700, 700..700, 700..900];
        let ours = attend(&heads, &q, &k, &v, &spans).unwrap();
        let truth: Vec<f64> = spans
            .iter()
            .flat_map(|span| naive(&heads, &q, &k, &v, span))
            .collect();
        assert_eq!(ours.len(), truth.len());
        for (ours, truth) in ours.iter().zip(&truth) {
            assert!(
                (f64::from(*ours) - truth).abs() < 1e-5,
                "{ours} is not {truth}"
            );
        }
    }
}
