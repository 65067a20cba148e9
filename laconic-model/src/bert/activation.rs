//! The non-linearities that a `config.json` of these families may name.

use crate::config::Fields;
use crate::error::Error;
use crate::matmul::{Cpu, Work};
use crate::numbers::exp;

/// What a layer applies to each number; the names are those of transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x Φ(x), by the error function.
    Gelu,
    /// The same by the hyperbolic tangent (Hendrycks and Gimpel 2016).
    GeluTanh,
    Relu,
}

impl Activation {
    pub(crate) fn from_field(fields: &Fields<'_>, key: &str) -> Result<Self, Error> {
        let value = fields.required(key)?;
        match value.as_str() {
            Some("gelu") => Ok(Self::Gelu),
            Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Self::GeluTanh),
            Some("relu") => Ok(Self::Relu),
            _ => Err(fields.unsupported(
                key,
                value,
                "`gelu`, `gelu_new`, `gelu_pytorch_tanh` and `relu`",
            )),
        }
    }

    /// Adds a bias to a row and applies the non-linearity.
    pub(crate) fn apply(self, row: &mut [f32], bias: &[f32]) {
        Cpu::this().vectorized(Apply(self, row, bias));
    }
}

struct Apply<'a>(Activation, &'a mut [f32], &'a [f32]);

impl Work for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(activation, row, bias) = self;
        match activation {
            Activation::Gelu => each(row, bias, gelu),
            Activation::GeluTanh => each(row, bias, gelu_tanh),
            Activation::Relu => each(row, bias, relu),
        }
    }
}

#[inline(always)]
fn each(row: &mut [f32], bias: &[f32], activation: impl Fn(f32) -> f32) {
    for (value, bias) in row.iter_mut().zip(bias) {
        *value = activation(*value + bias);
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// (1 + tanh u) / 2 is the logistic function of 2u.
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_8_OVER_PI: f32 = 1.595_769;
    let twice = SQRT_8_OVER_PI * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-twice))
}

/// In a form that NaN gets through, and that makes NaN of negative infinity instead of hiding it.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { x * 0.0 } else { x }
}

/// The error function to within 3e-7: an odd rational function on −4 to 4, beyond which it is ±1
/// in f32. The coefficients are those of Eigen's `erf`. NaN stays NaN.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const P: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_6e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const Q: [f32; 5] = [
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_474e-2,
    ];
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let square = x * x;
    let at = |coefficients: &[f32]| coefficients.iter().fold(0.0, |sum, c| sum * square + c);
    x * at(&P) / at(&Q)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its series in f64, which converges everywhere; exact enough up to 4.
    fn erf_exact(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn activations_follow_their_definitions() {
        for step in -500..=500_i16 {
            let x = f64::from(step) / 100.0;
            let (erf_arg, tanh_arg) = (
                x / std::f64::consts::SQRT_2,
                (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3)),
            );
            for (activation, truth) in [
                (Activation::Gelu, 0.5 * x * (1.0 + erf_exact(erf_arg))),
                (Activation::GeluTanh, 0.5 * x * (1.0 + tanh_arg.tanh())),
                (Activation::Relu, x.max(0.0)),
            ] {
                let mut row = [crate::config::narrow(x - 0.25)];
                activation.apply(&mut row, &[0.25]);
                let gap = (f64::from(row[0]) - truth).abs();
                assert!(
                    gap < 2e-6,
                    "{activation:?} of {x}: {} is not {truth}",
                    row[0]
                );
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_not_hidden() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            let mut row = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            activation.apply(&mut row, &[0.0; 3]);
            assert!(
                row.iter().all(|x| !x.is_finite()),
                "{activation:?}: {row:?}"
            );
            assert!(row[0].is_nan());
        }
    }
}
