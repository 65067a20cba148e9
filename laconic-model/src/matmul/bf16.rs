//! Numbers as bfloat16 on both sides, sums in f32.
//!
//! `vdpbf16ps` adds the products of two inputs a lane; it has its own rounding and takes numbers
//! below 2⁻¹²⁶ for zeros. Elsewhere the same numbers are widened and multiplied in f32: sums agree to
//! a few units in the last place of their largest part, not bit for bit.

use std::ops::Range;

use rayon::prelude::*;

use super::cpu::Work;
use super::{Cpu, GROUP, Lanes, Rows, Tiles};
use crate::float16::narrow_bf16;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use self::scalar as product_kernel;
#[cfg(target_arch = "aarch64")]
use super::bf16_neon::product as product_kernel;
#[cfg(target_arch = "x86_64")]
use super::bf16_x86::product as product_kernel;

/// Inputs multiplied in one step.
const STEP: usize = 2;
/// Lines multiplied before the next tile's turn, as in `float`.
pub(super) const BLOCK: usize = 256;

/// Two inputs of each of a group's 32 outputs, the first in the low half.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct PairLine(pub(super) [u32; GROUP]);

/// Weights, group by group.
pub(super) struct Bf16Panels {
    lines: Vec<PairLine>,
}

/// Rounded rows, tile by tile: steps × rows, two inputs a word.
pub(super) struct Bf16Input(Vec<u32>);

#[inline(always)]
fn pair(values: &[f32]) -> u32 {
    let at = |idx: usize| {
        values
            .get(idx)
            .map_or(0, |value| u32::from(narrow_bf16(*value)))
    };
    at(0) | at(1) << 16
}

/// The two numbers of a word.
#[inline(always)]
fn numbers(word: u32) -> [f32; STEP] {
    [
        f32::from_bits(word << 16),
        f32::from_bits(word & 0xffff_0000),
    ]
}

impl Bf16Panels {
    /// Rounds and packs outputs × inputs weights, the last group filled up with zeros.
    pub(super) fn pack(values: &[f32], inputs: usize) -> Self {
        let n_steps = inputs.div_ceil(STEP);
        let n_groups = values.len().div_ceil(GROUP * inputs);
        let mut lines = vec![PairLine([0; GROUP]); n_groups * n_steps];
        let groups = lines
            .par_chunks_mut(n_steps)
            .zip(values.par_chunks(GROUP * inputs));
        groups.for_each(|(lines, group)| {
            for (lane, row) in group.chunks_exact(inputs).enumerate() {
                for (line, values) in lines.iter_mut().zip(row.chunks(STEP)) {
                    line.0[lane] = pair(values);
                }
            }
        });
        Self { lines }
    }

    pub(super) fn group_bytes(inputs: usize) -> usize {
        inputs.div_ceil(STEP) * size_of::<PairLine>()
    }

    pub(super) fn n_bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }

    pub(super) fn checksum(&self) -> u64 {
        let sum = |lines: &[PairLine]| {
            let words = lines.iter().flat_map(|line| line.0);
            words.fold(0, |sum: u32, word| sum.wrapping_add(word))
        };
        let sums = self
            .lines
            .par_chunks(1 << 12)
            .map(|lines| u64::from(sum(lines)));
        sums.reduce(|| 0, u64::wrapping_add)
    }

    pub(super) fn group(&self, group: usize, inputs: usize) -> &[PairLine] {
        let n_steps = inputs.div_ceil(STEP);
        &self.lines[group * n_steps..(group + 1) * n_steps]
    }

    /// Writes the inputs of one output.
    pub(super) fn row(&self, output: usize, out: &mut [f32]) {
        let lines = self.group(output / GROUP, out.len());
        for (values, line) in out.chunks_mut(STEP).zip(lines) {
            let numbers = numbers(line.0[output % GROUP]);
            values.copy_from_slice(&numbers[..values.len()]);
        }
    }
}

impl Bf16Input {
    pub(super) fn new(cpu: Cpu, rows: &Rows<'_>, tiles: Tiles) -> Self {
        let n_steps = rows.width().div_ceil(STEP);
        let mut words = vec![0; rows.len() * n_steps];
        let mut rest = words.as_mut_slice();
        let mut parts = Vec::new();
        for (idx, height) in tiles.heights().enumerate() {
            let words = rest.split_off_mut(..height * n_steps).unwrap_or_default();
            parts.push(RoundTile {
                rows: rows.rows(tiles.tile(idx)),
                words,
            });
        }
        parts.into_par_iter().for_each(|tile| cpu.vectorized(tile));
        Self(words)
    }

    /// A block of lines' share of the rows of a tile.
    pub(super) fn tile(
        &self,
        rows: &Range<usize>,
        block: usize,
        n_lines: usize,
        inputs: usize,
    ) -> &[u32] {
        let start = rows.start * inputs.div_ceil(STEP) + block * BLOCK * rows.len();
        &self.0[start..start + n_lines * rows.len()]
    }
}

struct RoundTile<'a> {
    rows: Rows<'a>,
    words: &'a mut [u32],
}

impl Work for RoundTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let height = self.rows.len();
        for (row, values) in self.rows.iter().enumerate() {
            let words = self.words[row..].iter_mut().step_by(height);
            for (word, values) in words.zip(values.chunks(STEP)) {
                *word = pair(values);
            }
        }
    }
}

/// `out += x w` for one tile.
pub(super) fn product(cpu: Cpu, x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    product_kernel(cpu, x, w, out);
}

/// In plain Rust: the second input first, as the instruction has it.
pub(super) fn scalar(_cpu: Cpu, x: &[u32], w: &[PairLine], out: &mut [Lanes]) {
    for (x, w) in x.chunks_exact(out.len()).zip(w) {
        for (x, sums) in x.iter().zip(out.iter_mut()) {
            let [x0, x1] = numbers(*x);
            for (sum, w) in sums.iter_mut().zip(w.0) {
                let [w0, w1] = numbers(w);
                // Products of 8 by 8 bits are exact: fusing would change nothing.
                *sum = x0 * w0 + (x1 * w1 + *sum);
            }
        }
    }
}
