//! Rotary position embedding (Su et al. 2021, RoFormer, section 3.2), with
//! the frequency scaling of Llama 3.1.

use std::f64::consts::TAU;

use crate::config::{Config, Llama3Scaling};
use crate::matmul::{Cpu, Rows, Work};

/// Cosines and sines for positions 0 to n − 1, each n × head_dim / 2.
pub(crate) struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Sized by the longest text that will be encoded, not by what
    /// `max_position_embeddings` declares.
    pub(crate) fn new(config: &Config, n_positions: usize) -> Self {
        let frequencies = frequencies(config);
        let angles = (0..n_positions).flat_map(|position| {
            let position = to_f32(position);
            // The product is rounded to f32 before the cosine, as in the
            // reference: the rounding moves logits more than the cosine does.
            frequencies
                .iter()
                .map(move |frequency| f64::from(position * frequency))
        });
        let (cos, sin) = angles
            .map(|angle| (narrow(angle.cos()), narrow(angle.sin())))
            .unzip();
        Self {
            half: frequencies.len(),
            cos,
            sin,
        }
    }

    /// Cosines and sines, each positions × head_dim / 2.
    #[cfg(feature = "device")]
    pub(crate) fn tables(&self) -> (&[f32], &[f32]) {
        (&self.cos, &self.sin)
    }

    /// Rotates the heads of tokens that stand at `first` and behind it; tokens × channels.
    ///
    /// Pairs are (i, i + head_dim / 2), the layout of Hugging Face
    /// checkpoints.
    pub(crate) fn rotate<'a>(
        &self,
        rows: &Rows<'_>,
        first: usize,
        out: &'a mut Vec<f32>,
    ) -> Rows<'a> {
        // Heads of one token after the other are read from it next: a cache holds few of what lies
        // a power of two apart.
        let stride = rows.width() + 16;
        out.resize(rows.len() * stride, 0.0);
        Cpu::this().vectorized(Rotate {
            half: self.half,
            cos: &self.cos[first * self.half..],
            sin: &self.sin[first * self.half..],
            rows: *rows,
            stride,
            out,
        });
        Rows::of(out, stride).columns(0..rows.width())
    }
}

struct Rotate<'a> {
    half: usize,
    cos: &'a [f32],
    sin: &'a [f32],
    rows: Rows<'a>,
    stride: usize,
    out: &'a mut [f32],
}

impl Work for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // A constant length, that of most models, is worth a branch.
        match self.half {
            32 => self.turn(32),
            half => self.turn(half),
        }
    }
}

impl Rotate<'_> {
    #[inline(always)]
    fn turn(self, half: usize) {
        let turns = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
        let rows = self.rows.iter().zip(self.out.chunks_exact_mut(self.stride));
        for ((row, out), (cos, sin)) in rows.zip(turns) {
            let heads = row.chunks_exact(2 * half);
            for (head, out) in heads.zip(out.chunks_exact_mut(2 * half)) {
                let (x, y) = head.split_at(half);
                let (left, right) = out.split_at_mut(half);
                let (x, y) = (&x[..half], &y[..half]);
                let (left, right) = (&mut left[..half], &mut right[..half]);
                for i in 0..half {
                    left[i] = x[i] * cos[i] - y[i] * sin[i];
                    right[i] = y[i] * cos[i] + x[i] * sin[i];
                }
            }
        }
    }
}

/// One inverse frequency per pair of channels.
fn frequencies(config: &Config) -> Vec<f32> {
    let scaled =
        |(pair, frequency): (usize, f64)| match (&config.rope.scaling, &config.rope.factors) {
            (Some(scaling), _) => scaling.apply(frequency),
            (None, Some(factors)) => {
                frequency / f64::from(factors.get(pair).copied().unwrap_or(1.0))
            }
            (None, None) => frequency,
        };
    unscaled(config)
        .enumerate()
        .map(|pair| narrow(scaled(pair)))
        .collect()
}

/// Inverse frequencies before any scaling.
fn unscaled(config: &Config) -> impl Iterator<Item = f64> {
    let (head_dim, theta) = (config.head_dim, config.rope.theta);
    (0..head_dim / 2).map(move |pair| {
        let exponent = f64::from(to_f32(2 * pair)) / f64::from(to_f32(head_dim));
        f64::from(narrow(theta.powf(exponent).recip()))
    })
}

/// The scaling as factors that inverse frequencies are divided by, as GGUF files have it.
pub(crate) fn scaling_factors(config: &Config) -> Option<Vec<f32>> {
    if let Some(factors) = &config.rope.factors {
        return Some(factors.clone());
    }
    let scaling = config.rope.scaling.as_ref()?;
    let factor = |frequency| narrow(frequency / scaling.apply(frequency));
    Some(unscaled(config).map(factor).collect())
}

impl Llama3Scaling {
    /// Long wavelengths are stretched by `factor`, short ones kept, those
    /// between interpolated: `_compute_llama3_parameters` of Hugging Face
    /// transformers (`modeling_rope_utils.py`).
    fn apply(&self, frequency: f64) -> f64 {
        let wavelength = TAU / frequency;
        let longest = self.original_max_positions / self.low_freq_factor;
        let shortest = self.original_max_positions / self.high_freq_factor;
        if wavelength > longest {
            return frequency / self.factor;
        }
        if wavelength < shortest {
            return frequency;
        }
        let smooth = (self.original_max_positions / wavelength - self.low_freq_factor)
            / (self.high_freq_factor - self.low_freq_factor);
        (1.0 - smooth) * frequency / self.factor + smooth * frequency
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is the point"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// Exact: positions and channels stay far below 2²⁴.
#[expect(clippy::cast_precision_loss, reason = "callers pass less than 2^24")]
fn to_f32(count: usize) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama3(factor: f64, original: f64) -> Llama3Scaling {
        Llama3Scaling {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: original,
        }
    }

    #[test]
    fn scaling_keeps_short_stretches_long_and_joins_them() {
        let scaling = llama3(8.0, 64.0);
        assert_eq!(scaling.apply(TAU / 15.9), TAU / 15.9);
        assert_eq!(scaling.apply(TAU / 64.1), TAU / 64.1 / 8.0);
        for edge in [16.0, 64.0] {
            let (below, above) = (
                scaling.apply(TAU / (edge - 1e-9)),
                scaling.apply(TAU / (edge + 1e-9)),
            );
            assert!(
                (below - above).abs() < 1e-9,
                "continuous at wavelength {edge}"
            );
        }
        // Halfway in frequency between the edges: 64 / 25.6 = 2.5, smooth 0.5.
        let middle = TAU / 25.6;
        assert!((scaling.apply(middle) - middle * (0.5 / 8.0 + 0.5)).abs() < 1e-12);
    }

    #[test]
    fn rotation_turns_each_pair_by_its_angle() {
        let table = RopeTable {
            half: 2,
            cos: vec![1.0, 1.0, 0.0, -1.0],
            sin: vec![0.0, 0.0, 1.0, 0.0],
        };
        let heads = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let rows = heads.repeat(2);
        let mut room = Vec::new();
        let turned = |first, room: &mut Vec<f32>| {
            let rows = Rows::of(&rows[..8 * (2 - first)], 8);
            let turned = table.rotate(&rows, first, room);
            turned.iter().map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let at_one = vec![-3.0, -2.0, 1.0, -4.0, -7.0, -6.0, 5.0, -8.0];
        assert_eq!(turned(0, &mut room), [heads.to_vec(), at_one.clone()]);
        assert_eq!(turned(1, &mut room), [at_one]);
    }
}
