//! Attention of texts that lie end to end, without padding and without a mask: texts of one length
//! go through together, others one after the other.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::operations::{Shape, softmax};

/// Scores that are in memory at once, texts × heads × queries × keys: 64 MiB of f32.
pub(super) const MAX_SCORES: usize = 16 << 20;

/// Neighbouring texts of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// First row of the pack.
    pub(super) start: usize,
    pub(super) n_texts: usize,
    /// Tokens of each.
    pub(super) len: usize,
}

impl Run {
    /// The runs of a pack. Batches are sorted by length, so they are few.
    pub(super) fn all(spans: &[Range<usize>]) -> Vec<Self> {
        let runs = spans.chunk_by(|a, b| a.len() == b.len());
        runs.map(|texts| Self {
            start: texts[0].start,
            n_texts: texts.len(),
            len: texts[0].len(),
        })
        .collect()
    }

    /// The run's rows of `x`, which has one a token.
    pub(super) fn rows(&self, x: &Tensor) -> Result<Tensor> {
        x.narrow(0, self.start, self.n_texts * self.len)
    }
}

/// Every query meets every key of its own text. `q` is tokens × heads × head_dim, `k` and `v` are
/// tokens × key heads × head_dim; the result is tokens × (heads · head_dim).
pub(super) fn attend(
    shape: &Shape,
    [q, k, v]: [&Tensor; 3],
    runs: &[Run],
    max_scores: usize,
) -> Result<Tensor> {
    let Shape {
        n_heads,
        n_kv_heads,
        head_dim,
        ..
    } = *shape;
    let mut mixed = Vec::with_capacity(runs.len());
    for run in runs {
        let (n, len) = (run.n_texts, run.len);
        let heads = |x: &Tensor, n_heads: usize| {
            let rows = run.rows(x)?.reshape((n, len, n_heads, head_dim))?;
            rows.transpose(1, 2)?.contiguous()
        };
        // Query heads that share a key head are rows of one product: keys are not repeated.
        let q =
            heads(q, n_heads)?.reshape((n, n_kv_heads, n_heads / n_kv_heads * len, head_dim))?;
        let (k, v) = (heads(k, n_kv_heads)?, heads(v, n_kv_heads)?);
        let found = mix(&q, &k, &v, shape.score_scale(), max_scores)?;
        let found = found.reshape((n, n_heads, len, head_dim))?;
        let found = found.transpose(1, 2)?;
        mixed.push(found.reshape((n * len, n_heads * head_dim))?);
    }
    Tensor::cat(&mixed, 0)
}

/// softmax(q·kᵀ·scale)·v, all of it texts × heads × rows × head_dim, in pieces of texts and then of
/// queries, so that there are never more than `max_scores` scores, or those of one query.
fn mix(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, max_scores: usize) -> Result<Tensor> {
    let (n_texts, n_heads, n_queries, _) = q.dims4()?;
    let per_query = n_heads * k.dim(2)?;
    let texts_each = (max_scores / (per_query * n_queries).max(1)).clamp(1, n_texts.max(1));
    let queries_each = (max_scores / per_query.max(1)).clamp(1, n_queries.max(1));
    let piece = |text: usize, query: usize| {
        let texts = texts_each.min(n_texts - text);
        let queries = queries_each.min(n_queries - query);
        let q = q.narrow(0, text, texts)?.narrow(2, query, queries)?;
        let (k, v) = (k.narrow(0, text, texts)?, v.narrow(0, text, texts)?);
        let scores = (q.contiguous()?.matmul(&k.t()?)? * scale)?;
        softmax(&scores)?.matmul(&v)
    };
    let mut by_text = Vec::new();
    for text in (0..n_texts).step_by(texts_each) {
        let queries = (0..n_queries).step_by(queries_each);
        let pieces = queries.map(|query| piece(text, query));
        by_text.push(Tensor::cat(&pieces.collect::<Result<Vec<_>>>()?, 2)?);
    }
    Tensor::cat(&by_text, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn wave(shape: (usize, usize, usize, usize), step: f32) -> Tensor {
        let n: usize = shape.0 * shape.1 * shape.2 * shape.3;
        let mut at = 0.0_f32;
        let values = (0..n).map(|_| {
            at += step;
            at.sin()
        });
        Tensor::from_iter(values, &Device::Cpu)
            .and_then(|tensor| tensor.reshape(shape))
            .unwrap()
    }

    /// Budgets that cut between texts, between queries, and at every query.
    #[test]
    fn pieces_together_are_the_whole() {
        let (q, k) = (wave((3, 2, 10, 4), 0.37), wave((3, 2, 5, 4), 0.11));
        let v = wave((3, 2, 5, 4), 0.7);
        let values = |max_scores| {
            let mixed = mix(&q, &k, &v, 0.5, max_scores).unwrap();
            assert_eq!(mixed.dims(), [3, 2, 10, 4]);
            mixed.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let whole = values(usize::MAX);
        for max_scores in [0, 1, 10, 35, 99, 100, 150, 200, 299] {
            for (piece, whole) in values(max_scores).iter().zip(&whole) {
                assert!(
                    (piece - whole).abs() < 1e-6,
                    "{max_scores}: {piece} {whole}"
                );
            }
        }
    }

    #[test]
    fn runs_are_neighbours_of_one_length() {
        let spans = [0..3, 3..6, 6..8, 8..11];
        let run = |start, n_texts, len| Run {
            start,
            n_texts,
            len,
        };
        assert_eq!(Run::all(&spans), [run(0, 2, 3), run(6, 1, 2), run(8, 1, 3)]);
        assert_eq!(Run::all(&[]), []);
    }
}
