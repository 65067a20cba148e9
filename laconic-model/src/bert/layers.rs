//! Linear layers with a bias, and layer normalisation.

use rayon::prelude::*;

use crate::bert::activation::Activation;
use crate::error::Error;
use crate::kernels::{sum, sum_of_squares, to_f32};
use crate::matmul::{Cpu, Matrix, Rows, Work};
use crate::weights::Weights;

/// Rows handed to one task.
const ROWS: usize = 16;

/// `x Wᵀ + b`; the bias is as wide as a row of the product, zero in its padding.
pub(crate) struct Linear {
    pub(crate) weight: Matrix,
    bias: Vec<f32>,
}

impl Linear {
    pub(crate) fn new(weights: &mut Weights, name: &str) -> Result<Self, Error> {
        let weight = weights.matrix(&format!("{name}.weight"))?;
        let mut bias = weights.vector(&format!("{name}.bias"))?;
        bias.resize(weight.width(), 0.0);
        Ok(Self { weight, bias })
    }

    /// The outputs of three layers one behind the other, as [`Matrix::stack`] has them.
    pub(crate) fn stack(layers: [Self; 3]) -> Self {
        let [mut bias, second, third] = layers.each_ref().map(|layer| layer.bias.clone());
        bias.extend(second);
        bias.extend(third);
        Self {
            weight: Matrix::stack(layers.map(|layer| layer.weight)),
            bias,
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.weight.width()
    }

    /// The product without the bias, which whoever reads it adds.
    pub(crate) fn product(&self, rows: &Rows<'_>, out: &mut Vec<f32>) {
        self.weight.product(&self.weight.input(rows), out);
    }

    pub(crate) fn forward(&self, rows: &Rows<'_>, out: &mut Vec<f32>) {
        self.product(rows, out);
        out.par_chunks_exact_mut(self.width()).for_each(|row| {
            for (value, bias) in row.iter_mut().zip(&self.bias) {
                *value += bias;
            }
        });
    }

    pub(crate) fn activated(&self, rows: &Rows<'_>, activation: Activation, out: &mut Vec<f32>) {
        self.product(rows, out);
        out.par_chunks_exact_mut(self.width())
            .for_each(|row| activation.apply(row, &self.bias));
    }
}

/// Layer normalisation (Ba et al. 2016).
pub(crate) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    pub(crate) fn new(weights: &mut Weights, name: &str, eps: f32) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.vector(&format!("{name}.weight"))?,
            bias: weights.vector(&format!("{name}.bias"))?,
            eps,
        })
    }

    /// Normalises each row in place.
    pub(crate) fn forward(&self, x: &mut [f32]) {
        let width = self.weight.len();
        x.par_chunks_mut(ROWS * width).for_each(|x| {
            for row in x.chunks_exact_mut(width) {
                Cpu::this().vectorized(NormRow(row, self));
            }
        });
    }

    /// What follows a residual connection: x becomes the norm of x + y + b, where y + b are the
    /// outputs of `layer`, y without its bias.
    pub(crate) fn add(&self, x: &mut [f32], y: &[f32], layer: &Linear) {
        let width = self.weight.len();
        let rows = x.par_chunks_mut(ROWS * width);
        rows.zip(y.par_chunks(ROWS * layer.width()))
            .for_each(|(x, y)| {
                let rows = x.chunks_exact_mut(width);
                for (x, y) in rows.zip(y.chunks_exact(layer.width())) {
                    for ((x, y), bias) in x.iter_mut().zip(y).zip(&layer.bias) {
                        *x += y + bias;
                    }
                    Cpu::this().vectorized(NormRow(x, self));
                }
            });
    }
}

struct NormRow<'a>(&'a mut [f32], &'a LayerNorm);

impl Work for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self(row, norm) = self;
        let mean = sum(row) / to_f32(row.len());
        for value in row.iter_mut() {
            *value -= mean;
        }
        // A variance that overflows would turn the row into zeros.
        let variance = sum_of_squares(row) / to_f32(row.len());
        let scale = if variance.is_finite() {
            (variance + norm.eps).sqrt().recip()
        } else {
            f32::NAN
        };
        for ((value, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
            *value = *value * scale * weight + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm() -> LayerNorm {
        LayerNorm {
            weight: vec![1.0, 2.0, -1.0, 0.5],
            bias: vec![0.0, 1.0, 0.0, -1.0],
            eps: 1e-12,
        }
    }

    #[test]
    fn a_row_gets_mean_zero_and_variance_one_before_weight_and_bias() {
        let mut rows = [1.0, 2.0, 3.0, 6.0, -5.0, -5.0, 5.0, 5.0];
        norm().forward(&mut rows);
        let deviation = 3.5_f32.sqrt();
        let expected = [
            -2.0 / deviation,
            -2.0 / deviation + 1.0,
            0.0,
            1.5 / deviation - 1.0,
            -1.0,
            -1.0,
            -1.0,
            -0.5,
        ];
        for (ours, truth) in rows.iter().zip(expected) {
            assert!((ours - truth).abs() < 1e-6, "{rows:?}");
        }
    }

    #[test]
    fn what_is_not_finite_or_overflows_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut row = [1.0, bad, 0.0, 2.0];
            norm().forward(&mut row);
            assert!(row.iter().all(|value| value.is_nan()), "{bad}: {row:?}");
        }
    }
}
