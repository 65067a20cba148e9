//! Bidirectional grouped-query attention (Ainslie et al. 2023) over texts laid
//! end to end, with bounded memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::matmul::{GROUP, Input, Lanes, Matrix, POSITIONS, Precision, Rows, Softmax};
use crate::rope::RopeTable;

/// Queries whose scores one task holds at a time: what a matrix has lanes for.
const TILE: usize = GROUP;

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

    fn kv_width(&self) -> usize {
        self.n_kv * self.dim
    }

    /// Those of one head.
    fn columns(&self, head: usize) -> Range<usize> {
        head * self.dim..(head + 1) * self.dim
    }
}

/// Queries, keys and values side by side, tokens × stride.
pub(crate) struct Projections<'a> {
    pub(crate) rows: Rows<'a>,
    /// Columns at which queries, keys and values begin.
    pub(crate) starts: [usize; 3],
    /// Turns queries and keys by their positions.
    pub(crate) rope: Option<&'a RopeTable>,
}

impl<'a> Projections<'a> {
    fn part(&self, part: usize, width: usize) -> Rows<'a> {
        self.rows
            .columns(self.starts[part]..self.starts[part] + width)
    }

    /// Rows turned as the positions say at which they stand, from `first` on.
    fn turned<'b>(&self, rows: Rows<'b>, first: usize, room: &'b mut Vec<f32>) -> Rows<'b> {
        match self.rope {
            Some(rope) => rope.rotate(&rows, first, room),
            None => rows,
        }
    }
}

/// Keys and values of one text, ready to be multiplied with.
struct KeysValues {
    /// Blocks of [`POSITIONS`] × heads, each positions × channels.
    keys: Vec<Vec<Input>>,
    /// Of each head, channels × positions.
    values: Vec<Input>,
}

/// Some positions of one text.
struct Task<'a> {
    text: usize,
    positions: Range<usize>,
    /// Where in the text they begin.
    first: usize,
    /// Of the text.
    n_positions: usize,
    out: &'a mut [f32],
}

/// What a task needs room for, used again by the next.
struct Room {
    /// Queries × channels.
    turned: Vec<f32>,
    softmax: Softmax,
    /// Positions × queries.
    scores: Vec<Lanes>,
    /// Channels × queries.
    mixed: Vec<Lanes>,
}

impl Room {
    fn new(heads: &Heads) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "head_dim is at most 512")]
        let scale = (heads.dim as f32).sqrt().recip();
        Self {
            turned: Vec::new(),
            softmax: Softmax::new(heads.precision, scale),
            scores: Vec::new(),
            mixed: Vec::new(),
        }
    }
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
    let packed: Vec<KeysValues> = spans
        .par_iter()
        .map(|span| pack(heads, projections, span))
        .collect();
    let tasks = tasks(heads, spans, out);
    tasks.into_par_iter().for_each_init(
        || Room::new(heads),
        |room, task| attend_task(heads, projections, &packed[task.text], room, task),
    );
}

fn pack(heads: &Heads, projections: &Projections<'_>, span: &Range<usize>) -> KeysValues {
    let part = |part| projections.part(part, heads.kv_width()).rows(span.clone());
    let (keys, values) = (part(1), part(2));
    let pack_block = |block: usize| {
        let start = block * POSITIONS;
        let keys = keys.rows(start..keys.len().min(start + POSITIONS));
        let mut room = Vec::new();
        let keys = projections.turned(keys, start, &mut room);
        let heads_of = (0..heads.n_kv).map(|head| keys.columns(heads.columns(head)));
        heads_of
            .map(|keys| Input::pack_here(heads.precision, &keys))
            .collect()
    };
    let pack_values = |head| pack_columns(heads.precision, &values.columns(heads.columns(head)));
    let n_blocks = keys.len().div_ceil(POSITIONS);
    KeysValues {
        keys: (0..n_blocks).into_par_iter().map(pack_block).collect(),
        values: (0..heads.n_kv).into_par_iter().map(pack_values).collect(),
    }
}

/// Makes columns ready to be multiplied with.
fn pack_columns(precision: Precision, rows: &Rows<'_>) -> Input {
    // Of columns a power of two apart, a cache holds few.
    let stride = rows.len().next_multiple_of(16) + 16;
    let mut columns = vec![0.0; rows.width() * stride];
    for (idx, row) in rows.iter().enumerate() {
        for (column, value) in columns.chunks_exact_mut(stride).zip(row) {
            column[idx] = *value;
        }
    }
    Input::pack_here(
        precision,
        &Rows::of(&columns, stride).columns(0..rows.len()),
    )
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
                first: start - span.start,
                n_positions: span.len(),
                out: rows,
            });
        }
    }
    tasks
}

fn attend_task(
    heads: &Heads,
    projections: &Projections<'_>,
    packed: &KeysValues,
    room: &mut Room,
    task: Task<'_>,
) {
    let queries = projections.part(0, heads.q_width()).rows(task.positions);
    let queries = projections.turned(queries, task.first, &mut room.turned);
    for head in 0..heads.n_kv * heads.per_kv {
        let queries = queries.columns(heads.columns(head));
        let queries = Matrix::pack_here(heads.precision, &queries);
        room.softmax.begin(task.n_positions);
        for keys in &packed.keys {
            queries.product_here(&keys[head / heads.per_kv], &mut room.scores);
            room.softmax.add(&room.scores);
        }
        let (weights, totals) = room.softmax.finish();
        weights.product_here(&packed.values[head / heads.per_kv], &mut room.mixed);
        write(&room.mixed, &totals, heads, head, task.out);
    }
}

/// Writes the sums of a head, channels × queries, each divided by the total of its query's weights.
fn write(mixed: &[Lanes], totals: &Lanes, heads: &Heads, head: usize, out: &mut [f32]) {
    let rows = out.chunks_exact_mut(heads.q_width());
    let (channels, rest) = mixed.as_chunks::<4>();
    for (row, (out, total)) in rows.zip(totals).enumerate() {
        let share = total.recip();
        let (out, out_rest) = out[heads.columns(head)].as_chunks_mut::<4>();
        for (out, [a, b, c, d]) in out.iter_mut().zip(channels) {
            *out = [
                a[row] * share,
                b[row] * share,
                c[row] * share,
                d[row] * share,
            ];
        }
        for (out, channel) in out_rest.iter_mut().zip(rest) {
            *out = channel[row] * share;
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
            rope: None,
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
