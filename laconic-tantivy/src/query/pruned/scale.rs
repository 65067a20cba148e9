//! [`Scale`]: bounds in 16 bits, which add up several at a time.

/// Bounds in units of 2^`shift` contributions, such that no sum of bounds exceeds 16 bits.
///
/// A bound is the upper half of a product of 16 bits each: processors have an instruction for
/// that. What it rounds down, at most one unit a term, [`to_sum`](Scale::to_sum) gives back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    shift: u32,
}

/// A weight as a [`Scale`] has it, for codes of so many bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaledWeight {
    weight: u16,
    code_bits: u32,
}

impl Scale {
    /// For the terms of a query, each a weight and the number of bits of the codes that it
    /// multiplies: impacts, or bounds of BM25.
    pub(super) fn new(terms: impl Iterator<Item = (u32, u32)>) -> Scale {
        let (mut sum, mut n_terms) = (0u64, 0u64);
        for (weight, code_bits) in terms {
            sum += u64::from(weight) << code_bits;
            n_terms += 1;
        }
        let mut shift = 0;
        // Rounding a weight up makes its bound larger by less than one unit.
        while (sum >> shift) + n_terms > 0xffff {
            shift += 1;
        }
        Scale { shift }
    }

    pub(super) fn weight(self, weight: u32, code_bits: u32) -> ScaledWeight {
        let scaled = (u64::from(weight) << code_bits).div_ceil(1 << self.shift);
        ScaledWeight {
            weight: u16::try_from(scaled).unwrap_or(u16::MAX),
            code_bits,
        }
    }

    /// The bound of a term of the given weight, rounded down.
    #[inline]
    pub(super) fn bound(max: u8, weight: ScaledWeight) -> u16 {
        let max = u16::from(max) << (u16::BITS - weight.code_bits);
        ((u32::from(max) * u32::from(weight.weight)) >> u16::BITS) as u16
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
            query in proptest::collection::vec((1u32..=1 << 14, any::<u8>(), 4u32..=8), 1..600),
        ) {
            let scale = Scale::new(query.iter().map(|(weight, _, bits)| (*weight, *bits)));
            let (mut bound, mut sum) = (0u16, 0u64);
            for &(weight, max, bits) in &query {
                let max = max >> (8 - bits);
                bound += Scale::bound(max, scale.weight(weight, bits));
                sum += u64::from(weight) * u64::from(max);
            }
            let bound = u64::from(scale.to_sum(bound, query.len()));
            prop_assert!(bound >= sum);
            // Two units a term: one for the weight, one for the bound.
            let slack = (2 * (query.len() as u64 + 1)) << scale.shift;
            prop_assert!(bound <= sum + slack, "{bound} for {sum}");
        }
    }
}
