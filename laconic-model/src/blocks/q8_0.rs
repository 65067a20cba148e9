//! `Q8_0`: 32 signed bytes and their scale as binary16, which comes first.

use super::search::{largest, round};
use crate::float16::{narrow_f16, widen_f16};

/// Inputs of a block.
pub(crate) const BLOCK: usize = 32;

#[inline(always)]
pub(super) fn dequantize(block: &[u8], out: &mut [f32]) {
    let scale = widen_f16(u16::from_le_bytes([block[0], block[1]]));
    for (value, byte) in out.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(byte.cast_signed());
    }
}

#[inline(always)]
pub(super) fn quantize(values: &[f32], block: &mut [u8]) {
    let bits = narrow_f16(largest(values) / 127.0);
    block[..2].copy_from_slice(&bits.to_le_bytes());
    // By the scale as it is stored: half its rounding error otherwise ends up in every byte.
    let scale = widen_f16(bits);
    let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
    for (byte, value) in block[2..].iter_mut().zip(values) {
        *byte = round((value * inverse).clamp(-127.0, 127.0)).to_le_bytes()[0];
    }
}
