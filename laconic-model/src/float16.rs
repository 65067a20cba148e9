//! 16-bit floats: IEEE binary16 and bfloat16, widened exactly, narrowed to the nearest (ties to even).

/// IEEE 754 binary16 to binary32, exact for every code.
#[inline(always)]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    let value = match magnitude >> 10 {
        // Subnormals: the mantissa counts units of 2⁻²⁴.
        0 => f32::from(bits & 0x3ff) * f32::from_bits((127 - 24) << 23),
        31 => f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13),
        _ => f32::from_bits((magnitude << 13) + ((127 - 15) << 23)),
    };
    f32::from_bits(value.to_bits() | sign)
}

/// The nearest binary16; beyond 65,504 infinity. NaN becomes a quiet NaN.
#[inline(always)]
pub(crate) fn narrow_f16(value: f32) -> u16 {
    /// 2⁻¹⁴, below which numbers are subnormal.
    const SMALLEST_NORMAL: u32 = (127 - 14) << 23;
    /// 2¹⁶, beyond all that rounds to a number.
    const TOO_LARGE: u32 = (127 + 16) << 23;
    let magnitude = value.to_bits() & 0x7fff_ffff;
    let bits = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= TOO_LARGE {
        0x7c00
    } else if magnitude < SMALLEST_NORMAL {
        // Adding 0.5 leaves the number in units of 2⁻²⁴, rounded, in the low bits.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()
    } else {
        let is_odd = (magnitude >> 13) & 1;
        (magnitude + 0xfff + is_odd - ((127 - 15) << 23)) >> 13
    };
    let [low, high, ..] = (bits | (value.to_bits() >> 16 & 0x8000)).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// bfloat16 is the upper half of binary32.
#[inline(always)]
pub(crate) fn widen_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16; NaN stays NaN.
#[inline(always)]
pub(crate) fn narrow_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = if value.is_nan() {
        bits | 0x40_0000
    } else {
        bits + 0x7fff + (bits >> 16 & 1)
    };
    let [.., low, high] = rounded.to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    /// Every code, everything halfway between two codes, and its neighbours.
    fn values(widen: fn(u16) -> f32) -> Vec<f32> {
        let mut values = Vec::new();
        for code in 0..u16::MAX {
            let (a, b) = (widen(code), widen(code + 1));
            let middle = (f64::from(a) + f64::from(b)) / 2.0;
            #[expect(clippy::cast_possible_truncation, reason = "exact: one more bit")]
            let middle = middle as f32;
            values.extend([a, b, middle, middle.next_up(), middle.next_down()]);
        }
        values.extend([
            65_519.0,
            65_520.0,
            f32::MAX,
            f32::MIN,
            1e-30,
            f32::MIN_POSITIVE,
        ]);
        values
    }

    #[test]
    fn rounding_is_that_of_candle() {
        for (dtype, widen, narrow) in [
            (
                DType::F16,
                widen_f16 as fn(u16) -> f32,
                narrow_f16 as fn(f32) -> u16,
            ),
            (DType::BF16, widen_bf16, narrow_bf16),
        ] {
            let values = values(widen);
            let theirs = Tensor::new(values.as_slice(), &Device::Cpu)
                .and_then(|tensor| {
                    tensor
                        .to_dtype(dtype)?
                        .to_dtype(DType::F32)?
                        .to_vec1::<f32>()
                })
                .unwrap();
            for (value, theirs) in values.iter().zip(theirs) {
                let ours = widen(narrow(*value));
                let is_same =
                    ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
                assert!(is_same, "{dtype:?} {value:e}: {ours:e} is not {theirs:e}");
            }
        }
    }
}
