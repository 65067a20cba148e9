//! Chance, from a seed: a shuffle, and bootstrap intervals of means.

use serde::Serialize;

/// A mean with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Estimate {
    /// The mean over all queries.
    pub mean: f64,
    /// The 2.5th percentile of the resampled means.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// Which queries are drawn, with replacement, resample by resample. The same draws serve every
/// estimate, so that what differs between two of them is not the draw.
pub(super) struct Resamples {
    n_queries: usize,
    /// For each resample how often each query was drawn.
    times_drawn: Vec<Vec<u16>>,
}

impl Resamples {
    pub(super) fn draw(n_queries: usize, n_resamples: usize, random: &mut Random) -> Resamples {
        let mut draw = || {
            let mut times_drawn = vec![0u16; n_queries];
            for _ in 0..n_queries {
                let drawn = &mut times_drawn[random.below(n_queries)];
                *drawn = drawn.saturating_add(1);
            }
            times_drawn
        };
        Resamples {
            n_queries,
            times_drawn: (0..n_resamples).map(|_| draw()).collect(),
        }
    }

    /// The mean of one value per query, and how far it might have come out elsewhere.
    pub(super) fn estimate(&self, values: &[f64]) -> Estimate {
        let resampled = |times: &Vec<u16>| {
            let drawn = times.iter().zip(values);
            mean(
                drawn.map(|(times, value)| f64::from(*times) * value),
                self.n_queries,
            )
        };
        let mut means: Vec<f64> = self.times_drawn.iter().map(resampled).collect();
        means.sort_unstable_by(f64::total_cmp);
        let mean = mean(values.iter().copied(), self.n_queries);
        // As many means are left out on either side: a fortieth of them.
        let n_left_out = means.len() / 40;
        Estimate {
            mean,
            low: means.get(n_left_out).copied().unwrap_or(mean),
            high: means.iter().rev().nth(n_left_out).copied().unwrap_or(mean),
        }
    }
}

/// The sum divided by `n`; 0 for none.
#[expect(clippy::cast_precision_loss, reason = "queries stay far below 2^53")]
pub(super) fn mean(values: impl Iterator<Item = f64>, n: usize) -> f64 {
    values.sum::<f64>() / n.max(1) as f64
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014):
/// numbers that change with no dependency, so that a report can be made again.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..bound`, but for a bias below `bound` / 2⁶⁴; 0 if `bound` is 0.
    fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * u128::try_from(bound).unwrap_or(0);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Fisher and Yates' shuffle.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for n_left in (2..=items.len()).rev() {
            items.swap(n_left - 1, self.below(n_left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interval of a mean of coin tosses is close to that of the normal distribution.
    #[test]
    fn the_interval_is_about_two_standard_errors_wide() {
        let values: Vec<f64> = (0..400).map(|idx| f64::from(idx % 2)).collect();
        let resamples = Resamples::draw(400, 4000, &mut Random::new(5));
        let Estimate { mean, low, high } = resamples.estimate(&values);
        assert_eq!(mean, 0.5);
        let standard_error = 0.5 / 20.0;
        assert!(
            (low - (mean - 1.96 * standard_error)).abs() < 0.1 * standard_error,
            "{low}"
        );
        assert!(
            (high - (mean + 1.96 * standard_error)).abs() < 0.1 * standard_error,
            "{high}"
        );
    }

    #[test]
    fn equal_values_have_an_interval_without_width() {
        let resamples = Resamples::draw(8, 100, &mut Random::new(5));
        let estimate = resamples.estimate(&[0.25; 8]);
        assert_eq!(
            (estimate.low, estimate.mean, estimate.high),
            (0.25, 0.25, 0.25)
        );
    }
}
