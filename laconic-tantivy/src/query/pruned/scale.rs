//! [`Scale`]: bounds in 16 bits, which add up several at a time.

/// Bounds in units of 2^`shift` contributions, such that no sum of bounds exceeds 16 bits.
///
/// A bound is the upper half of a product of 16 bits each: processors have an instruction for
/// that. What it rounds down, at most one unit a term, [`to_sum`](Scale::to_sum) gives back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    shift: u32,
    impact_bits: u32,
}

impl Scale {
    /// For the weights of a query, whose sum times `max_impact` fits 32 bits.
    pub(super) fn new(query_weights: &[u32], max_impact: u8) -> Scale {
        let impact_bits = u8::BITS - max_impact.leading_zeros();
        let weights: u64 = query_weights.iter().copied().map(u64::from).sum();
        let mut shift = 0;
        // Rounding a weight up makes its bound larger by less than one unit.
        while ((weights << impact_bits) >> shift) + query_weights.len() as u64 > 0xffff {
            shift += 1;
        }
        Scale { shift, impact_bits }
    }

    pub(super) fn weight(self, query_weight: u32) -> u16 {
        let scaled = (u64::from(query_weight) << self.impact_bits).div_ceil(1 << self.shift);
        u16::try_from(scaled).unwrap_or(u16::MAX)
    }

    /// The bound of a term of the given weight, rounded down.
    #[inline]
    pub(super) fn bound(self, max: u8, weight: u16) -> u16 {
        let max = u16::from(max) << (u16::BITS - self.impact_bits);
        ((u32::from(max) * u32::from(weight)) >> u16::BITS) as u16
    }

    /// A sum that no sum of contributions of `n_terms` terms with these bounds exceeds.
    #[inline]
    pub(super) fn to_sum(self, bounds: u16, n_terms: usize) -> u32 {
        let n_terms = u32::try_from(n_terms).unwrap_or(u32::MAX);
        let units = u32::from(bounds).saturating_add(n_terms);
        u32::try_from(u64::from(units) << self.shift).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Also that 16 bits hold the sum of all bounds: the addition would panic here.
        #[test]
        fn bounds_are_never_too_low_and_seldom_much_too_high(
            bits in 4u32..=8,
            query in proptest::collection::vec((1u32..=1 << 14, any::<u8>()), 1..600),
        ) {
            let max_impact = u8::try_from((1u32 << bits) - 1).unwrap();
            let weights: Vec<u32> = query.iter().map(|(weight, _)| *weight).collect();
            let scale = Scale::new(&weights, max_impact);
            let maxima = query.iter().map(|(_, max)| max & max_impact);
            let (mut bound, mut sum) = (0u16, 0u64);
            for (&weight, max) in weights.iter().zip(maxima) {
                bound += scale.bound(max, scale.weight(weight));
                sum += u64::from(weight) * u64::from(max);
            }
            let bound = u64::from(scale.to_sum(bound, weights.len()));
            prop_assert!(bound >= sum);
            // Two units a term: one for the weight, one for the bound.
            let slack = (2 * (weights.len() as u64 + 1)) << scale.shift;
            prop_assert!(bound <= sum + slack, "{bound} for {sum}");
        }
    }
}
