//! Weights in blocks of few bits, as GGUF files hold them.
//!
//! A row of weights, one output's inputs, is cut into blocks; each has scales of its own. The layouts
//! are those of ggml (`ggml-common.h`), so that a file's blocks are computed with as they are.
//! Reading is exact; [`BlockFormat::quantize`] looks for the scales that leave the smallest squares.

mod k_quant;
mod q8_0;
mod search;

pub(crate) use k_quant::{KBlock, SUPERBLOCK};
pub(crate) use q8_0::BLOCK;

/// How a block is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BlockFormat {
    /// 32 bytes and a scale.
    Q8_0,
    /// 256 numbers of 4 bits, with scale and minimum for every 32, of 6 bits each.
    Q4K,
    /// As `Q4K`, of 5 bits.
    Q5K,
    /// 256 numbers of 6 bits, with a scale for every 16, of 8 bits.
    Q6K,
}

/// Beyond this the scale of a block might not fit 16 bits.
pub(crate) const LARGEST: f32 = 65_504.0;

impl BlockFormat {
    /// Inputs of a block.
    pub(crate) fn inputs(self) -> usize {
        match self {
            Self::Q8_0 => BLOCK,
            Self::Q4K | Self::Q5K | Self::Q6K => SUPERBLOCK,
        }
    }

    /// Bytes of a block.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row, if rows of so many inputs are whole blocks.
    pub(crate) fn row_bytes(self, inputs: usize) -> Option<usize> {
        let is_whole = inputs.is_multiple_of(self.inputs());
        is_whole.then(|| inputs / self.inputs() * self.bytes())
    }

    /// Writes whole blocks as numbers: the bits that ggml's own reader gives.
    #[inline(always)]
    pub(crate) fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes.chunks_exact(self.bytes());
        for (block, out) in blocks.zip(out.chunks_exact_mut(self.inputs())) {
            match self {
                Self::Q8_0 => q8_0::dequantize(block, out),
                _ => KBlock::read(self, block).dequantize(self, out),
            }
        }
    }

    /// Writes whole blocks of finite numbers, none beyond [`LARGEST`].
    #[inline(always)]
    pub(crate) fn quantize(self, values: &[f32], bytes: &mut [u8]) {
        let blocks = bytes.chunks_exact_mut(self.bytes());
        for (values, block) in values.chunks_exact(self.inputs()).zip(blocks) {
            match self {
                Self::Q8_0 => q8_0::quantize(values, block),
                _ => KBlock::of(self, values).write(self, block),
            }
        }
    }

    /// Whether every scale of whole blocks is a finite number, and so every weight.
    pub(crate) fn is_finite(self, bytes: &[u8]) -> bool {
        let places: &[usize] = match self {
            Self::Q8_0 => &[0],
            Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q6K => &[208],
        };
        // An exponent of ones is infinity or NaN.
        let is_finite = |block: &[u8], at: usize| block[at + 1] & 0x7c != 0x7c;
        let mut blocks = bytes.chunks_exact(self.bytes());
        blocks.all(|block| places.iter().all(|at| is_finite(block, *at)))
    }
}

#[cfg(test)]
mod tests;
