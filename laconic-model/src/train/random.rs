//! Random numbers that are a function of what they are for, not of what was drawn before: a run
//! that was broken off draws the same ones.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The generator of one purpose; different keys give unrelated numbers.
    pub(super) fn keyed(key: &[u64]) -> Self {
        let mut state = Self(0);
        for part in key {
            state.0 ^= *part;
            state.0 = state.next();
        }
        state
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..bound`, or 0 if `bound` is 0. The bias, at most `bound` / 2⁶⁴, is accepted.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let scaled = u128::from(self.next()) * (bound as u128);
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    /// Uniform in [0, 1), in steps of 2⁻²⁴.
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 16_777_216.0
    }

    /// Normal with mean 0 and variance 1 but for its tails, which end at ±6: the sum of twelve
    /// uniform numbers. Box–Muller would need `ln` and `cos`, which differ between platforms.
    pub(super) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// The numbers below `len` in random order.
    pub(super) fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_has_everything_once_and_depends_on_its_key() {
        let of = |key: &[u64]| Random::keyed(key).permutation(1000);
        let mut sorted = of(&[1, 2]);
        assert_eq!(sorted, of(&[1, 2]));
        assert_ne!(sorted, of(&[2, 1]));
        assert_ne!(sorted, of(&[1, 3]));
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
    }

    #[test]
    fn normal_numbers_have_the_moments_of_a_normal() {
        let mut random = Random::keyed(&[7]);
        let drawn: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let variance = drawn.iter().map(|x| x * x).sum::<f64>() / 1e5 - mean * mean;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
    }
}
