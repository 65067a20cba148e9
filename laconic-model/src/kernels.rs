//! The small row-wise operations of the network, on plain slices.
//!
//! Written out rather than taken from candle so that a value that is not
//! finite is never lost on the way: candle's CPU `relu` turns NaN into 0, its
//! `max` keeps or drops NaN by position, and a root mean square that overflows
//! turns a whole row into 0. Here such a row becomes NaN, and the head reports
//! it.

use rayon::prelude::*;

use crate::matmul::{Cpu, Work};
use crate::numbers::{EXPONENT, exp};

/// Rows handed to one task; small enough to share out, large enough to pay.
const ROWS: usize = 16;

/// Partial sums of a reduction: the widest vector there is.
const LANES: usize = 16;

/// RMSNorm (Zhang and Sennrich 2019) of each row of `weight.len()` numbers.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut Vec<f32>) {
    let width = weight.len();
    out.resize(x.len(), 0.0);
    out.par_chunks_mut(ROWS * width)
        .zip(x.par_chunks(ROWS * width))
        .for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                out.copy_from_slice(x);
                Cpu::this().vectorized(RmsNormRow(out, weight, eps));
            }
        });
}

struct RmsNormRow<'a>(&'a mut [f32], &'a [f32], f32);

impl Work for RmsNormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        rms_norm_row(self.0, self.1, self.2);
    }
}

#[inline(always)]
fn rms_norm_row(row: &mut [f32], weight: &[f32], eps: f32) {
    let mean = sum_of_squares(row) / to_f32(row.len());
    let scale = if mean.is_finite() {
        (mean + eps).sqrt().recip()
    } else {
        f32::NAN
    };
    for (value, weight) in row.iter_mut().zip(weight) {
        *value = *value * scale * weight;
    }
}

/// Sixteen partial sums: the compiler may not reorder one, and sixteen also lose
/// less to rounding.
#[inline(always)]
pub(crate) fn sum_of_squares(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value * value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

#[inline(always)]
pub(crate) fn sum(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// SwiGLU's gate (Shazeer 2020): `silu(gate) · up`, written over `gate`, in rows that hold a gate
/// from 0 and its `up` from `width / 2`.
pub(crate) fn silu_mul(rows: &mut [f32], width: usize) {
    rows.par_chunks_mut(width).for_each(|row| {
        let (gate, up) = row.split_at_mut(width / 2);
        Cpu::this().vectorized(SiluMul(gate, up));
    });
}

struct SiluMul<'a>(&'a mut [f32], &'a [f32]);

impl Work for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (gate, up) in self.0.iter_mut().zip(self.1) {
            *gate = *gate / (1.0 + exp(-*gate)) * *up;
        }
    }
}

/// Residual connection: `x += y`, rows of x `width` wide, those of y `stride`.
pub(crate) fn add(x: &mut [f32], width: usize, y: &[f32], stride: usize) {
    let rows = x.par_chunks_mut(ROWS * width);
    rows.zip(y.par_chunks(ROWS * stride)).for_each(|(x, y)| {
        for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(stride)) {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
        }
    });
}

/// Whether no value is NaN or infinite. Branch-free within the row: it runs
/// over every logit of every position.
#[inline(always)]
pub(crate) fn all_finite(row: &[f32]) -> bool {
    row.iter().fold(0, |bad, x| {
        bad | u32::from(x.to_bits() & EXPONENT == EXPONENT)
    }) == 0
}

/// A row's width: below 2²⁴, so exact.
#[expect(
    clippy::cast_precision_loss,
    reason = "config ranges keep widths below 2^24"
)]
pub(crate) fn to_f32(count: usize) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normed(row: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        rms_norm(row, &vec![1.0; row.len()], 1e-5, &mut out);
        out
    }

    #[test]
    fn what_is_not_finite_is_never_hidden() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..19 {
                let mut row = vec![0.5; 19];
                row[at] = poison;
                assert!(!all_finite(&row));
                let normed = normed(&row);
                assert!(normed.iter().all(|x| x.is_nan()), "{poison} at {at}");
            }
            let mut gate = [poison, 1.0];
            silu_mul(&mut gate, 2);
            assert!(!gate[0].is_finite(), "{poison} became {}", gate[0]);
        }
        assert!(all_finite(&[f32::MAX, f32::MIN, 0.0, f32::MIN_POSITIVE]));
    }

    #[test]
    fn a_norm_that_overflows_is_not_a_row_of_zeros() {
        let normed = normed(&[1e30, 1.0]);
        assert!(normed.iter().all(|x| x.is_nan()));
    }
}
