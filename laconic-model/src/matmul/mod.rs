//! Matrix products `y = x Wᵀ`, W packed once, x many rows or few.
//!
//! 32 outputs are a *group*: W lies group by group, in the order in which a kernel reads it, and a
//! group's inputs stay in cache while the rows of x pass, a dozen at a time (a *tile*, whose sums
//! fill the registers). So W is read from memory once, whatever the number of rows; that is what
//! bounds a query. Goto and van de Geijn, "Anatomy of high-performance matrix multiplication"
//! (2008), has the reasons; packing W beforehand saves half of that work.
//!
//! A row's result does not depend on the other rows, nor on threads: every sum is taken in the
//! order of the inputs. Quantized products are moreover the same bits on every processor.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod bf16;
#[cfg(target_arch = "aarch64")]
mod bf16_neon;
#[cfg(target_arch = "x86_64")]
mod bf16_x86;
#[cfg(target_arch = "x86_64")]
mod block_avx2;
#[cfg(target_arch = "aarch64")]
mod block_i8mm;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "block_portable.rs"]
mod block_kernels;
#[cfg(target_arch = "aarch64")]
#[path = "block_neon.rs"]
mod block_kernels;
#[cfg(target_arch = "x86_64")]
#[path = "block_x86.rs"]
mod block_kernels;
mod block_scalar;
mod blockwise;
mod cpu;
mod float;
mod here;
mod int8;
#[cfg(target_arch = "aarch64")]
mod int8_i8mm;
#[cfg(target_arch = "aarch64")]
mod int8_neon;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "portable.rs"]
mod kernels;
#[cfg(target_arch = "aarch64")]
#[path = "neon.rs"]
mod kernels;
#[cfg(target_arch = "x86_64")]
#[path = "x86.rs"]
mod kernels;
mod rows;
mod scalar;
mod softmax;

use std::ops::Range;

use rayon::prelude::*;

use crate::blocks::BlockFormat;
use crate::options::WeightFormat;
use bf16::{Bf16Input, Bf16Panels};
use blockwise::{BlockInput, BlockPanels};
pub(crate) use cpu::{Cpu, Work};
use float::{FloatPanels, interleave};
pub(crate) use here::Precision;
use int8::{Int8Input, Int8Panels, Quantize};
use rows::Output;
pub(crate) use rows::{Rows, Tiles};
pub(crate) use softmax::{POSITIONS, Softmax};

/// Outputs that are computed together.
pub(crate) const GROUP: usize = 32;

/// A row's sums for the outputs of one group.
pub(crate) type Lanes = [f32; GROUP];

/// One number for each output of a group.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct FloatLine(Lanes);

/// Rows that go through a group in one task: what they gather fits the second-level cache.
const TASK_ROWS: usize = 256;

/// Weights, outputs × inputs, packed.
pub(crate) struct Matrix {
    n_groups: usize,
    inputs: usize,
    cpu: Cpu,
    /// One, or those of stacked matrices, each with its number of groups.
    parts: Vec<(usize, Panels)>,
}

enum Panels {
    F32(FloatPanels),
    Bf16(Bf16Panels),
    Int8(Int8Panels),
    Blocks(BlockPanels),
    /// Blocks that are made numbers again where they meet rows of f32.
    WeightOnly(BlockPanels),
}

/// Rows made ready for a matrix of one format; several matrices may take the same.
pub(crate) struct Input {
    tiles: Tiles,
    data: InputData,
}

/// What rows are made to meet weights.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rowform {
    F32,
    Bf16,
    Int8,
    Blocks,
}

enum InputData {
    F32(Vec<f32>),
    Bf16(Bf16Input),
    Int8(Int8Input),
    Blocks(BlockInput),
}

/// Bytes of a matrix that is packed in a format, or in what takes its place.
pub(crate) fn packed_bytes(format: WeightFormat, outputs: usize, inputs: usize) -> usize {
    let blocks = |blocks| BlockPanels::group_bytes(blocks, inputs);
    let group = match format.for_inputs(inputs) {
        WeightFormat::F32 | WeightFormat::Stored => 4 * GROUP * inputs,
        WeightFormat::Bf16 => Bf16Panels::group_bytes(inputs),
        WeightFormat::Int8 => Int8Panels::group_bytes(inputs),
        WeightFormat::Q8_0 | WeightFormat::Q8_0WeightOnly => blocks(BlockFormat::Q8_0),
        WeightFormat::Q6K => blocks(BlockFormat::Q6K),
        WeightFormat::Q5K => blocks(BlockFormat::Q5K),
        WeightFormat::Q4K => blocks(BlockFormat::Q4K),
    };
    outputs.div_ceil(GROUP) * group
}

impl Matrix {
    /// Packs rows of weights, one row an output, in a format or what
    /// [takes its place](WeightFormat::for_inputs).
    pub(crate) fn pack(format: WeightFormat, values: &[f32], inputs: usize) -> Self {
        let blocks = |blocks| BlockPanels::quantize(blocks, values, inputs);
        let panels = match format.for_inputs(inputs) {
            WeightFormat::F32 | WeightFormat::Stored => {
                Panels::F32(FloatPanels::pack(values, inputs))
            }
            WeightFormat::Bf16 => Panels::Bf16(Bf16Panels::pack(values, inputs)),
            WeightFormat::Int8 => Panels::Int8(Int8Panels::pack(values, inputs)),
            WeightFormat::Q8_0 => Panels::Blocks(blocks(BlockFormat::Q8_0)),
            WeightFormat::Q8_0WeightOnly => Panels::WeightOnly(blocks(BlockFormat::Q8_0)),
            WeightFormat::Q6K => Panels::Blocks(blocks(BlockFormat::Q6K)),
            WeightFormat::Q5K => Panels::Blocks(blocks(BlockFormat::Q5K)),
            WeightFormat::Q4K => Panels::Blocks(blocks(BlockFormat::Q4K)),
        };
        Self::new(panels, values.len() / inputs, inputs)
    }

    /// Packs outputs × inputs weights in blocks, which `read` gives for so many rows at a time, a
    /// whole number of groups.
    pub(crate) fn read_blocks<E: Send>(
        format: BlockFormat,
        shape: [usize; 2],
        n_rows: usize,
        is_weight_only: bool,
        read: impl Fn(Range<usize>, &mut Vec<u8>) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let panels = BlockPanels::pack(format, shape, n_rows, read)?;
        let panels = match is_weight_only {
            true => Panels::WeightOnly(panels),
            false => Panels::Blocks(panels),
        };
        Ok(Self::new(panels, shape[0], shape[1]))
    }

    fn new(panels: Panels, outputs: usize, inputs: usize) -> Self {
        let n_groups = outputs.div_ceil(GROUP);
        Self {
            n_groups,
            inputs,
            cpu: Cpu::this(),
            parts: vec![(n_groups, panels)],
        }
    }

    /// The outputs of several matrices one behind the other, each beginning with a group of its own.
    ///
    /// Matrices that take unlike rows, as a GGUF file may mix them, become f32.
    pub(crate) fn stack<const N: usize>(parts: [Self; N]) -> Self {
        let is_alike = parts.iter().all(|part| part.takes() == parts[0].takes());
        let parts = match is_alike {
            true => parts,
            false => parts.map(Self::into_f32),
        };
        let mut parts = parts.into_iter();
        let mut all = parts.next().expect("at least one part");
        for part in parts {
            debug_assert_eq!(all.inputs, part.inputs);
            all.parts.extend(part.parts);
            all.n_groups += part.n_groups;
        }
        all
    }

    /// What rows have to be made for this matrix.
    fn takes(&self) -> Rowform {
        match &self.parts[0].1 {
            Panels::F32(_) | Panels::WeightOnly(_) => Rowform::F32,
            Panels::Bf16(_) => Rowform::Bf16,
            Panels::Int8(_) => Rowform::Int8,
            Panels::Blocks(_) => Rowform::Blocks,
        }
    }

    fn into_f32(self) -> Self {
        let mut values = vec![0.0; self.width() * self.inputs];
        let rows = values.par_chunks_exact_mut(self.inputs).enumerate();
        rows.for_each(|(output, out)| self.row(output, out));
        Self::pack(WeightFormat::F32, &values, self.inputs)
    }

    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of a product: the outputs, rounded up to whole groups.
    pub(crate) fn width(&self) -> usize {
        self.n_groups * GROUP
    }

    pub(crate) fn n_bytes(&self) -> usize {
        let bytes = |(_, panels): &(usize, Panels)| match panels {
            Panels::F32(panels) => panels.n_bytes(),
            Panels::Bf16(panels) => panels.n_bytes(),
            Panels::Int8(panels) => panels.n_bytes(),
            Panels::Blocks(panels) | Panels::WeightOnly(panels) => panels.n_bytes(),
        };
        self.parts.iter().map(bytes).sum()
    }

    /// A sum over all that was packed: the time it takes is that of reading it.
    pub(crate) fn checksum(&self) -> u64 {
        let sum = |(_, panels): &(usize, Panels)| match panels {
            Panels::F32(panels) => panels.checksum(),
            Panels::Bf16(panels) => panels.checksum(),
            Panels::Int8(panels) => panels.checksum(),
            Panels::Blocks(panels) | Panels::WeightOnly(panels) => panels.checksum(),
        };
        self.parts.iter().map(sum).fold(0, u64::wrapping_add)
    }

    /// The weights of one output, as numbers: an embedding.
    pub(crate) fn row(&self, output: usize, out: &mut [f32]) {
        let (panels, group) = self.locate(output / GROUP);
        let output = group * GROUP + output % GROUP;
        match panels {
            Panels::F32(panels) => panels.row(output, out),
            Panels::Bf16(panels) => panels.row(output, out),
            Panels::Int8(panels) => panels.row(output, out),
            Panels::Blocks(panels) | Panels::WeightOnly(panels) => panels.row(output, out),
        }
    }

    /// The part that a group is of, and its number there.
    fn locate(&self, mut group: usize) -> (&Panels, usize) {
        for (n_groups, panels) in &self.parts {
            if group < *n_groups {
                return (panels, group);
            }
            group -= n_groups;
        }
        unreachable!("a group of this matrix")
    }

    /// Makes rows ready for this matrix.
    pub(crate) fn input(&self, rows: &Rows<'_>) -> Input {
        let takes = self.takes();
        let max_height = match takes {
            Rowform::Blocks => block_kernels::max_height(self.cpu),
            Rowform::Int8 => self.cpu.int8_tiles().0,
            Rowform::F32 | Rowform::Bf16 => self.cpu.max_height(),
        };
        let tiles = Tiles::new(rows.len(), max_height);
        let data = match takes {
            Rowform::F32 => InputData::F32(self.interleaved(rows, tiles)),
            Rowform::Bf16 => InputData::Bf16(Bf16Input::new(self.cpu, rows, tiles)),
            Rowform::Int8 => InputData::Int8(self.quantized(rows, tiles)),
            Rowform::Blocks => InputData::Blocks(BlockInput::new(self.cpu, rows, tiles)),
        };
        Input { tiles, data }
    }

    fn interleaved(&self, rows: &Rows<'_>, tiles: Tiles) -> Vec<f32> {
        let mut values = vec![0.0; rows.len() * self.inputs];
        let parts = self.parts(&mut values, tiles).into_par_iter();
        parts
            .enumerate()
            .for_each(|(idx, part)| interleave(&rows.rows(tiles.tile(idx)), part));
        values
    }

    /// Cuts the values of an input into those of its tiles.
    fn parts<'a>(&self, mut values: &'a mut [f32], tiles: Tiles) -> Vec<&'a mut [f32]> {
        let part = |height| values.split_off_mut(..height * self.inputs);
        tiles.heights().filter_map(part).collect()
    }

    fn quantized(&self, rows: &Rows<'_>, tiles: Tiles) -> Int8Input {
        let mut input = Int8Input::new(self.cpu.int8_tiles().1, rows.len(), self.inputs);
        let parts = input.tiles_mut(tiles.heights(), self.inputs);
        parts.into_par_iter().enumerate().for_each(|(idx, tile)| {
            let rows = rows.rows(tiles.tile(idx));
            self.cpu.vectorized(Quantize(tile, rows));
        });
        input
    }

    /// `x Wᵀ`, rows × [`width`](Self::width), into a buffer that may serve many products.
    #[allow(
        unsafe_code,
        reason = "threads write disjoint columns of the same rows"
    )]
    pub(crate) fn product(&self, input: &Input, out: &mut Vec<f32>) {
        out.resize(input.tiles.n_rows() * self.width(), 0.0);
        let output = Output::new(out, self.width());
        let runs = input.runs();
        // A group's runs are neighbours, so that its weights are in cache for the second.
        (0..self.n_groups * runs.len())
            .into_par_iter()
            .for_each_init(Vec::new, |sums, task| {
                let (group, tiles) = (task / runs.len(), &runs[task % runs.len()]);
                self.group(input, tiles.clone(), group, sums);
                // SAFETY: each pair of group and rows is one task's.
                unsafe { output.write(input.rows(tiles).start, group, sums) };
            });
    }

    /// The product of some tiles with one group, a row of `sums` for each of x.
    pub(crate) fn group(
        &self,
        input: &Input,
        tiles: Range<usize>,
        group: usize,
        sums: &mut Vec<Lanes>,
    ) {
        sums.resize(input.rows(&tiles).len(), [0.0; GROUP]);
        self.group_into(input, tiles, group, sums);
    }

    fn group_into(&self, input: &Input, tiles: Range<usize>, group: usize, sums: &mut [Lanes]) {
        let first = input.rows(&tiles).start;
        let (panels, group) = self.locate(group);
        match (panels, &input.data) {
            (Panels::F32(panels), InputData::F32(x)) => {
                sums.fill([0.0; GROUP]);
                let lines = panels.group(group, self.inputs);
                for (block, lines) in lines.chunks(float::BLOCK).enumerate() {
                    self.add_floats(input, x, tiles.clone(), block * float::BLOCK, lines, sums);
                }
            }
            (Panels::WeightOnly(panels), InputData::F32(x)) => {
                sums.fill([0.0; GROUP]);
                let blocks = panels.group(group, self.inputs);
                let mut lines = vec![FloatLine([0.0; GROUP]); float::BLOCK.min(self.inputs)];
                for start in (0..self.inputs).step_by(float::BLOCK) {
                    let inputs = start..self.inputs.min(start + float::BLOCK);
                    let lines = &mut lines[..inputs.len()];
                    panels.dequantize(blocks, inputs, lines);
                    self.add_floats(input, x, tiles.clone(), start, lines, sums);
                }
            }
            (Panels::Bf16(panels), InputData::Bf16(x)) => {
                sums.fill([0.0; GROUP]);
                let lines = panels.group(group, self.inputs);
                for (block, lines) in lines.chunks(bf16::BLOCK).enumerate() {
                    for tile in tiles.clone() {
                        let rows = input.tiles.tile(tile);
                        let x = x.tile(&rows, block, lines.len(), self.inputs);
                        let sums = &mut sums[rows.start - first..rows.end - first];
                        bf16::product(self.cpu, x, lines, sums);
                    }
                }
            }
            (Panels::Blocks(panels), InputData::Blocks(x)) => {
                let (format, lines) = (panels.format(), panels.group(group, self.inputs));
                for tile in tiles {
                    let x = x.tile(format, &input.tiles, tile, self.inputs);
                    let rows = input.tiles.tile(tile);
                    let sums = &mut sums[rows.start - first..rows.end - first];
                    block_kernels::product(self.cpu, format, &x, lines, sums);
                }
            }
            (Panels::Int8(panels), InputData::Int8(x)) => {
                let (lines, scales) = panels.group(group, self.inputs);
                for tile in tiles {
                    let x = x.tile(&input.tiles, tile, self.inputs);
                    let rows = input.tiles.tile(tile);
                    let sums = &mut sums[rows.start - first..rows.end - first];
                    kernels::int8(self.cpu, &x, lines, scales, sums);
                }
            }
            _ => unreachable!("an input is made ready by a matrix of the same format"),
        }
    }

    /// Adds the product of some tiles with some inputs of a group, from `start` on.
    fn add_floats(
        &self,
        input: &Input,
        x: &[f32],
        tiles: Range<usize>,
        start: usize,
        lines: &[FloatLine],
        sums: &mut [Lanes],
    ) {
        let first = input.rows(&tiles).start;
        for tile in tiles {
            let rows = input.tiles.tile(tile);
            let at = rows.start * self.inputs + start * rows.len();
            let x = &x[at..at + lines.len() * rows.len()];
            let sums = &mut sums[rows.start - first..rows.end - first];
            kernels::float(self.cpu, x, lines, sums);
        }
    }
}

impl Input {
    /// Runs of tiles, each a task's share.
    pub(crate) fn runs(&self) -> Vec<Range<usize>> {
        let n_tiles = self.tiles.len();
        let n_runs = self.tiles.n_rows().div_ceil(TASK_ROWS);
        (0..n_runs)
            .map(|idx| idx * n_tiles / n_runs..(idx + 1) * n_tiles / n_runs)
            .collect()
    }

    /// The rows that some tiles hold.
    pub(crate) fn rows(&self, tiles: &Range<usize>) -> Range<usize> {
        self.tiles.span(tiles)
    }
}

#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod tests;
