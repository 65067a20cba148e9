//! Attention's weights: the softmax of scores, made where they are multiplied with values.
//!
//! They are not divided by their sum: the product with the values is, which has fewer numbers.

use std::f32::consts::LOG2_E;

use crate::kernels::{exp, exp2_coarse};
use crate::matmul::{CHUNK, Cpu, GROUP, Lanes, Precision, Source, Work};

/// Rows of exp(scale · (score − largest score of the row)).
pub(crate) struct Softmax<'a> {
    /// Groups of positions × rows.
    scores: &'a [Lanes],
    n_rows: usize,
    precision: Precision,
    /// To what power e is raised, or 2 where bytes are all that is kept of the weights.
    scale: f32,
    /// Of each row, scaled; NaN if a score is not finite.
    maxima: Vec<f32>,
}

impl<'a> Softmax<'a> {
    /// Takes the scores of `n_rows` rows for `n_positions`; those behind the last position become
    /// zero weights.
    pub(crate) fn new(
        scores: &'a mut [Lanes],
        n_rows: usize,
        n_positions: usize,
        precision: Precision,
        scale: f32,
    ) -> Self {
        let scale = match precision {
            Precision::F32 => scale,
            Precision::Int8 => scale * LOG2_E,
        };
        let mut maxima = vec![f32::NEG_INFINITY; n_rows];
        Cpu::this().vectorized(Maxima {
            scores,
            n_positions,
            maxima: &mut maxima,
        });
        for max in &mut maxima {
            *max *= scale;
        }
        Self {
            scores,
            n_rows,
            precision,
            scale,
            maxima,
        }
    }
}

struct Maxima<'a> {
    scores: &'a mut [Lanes],
    n_positions: usize,
    maxima: &'a mut [f32],
}

impl Work for Maxima<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let n_rows = self.maxima.len();
        let n_last = (self.n_positions - 1) % GROUP + 1;
        let last = self.scores.len() - n_rows;
        for lanes in &mut self.scores[last..] {
            lanes[n_last..].fill(f32::MIN);
        }
        for (row, max) in self.maxima.iter_mut().enumerate() {
            *max = largest(self.scores[row..].iter().step_by(n_rows));
        }
    }
}

/// The largest of finite numbers, NaN if one is not.
#[inline(always)]
fn largest<'a>(scores: impl Iterator<Item = &'a Lanes>) -> f32 {
    const EXPONENT: u32 = 0x7f80_0000;
    let mut maxima = [f32::NEG_INFINITY; GROUP];
    let mut exponents = [0; GROUP];
    for lanes in scores {
        for ((max, exponent), score) in maxima.iter_mut().zip(&mut exponents).zip(lanes) {
            *max = if *score > *max { *score } else { *max };
            *exponent = (score.to_bits() & EXPONENT).max(*exponent);
        }
    }
    if exponents.contains(&EXPONENT) {
        return f32::NAN;
    }
    maxima.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

impl Source for Softmax<'_> {
    #[inline(always)]
    fn chunk(&self, row: usize, chunk: usize, out: &mut [f32; CHUNK]) {
        let max = self.maxima[row];
        if max.is_nan() {
            out.fill(f32::NAN);
            return;
        }
        let groups = self.scores[row..].iter().step_by(self.n_rows);
        let groups = groups.skip(chunk * CHUNK / GROUP);
        for (out, scores) in out.as_chunks_mut::<GROUP>().0.iter_mut().zip(groups) {
            let power = |score: &f32| score * self.scale - max;
            match self.precision {
                Precision::F32 => out.iter_mut().zip(scores).for_each(|(out, score)| {
                    *out = exp(power(score));
                }),
                Precision::Int8 => out.iter_mut().zip(scores).for_each(|(out, score)| {
                    *out = exp2_coarse(power(score));
                }),
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;

    /// Weights of one row among three, divided by their sum.
    fn weights(scores: &[f32], precision: Precision, scale: f32) -> Vec<f32> {
        let n_groups = scores.len().div_ceil(GROUP);
        let mut lanes = vec![[0.25; GROUP]; 3 * n_groups];
        for (group, scores) in scores.chunks(GROUP).enumerate() {
            lanes[3 * group + 1][..scores.len()].copy_from_slice(scores);
        }
        let softmax = Softmax::new(&mut lanes, 3, scores.len(), precision, scale);
        let mut weights = Vec::new();
        for chunk in 0..scores.len().div_ceil(CHUNK) {
            let mut out = [0.0; CHUNK];
            softmax.chunk(1, chunk, &mut out);
            weights.extend(out);
        }
        weights.truncate(scores.len());
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }

    #[test]
    fn weights_are_the_definition() {
        for n in [1, 31, 32, 37, 128, 300] {
            let scores: Vec<f32> = (0..n).map(|i| (i as f32).sin() * 60.0 - 80.0).collect();
            let expected = scores.iter().map(|x| (f64::from(*x) * 0.5).exp());
            let expected: Vec<f64> = expected.collect();
            let total: f64 = expected.iter().sum();
            for (precision, tolerance) in [(Precision::F32, 1e-6), (Precision::Int8, 2e-4)] {
                let ours = weights(&scores, precision, 0.5);
                assert_eq!(ours.len(), n);
                for (ours, truth) in ours.iter().zip(&expected) {
                    let gap = (f64::from(*ours) - truth / total).abs();
                    assert!(gap < tolerance, "{precision:?} {n}: {ours}, {truth}");
                }
            }
        }
    }

    #[test]
    fn a_score_that_is_not_finite_makes_its_row_nan() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..37 {
                let mut scores = vec![0.5; 37];
                scores[at] = poison;
                for precision in [Precision::F32, Precision::Int8] {
                    let ours = weights(&scores, precision, 1.0);
                    assert!(ours.iter().all(|x| x.is_nan()), "{poison} at {at}");
                }
            }
        }
    }
}
