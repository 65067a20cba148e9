//! Bidirectional grouped-query attention (Ainslie et al. 2023) over texts laid
//! end to end, with bounded memory.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::backbone::to_vec;
use crate::error::Error;
use crate::kernels::softmax;

/// Scores held at once by one task: 2 MiB, so that they stay in cache and a
/// long text does not cost the square of its length in memory.
const MAX_TILE: usize = 1 << 19;

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

/// Rows of queries, keys and values, tokens × width.
pub(crate) struct Projections {
    /// Tokens × q_width, positions rotated in.
    pub(crate) q: Vec<f32>,
    /// Tokens × kv_width, positions rotated in.
    pub(crate) k: Vec<f32>,
    /// Tokens × kv_width.
    pub(crate) v: Vec<f32>,
}

/// softmax(q kᵀ / √dim) v for every text and head, every position seeing
/// every other of its text; tokens × q_width.
pub(crate) fn attend(
    heads: &Heads,
    rows: &Projections,
    spans: &[Range<usize>],
) -> Result<Vec<f32>, Error> {
    let units = units(heads, spans);
    let tasks = tasks(heads, &units);
    let mixed: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|task| attend_task(heads, rows, task))
        .collect::<Result<_, _>>()?;
    let mut out = vec![0.0; rows.q.len()];
    for (task, mixed) in tasks.iter().zip(&mixed) {
        let n_values = task[0].span.len() * heads.per_kv * heads.dim;
        for (unit, values) in task.iter().zip(mixed.chunks_exact(n_values)) {
            scatter(heads, unit, values, &mut out);
        }
    }
    Ok(out)
}

/// One text, one key head and the query heads that share it.
struct Unit {
    span: Range<usize>,
    kv_head: usize,
}

fn units(heads: &Heads, spans: &[Range<usize>]) -> Vec<Unit> {
    let texts = spans.iter().filter(|span| !span.is_empty());
    texts
        .flat_map(|span| {
            (0..heads.n_kv).map(|kv_head| Unit {
                span: span.clone(),
                kv_head,
            })
        })
        .collect()
}

/// Runs of units of one length whose scores fit a tile; a unit too large for
/// one is a task of its own.
///
/// A run is one product to candle, which asks the system for the number of
/// processors at each (46 µs where it was measured, more than the attention
/// of a query takes). Batches come sorted by length, so runs are long.
fn tasks<'a>(heads: &Heads, units: &'a [Unit]) -> Vec<&'a [Unit]> {
    let runs = units.chunk_by(|a, b| a.span.len() == b.span.len());
    runs.flat_map(|run| {
        let n = run[0].span.len();
        run.chunks((MAX_TILE / (heads.per_kv * n * n)).max(1))
    })
    .collect()
}

/// The query heads of a unit lie side by side, so a token's slice of them is
/// `per_kv` rows of one matrix; the result has the same layout.
fn attend_task(heads: &Heads, rows: &Projections, task: &[Unit]) -> Result<Vec<f32>, Error> {
    let n = task[0].span.len();
    let height = n * heads.per_kv;
    let (q_width, kv_width) = (heads.q_width(), heads.kv_width());
    let queries = |unit: &Unit| query_columns(heads, unit.kv_head);
    let keys = |unit: &Unit| unit.kv_head * heads.dim..(unit.kv_head + 1) * heads.dim;
    let q = scaled(gather(&rows.q, q_width, task, queries), heads.dim);
    let q = matrices(q, task.len(), height, heads.dim)?;
    let k = matrices(
        gather(&rows.k, kv_width, task, keys),
        task.len(),
        n,
        heads.dim,
    )?
    .t()?;
    let v = matrices(
        gather(&rows.v, kv_width, task, keys),
        task.len(),
        n,
        heads.dim,
    )?;
    let tile = if task.len() > 1 {
        height
    } else {
        (MAX_TILE / n).clamp(1, height)
    };
    let mut mixed = Vec::with_capacity(task.len() * height * heads.dim);
    for start in (0..height).step_by(tile) {
        let tile = tile.min(height - start);
        let mut scores = to_vec(&q.narrow(1, start, tile)?.matmul(&k)?)?;
        scores.chunks_exact_mut(n).for_each(softmax);
        mixed.extend(to_vec(&matrices(scores, task.len(), tile, n)?.matmul(&v)?)?);
    }
    Ok(mixed)
}

fn query_columns(heads: &Heads, kv_head: usize) -> Range<usize> {
    let width = heads.per_kv * heads.dim;
    kv_head * width..(kv_head + 1) * width
}

/// Copies the rows of each unit's text, some columns of each.
fn gather(
    matrix: &[f32],
    width: usize,
    task: &[Unit],
    columns: impl Fn(&Unit) -> Range<usize>,
) -> Vec<f32> {
    let mut values = Vec::new();
    for unit in task {
        let columns = columns(unit);
        values.reserve(unit.span.len() * columns.len());
        let rows = &matrix[unit.span.start * width..unit.span.end * width];
        for row in rows.chunks_exact(width) {
            values.extend_from_slice(&row[columns.clone()]);
        }
    }
    values
}

fn scatter(heads: &Heads, unit: &Unit, values: &[f32], out: &mut [f32]) {
    let columns = query_columns(heads, unit.kv_head);
    let text = &mut out[unit.span.start * heads.q_width()..unit.span.end * heads.q_width()];
    let rows = text.chunks_exact_mut(heads.q_width());
    for (row, values) in rows.zip(values.chunks_exact(columns.len())) {
        row[columns.clone()].copy_from_slice(values);
    }
}

fn scaled(mut q: Vec<f32>, dim: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "head_dim is at most 512")]
    let scale = (dim as f32).sqrt().recip();
    q.iter_mut().for_each(|x| *x *= scale);
    q
}

fn matrices(values: Vec<f32>, n: usize, rows: usize, cols: usize) -> Result<Tensor, Error> {
    Ok(Tensor::from_vec(values, (n, rows, cols), &Device::Cpu)?)
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;

    /// The definition, term by term, in f64.
    fn naive(heads: &Heads, rows: &Projections, span: &Range<usize>) -> Vec<f64> {
        let (qw, kw, d) = (heads.q_width(), heads.kv_width(), heads.dim);
        let mut out = Vec::new();
        for i in span.clone() {
            for head in 0..heads.n_kv * heads.per_kv {
                let kv = head / heads.per_kv;
                let q = |c: usize| f64::from(rows.q[i * qw + head * d + c]);
                let k = |j: usize, c: usize| f64::from(rows.k[j * kw + kv * d + c]);
                let v = |j: usize, c: usize| f64::from(rows.v[j * kw + kv * d + c]);
                let dot = |j: usize| (0..d).map(|c| q(c) * k(j, c)).sum::<f64>();
                let score = |j: usize| (dot(j) / (d as f64).sqrt()).exp();
                let scores: Vec<f64> = span.clone().map(score).collect();
                let total: f64 = scores.iter().sum();
                out.extend((0..d).map(|c| {
                    span.clone()
                        .zip(&scores)
                        .map(|(j, score)| score / total * v(j, c))
                        .sum::<f64>()
                }));
            }
        }
        out
    }

    fn check(heads: &Heads, spans: &[Range<usize>]) {
        let n = spans.last().unwrap().end;
        let wave = |len: usize, step: f32| (0..len).map(|i| (i as f32 * step).sin()).collect();
        let rows = Projections {
            q: wave(n * heads.q_width(), 0.37),
            k: wave(n * heads.kv_width(), 0.73),
            v: wave(n * heads.kv_width(), 1.1),
        };
        let ours = attend(heads, &rows, spans).unwrap();
        let truth: Vec<f64> = spans
            .iter()
            .flat_map(|span| naive(heads, &rows, span))
            .collect();
        assert_eq!(ours.len(), truth.len());
        for (ours, truth) in ours.iter().zip(&truth) {
            assert!(
                (f64::from(*ours) - truth).abs() < 1e-5,
                "{ours} is not {truth}"
            );
        }
    }

    #[test]
    fn texts_of_mixed_lengths_see_only_themselves() {
        let heads = Heads {
            n_kv: 2,
            per_kv: 3,
            dim: 4,
        };
        check(
            &heads,
            &[
                0..1,
                1..40,
                40..40,
                40..79,
                79..118,
                118..119,
                119..120,
                120..200,
            ],
        );
        check(&heads, &[0..1, 1..1]);
        check(
            &Heads {
                n_kv: 1,
                per_kv: 1,
                dim: 2,
            },
            &[0..3, 3..6],
        );
    }

    #[test]
    fn a_text_larger_than_a_tile_is_cut_into_rows() {
        let heads = Heads {
            n_kv: 1,
            per_kv: 3,
            dim: 2,
        };
        let n = 600;
        assert!(heads.per_kv * n * n > 2 * MAX_TILE, "at least three tiles");
        check(&heads, &[0..n, n..n]);
    }
}
