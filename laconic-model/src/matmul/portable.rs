//! Where there are no kernels for the processor: the scalar ones.

use super::cpu::{Cpu, Work};
use super::int8::{Arrangement, ByteLine, Int8Tile};
use super::{FloatLine, Lanes, scalar};

impl Cpu {
    pub(super) fn max_height(self) -> usize {
        debug_assert_eq!(self.level(), super::cpu::Level::Scalar);
        4
    }

    pub(super) fn int8_tiles(self) -> (usize, Arrangement) {
        (self.max_height(), Arrangement::SideBySide)
    }

    pub(crate) fn vectorized<W: Work>(self, work: W) -> W::Output {
        work.run()
    }
}

pub(super) fn float(_cpu: Cpu, x: &[f32], w: &[FloatLine], out: &mut [Lanes]) {
    scalar::float(x, w, out);
}

pub(super) fn int8(
    _cpu: Cpu,
    x: &Int8Tile<'_>,
    w: &[ByteLine],
    scales: &[FloatLine],
    out: &mut [Lanes],
) {
    scalar::int8(x, w, scales, out);
}
