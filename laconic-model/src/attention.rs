//! Bidirectional grouped-query attention (Ainslie et al. 2023) over texts laid
//! end to end, with bounded memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::matmul::{GROUP, Lanes, Matrix, Precision, Rows};
use crate::softmax::Softmax;

/// Positions whose scores one task holds at a time.
const TILE: usize = 24;

/// How the channels of queries, keys and values divide into heads.
pub(crate) struct Heads {
    pub(crate) n_kv: usize,
    /// Query heads that share one key head.
    pub(crate) per_kv: usize,
    pub(crate) dim: usize,
    pub(crate) precision: Precision,
}

impl Heads {
    pub(crate) fn q_width(&self) -> usize {
        self.n_kv * self.per_kv * self.dim
    }

    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv * self.dim
    }
}

/// Queries, keys and values side by side, tokens × stride; positions are rotated in.
pub(crate) struct Projections<'a> {
    pub(crate) rows: Rows<'a>,
    /// Columns at which queries, keys and values begin.
    pub(crate) starts: [usize; 3],
}

impl<'a> Projections<'a> {
    fn head(&self, part: usize, head: usize, dim: usize) -> Rows<'a> {
        let start = self.starts[part] + head * dim;
        self.rows.columns(start..start + dim)
    }
}

/// Keys and values of one head in one text, ready to be multiplied with.
struct KeysValues {
    keys: Matrix,
    values: Matrix,
}

/// Some positions of one text.
struct Task<'a> {
    text: usize,
    positions: Range<usize>,
    out: &'a mut [f32],
}

/// What a task needs room for, used again by the next.
#[derive(Default)]
struct Room {
    /// Groups of positions × rows.
    scores: Vec<Lanes>,
    totals: Vec<f32>,
    /// Groups of channels × rows.
    mixed: Vec<Lanes>,
}

/// softmax(q kᵀ / √dim) v for every text and head, every position seeing
/// every other of its text; tokens × q_width.
pub(crate) fn attend(
    heads: &Heads,
    projections: &Projections<'_>,
    spans: &[Range<usize>],
    out: &mut Vec<f32>,
) {
    out.resize(projections.rows.len() * heads.q_width(), 0.0);
    let packed: Vec<Vec<KeysValues>> = spans
        .par_iter()
        .map(|span| pack(heads, projections, span))
        .collect();
    let tasks = tasks(heads, spans, out);
    tasks
        .into_par_iter()
        .for_each_init(Room::default, |room, task| {
            attend_task(heads, projections, &packed[task.text], room, task);
        });
}

fn pack(heads: &Heads, projections: &Projections<'_>, span: &Range<usize>) -> Vec<KeysValues> {
    let pack = |head| KeysValues {
        keys: Matrix::pack_rows(
            heads.precision,
            &projections.head(1, head, heads.dim).rows(span.clone()),
        ),
        values: Matrix::pack_columns(
            heads.precision,
            &projections.head(2, head, heads.dim).rows(span.clone()),
        ),
    };
    (0..heads.n_kv).into_par_iter().map(pack).collect()
}

/// Deals the rows of `out`, which the spans cover, to tasks.
fn tasks<'a>(heads: &Heads, spans: &[Range<usize>], mut out: &'a mut [f32]) -> Vec<Task<'a>> {
    let mut tasks = Vec::new();
    for (text, span) in spans.iter().enumerate() {
        for start in span.clone().step_by(TILE) {
            let positions = start..span.end.min(start + TILE);
            let n_values = positions.len() * heads.q_width();
            let rows = out.split_off_mut(..n_values).unwrap_or_default();
            tasks.push(Task {
                text,
                positions,
                out: rows,
            });
        }
    }
    tasks
}

fn attend_task(
    heads: &Heads,
    projections: &Projections<'_>,
    packed: &[KeysValues],
    room: &mut Room,
    task: Task<'_>,
) {
    #[expect(clippy::cast_precision_loss, reason = "head_dim is at most 512")]
    let scale = (heads.dim as f32).sqrt().recip();
    for head in 0..heads.n_kv * heads.per_kv {
        let KeysValues { keys, values } = &packed[head / heads.per_kv];
        let queries = projections
            .head(0, head, heads.dim)
            .rows(task.positions.clone());
        let n_rows = queries.len();
        let input = keys.input_here(n_rows, &queries, &mut room.totals);
        keys.product_here(&input, &mut room.scores);
        let softmax = Softmax::new(
            &mut room.scores,
            n_rows,
            values.inputs(),
            heads.precision,
            scale,
        );
        let input = values.input_here(n_rows, &softmax, &mut room.totals);
        values.product_here(&input, &mut room.mixed);
        for (row, out) in task.out.chunks_exact_mut(heads.q_width()).enumerate() {
            let out = &mut out[head * heads.dim..(head + 1) * heads.dim];
            let share = room.totals[row].recip();
            for (group, out) in out.chunks_mut(GROUP).enumerate() {
                for (out, mixed) in out.iter_mut().zip(&room.mixed[group * n_rows + row]) {
                    *out = mixed * share;
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;

    struct Owned {
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
    }

    /// The definition, term by term, in f64.
    fn naive(heads: &Heads, rows: &Owned, span: &Range<usize>) -> Vec<f64> {
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
        let rows = Owned {
            q: wave(n * heads.q_width(), 0.37),
            k: wave(n * heads.kv_width(), 0.73),
            v: wave(n * heads.kv_width(), 1.1),
        };
        let (qw, kw) = (heads.q_width(), heads.kv_width());
        let stride = qw + 2 * kw + 3;
        let mut joined = vec![f32::NAN; n * stride];
        for (i, row) in joined.chunks_exact_mut(stride).enumerate() {
            row[..qw].copy_from_slice(&rows.q[i * qw..(i + 1) * qw]);
            row[qw + 1..qw + 1 + kw].copy_from_slice(&rows.k[i * kw..(i + 1) * kw]);
            row[qw + kw + 2..stride - 1].copy_from_slice(&rows.v[i * kw..(i + 1) * kw]);
        }
        let projections = Projections {
            rows: Rows::of(&joined, stride),
            starts: [0, qw + 1, qw + kw + 2],
        };
        let mut ours = Vec::new();
        attend(heads, &projections, spans, &mut ours);
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
            precision: Precision::F32,
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
                precision: Precision::F32,
            },
            &[0..3, 3..6],
        );
    }

    #[test]
    fn a_text_longer_than_a_tile_is_cut_into_rows() {
        let heads = Heads {
            n_kv: 1,
            per_kv: 3,
            dim: 2,
            precision: Precision::F32,
        };
        let n = 8 * TILE + 5;
        check(&heads, &[0..n, n..n]);
    }
}
