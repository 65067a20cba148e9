//! Weights in ggml's blocks, packed for products with rows as bytes.
//!
//! The blocks of a group's 32 outputs at the same inputs make a *chunk*: their scales, then their
//! codes in steps of four inputs, in the order in which a kernel reads them. Nothing is rounded
//! anew: a chunk holds what its blocks held. Rows of x become bytes with a scale for every 32
//! inputs; products of codes and bytes are summed as integers, exactly, 32 inputs (in `Q6_K` 16) at
//! a time, then multiplied with both scales. So every kernel gives the same bits.
//!
//! ```text
//! Q8_0  32 × binary16 | 8 steps: 32 outputs × 4 bytes, 128 added to each
//! Q4_K  32 × d | 32 × dmin | 8 × 32 scales | 8 × 32 minima | 8 sub-blocks
//! Q5_K  as Q4_K
//! Q6_K  32 × d | 16 × 32 scales | 8 sub-blocks
//!
//! sub-block, of 32 inputs: 8 steps of a line each, then the high bits, 2 or 4 lines
//!   a step: outputs 0 to 15 in the low nibbles of 16 × 4 bytes, 16 to 31 in the high ones
//!   Q5_K: a line for each half of the outputs, steps 0 to 7 in bits 4 5 6 7 0 1 2 3
//!   Q6_K: the same for each half of the steps, steps 0 to 3 in bits 4-5 6-7 0-1 2-3
//! ```

use std::convert::Infallible;
use std::ops::Range;

use rayon::prelude::*;

use super::ahead::Ahead;
use super::block_scalar::exact;
use super::cpu::Work;
use super::{Cpu, FloatLine, GROUP, Lanes, Rows, Tiles, block_scalar};
use crate::blocks::{BLOCK, BlockFormat, KBlock, SUPERBLOCK};
use crate::float16::widen_f16;
use crate::numbers::ROUND;

/// Inputs multiplied in one step.
pub(super) const STEP: usize = 4;
/// Steps of the 32 inputs that share a scale of x.
pub(super) const STEPS: usize = BLOCK / STEP;
/// Sub-blocks of a superblock.
pub(super) const SUBS: usize = SUPERBLOCK / BLOCK;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

/// Weights, group by group, chunk by chunk.
pub(super) struct BlockPanels {
    format: BlockFormat,
    /// Groups of a part.
    n_groups: usize,
    /// A part is a task's share of packing: what it writes, it also allocates.
    parts: Vec<Vec<Line>>,
}

/// Groups that are packed together, from numbers.
const PART_GROUPS: usize = 8;

/// Where things lie in a chunk, in lines.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Of scales, before the codes.
    pub(super) head: usize,
    /// Of a sub-block.
    pub(super) sub: usize,
    /// Of the whole.
    pub(super) chunk: usize,
}

impl Layout {
    pub(super) fn of(format: BlockFormat) -> Self {
        let (head, sub, n_subs) = match format {
            BlockFormat::Q8_0 => (1, 16, 1),
            BlockFormat::Q4K => (10, 8, SUBS),
            BlockFormat::Q5K => (10, 10, SUBS),
            BlockFormat::Q6K => (9, 12, SUBS),
        };
        Self {
            head,
            sub,
            chunk: head + sub * n_subs,
        }
    }
}

impl BlockPanels {
    /// Quantizes and packs outputs × inputs weights, a row being whole blocks.
    pub(super) fn quantize(format: BlockFormat, values: &[f32], inputs: usize) -> Self {
        let row_bytes = format.row_bytes(inputs).unwrap_or(0);
        let outputs = values.len() / inputs;
        let quantize = |rows: Range<usize>, bytes: &mut Vec<u8>| -> Result<(), Infallible> {
            bytes.resize(rows.len() * row_bytes, 0);
            let values = values[rows.start * inputs..rows.end * inputs].chunks_exact(inputs);
            for (values, bytes) in values.zip(bytes.chunks_exact_mut(row_bytes)) {
                Cpu::this().vectorized(QuantizeBlocks(format, values, bytes));
            }
            Ok(())
        };
        let packed = Self::pack(format, [outputs, inputs], PART_GROUPS * GROUP, quantize);
        packed.unwrap_or_else(|never| match never {})
    }

    /// Packs outputs × inputs blocks, as `read` gives them for so many rows at a time, a whole
    /// number of groups.
    pub(super) fn pack<E: Send>(
        format: BlockFormat,
        [outputs, inputs]: [usize; 2],
        n_rows: usize,
        read: impl Fn(Range<usize>, &mut Vec<u8>) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        debug_assert!(n_rows.is_multiple_of(GROUP));
        let row_bytes = format.row_bytes(inputs).unwrap_or(0).max(1);
        let n_lines = inputs / format.inputs() * Layout::of(format).chunk;
        let part = |bytes: &mut Vec<u8>, idx: usize| {
            let rows = idx * n_rows..outputs.min((idx + 1) * n_rows);
            let mut lines = vec![Line([0; 64]); rows.len().div_ceil(GROUP) * n_lines];
            read(rows, bytes)?;
            let groups = bytes.chunks(GROUP * row_bytes);
            for (bytes, lines) in groups.zip(lines.chunks_exact_mut(n_lines.max(1))) {
                pack_group(format, bytes, row_bytes, lines);
            }
            Ok(lines)
        };
        let parts = (0..outputs.div_ceil(n_rows)).into_par_iter();
        Ok(Self {
            format,
            n_groups: n_rows / GROUP,
            parts: parts.map_init(Vec::new, part).collect::<Result<_, E>>()?,
        })
    }

    pub(super) fn format(&self) -> BlockFormat {
        self.format
    }

    /// Inputs are a whole number of blocks.
    pub(super) fn group_bytes(format: BlockFormat, inputs: usize) -> usize {
        inputs / format.inputs() * Layout::of(format).chunk * size_of::<Line>()
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.parts
            .iter()
            .map(|lines| size_of_val(lines.as_slice()))
            .sum()
    }

    pub(super) fn checksum(&self) -> u64 {
        let sum = |lines: &[Line]| {
            let words = lines.iter().flat_map(|line| line.0.as_chunks::<4>().0);
            words.fold(0, |sum: u32, word| {
                sum.wrapping_add(u32::from_le_bytes(*word))
            })
        };
        // The same however the lines are divided into parts.
        let sums = self.parts.par_iter().map(|lines| sum(lines));
        u64::from(sums.reduce(|| 0, u32::wrapping_add))
    }

    /// A group's chunks.
    pub(super) fn group(&self, group: usize, inputs: usize) -> &[Line] {
        let n_lines = inputs / self.format.inputs() * Layout::of(self.format).chunk;
        let (part, group) = (group / self.n_groups, group % self.n_groups);
        &self.parts[part][group * n_lines..(group + 1) * n_lines]
    }

    /// Writes the inputs of one output as numbers.
    pub(super) fn row(&self, output: usize, out: &mut [f32]) {
        let lines = self.group(output / GROUP, out.len());
        let mut numbers = [FloatLine([0.0; GROUP]); BLOCK];
        for (sub, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            Cpu::this().vectorized(Dequantize(self.format, lines, sub, &mut numbers));
            for (value, line) in out.iter_mut().zip(&numbers) {
                *value = line.0[output % GROUP];
            }
        }
    }

    /// Writes some inputs of a group, a whole number of times 32, as lines of numbers.
    pub(super) fn dequantize(&self, lines: &[Line], inputs: Range<usize>, out: &mut [FloatLine]) {
        let subs = inputs.start / BLOCK..inputs.end / BLOCK;
        for (sub, out) in subs.zip(out.as_chunks_mut::<BLOCK>().0) {
            Cpu::this().vectorized(Dequantize(self.format, lines, sub, out));
        }
    }
}

struct QuantizeBlocks<'a>(BlockFormat, &'a [f32], &'a mut [u8]);

impl Work for QuantizeBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(format, values, bytes) = self;
        match format {
            // A constant each: a loop of its own for each format.
            BlockFormat::Q8_0 => BlockFormat::Q8_0.quantize(values, bytes),
            BlockFormat::Q4K => BlockFormat::Q4K.quantize(values, bytes),
            BlockFormat::Q5K => BlockFormat::Q5K.quantize(values, bytes),
            BlockFormat::Q6K => BlockFormat::Q6K.quantize(values, bytes),
        }
    }
}

/// Writes 32 inputs of a group, counted in such subs from its first, as numbers.
struct Dequantize<'a>(BlockFormat, &'a [Line], usize, &'a mut [FloatLine; BLOCK]);

impl Work for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(format, lines, sub, out) = self;
        block_scalar::dequantize(format, lines, sub, out);
    }
}

/// Packs the rows of a group.
fn pack_group(format: BlockFormat, bytes: &[u8], row_bytes: usize, lines: &mut [Line]) {
    let layout = Layout::of(format);
    let row = |lane: usize| bytes.get(lane * row_bytes..(lane + 1) * row_bytes);
    let block = |lane: usize, idx: usize| {
        row(lane).map(|row| &row[idx * format.bytes()..(idx + 1) * format.bytes()])
    };
    for (idx, lines) in lines.chunks_exact_mut(layout.chunk).enumerate() {
        if format == BlockFormat::Q8_0 {
            for lane in 0..GROUP {
                pack_bytes(block(lane, idx), lane, lines);
            }
            continue;
        }
        for lane in 0..GROUP / 2 {
            let pair = [lane, lane + GROUP / 2].map(|lane| block(lane, idx));
            Cpu::this().vectorized(PackPair {
                format,
                pair,
                lane,
                lines,
            });
        }
    }
}

/// Packs a block of `Q8_0`, or the want of one.
fn pack_bytes(block: Option<&[u8]>, lane: usize, lines: &mut [Line]) {
    let Some(block) = block else { return };
    let (head, steps) = lines.split_at_mut(1);
    head[0].0[2 * lane..2 * lane + 2].copy_from_slice(&block[..2]);
    let (steps, _) = steps.as_chunks_mut::<2>();
    for (step, bytes) in steps.iter_mut().zip(block[2..].as_chunks::<STEP>().0) {
        let at = lane % 16 * STEP;
        step[lane / 16].0[at..at + STEP].copy_from_slice(&bytes.map(|byte| byte ^ 128));
    }
}

/// Packs superblocks of two outputs that share bytes, 16 lanes apart.
struct PackPair<'a> {
    format: BlockFormat,
    pair: [Option<&'a [u8]>; 2],
    lane: usize,
    lines: &'a mut [Line],
}

impl Work for PackPair<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.format {
            // A constant each: a loop of its own for each format.
            BlockFormat::Q4K => self.pack(BlockFormat::Q4K),
            BlockFormat::Q5K => self.pack(BlockFormat::Q5K),
            _ => self.pack(BlockFormat::Q6K),
        }
    }
}

impl PackPair<'_> {
    #[inline(always)]
    fn pack(self, format: BlockFormat) {
        let Self {
            pair, lane, lines, ..
        } = self;
        let pair = pair.map(|bytes| bytes.map(|bytes| KBlock::read(format, bytes)));
        for (half, block) in pair.iter().enumerate() {
            if let Some(block) = block {
                pack_scales(format, block, lane + 16 * half, lines);
            }
        }
        let zero = [0; SUPERBLOCK];
        let codes = pair
            .each_ref()
            .map(|block| block.as_ref().map_or(&zero, |block| &block.codes));
        let words = codes.map(words);
        let layout = Layout::of(format);
        let subs = lines[layout.head..].chunks_exact_mut(layout.sub);
        for (sub, lines) in subs.enumerate() {
            let words = words.map(|words| {
                let (subs, _) = words.as_chunks::<STEPS>();
                subs[sub]
            });
            pack_sub(format, words, lane, lines);
        }
    }
}

/// Four codes a word.
#[inline(always)]
fn words(codes: &[u8; SUPERBLOCK]) -> [u32; SUPERBLOCK / STEP] {
    let (steps, _) = codes.as_chunks::<STEP>();
    std::array::from_fn(|idx| u32::from_le_bytes(steps[idx]))
}

#[inline(always)]
fn pack_scales(format: BlockFormat, block: &KBlock, lane: usize, lines: &mut [Line]) {
    let mut put = |at: usize, bytes: &[u8]| {
        lines[at / 64].0[at % 64..at % 64 + bytes.len()].copy_from_slice(bytes);
    };
    put(2 * lane, &block.d.to_le_bytes());
    if format == BlockFormat::Q6K {
        for (idx, scale) in block.scales.iter().enumerate() {
            put(64 + idx * GROUP + lane, &[*scale]);
        }
        return;
    }
    put(64 + 2 * lane, &block.dmin.to_le_bytes());
    for idx in 0..SUBS {
        put(128 + idx * GROUP + lane, &[block.scales[idx]]);
        put(128 + (SUBS + idx) * GROUP + lane, &[block.mins[idx]]);
    }
}

/// Places in a byte of the high bits of each step.
pub(super) const HIGH_1: [u32; STEPS] = [4, 5, 6, 7, 0, 1, 2, 3];
pub(super) const HIGH_2: [u32; STEPS] = [4, 6, 0, 2, 4, 6, 0, 2];

#[inline(always)]
fn pack_sub(format: BlockFormat, words: [[u32; STEPS]; 2], lane: usize, lines: &mut [Line]) {
    let at = lane * STEP..(lane + 1) * STEP;
    for step in 0..STEPS {
        let [low, high] = words.map(|words| words[step] & 0x0f0f_0f0f);
        lines[step].0[at.clone()].copy_from_slice(&(low | high << 4).to_le_bytes());
    }
    for (half, words) in words.iter().enumerate() {
        let bits = |step: usize| words[step] >> 4 & 0x0303_0303;
        let gather = |steps: Range<usize>, places: &[u32; STEPS]| {
            steps.fold(0, |all, step| all | bits(step) << places[step])
        };
        let mut put = |line: usize, bits: u32| {
            lines[STEPS + line].0[at.clone()].copy_from_slice(&bits.to_le_bytes());
        };
        match format {
            BlockFormat::Q5K => put(half, gather(0..8, &HIGH_1)),
            BlockFormat::Q6K => {
                put(half, gather(0..4, &HIGH_2));
                put(2 + half, gather(4..8, &HIGH_2));
            }
            _ => {}
        }
    }
}

/// Quantized rows, tile by tile.
pub(super) struct BlockInput {
    /// Steps × rows of the tile: four inputs as signed bytes.
    words: Vec<i32>,
    /// Blocks of 32 inputs × rows.
    scales: Vec<f32>,
    /// Blocks × rows: sums of the bytes of 16 inputs and of the next 16.
    sums: Vec<[i32; 2]>,
    /// Blocks × rows: what minima are multiplied with, the scale times the sum of all 32, negated.
    mins: Vec<f32>,
}

/// One tile of an input.
pub(super) struct BlockTile<'a> {
    pub(super) words: &'a [i32],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [[i32; 2]],
    pub(super) mins: &'a [f32],
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "see `Ahead`"))]
    pub(super) ahead: Ahead,
}

/// More tiles than this compute for longer than fetching a group takes.
const MAX_FETCHING: usize = 32;

impl BlockInput {
    /// Quantizes rows of whole blocks.
    pub(super) fn new(cpu: Cpu, rows: &Rows<'_>, tiles: Tiles) -> Self {
        let (n_steps, n_blocks) = (rows.width() / STEP, rows.width() / BLOCK);
        let mut input = Self {
            words: vec![0; rows.len() * n_steps],
            scales: vec![0.0; rows.len() * n_blocks],
            sums: vec![[0; 2]; rows.len() * n_blocks],
            mins: vec![0.0; rows.len() * n_blocks],
        };
        let (mut words, mut scales) = (&mut input.words[..], &mut input.scales[..]);
        let (mut sums, mut mins) = (&mut input.sums[..], &mut input.mins[..]);
        let mut parts = Vec::new();
        for (idx, height) in tiles.heights().enumerate() {
            parts.push(QuantizeTile {
                rows: rows.rows(tiles.tile(idx)),
                words: words.split_off_mut(..height * n_steps).unwrap_or_default(),
                scales: scales
                    .split_off_mut(..height * n_blocks)
                    .unwrap_or_default(),
                sums: sums.split_off_mut(..height * n_blocks).unwrap_or_default(),
                mins: mins.split_off_mut(..height * n_blocks).unwrap_or_default(),
            });
        }
        parts.into_par_iter().for_each(|tile| cpu.vectorized(tile));
        input
    }

    pub(super) fn tile(
        &self,
        format: BlockFormat,
        tiles: &Tiles,
        idx: usize,
        inputs: usize,
    ) -> BlockTile<'_> {
        let (steps, blocks) = (inputs / STEP, inputs / BLOCK);
        let Range { start, end } = tiles.tile(idx);
        BlockTile {
            words: &self.words[start * steps..end * steps],
            scales: &self.scales[start * blocks..end * blocks],
            sums: &self.sums[start * blocks..end * blocks],
            mins: &self.mins[start * blocks..end * blocks],
            ahead: Ahead::new(
                (idx, tiles.len()),
                MAX_FETCHING,
                BlockPanels::group_bytes(format, inputs),
                inputs / STEP,
            ),
        }
    }
}

/// Rows of a tile, and where their bytes go.
struct QuantizeTile<'a> {
    rows: Rows<'a>,
    words: &'a mut [i32],
    scales: &'a mut [f32],
    sums: &'a mut [[i32; 2]],
    mins: &'a mut [f32],
}

impl Work for QuantizeTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let height = self.rows.len();
        for (row, values) in self.rows.iter().enumerate() {
            for (block, values) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
                let (scale, bytes) = quantize(values);
                self.scales[block * height + row] = scale;
                let (halves, _) = bytes.as_chunks::<{ BLOCK / 2 }>();
                let sum = |half: &[i8; BLOCK / 2]| half.iter().map(|byte| i32::from(*byte)).sum();
                let sums = [sum(&halves[0]), sum(&halves[1])];
                self.sums[block * height + row] = sums;
                self.mins[block * height + row] = scale * exact(-(sums[0] + sums[1]));
                let words = self.words[block * STEPS * height + row..].iter_mut();
                for (word, step) in words.step_by(height).zip(bytes.as_chunks::<STEP>().0) {
                    *word = i32::from_le_bytes(step.map(i8::cast_unsigned));
                }
            }
        }
    }
}

/// 32 numbers as bytes from −127 to 127. One that is not finite makes the scale NaN, and with it
/// every sum it goes into.
#[inline(always)]
fn quantize(values: &[f32; BLOCK]) -> (f32, [i8; BLOCK]) {
    // Below, 127 / max would overflow.
    const SMALLEST: f32 = 1e-30;
    // Magnitudes compare as integers, NaN above infinity above all numbers.
    let bits = values.iter().map(|value| value.to_bits() & 0x7fff_ffff);
    let max = f32::from_bits(bits.fold(0, u32::max));
    if !max.is_finite() {
        return (f32::NAN, [0; BLOCK]);
    }
    if max < SMALLEST {
        return (0.0, [0; BLOCK]);
    }
    let inverse = 127.0 / max;
    let byte = |value: f32| (value * inverse + ROUND).to_bits().to_le_bytes()[0].cast_signed();
    (max / 127.0, values.map(byte))
}

/// Numbers of 16 bits, one for each output.
#[inline(always)]
pub(super) fn widened(line: &Line) -> Lanes {
    let (words, _) = line.0.as_chunks::<2>();
    std::array::from_fn(|lane| widen_f16(u16::from_le_bytes(words[lane])))
}
