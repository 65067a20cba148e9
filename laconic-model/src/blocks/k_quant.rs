//! `Q4_K`, `Q5_K`, `Q6_K`: superblocks of 256, whose scales are quantized themselves.

use super::BlockFormat;
use super::search::{real, round, symmetric, with_minimum};
use crate::float16::{narrow_f16, widen_f16};

/// Inputs of a superblock.
pub(crate) const SUPERBLOCK: usize = 256;

/// A superblock taken apart.
///
/// A number is `d · scale · code − dmin · minimum`; in `Q6K`, `d · scale · (code − 32)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KBlock {
    /// binary16.
    pub(crate) d: u16,
    /// binary16; 0 in `Q6K`.
    pub(crate) dmin: u16,
    /// One for every 32 inputs, 0 to 63; in `Q6K` signed bytes, one for every 16.
    pub(crate) scales: [u8; 16],
    /// One for every 32 inputs, 0 to 63; none in `Q6K`.
    pub(crate) mins: [u8; 8],
    /// One for every input, of 4, 5 or 6 bits.
    pub(crate) codes: [u8; SUPERBLOCK],
}

impl KBlock {
    /// Takes a block apart.
    #[inline(always)]
    pub(crate) fn read(format: BlockFormat, bytes: &[u8]) -> Self {
        let mut block = Self::zero();
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if format == BlockFormat::Q6K {
            block.d = word(208);
            block.scales.copy_from_slice(&bytes[192..208]);
            block.read_6_bits(&bytes[..128], &bytes[128..192]);
            return block;
        }
        (block.d, block.dmin) = (word(0), word(2));
        block.read_scales(&bytes[4..16]);
        match format {
            BlockFormat::Q5K => block.read_5_bits(&bytes[16..48], &bytes[48..]),
            _ => block.read_4_bits(&bytes[16..]),
        }
        block
    }

    /// The bytes of a block.
    #[inline(always)]
    pub(crate) fn write(&self, format: BlockFormat, bytes: &mut [u8]) {
        bytes.fill(0);
        if format == BlockFormat::Q6K {
            let (codes, rest) = bytes.split_at_mut(192);
            self.write_6_bits(codes);
            rest[..16].copy_from_slice(&self.scales);
            rest[16..].copy_from_slice(&self.d.to_le_bytes());
            return;
        }
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.dmin.to_le_bytes());
        self.write_scales(&mut bytes[4..16]);
        if format == BlockFormat::Q5K {
            let (high, low) = bytes[16..].split_at_mut(32);
            for (idx, code) in self.codes.iter().enumerate() {
                high[idx % 32] |= (code >> 4) << (idx / 32);
            }
            self.write_nibbles(low);
        } else {
            self.write_nibbles(&mut bytes[16..]);
        }
    }

    /// Finds scales and codes for 256 numbers.
    #[inline(always)]
    pub(crate) fn of(format: BlockFormat, values: &[f32]) -> Self {
        match format {
            BlockFormat::Q6K => Self::symmetric(values),
            BlockFormat::Q5K => Self::with_minima(values, 31.0),
            _ => Self::with_minima(values, 15.0),
        }
    }

    /// Writes the numbers.
    #[inline(always)]
    pub(crate) fn dequantize(&self, format: BlockFormat, out: &mut [f32]) {
        let (d, dmin) = (widen_f16(self.d), widen_f16(self.dmin));
        if format == BlockFormat::Q6K {
            let parts = out.as_chunks_mut::<16>().0.iter_mut();
            for ((out, codes), scale) in parts.zip(self.codes.as_chunks::<16>().0).zip(self.scales)
            {
                let scale = d * f32::from(scale.cast_signed());
                for (value, code) in out.iter_mut().zip(codes) {
                    *value = scale * (f32::from(*code) - 32.0);
                }
            }
            return;
        }
        let parts = out.as_chunks_mut::<32>().0.iter_mut();
        let scales = self.scales.iter().zip(self.mins);
        for ((out, codes), (scale, min)) in parts.zip(self.codes.as_chunks::<32>().0).zip(scales) {
            let (scale, min) = (d * f32::from(*scale), dmin * f32::from(min));
            for (value, code) in out.iter_mut().zip(codes) {
                *value = scale * f32::from(*code) - min;
            }
        }
    }

    fn zero() -> Self {
        Self {
            d: 0,
            dmin: 0,
            scales: [0; 16],
            mins: [0; 8],
            codes: [0; SUPERBLOCK],
        }
    }

    /// 64 inputs in 32 bytes: the first 32 in the low nibbles.
    #[inline(always)]
    fn read_4_bits(&mut self, nibbles: &[u8]) {
        let codes = self.codes.as_chunks_mut::<64>().0.iter_mut();
        for (codes, bytes) in codes.zip(nibbles.as_chunks::<32>().0) {
            let (low, high) = codes.split_at_mut(32);
            for idx in 0..32 {
                low[idx] = bytes[idx] & 15;
                high[idx] = bytes[idx] >> 4;
            }
        }
    }

    /// Bit `i` of high byte `n` is that of input `32 i + n`.
    #[inline(always)]
    fn read_5_bits(&mut self, high: &[u8], nibbles: &[u8]) {
        self.read_4_bits(nibbles);
        for (bit, codes) in self.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (code, high) in codes.iter_mut().zip(high) {
                *code |= (high >> bit & 1) << 4;
            }
        }
    }

    /// Halves of 128 inputs; bytes are shared by inputs 32 apart.
    #[inline(always)]
    fn read_6_bits(&mut self, low: &[u8], high: &[u8]) {
        let halves = self.codes.as_chunks_mut::<128>().0.iter_mut();
        let bytes = low.as_chunks::<64>().0.iter().zip(high.as_chunks::<32>().0);
        for (codes, (low, high)) in halves.zip(bytes) {
            for idx in 0..32 {
                let high = high[idx];
                codes[idx] = low[idx] & 15 | (high & 3) << 4;
                codes[idx + 32] = low[idx + 32] & 15 | (high >> 2 & 3) << 4;
                codes[idx + 64] = low[idx] >> 4 | (high >> 4 & 3) << 4;
                codes[idx + 96] = low[idx + 32] >> 4 | (high >> 6) << 4;
            }
        }
    }

    fn write_nibbles(&self, bytes: &mut [u8]) {
        let codes = self.codes.as_chunks::<64>().0.iter();
        for (codes, bytes) in codes.zip(bytes.as_chunks_mut::<32>().0) {
            for (idx, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[idx] & 15 | (codes[idx + 32] & 15) << 4;
            }
        }
    }

    fn write_6_bits(&self, bytes: &mut [u8]) {
        let (low, high) = bytes.split_at_mut(128);
        let halves = self.codes.as_chunks::<128>().0.iter();
        let low = low.as_chunks_mut::<64>().0.iter_mut();
        for (codes, (low, high)) in halves.zip(low.zip(high.as_chunks_mut::<32>().0)) {
            for idx in 0..32 {
                let parts = [0, 32, 64, 96].map(|start| codes[start + idx]);
                low[idx] = parts[0] & 15 | (parts[2] & 15) << 4;
                low[idx + 32] = parts[1] & 15 | (parts[3] & 15) << 4;
                let bits = parts.iter().rev();
                high[idx] = bits.fold(0, |bits, code| bits << 2 | code >> 4);
            }
        }
    }

    /// Scales and minima of 6 bits in 12 bytes: the first four of each have six low bits of a byte,
    /// the last four share a byte with each other and the two high bits of those.
    #[inline(always)]
    fn read_scales(&mut self, bytes: &[u8]) {
        for idx in 0..4 {
            self.scales[idx] = bytes[idx] & 63;
            self.mins[idx] = bytes[idx + 4] & 63;
            self.scales[idx + 4] = bytes[idx + 8] & 15 | (bytes[idx] >> 6) << 4;
            self.mins[idx + 4] = bytes[idx + 8] >> 4 | (bytes[idx + 4] >> 6) << 4;
        }
    }

    fn write_scales(&self, bytes: &mut [u8]) {
        for idx in 0..4 {
            let (scale, min) = (self.scales[idx + 4], self.mins[idx + 4]);
            bytes[idx] = self.scales[idx] & 63 | (scale >> 4) << 6;
            bytes[idx + 4] = self.mins[idx] & 63 | (min >> 4) << 6;
            bytes[idx + 8] = scale & 15 | (min & 15) << 4;
        }
    }

    #[inline(always)]
    fn with_minima(values: &[f32], max: f32) -> Self {
        let mut block = Self::zero();
        let (parts, _) = values.as_chunks::<32>();
        let mut found = [(0.0, 0.0); 8];
        for (found, part) in found.iter_mut().zip(parts) {
            *found = with_minimum(part, max);
        }
        let most = |number: fn(&(f32, f32)) -> f32| found.iter().map(number).fold(0.0, f32::max);
        block.d = narrow_f16(most(|found| found.0) / 63.0);
        block.dmin = narrow_f16(most(|found| found.1) / 63.0);
        let (d, dmin) = (widen_f16(block.d), widen_f16(block.dmin));
        for (idx, (part, (scale, min))) in parts.iter().zip(found).enumerate() {
            block.scales[idx] = byte(round(quotient(scale, d).min(63.0)));
            block.mins[idx] = byte(round(quotient(min, dmin).min(63.0)));
            let scale = d * f32::from(block.scales[idx]);
            let min = dmin * f32::from(block.mins[idx]);
            let inverse = quotient(1.0, scale);
            let codes = &mut block.codes[idx * 32..(idx + 1) * 32];
            for (code, value) in codes.iter_mut().zip(part) {
                *code = byte(round(((value + min) * inverse).clamp(0.0, max)));
            }
        }
        block
    }

    #[inline(always)]
    fn symmetric(values: &[f32]) -> Self {
        let mut block = Self::zero();
        let (parts, _) = values.as_chunks::<16>();
        let mut found = [0.0_f32; 16];
        for (found, part) in found.iter_mut().zip(parts) {
            *found = symmetric(part);
        }
        let extreme =
            found.iter().fold(
                0.0_f32,
                |max, scale| if scale.abs() > max.abs() { *scale } else { max },
            );
        // −128 is one further than 127.
        block.d = narrow_f16(extreme / -128.0);
        let d = widen_f16(block.d);
        for (idx, (part, scale)) in parts.iter().zip(found).enumerate() {
            let scale = round(quotient(scale, d).clamp(-128.0, 127.0));
            block.scales[idx] = byte(scale);
            let inverse = quotient(1.0, d * real(scale));
            let codes = &mut block.codes[idx * 16..(idx + 1) * 16];
            for (code, value) in codes.iter_mut().zip(part) {
                *code = byte(round((value * inverse).clamp(-32.0, 31.0)) + 32);
            }
        }
        block
    }
}

/// 0 where there is nothing to divide by.
#[inline(always)]
fn quotient(a: f32, b: f32) -> f32 {
    // Beyond any scale of use, and far from where a quotient of 16-bit floats overflows.
    if b.abs() > 1e-30 { a / b } else { 0.0 }
}

#[inline(always)]
fn byte(integer: i32) -> u8 {
    integer.to_le_bytes()[0]
}
