//! The search for scales: which of a few candidates leaves the smallest sum of squared errors.
//!
//! The obvious scale, that which just reaches the largest number, is rarely the best one: a slightly
//! smaller one cuts an extreme and rounds everything else more finely. For given integers the best
//! scale (and minimum) is a least-squares fit, so candidates only have to propose integers.

use crate::numbers::ROUND;

/// Numbers that are worked on side by side.
const LANES: usize = 16;

/// The largest magnitude.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |max: f32, value| max.max(value.abs()))
}

/// The nearest integer, ties to even, of a number below 2²² in magnitude.
#[inline(always)]
pub(super) fn round(value: f32) -> i32 {
    (value + ROUND).to_bits().cast_signed() - ROUND.to_bits().cast_signed()
}

/// Integers as floats: all that is summed here stays far below 2²⁴.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn real(integer: i32) -> f32 {
    integer as f32
}

/// Sums over the lanes, always in the same order whatever the instructions.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// A scale for 16 numbers as integers −32 to 31, of either sign.
#[inline(always)]
pub(super) fn symmetric(values: &[f32; LANES]) -> f32 {
    const HALF: f32 = 32.0;
    let extreme = values.iter().fold(
        0.0_f32,
        |max, value| if value.abs() > max.abs() { *value } else { max },
    );
    if extreme.abs() < f32::MIN_POSITIVE * HALF {
        return 0.0;
    }
    // One more integer below zero than above: the extreme shall be negative.
    let mut best = (0.0, 0.0);
    for step in -9..=9 {
        let inverse = -(HALF + 0.1 * real(step)) / extreme;
        let (mut xq, mut qq) = ([0.0; LANES], [0.0; LANES]);
        for (lane, value) in values.iter().enumerate() {
            let q = real(round(value * inverse).clamp(-32, 31));
            xq[lane] = value * q;
            qq[lane] = q * q;
        }
        let (xq, qq) = (total(xq), total(qq));
        // What the fit takes away from the sum of squares.
        if qq > 0.0 && xq * xq > best.0 * qq {
            best = (xq * xq / qq, xq / qq);
        }
    }
    best.1
}

/// Scale and minimum (what is taken away, never negative) for 32 numbers as integers 0 to `max`.
#[inline(always)]
pub(super) fn with_minimum(values: &[f32; 2 * LANES], max: f32) -> (f32, f32) {
    let (halves, _) = values.as_chunks::<LANES>();
    let low = values.iter().fold(0.0, |low: f32, value| low.min(*value));
    let high = values.iter().fold(0.0, |high: f32, value| high.max(*value));
    if high - low < f32::MIN_POSITIVE * 1024.0 {
        return (0.0, -low);
    }
    let (mut sum_x, n) = ([0.0; LANES], real(32));
    for half in halves {
        for (sum, value) in sum_x.iter_mut().zip(half) {
            *sum += value;
        }
    }
    let sum_x = total(sum_x);
    let mut best = (f32::INFINITY, (high - low) / max, -low);
    for step in 0..=20 {
        let inverse = (max - 1.0 + 0.1 * real(step)) / (high - low);
        let (mut q1, mut q2, mut qx) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for half in halves {
            for (lane, value) in half.iter().enumerate() {
                let q = real(round(((value - low) * inverse).min(max)));
                q1[lane] += q;
                q2[lane] += q * q;
                qx[lane] += q * value;
            }
        }
        let (q1, q2, qx) = (total(q1), total(q2), total(qx));
        let determinant = n * q2 - q1 * q1;
        if determinant <= 0.0 {
            continue;
        }
        let mut scale = (n * qx - q1 * sum_x) / determinant;
        let mut minimum = (q1 * qx - q2 * sum_x) / determinant;
        if minimum < 0.0 {
            (scale, minimum) = (qx / q2, 0.0);
        }
        // The sum of squared errors, less that of the numbers themselves.
        let error = scale * scale * q2 + n * minimum * minimum - 2.0 * scale * qx
            + 2.0 * minimum * sum_x
            - 2.0 * scale * minimum * q1;
        if error < best.0 && scale > 0.0 {
            best = (error, scale, minimum);
        }
    }
    (best.1, best.2)
}
