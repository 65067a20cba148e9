//! Where there are no kernels for the processor: the scalar ones.

use super::Lanes;
use super::block_scalar;
use super::blockwise::{BlockTile, Line};
use super::cpu::Cpu;
use crate::blocks::BlockFormat;

pub(super) fn max_height(_cpu: Cpu) -> usize {
    4
}

pub(super) fn product(
    _cpu: Cpu,
    format: BlockFormat,
    x: &BlockTile<'_>,
    lines: &[Line],
    out: &mut [Lanes],
) {
    block_scalar::product(format, x, lines, out);
}
