//! [`ImpactQuantizer`]: term weight ↔ impact.

use crate::{Error, SparseVector};

/// Maps a term weight to the integer *impact* stored in a posting, and back.
///
/// `impact = round(weight × scale)`, halves away from zero, clamped to `1..=max_impact`; a weight
/// that rounds to 0 vanishes. The scale is fixed when the index is created, so segments of any
/// age merge without rewriting. At 8 bits the scale is 64: a step of 1/64 and a largest weight of
/// 3.98. Every bit less halves the scale and keeps that range.
///
/// ```
/// use laconic_tantivy::ImpactQuantizer;
///
/// let quantizer = ImpactQuantizer::with_bits(8)?; // scale 64
/// assert_eq!(quantizer.impact(1.37), Some(88));
/// assert_eq!(quantizer.weight(88), 1.375);
/// assert_eq!(quantizer.impact(0.001), None); // vanishes
/// assert_eq!(quantizer.impact(100.0), Some(255)); // clipped
/// # Ok::<(), laconic_tantivy::Error>(())
/// ```
///
/// The default is 5 bits: in `benches/codes.rs`, which compares 4 to 8 bits on real vectors, it is
/// the smallest number that costs no effectiveness (nDCG@10 within 0.001 of unquantised weights),
/// with a sixth fewer bytes than 8. Scores near a tie change places, though: of the ten best
/// documents 95 % are those of unquantised weights, and 99 % at 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImpactQuantizer {
    bits: u8,
}

/// Most bits an impact may have.
pub(crate) const MAX_BITS: u8 = 8;

const DEFAULT_BITS: u8 = 5;

impl Default for ImpactQuantizer {
    fn default() -> ImpactQuantizer {
        ImpactQuantizer { bits: DEFAULT_BITS }
    }
}

impl ImpactQuantizer {
    /// A quantizer to impacts of `bits` bits, 4 to 8.
    ///
    /// # Errors
    /// `is_invalid_input` for any other number of bits.
    pub fn with_bits(bits: u8) -> Result<ImpactQuantizer, Error> {
        if (4..=MAX_BITS).contains(&bits) {
            return Ok(ImpactQuantizer { bits });
        }
        Err(Error::invalid(format!(
            "impacts of {bits} bits are not offered; choose 4 to 8"
        )))
    }

    /// Bits of an impact.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Impacts per unit of weight: 64 at 8 bits, a power of two at any number of bits.
    pub fn scale(self) -> f32 {
        f32::from(1u8 << (self.bits - 2))
    }

    /// The largest impact: 255 at 8 bits, 15 at 4.
    pub fn max_impact(self) -> u8 {
        u8::MAX >> (MAX_BITS - self.bits)
    }

    /// The impact of a finite weight, `None` when it rounds to 0.
    pub fn impact(self, weight: f32) -> Option<u8> {
        // In f64 the sum is exact, so cutting off the fraction rounds halves up as `round` does,
        // without the call of a library function that `round` is on many processors.
        let rounded = f64::from(weight * self.scale()) + 0.5;
        let impact = whole(rounded.min(f64::from(self.max_impact())));
        (impact > 0).then_some(impact)
    }

    /// The weight that `impact` stands for.
    pub fn weight(self, impact: u8) -> f32 {
        f32::from(impact) / self.scale()
    }

    /// Quantizes a vector: (term, impact) in byte order of the terms, and what was lost.
    pub fn quantize(self, vector: &SparseVector) -> (Vec<(&str, u8)>, QuantizationLoss) {
        let mut loss = QuantizationLoss::default();
        let impacts = vector
            .iter()
            .filter_map(|(term, weight)| self.counted_impact(weight, &mut loss).map(|i| (term, i)))
            .collect();
        (impacts, loss)
    }

    /// [`impact`](ImpactQuantizer::impact) that also keeps count of what was lost.
    pub(crate) fn counted_impact(self, weight: f32, loss: &mut QuantizationLoss) -> Option<u8> {
        let impact = self.impact(weight);
        loss.weights += 1;
        loss.vanished += u64::from(impact.is_none());
        loss.clipped += u64::from(weight * self.scale() >= f32::from(self.max_impact()) + 0.5);
        impact
    }
}

/// The whole part of a number up to 255; 0 for a negative one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cutting off the fraction is what is wanted"
)]
fn whole(number: f64) -> u8 {
    number as u8
}

/// How many of the weights quantized did not keep their value to within half a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuantizationLoss {
    /// Weights quantized.
    pub weights: u64,
    /// Weights above the range, stored as the largest impact.
    pub clipped: u64,
    /// Weights that rounded to 0 and are not stored.
    pub vanished: u64,
}

impl std::ops::AddAssign for QuantizationLoss {
    fn add_assign(&mut self, other: QuantizationLoss) {
        self.weights += other.weights;
        self.clipped += other.clipped;
        self.vanished += other.vanished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = ImpactQuantizer> {
        (4..=8).map(|bits| ImpactQuantizer::with_bits(bits).unwrap())
    }

    #[test]
    fn scales_and_ranges() {
        let table: Vec<_> = all()
            .map(|q| (q.bits(), q.scale(), q.max_impact()))
            .collect();
        assert_eq!(
            table,
            [
                (4, 4.0, 15),
                (5, 8.0, 31),
                (6, 16.0, 63),
                (7, 32.0, 127),
                (8, 64.0, 255)
            ]
        );
        for bits in [0, 1, 2, 3, 9, 255] {
            assert!(ImpactQuantizer::with_bits(bits).is_err(), "{bits}");
        }
    }

    #[test]
    fn every_code_round_trips_and_is_monotone() {
        for q in all() {
            for impact in 1..=q.max_impact() {
                assert_eq!(q.impact(q.weight(impact)), Some(impact));
                assert!(q.weight(impact) > q.weight(impact - 1));
            }
        }
    }

    #[test]
    fn every_step_edge_is_within_half_a_step() {
        for q in all() {
            let half = 0.5 / q.scale();
            for impact in 1..=q.max_impact() {
                let edge = q.weight(impact) - half; // rounds up to this code, exactly
                assert_eq!(q.impact(edge), Some(impact));
                let below = q.impact(edge.next_down());
                assert_eq!(below, (impact > 1).then(|| impact - 1));
            }
        }
    }

    #[test]
    fn clipped_and_vanished_are_counted() {
        for q in all() {
            let top = q.weight(q.max_impact());
            let half = 0.5 / q.scale();
            let vector = SparseVector::from_pairs([
                ("kept", 1.0),
                ("rounds to the top", (top + half).next_down()),
                ("clipped", top + half),
                ("clipped too", f32::MAX),
                ("vanished", half.next_down()),
                ("vanished too", f32::from_bits(1)),
            ])
            .unwrap();
            let (impacts, loss) = q.quantize(&vector);
            assert_eq!(
                loss,
                QuantizationLoss {
                    weights: 6,
                    clipped: 2,
                    vanished: 2
                }
            );
            assert_eq!(impacts.len(), 4);
        }
    }
}
