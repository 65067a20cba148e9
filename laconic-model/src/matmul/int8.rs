//! Numbers as bytes: blocks of 128 inputs, each with a scale of its own.
//!
//! A number is byte × scale, the scale the block's largest magnitude over 127. Rows of `x` are
//! quantized as they come; an outlier costs the precision of its own block only. Products of bytes
//! are summed as integers, exactly, a block at a time; so every kernel gives the same bits.

use std::ops::Range;

use rayon::prelude::*;

use super::ahead::Ahead;
use super::cpu::Work;
use super::{Cpu, FloatLine, GROUP, Rows, Tiles};
use crate::numbers::ROUND;

/// Inputs that share a scale.
pub(super) const BLOCK: usize = 128;
/// Four inputs are multiplied in one step.
pub(super) const STEP: usize = 4;
/// Steps of a whole block.
pub(super) const STEPS: usize = BLOCK / STEP;

/// Four inputs of each of a group's 32 outputs, 128 added to each: the instruction takes one side
/// unsigned. The row's `offsets` take it away again.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct ByteLine(pub(super) [u8; GROUP * STEP]);

/// Weights, group by group.
#[derive(Default)]
pub(super) struct Int8Panels {
    /// Groups × steps.
    lines: Vec<ByteLine>,
    /// Groups × blocks.
    scales: Vec<FloatLine>,
}

/// How the words of a tile lie in each of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// Steps × rows: a step of all rows is multiplied at a time.
    SideBySide,
    /// Rows × steps of a whole block, zeros behind the last.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AMX's"))]
    RowByRow,
}

/// Quantized rows, tile by tile, of a tile block by block.
pub(super) struct Int8Input {
    arrangement: Arrangement,
    words_per_row: usize,
    words: Vec<i32>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
}

/// One tile of an input.
pub(super) struct Int8Tile<'a> {
    /// Four inputs of a row as signed bytes each.
    pub(super) words: &'a [i32],
    /// Blocks × rows.
    pub(super) scales: &'a [f32],
    /// Blocks × rows: −128 times the sum of the row's bytes.
    pub(super) offsets: &'a [i32],
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "see `Ahead`"))]
    pub(super) ahead: Ahead,
}

/// More tiles than this compute for longer than fetching a group takes.
const MAX_FETCHING: usize = 16;

pub(super) fn n_steps(inputs: usize) -> usize {
    inputs.div_ceil(STEP)
}

pub(super) fn n_blocks(inputs: usize) -> usize {
    inputs.div_ceil(BLOCK)
}

impl Int8Panels {
    /// Packs outputs × inputs weights, the last group filled up with zeros.
    pub(super) fn pack(values: &[f32], inputs: usize) -> Self {
        let n_groups = values.len().div_ceil(GROUP * inputs);
        let mut lines = vec![ByteLine([128; GROUP * STEP]); n_groups * n_steps(inputs)];
        let mut scales = vec![FloatLine([0.0; GROUP]); n_groups * n_blocks(inputs)];
        let groups = lines.par_chunks_mut(n_steps(inputs));
        groups
            .zip(scales.par_chunks_mut(n_blocks(inputs)))
            .zip(values.par_chunks(GROUP * inputs))
            .for_each(|((lines, scales), group)| {
                let group = Rows::of(group, inputs);
                Cpu::this().vectorized(PackGroup {
                    group,
                    lines,
                    scales,
                });
            });
        Self { lines, scales }
    }

    /// As [`pack`](Self::pack), on this thread.
    pub(super) fn pack_here(rows: &Rows<'_>) -> Self {
        let (steps, blocks) = (n_steps(rows.width()), n_blocks(rows.width()));
        let n_groups = rows.len().div_ceil(GROUP);
        let mut lines = vec![ByteLine([128; GROUP * STEP]); n_groups * steps];
        let mut scales = vec![FloatLine([0.0; GROUP]); n_groups * blocks];
        let groups = lines.chunks_mut(steps).zip(scales.chunks_mut(blocks));
        for (group, (lines, scales)) in groups.enumerate() {
            let start = group * GROUP;
            Cpu::this().vectorized(PackGroup {
                group: rows.rows(start..rows.len().min(start + GROUP)),
                lines,
                scales,
            });
        }
        Self { lines, scales }
    }

    /// One group of so many inputs, for its lines and the scales of their blocks to be written.
    pub(super) fn one_group(&mut self, inputs: usize) -> (&mut [ByteLine], &mut [FloatLine]) {
        self.lines
            .resize(n_steps(inputs), ByteLine([128; GROUP * STEP]));
        self.scales
            .resize(n_blocks(inputs), FloatLine([0.0; GROUP]));
        (&mut self.lines, &mut self.scales)
    }

    pub(super) fn group_bytes(inputs: usize) -> usize {
        n_steps(inputs) * size_of::<ByteLine>() + n_blocks(inputs) * size_of::<FloatLine>()
    }

    pub(super) fn n_bytes(&self) -> usize {
        size_of_val(self.lines.as_slice()) + size_of_val(self.scales.as_slice())
    }

    pub(super) fn checksum(&self) -> u64 {
        let chunks = self.lines.par_chunks(1 << 12);
        let sums = chunks.map(|lines| u64::from(sum(lines)));
        sums.reduce(|| 0, u64::wrapping_add)
    }

    pub(super) fn group(&self, group: usize, inputs: usize) -> (&[ByteLine], &[FloatLine]) {
        let (steps, blocks) = (n_steps(inputs), n_blocks(inputs));
        (
            &self.lines[group * steps..(group + 1) * steps],
            &self.scales[group * blocks..(group + 1) * blocks],
        )
    }

    /// Writes the inputs of one output as numbers again.
    pub(super) fn row(&self, output: usize, out: &mut [f32]) {
        let (lines, scales) = self.group(output / GROUP, out.len());
        let lane = output % GROUP;
        for (values, (lines, scales)) in out.chunks_mut(BLOCK).zip(lines.chunks(STEPS).zip(scales))
        {
            for (values, line) in values.chunks_mut(STEP).zip(lines) {
                for (value, byte) in values.iter_mut().zip(&line.0[lane * STEP..]) {
                    *value = f32::from(i16::from(*byte) - 128) * scales.0[lane];
                }
            }
        }
    }
}

/// Reads lines.
fn sum(lines: &[ByteLine]) -> u32 {
    let values = lines.iter().flat_map(|line| line.0.as_chunks::<4>().0);
    values.fold(0, |sum, value| sum.wrapping_add(u32::from_le_bytes(*value)))
}

/// Packs the weights of a group's outputs, one row an output.
struct PackGroup<'a> {
    group: Rows<'a>,
    lines: &'a mut [ByteLine],
    scales: &'a mut [FloatLine],
}

impl Work for PackGroup<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (lane, row) in self.group.iter().enumerate() {
            let blocks = row.chunks(BLOCK).zip(self.lines.chunks_mut(STEPS));
            for ((values, lines), scales) in blocks.zip(self.scales.iter_mut()) {
                pack_block(values, lane, lines, scales);
            }
        }
    }
}

#[inline(always)]
fn pack_block(values: &[f32], lane: usize, lines: &mut [ByteLine], scales: &mut FloatLine) {
    let block = Block::of(values);
    scales.0[lane] = block.scale;
    for (line, bytes) in lines.iter_mut().zip(block.steps(values.len())) {
        let bytes = bytes.map(|byte| byte ^ 128);
        line.0[lane * STEP..(lane + 1) * STEP].copy_from_slice(&bytes);
    }
}

impl Int8Input {
    /// Room for rows that are then filled tile by tile.
    pub(super) fn new(arrangement: Arrangement, n_rows: usize, inputs: usize) -> Self {
        let words_per_row = match arrangement {
            Arrangement::SideBySide => n_steps(inputs),
            Arrangement::RowByRow => n_blocks(inputs) * STEPS,
        };
        Self {
            arrangement,
            words_per_row,
            words: vec![0; n_rows * words_per_row],
            scales: vec![0.0; n_rows * n_blocks(inputs)],
            offsets: vec![0; n_rows * n_blocks(inputs)],
        }
    }

    /// The parts of each tile, to be filled.
    pub(super) fn tiles_mut(
        &mut self,
        heights: impl Iterator<Item = usize>,
        inputs: usize,
    ) -> Vec<Int8TileMut<'_>> {
        let (mut words, mut scales, mut offsets) = (
            self.words.as_mut_slice(),
            self.scales.as_mut_slice(),
            self.offsets.as_mut_slice(),
        );
        heights
            .map(|height| Int8TileMut {
                arrangement: self.arrangement,
                words: words
                    .split_off_mut(..height * self.words_per_row)
                    .unwrap_or_default(),
                scales: scales
                    .split_off_mut(..height * n_blocks(inputs))
                    .unwrap_or_default(),
                offsets: offsets
                    .split_off_mut(..height * n_blocks(inputs))
                    .unwrap_or_default(),
            })
            .collect()
    }

    pub(super) fn tile(&self, tiles: &Tiles, idx: usize, inputs: usize) -> Int8Tile<'_> {
        let (width, blocks) = (self.words_per_row, n_blocks(inputs));
        let Range { start, end } = tiles.tile(idx);
        Int8Tile {
            words: &self.words[start * width..end * width],
            scales: &self.scales[start * blocks..end * blocks],
            offsets: &self.offsets[start * blocks..end * blocks],
            ahead: Ahead::new(
                (idx, tiles.len()),
                MAX_FETCHING,
                n_steps(inputs) * size_of::<ByteLine>(),
                n_steps(inputs),
            ),
        }
    }
}

/// One tile of an input, to be filled.
pub(super) struct Int8TileMut<'a> {
    arrangement: Arrangement,
    words: &'a mut [i32],
    scales: &'a mut [f32],
    offsets: &'a mut [i32],
}

/// Fills a tile with rows.
pub(super) struct Quantize<'a>(pub(super) Int8TileMut<'a>, pub(super) Rows<'a>);

impl Work for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(mut tile, rows) = self;
        tile.fill(&rows);
    }
}

impl Int8TileMut<'_> {
    #[inline(always)]
    fn fill(&mut self, rows: &Rows<'_>) {
        for (row, values) in rows.iter().enumerate() {
            let (whole, rest) = values.as_chunks::<BLOCK>();
            for (block, values) in whole.iter().enumerate() {
                self.put(rows.len(), row, block, values);
            }
            if !rest.is_empty() {
                self.put(rows.len(), row, whole.len(), rest);
            }
        }
    }

    /// Takes a block of a row, of `height` rows.
    #[inline(always)]
    fn put(&mut self, height: usize, row: usize, block: usize, values: &[f32]) {
        let quantized = Block::of(values);
        self.scales[block * height + row] = quantized.scale;
        self.offsets[block * height + row] = -128 * quantized.sum;
        let words = &mut self.words[block * STEPS * height..];
        match self.arrangement {
            Arrangement::SideBySide => {
                let places = words[row..].iter_mut().step_by(height);
                for (word, bytes) in places.zip(quantized.steps(values.len())) {
                    *word = i32::from_le_bytes(bytes);
                }
            }
            Arrangement::RowByRow => {
                let places = words[row * STEPS..].iter_mut();
                for (word, bytes) in places.zip(quantized.steps(BLOCK)) {
                    *word = i32::from_le_bytes(bytes);
                }
            }
        }
    }
}

/// Up to 128 numbers as bytes, zeros behind them.
struct Block {
    scale: f32,
    bytes: [u8; BLOCK],
    /// Of the bytes, as signed numbers.
    sum: i32,
}

impl Block {
    /// A value that is not finite makes the scale NaN, and with it every sum it goes into.
    #[inline(always)]
    fn of(values: &[f32]) -> Self {
        // Constant lengths, that of a head and a whole block, are worth branches.
        match values.len() {
            64 => Self::of_any(&values[..64]),
            BLOCK => Self::of_any(&values[..BLOCK]),
            _ => Self::of_any(values),
        }
    }

    #[inline(always)]
    fn of_any(values: &[f32]) -> Self {
        // Below, 127 / max would overflow.
        const SMALLEST: f32 = 1e-30;
        let mut bytes = [0; BLOCK];
        // Magnitudes compare as integers, NaN above infinity above all numbers.
        let bits = values.iter().map(|value| value.to_bits() & 0x7fff_ffff);
        let max = f32::from_bits(bits.fold(0, u32::max));
        if !max.is_finite() || max < SMALLEST {
            return Self {
                scale: if max < SMALLEST { 0.0 } else { f32::NAN },
                bytes,
                sum: 0,
            };
        }
        let inverse = 127.0 / max;
        let mut sum = 0_u32;
        for (byte, value) in bytes.iter_mut().zip(values) {
            let integer = (value * inverse + ROUND)
                .to_bits()
                .wrapping_sub(ROUND.to_bits());
            sum = sum.wrapping_add(integer);
            *byte = integer.to_le_bytes()[0];
        }
        Self {
            scale: max / 127.0,
            bytes,
            sum: sum.cast_signed(),
        }
    }

    /// The bytes of the steps that `len` values make.
    #[inline(always)]
    fn steps(&self, len: usize) -> impl Iterator<Item = [u8; STEP]> + '_ {
        let (steps, _) = self.bytes.as_chunks::<STEP>();
        steps.iter().take(n_steps(len)).copied()
    }
}
