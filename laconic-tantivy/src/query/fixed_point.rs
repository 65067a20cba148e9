//! Query weights in fixed point, and integer sums back to scores.

use crate::{Error, ImpactQuantizer, SparseVector};

/// Most fractional bits a query weight gets; 24 is the precision of the `f32` it came from.
const MAX_FRACTION_BITS: u32 = 24;

/// No sum is larger: half of it is then never the bits of a NaN, which `max_of` relies on.
const MAX_SUM: u32 = 0xff00_0000;

/// The query side of a sum in integers.
///
/// The unit of sums is a power of two: 2^-k / scale, scale being that of the impacts. A learned
/// weight becomes round(weight × 2^k), at least 1 so that a positive weight still matches; what
/// other parts add is rounded to whole units. `k` is the largest up to 24 for which no document's
/// sum can exceed `MAX_SUM`: it depends on the query, the quantizer and, for other parts, on
/// statistics of the whole index, so scores do not depend on segments. LACONIC queries, whose
/// weights sum to a few hundred, get 14 bits or more; below a sum of 4,112 it is at least 12 at
/// 8-bit impacts.
#[derive(Debug, Clone)]
pub(crate) struct FixedPoint {
    pub(crate) query_weights: Vec<u32>,
    score_of: ScoreOf,
}

/// What a document can get from other parts than the learned one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Others {
    pub(crate) n_terms: usize,
    /// The sum of what each can add at most.
    pub(crate) max_score: f64,
}

impl FixedPoint {
    /// For a learned part, whose weights are multiplied by a factor, and others.
    ///
    /// # Errors
    /// `is_invalid_input` when the weights are so large that even whole numbers overflow.
    pub(crate) fn new(
        learned: Option<(&SparseVector, f32, ImpactQuantizer)>,
        others: Others,
    ) -> Result<FixedPoint, Error> {
        let scale = learned.map_or(1.0, |(.., quantizer)| quantizer.scale());
        for fraction_bits in (0..=MAX_FRACTION_BITS).rev() {
            let score_of = ScoreOf::new(fraction_bits, scale);
            let room = others.room_left(score_of.one());
            let query_weights = match learned {
                Some((vector, factor, quantizer)) => {
                    fixed(vector, factor, quantizer, fraction_bits, room)
                }
                None => (room >= 0.0).then(Vec::new),
            };
            if let Some(query_weights) = query_weights {
                return Ok(FixedPoint {
                    query_weights,
                    score_of,
                });
            }
        }
        let weights = learned.iter().flat_map(|(vector, ..)| vector.iter());
        let sum: f64 = weights.map(|(_, weight)| f64::from(weight)).sum();
        Err(Error::invalid(format!(
            "query weights sum to {sum:.0} and other parts of the query to {:.0}, which no score \
             can hold; divide them by their scale",
            others.max_score
        )))
    }

    pub(crate) fn score_of(&self) -> ScoreOf {
        self.score_of
    }
}

impl Others {
    /// Units that are left for the learned part.
    #[expect(clippy::cast_precision_loss, reason = "an allowance for rounding")]
    fn room_left(self, one: f32) -> f64 {
        // What is added is computed in `f32`, and rounded up to 1 at least.
        let units = self.max_score * f64::from(one) * (1.0 + 1e-5) + 2.0 * self.n_terms as f64;
        f64::from(MAX_SUM) - units
    }
}

/// The weights with `fraction_bits`, or `None` when a sum could exceed `room`.
fn fixed(
    vector: &SparseVector,
    factor: f32,
    quantizer: ImpactQuantizer,
    fraction_bits: u32,
    room: f64,
) -> Option<Vec<u32>> {
    let factor = f64::from(factor) * f64::from(1u32 << fraction_bits);
    let max_impact = f64::from(quantizer.max_impact());
    let rounded = vector
        .iter()
        .map(|(_, weight)| (f64::from(weight) * factor).round().max(1.0));
    // Whole numbers below 2^53: the sum of up to 2^16 terms is exact where it matters.
    let fits = rounded.clone().sum::<f64>() * max_impact <= room;
    fits.then(|| rounded.map(whole).collect())
}

/// `rounded` is a whole number in 1..=u32::MAX, as `fixed` has made sure.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "see above"
)]
fn whole(rounded: f64) -> u32 {
    rounded as u32
}

/// Integer sum → score, monotone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoreOf {
    unit: f32,
}

impl ScoreOf {
    #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
    fn new(fraction_bits: u32, scale: f32) -> ScoreOf {
        // 24 + 6 bits at most, so the unit is a normal power of two and multiplying is exact.
        let one = (1u32 << fraction_bits) as f32;
        ScoreOf {
            unit: 1.0 / (one * scale),
        }
    }

    /// The sum that is a score of 1: a power of two.
    pub(crate) fn one(self) -> f32 {
        1.0 / self.unit
    }

    /// The score: rounded once, from integer to `f32`.
    #[expect(clippy::cast_precision_loss, reason = "the one rounding of a score")]
    pub(crate) fn score(self, sum: u32) -> f32 {
        sum as f32 * self.unit
    }

    /// A sum that no document of at least this score falls below, and as large as can be told
    /// without a search: within the rounding of one score.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "scores are positive; a sum rounded up to 2^32 saturates"
    )]
    pub(crate) fn smallest_sum_near(self, score: f32) -> u32 {
        // Whole again: the unit is a power of two. Half the distance of two floats of this size
        // is at most the sum's top eight bits.
        let sum = (score / self.unit) as u32;
        (sum - (sum >> 24)).max(1)
    }

    /// The smallest sum of a matching document whose score exceeds `threshold`; `None` when no
    /// sum does.
    pub(crate) fn smallest_sum_above(self, threshold: f32) -> Option<u32> {
        let (mut low, mut high) = (1u32, u32::MAX);
        if self.score(high) <= threshold || threshold.is_nan() {
            return None;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.score(middle) > threshold {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits_of(fixed: &FixedPoint, quantizer: ImpactQuantizer) -> f32 {
        (1.0 / (fixed.score_of.unit * quantizer.scale())).log2()
    }

    fn alone(vector: &SparseVector) -> Result<FixedPoint, Error> {
        let quantizer = ImpactQuantizer::with_bits(8).unwrap();
        FixedPoint::new(Some((vector, 1.0, quantizer)), Others::default())
    }

    #[test]
    fn precision_follows_the_sum_of_the_weights() {
        let quantizer = ImpactQuantizer::with_bits(8).unwrap();
        for (n_terms, weight, bits) in [
            (1, 0.5, 24.0),
            (512, 3.5, 13.0),
            (24, 1.0, 19.0),
            (1024, 4.0, 12.0),
        ] {
            let pairs = (0..n_terms).map(|i| (format!("t{i}"), weight));
            let vector = SparseVector::from_pairs(pairs).unwrap();
            let fixed =
                FixedPoint::new(Some((&vector, 1.0, quantizer)), Others::default()).unwrap();
            assert_eq!(bits_of(&fixed, quantizer), bits, "{n_terms} × {weight}");
        }
    }

    #[test]
    fn overflow_is_refused_not_wrapped() {
        let vector = SparseVector::from_pairs([("a", 1e30)]).unwrap();
        let error = alone(&vector).expect_err("too large");
        assert!(error.is_invalid_input());
        let largest = SparseVector::from_pairs([("a", 16_777_216.0)]).unwrap();
        assert!(alone(&largest).is_ok());
    }

    proptest! {
        #[test]
        fn sums_never_overflow_and_weights_keep_their_value(
            weights in proptest::collection::vec(1e-6f32..100.0, 1..600),
            bits in 4u8..=8,
            max_score in prop_oneof![Just(0.0), 0.0..1e5],
        ) {
            let quantizer = ImpactQuantizer::with_bits(bits).unwrap();
            let pairs = weights.iter().enumerate().map(|(i, &w)| (format!("{i:04}"), w));
            let vector = SparseVector::from_pairs(pairs).unwrap();
            let others = Others { n_terms: 3, max_score };
            let fixed = FixedPoint::new(Some((&vector, 1.0, quantizer)), others).unwrap();
            let worst = fixed.query_weights.iter().map(|&w| u64::from(w)).sum::<u64>()
                * u64::from(quantizer.max_impact());
            let others = max_score * f64::from(fixed.score_of().one());
            #[expect(clippy::cast_precision_loss, reason = "sums below 2^53")]
            let worst = worst as f64;
            prop_assert!(worst + others <= f64::from(MAX_SUM));
            let one = 2f64.powf(f64::from(bits_of(&fixed, quantizer)));
            for ((_, weight), &code) in vector.iter().zip(&fixed.query_weights) {
                let value = f64::from(code) / one;
                prop_assert!((value - f64::from(weight)).abs() <= 0.5 / one || code == 1);
            }
        }

        #[test]
        fn threshold_is_exact(threshold in prop_oneof![Just(f32::MIN), Just(0.0), 0.0f32..70.0], bits in 0u32..=24) {
            let score_of = ScoreOf::new(bits, ImpactQuantizer::with_bits(8).unwrap().scale());
            let sum = score_of.smallest_sum_above(threshold);
            match sum {
                Some(sum) => {
                    prop_assert!(score_of.score(sum) > threshold);
                    prop_assert!(sum == 1 || score_of.score(sum - 1) <= threshold);
                }
                None => prop_assert!(score_of.score(u32::MAX) <= threshold),
            }
        }
    }
}
