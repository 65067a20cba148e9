//! Arithmetic of single numbers, in forms that the compiler turns into vector code.

/// All bits of the exponent: only a number that is not finite has them.
pub(crate) const EXPONENT: u32 = 0x7f80_0000;

/// 1.5 · 2²³: added to a number below 2²², it rounds it to the nearest integer and leaves that in
/// the low bits of the sum.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// eˣ to within 2 units in the last place, in a form that the compiler turns
/// into vector code; `f32::exp` is a call per element and took a third of the
/// time of a small model.
///
/// Range reduction and polynomial are those of Cephes `expf` (Moshier).
/// Below −87.3 the result is clamped to the smallest normal number, above 88.3
/// it is infinite (a little before it must be). NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -87.3 { -87.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + coefficient;
    }
    let mantissa = p * r * r + r + 1.0;
    mantissa * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// a · b + c, rounded once where the processor has an instruction for it.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 2ˣ for x from −125 to 127, to within a part in 13,000: the minimax polynomial of degree 3. It is
/// for numbers that become one of 128 bytes.
///
/// Below, the result is that of −125. What NaN becomes is open.
#[inline(always)]
pub(crate) fn exp2_coarse<const FMA: bool>(x: f32) -> f32 {
    let x = if x < -125.0 { -125.0 } else { x };
    let rounded = x + ROUND;
    let f = x - (rounded - ROUND);
    let p = multiply_add::<FMA>(0.055_171_67, f, 0.242_611_13);
    let p = multiply_add::<FMA>(p, f, 0.693_261);
    let p = multiply_add::<FMA>(p, f, 0.999_928_1);
    f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_over_its_range() {
        let mut worst = 0.0_f64;
        for step in -873_000..=883_000_i32 {
            let x = step as f32 * 1e-4;
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
        }
        assert!(worst < 2.4e-7, "worst relative error {worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1.3e-38 && exp(1e30) == f32::INFINITY && exp(f32::NAN).is_nan());
    }

    #[test]
    fn a_coarse_power_of_two_is_near_it() {
        for i in 0..=62_500_u16 {
            let x = 7.0 - f32::from(i) / 500.0;
            let truth = f64::from(x).exp2();
            for ours in [exp2_coarse::<false>(x), exp2_coarse::<true>(x)] {
                assert!((f64::from(ours) / truth - 1.0).abs() < 8e-5, "{x}: {ours}");
            }
        }
        assert!(exp2_coarse::<false>(-1e30) < 2.4e-38);
    }
}
