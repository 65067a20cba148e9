//! Attention's weights: the softmax of scores, made where they are multiplied with values.
//!
//! Scores lie positions × queries, a group of queries in the lanes. So maxima and sums are taken
//! lane by lane, and four positions of a lane are a word of the panel that the next product reads.
//!
//! Weights are not divided by their sum: the product with the values is, which has fewer numbers.

use std::f32::consts::{LN_2, LOG2_E};

use super::cpu::Work;
use super::float::FloatPanels;
use super::here::Precision;
use super::int8::{self, ByteLine, Int8Panels, STEP};
use super::{Cpu, FloatLine, GROUP, Lanes, Matrix, Panels};
use crate::numbers::{EXPONENT, ROUND, exp, exp2_coarse, multiply_add};

/// Positions whose scores are taken at a time: weights as bytes share a scale with that many.
pub(crate) const POSITIONS: usize = int8::BLOCK;

/// The weights of a group of queries, exp(scale · (score − largest score of the query)), made from
/// scores that come block by block.
pub(crate) struct Softmax {
    scale: f32,
    /// Queries × positions.
    weights: Matrix,
    /// Of the scores of each block.
    maxima: Vec<Maxima>,
    /// Of the bytes of each block.
    sums: Vec<[u32; GROUP]>,
}

/// The largest score of each query.
#[derive(Clone, Copy)]
struct Maxima {
    scores: Lanes,
    /// The largest exponents: they tell whether a score is not finite.
    exponents: [u32; GROUP],
}

impl Softmax {
    pub(crate) fn new(precision: Precision, scale: f32) -> Self {
        let (panels, scale) = match precision {
            Precision::F32 => (Panels::F32(FloatPanels::default()), scale),
            // Bytes are made from powers of two.
            Precision::Int8 => (Panels::Int8(Int8Panels::default()), scale * LOG2_E),
        };
        Self {
            scale,
            weights: Matrix::new(panels, GROUP, 0),
            maxima: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Begins with other queries, which see so many positions.
    pub(crate) fn begin(&mut self, n_positions: usize) {
        self.weights.inputs = n_positions;
        self.maxima.clear();
        self.sums.clear();
    }

    /// Takes the scores of the next [`POSITIONS`], or of all that are left.
    pub(crate) fn add(&mut self, scores: &[Lanes]) {
        let inputs = self.weights.inputs;
        let start = self.maxima.len() * POSITIONS;
        let maxima = match &mut self.weights.parts[0].1 {
            Panels::F32(panels) => Cpu::this().vectorized(AddFloats {
                scores,
                lines: &mut panels.one_group(inputs)[start..],
            }),
            Panels::Int8(panels) => {
                let lines = &mut panels.one_group(inputs).0[start / STEP..];
                let (cpu, scale) = (Cpu::this(), self.scale);
                let (maxima, sums) = match cpu.has_fma() {
                    true => cpu.vectorized(AddBytes::<true> {
                        scores,
                        scale,
                        lines,
                    }),
                    false => cpu.vectorized(AddBytes::<false> {
                        scores,
                        scale,
                        lines,
                    }),
                };
                self.sums.push(sums);
                maxima
            }
            _ => unreachable!("weights are of f32 or bytes"),
        };
        self.maxima.push(maxima);
    }

    /// The weights and the sum of each query's, as they are multiplied; NaN if a score of the query
    /// is not finite.
    pub(crate) fn finish(&mut self) -> (&Matrix, Lanes) {
        let inputs = self.weights.inputs;
        let mut totals = [0.0; GROUP];
        match &mut self.weights.parts[0].1 {
            Panels::F32(panels) => Cpu::this().vectorized(FinishFloats {
                scale: self.scale,
                maxima: &self.maxima,
                lines: panels.one_group(inputs),
                totals: &mut totals,
            }),
            Panels::Int8(panels) => Cpu::this().vectorized(FinishBytes {
                scale: self.scale,
                maxima: &self.maxima,
                sums: &self.sums,
                scales: panels.one_group(inputs).1,
                totals: &mut totals,
            }),
            _ => unreachable!("weights are of f32 or bytes"),
        }
        (&self.weights, totals)
    }
}

impl Maxima {
    #[inline(always)]
    fn of(positions: &[Lanes]) -> Self {
        let mut maxima = [f32::NEG_INFINITY; GROUP];
        let mut exponents = [0; GROUP];
        for scores in positions {
            for ((max, exponent), score) in maxima.iter_mut().zip(&mut exponents).zip(scores) {
                *max = if *score > *max { *score } else { *max };
                *exponent = (score.to_bits() & EXPONENT).max(*exponent);
            }
        }
        Self {
            scores: maxima,
            exponents,
        }
    }

    /// Times `scale`; NaN where a score was not finite.
    #[inline(always)]
    fn scaled(&self, scale: f32) -> Lanes {
        let mut scaled = self.scores;
        for (scaled, exponent) in scaled.iter_mut().zip(&self.exponents) {
            let poison = u32::from(*exponent == EXPONENT) * f32::NAN.to_bits();
            *scaled = *scaled * scale + f32::from_bits(poison);
        }
        scaled
    }

    /// The largest of several blocks, times `scale`; NaN where a score was not finite.
    #[inline(always)]
    fn largest(blocks: &[Self], scale: f32) -> Lanes {
        let mut all = Self {
            scores: [f32::NEG_INFINITY; GROUP],
            exponents: [0; GROUP],
        };
        for block in blocks {
            for lane in 0..GROUP {
                all.scores[lane] = all.scores[lane].max(block.scores[lane]);
                all.exponents[lane] = all.exponents[lane].max(block.exponents[lane]);
            }
        }
        all.scaled(scale)
    }
}

struct AddFloats<'a> {
    scores: &'a [Lanes],
    lines: &'a mut [FloatLine],
}

impl Work for AddFloats<'_> {
    type Output = Maxima;

    #[inline(always)]
    fn run(self) -> Maxima {
        for (line, scores) in self.lines.iter_mut().zip(self.scores) {
            line.0 = *scores;
        }
        Maxima::of(self.scores)
    }
}

struct FinishFloats<'a> {
    scale: f32,
    maxima: &'a [Maxima],
    lines: &'a mut [FloatLine],
    totals: &'a mut Lanes,
}

impl Work for FinishFloats<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let maxima = Maxima::largest(self.maxima, self.scale);
        let mut totals = [0.0; GROUP];
        // A sum of sums loses less to rounding.
        for lines in self.lines.chunks_mut(POSITIONS) {
            let mut sums = [0.0; GROUP];
            for line in lines {
                for ((value, max), sum) in line.0.iter_mut().zip(&maxima).zip(&mut sums) {
                    *value = exp(*value * self.scale - max);
                    *sum += *value;
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        *self.totals = totals;
    }
}

/// Makes a block's weights bytes: 127 is that of the block's largest score.
struct AddBytes<'a, const FMA: bool> {
    scores: &'a [Lanes],
    scale: f32,
    lines: &'a mut [ByteLine],
}

impl<const FMA: bool> Work for AddBytes<'_, FMA> {
    /// The largest scores, and the sum of each query's bytes.
    type Output = (Maxima, [u32; GROUP]);

    #[inline(always)]
    fn run(self) -> Self::Output {
        const LOG2_127: f32 = 6.988_684_7;
        let maxima = Maxima::of(self.scores);
        let mut shifts = [0.0; GROUP];
        for (shift, max) in shifts.iter_mut().zip(maxima.scaled(self.scale)) {
            *shift = LOG2_127 - max;
        }
        let mut sums = [0_u32; GROUP];
        let (steps, rest) = self.scores.as_chunks::<STEP>();
        let (lines, last) = self.lines.split_at_mut(steps.len());
        for (line, step) in lines.iter_mut().zip(steps) {
            put_step::<FMA>(step, self.scale, &shifts, line, &mut sums);
        }
        if let (false, Some(line)) = (rest.is_empty(), last.first_mut()) {
            // What stands behind the last position becomes 0.
            let mut step = [[f32::MIN; GROUP]; STEP];
            step[..rest.len()].copy_from_slice(rest);
            put_step::<FMA>(&step, self.scale, &shifts, line, &mut sums);
        }
        (maxima, sums)
    }
}

/// Four positions of each query as a word, 128 added to each byte as kernels want it.
#[inline(always)]
fn put_step<const FMA: bool>(
    step: &[Lanes; STEP],
    scale: f32,
    shifts: &Lanes,
    line: &mut ByteLine,
    sums: &mut [u32; GROUP],
) {
    let mut words = [0x8080_8080_u32; GROUP];
    for (position, scores) in step.iter().enumerate() {
        for lane in 0..GROUP {
            let weight = exp2_coarse::<FMA>(multiply_add::<FMA>(scores[lane], scale, shifts[lane]));
            let byte = (weight + ROUND).to_bits() & 0x7f;
            sums[lane] += byte;
            words[lane] |= byte << (8 * position);
        }
    }
    for (place, word) in line.0.as_chunks_mut::<STEP>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}

struct FinishBytes<'a> {
    scale: f32,
    maxima: &'a [Maxima],
    sums: &'a [[u32; GROUP]],
    scales: &'a mut [FloatLine],
    totals: &'a mut Lanes,
}

impl Work for FinishBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let largest = Maxima::largest(self.maxima, self.scale);
        let mut totals = [0.0; GROUP];
        let blocks = self.maxima.iter().zip(self.sums).zip(self.scales);
        for ((maxima, sums), scales) in blocks {
            let maxima = maxima.scaled(self.scale);
            for lane in 0..GROUP {
                // NaN stays: then a score of some block was not finite.
                let scale = exp((maxima[lane] - largest[lane]) * LN_2) / 127.0;
                scales.0[lane] = scale;
                totals[lane] += scale * exact(sums[lane]);
            }
        }
        *self.totals = totals;
    }
}

/// Exact: 128 bytes of at most 127 stay below 2²⁴.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn exact(sum: u32) -> f32 {
    sum as f32
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;

    /// Weights of each query, divided by their sum, positions × queries.
    fn weights(softmax: &mut Softmax, positions: &[Lanes]) -> Vec<Lanes> {
        softmax.begin(positions.len());
        for scores in positions.chunks(POSITIONS) {
            softmax.add(scores);
        }
        let (matrix, totals) = softmax.finish();
        let mut weights = vec![[0.0; GROUP]; positions.len()];
        for (query, total) in totals.iter().enumerate() {
            let mut row = vec![0.0; positions.len()];
            matrix.row(query, &mut row);
            for (weights, weight) in weights.iter_mut().zip(row) {
                weights[query] = weight / total;
            }
        }
        weights
    }

    fn score(position: usize, query: usize) -> f32 {
        ((position * GROUP + query) as f32).sin() * 60.0 - 80.0
    }

    #[test]
    fn weights_are_the_definition() {
        for (precision, tolerance) in [(Precision::F32, 1e-6), (Precision::Int8, 4e-3)] {
            let mut softmax = Softmax::new(precision, 0.5);
            // A longer one first: what it leaves behind must not matter.
            for n in [300, 1, 2, 37, 127, 128, 129, 256] {
                let positions: Vec<Lanes> = (0..n)
                    .map(|position| std::array::from_fn(|query| score(position, query)))
                    .collect();
                let ours = weights(&mut softmax, &positions);
                for query in 0..GROUP {
                    let powers = |position| (f64::from(score(position, query)) * 0.5).exp();
                    let total: f64 = (0..n).map(powers).sum();
                    for (position, ours) in ours.iter().enumerate() {
                        let truth = powers(position) / total;
                        let gap = (f64::from(ours[query]) - truth).abs();
                        assert!(gap < tolerance, "{precision:?} {n}: {gap} from {truth}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_score_that_is_not_finite_makes_its_query_nan() {
        for precision in [Precision::F32, Precision::Int8] {
            let mut softmax = Softmax::new(precision, 1.0);
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 5, 127, 128, 130] {
                    let mut positions = vec![[0.5; GROUP]; 131];
                    positions[at][3] = poison;
                    for weights in weights(&mut softmax, &positions) {
                        assert!(weights[3].is_nan(), "{poison} at {at}");
                        assert!(weights[2].is_finite() && weights[4].is_finite());
                    }
                }
            }
        }
    }
}
