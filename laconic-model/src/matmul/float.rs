//! Numbers as f32.

use rayon::prelude::*;

use super::{FloatLine, GROUP, Rows};

/// Inputs multiplied before the next tile's turn: a group's share of them, 64 KiB, and that of a
/// task's rows, 512 KiB, stay in the second-level cache.
pub(super) const BLOCK: usize = 512;

/// Weights, group by group: one line for each input.
#[derive(Default)]
pub(super) struct FloatPanels {
    lines: Vec<FloatLine>,
}

impl FloatPanels {
    /// Packs outputs × inputs weights, the last group filled up with zeros.
    pub(super) fn pack(values: &[f32], inputs: usize) -> Self {
        let n_groups = values.len().div_ceil(GROUP * inputs);
        let mut lines = vec![FloatLine([0.0; GROUP]); n_groups * inputs];
        let groups = lines.par_chunks_mut(inputs);
        groups
            .zip(values.par_chunks(GROUP * inputs))
            .for_each(|(lines, group)| pack_group(&Rows::of(group, inputs), lines));
        Self { lines }
    }

    /// As [`pack`](Self::pack), on this thread.
    pub(super) fn pack_here(rows: &Rows<'_>) -> Self {
        let n_groups = rows.len().div_ceil(GROUP);
        let mut lines = vec![FloatLine([0.0; GROUP]); n_groups * rows.width()];
        for (group, lines) in lines.chunks_mut(rows.width()).enumerate() {
            let start = group * GROUP;
            pack_group(&rows.rows(start..rows.len().min(start + GROUP)), lines);
        }
        Self { lines }
    }

    /// One group of so many inputs, for its lines to be written.
    pub(super) fn one_group(&mut self, inputs: usize) -> &mut [FloatLine] {
        self.lines.resize(inputs, FloatLine([0.0; GROUP]));
        &mut self.lines
    }

    pub(super) fn n_bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }

    pub(super) fn checksum(&self) -> u64 {
        let chunks = self.lines.par_chunks(1 << 12);
        let sums = chunks.map(|lines| u64::from(sum(lines)));
        sums.reduce(|| 0, u64::wrapping_add)
    }

    pub(super) fn group(&self, group: usize, inputs: usize) -> &[FloatLine] {
        &self.lines[group * inputs..(group + 1) * inputs]
    }

    /// Writes the inputs of one output.
    pub(super) fn row(&self, output: usize, out: &mut [f32]) {
        let lines = self.group(output / GROUP, out.len());
        for (value, line) in out.iter_mut().zip(lines) {
            *value = line.0[output % GROUP];
        }
    }
}

/// Reads lines.
fn sum(lines: &[FloatLine]) -> u32 {
    let values = lines.iter().flat_map(|line| &line.0);
    values.fold(0, |sum, value| sum.wrapping_add(value.to_bits()))
}

fn pack_group(rows: &Rows<'_>, lines: &mut [FloatLine]) {
    for (lane, row) in rows.iter().enumerate() {
        for (line, value) in lines.iter_mut().zip(row) {
            line.0[lane] = *value;
        }
    }
}

/// Lays a tile's rows side by side: inputs × rows.
pub(super) fn interleave(rows: &Rows<'_>, out: &mut [f32]) {
    if rows.width() == 0 {
        return;
    }
    match rows.len() {
        // The most frequent heights; a constant one takes a third of the time.
        12 => interleave_rows::<12>(rows, out),
        11 => interleave_rows::<11>(rows, out),
        8 => interleave_rows::<8>(rows, out),
        3 => interleave_rows::<3>(rows, out),
        height => {
            for (row, values) in rows.iter().enumerate() {
                for (place, value) in out[row..].iter_mut().step_by(height).zip(values) {
                    *place = *value;
                }
            }
        }
    }
}

fn interleave_rows<const R: usize>(rows: &Rows<'_>, out: &mut [f32]) {
    let mut values = rows.iter();
    let width = rows.width();
    let rows: [&[f32]; R] = std::array::from_fn(|_| &values.next().unwrap_or_default()[..width]);
    for (idx, out) in out.as_chunks_mut::<R>().0[..width].iter_mut().enumerate() {
        for (place, row) in out.iter_mut().zip(rows) {
            *place = row[idx];
        }
    }
}
