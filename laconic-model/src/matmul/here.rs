//! Products of numbers that change from text to text, on the thread that asks for them: those of
//! attention, small and many.

use super::float::{FloatPanels, interleave};
use super::int8::{Int8Input, Int8Panels, Quantize};
use super::{Cpu, GROUP, Input, InputData, Lanes, Matrix, Panels, Rows, Tiles};

/// What numbers are turned into before they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    /// As weights of that format, and their rows.
    Int8,
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
    pub(crate) fn pack_here(precision: Precision, rows: &Rows<'_>) -> Self {
        let panels = match precision {
            Precision::F32 => Panels::F32(FloatPanels::pack_here(rows)),
            Precision::Int8 => Panels::Int8(Int8Panels::pack_here(rows)),
        };
        Self::new(panels, rows.len(), rows.width())
    }

    /// `x Wᵀ`, groups × rows.
    pub(crate) fn product_here(&self, input: &Input, out: &mut Vec<Lanes>) {
        let n_rows = input.tiles.n_rows();
        out.resize(self.n_groups * n_rows, [0.0; GROUP]);
        for (group, sums) in out.chunks_exact_mut(n_rows).enumerate() {
            self.group_into(input, 0..input.tiles.len(), group, sums);
        }
    }
}

impl Input {
    /// Makes rows ready for matrices that were packed here.
    pub(crate) fn pack_here(precision: Precision, rows: &Rows<'_>) -> Self {
        let cpu = Cpu::this();
        match precision {
            Precision::F32 => {
                let tiles = Tiles::new(rows.len(), cpu.max_height());
                let mut values = vec![0.0; rows.len() * rows.width()];
                let mut rest = values.as_mut_slice();
                for idx in 0..tiles.len() {
                    let rows = rows.rows(tiles.tile(idx));
                    let part = rest.split_off_mut(..rows.len() * rows.width());
                    interleave(&rows, part.unwrap_or_default());
                }
                let data = InputData::F32(values);
                Self { tiles, data }
            }
            Precision::Int8 => {
                let (max_height, arrangement) = cpu.int8_tiles();
                let tiles = Tiles::new(rows.len(), max_height);
                let mut input = Int8Input::new(arrangement, rows.len(), rows.width());
                let parts = input.tiles_mut(tiles.heights(), rows.width());
                for (idx, tile) in parts.into_iter().enumerate() {
                    cpu.vectorized(Quantize(tile, rows.rows(tiles.tile(idx))));
                }
                let data = InputData::Int8(input);
                Self { tiles, data }
            }
        }
    }
}
