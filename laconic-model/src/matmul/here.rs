//! Products of numbers that change from text to text, on the thread that asks for them: those of
//! attention, small and many.

use super::cpu::Work;
use super::float::{FloatPanels, interleave};
use super::int8::{self, Int8Input, Int8Panels};
use super::{Input, InputData, Lanes, Matrix, Panels, Rows, Tiles};

/// What numbers are turned into before they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    /// As weights of that format, and their rows.
    Int8,
}

/// Numbers of a row that are made together.
pub(crate) const CHUNK: usize = int8::BLOCK;

/// Rows that are made where they are needed.
pub(crate) trait Source {
    /// Writes the numbers of a row from `CHUNK · chunk` on; what it leaves behind the last one is
    /// not looked at. Must be `#[inline(always)]`, see [`Work`].
    fn chunk(&self, row: usize, chunk: usize, out: &mut [f32; CHUNK]);
}

impl Source for Rows<'_> {
    #[inline(always)]
    fn chunk(&self, row: usize, chunk: usize, out: &mut [f32; CHUNK]) {
        let values = &self.row(row)[chunk * CHUNK..];
        match values.first_chunk() {
            Some(values) => *out = *values,
            None => out[..values.len()].copy_from_slice(values),
        }
    }
}

impl Matrix {
    /// How attention beside this matrix computes: no more precisely than the matrix does.
    pub(crate) fn precision(&self) -> Precision {
        match &self.parts[0].1 {
            Panels::Int8(_) => Precision::Int8,
            // Blocks as well: scales for every 32 deserve rows that are as precise.
            Panels::F32(_) | Panels::Bf16(_) | Panels::Blocks(_) | Panels::WeightOnly(_) => {
                Precision::F32
            }
        }
    }

    /// Packs rows, one an output.
    pub(crate) fn pack_rows(precision: Precision, rows: &Rows<'_>) -> Self {
        let panels = match precision {
            Precision::F32 => {
                let mut panels = FloatPanels::default();
                panels.push(rows);
                Panels::F32(panels)
            }
            Precision::Int8 => {
                let mut panels = Int8Panels::default();
                panels.push(rows);
                Panels::Int8(panels)
            }
        };
        Self::new(panels, rows.len(), rows.width())
    }

    /// Packs rows, one an input.
    pub(crate) fn pack_columns(precision: Precision, rows: &Rows<'_>) -> Self {
        let panels = match precision {
            Precision::F32 => {
                let mut panels = FloatPanels::default();
                panels.push_transposed(rows);
                Panels::F32(panels)
            }
            Precision::Int8 => {
                let mut panels = Int8Panels::default();
                panels.push_transposed(rows);
                Panels::Int8(panels)
            }
        };
        Self::new(panels, rows.width(), rows.len())
    }

    /// Makes rows ready for a matrix that was packed here, and tells the sum of each as it will be
    /// multiplied.
    pub(crate) fn input_here<S: Source>(
        &self,
        n_rows: usize,
        source: &S,
        sums: &mut Vec<f32>,
    ) -> Input {
        let (max_height, mut data) = match self.precision() {
            Precision::F32 => {
                let values = vec![0.0; n_rows * self.inputs];
                (self.cpu.max_height(), InputData::F32(values))
            }
            Precision::Int8 => {
                let (max_height, arrangement) = self.cpu.int8_tiles();
                let input = Int8Input::new(arrangement, n_rows, self.inputs);
                (max_height, InputData::Int8(input))
            }
        };
        let tiles = Tiles::new(n_rows, max_height);
        sums.clear();
        sums.resize(n_rows, 0.0);
        self.cpu.vectorized(Fill {
            source,
            tiles,
            inputs: self.inputs,
            data: &mut data,
            sums,
        });
        Input { tiles, data }
    }

    /// `x Wᵀ`, groups × rows.
    pub(crate) fn product_here(&self, input: &Input, out: &mut Vec<Lanes>) {
        let n_rows = input.tiles.n_rows();
        out.resize(self.n_groups * n_rows, [0.0; super::GROUP]);
        for (group, sums) in out.chunks_exact_mut(n_rows).enumerate() {
            self.group_into(input, 0..input.tiles.len(), group, sums);
        }
    }
}

/// Fills an input from a source.
struct Fill<'a, S> {
    source: &'a S,
    tiles: Tiles,
    inputs: usize,
    data: &'a mut InputData,
    sums: &'a mut [f32],
}

impl<S: Source> Work for Fill<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.data {
            InputData::F32(values) => {
                let mut rest = values.as_mut_slice();
                for tile in 0..self.tiles.len() {
                    let rows = self.tiles.tile(tile);
                    let tile = rest.split_off_mut(..rows.len() * self.inputs);
                    let tile = tile.unwrap_or_default();
                    let sums = &mut self.sums[rows.clone()];
                    fill_floats(self.source, rows.start, sums, tile);
                }
            }
            InputData::Int8(input) => {
                let tiles = input.tiles_mut(self.tiles.heights(), self.inputs);
                for (idx, mut tile) in tiles.into_iter().enumerate() {
                    let rows = self.tiles.tile(idx);
                    let mut values = [0.0; CHUNK];
                    for (row, sum) in self.sums[rows.clone()].iter_mut().enumerate() {
                        for chunk in 0..self.inputs.div_ceil(CHUNK) {
                            self.source.chunk(rows.start + row, chunk, &mut values);
                            let len = CHUNK.min(self.inputs - chunk * CHUNK);
                            *sum += match len {
                                // A constant length is worth a branch.
                                CHUNK => tile.put(rows.len(), row, chunk, &values),
                                len => tile.put(rows.len(), row, chunk, &values[..len]),
                            };
                        }
                    }
                }
            }
            _ => unreachable!("matrices that are packed here are of f32 or bytes"),
        }
    }
}

/// Fills a tile's inputs × rows.
#[inline(always)]
fn fill_floats<S: Source>(source: &S, first: usize, sums: &mut [f32], tile: &mut [f32]) {
    const MAX_HEIGHT: usize = 16;
    let height = sums.len();
    let mut values = [[0.0; CHUNK]; MAX_HEIGHT];
    for (chunk, out) in tile.chunks_mut(CHUNK * height).enumerate() {
        let len = out.len() / height;
        for (row, (values, sum)) in values.iter_mut().zip(sums.iter_mut()).enumerate() {
            source.chunk(first + row, chunk, values);
            *sum += values[..len].iter().sum::<f32>();
        }
        let rows = Rows::of(values[..height].as_flattened(), CHUNK);
        interleave(&rows.columns(0..len), out);
    }
}
