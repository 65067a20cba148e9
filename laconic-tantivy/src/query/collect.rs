//! [`Collect`]: who takes documents with their sums.

use tantivy::DocId;

/// Documents looked at together when searching for large sums; one vectorised maximum settles
/// most groups.
const GROUP: usize = 32;

/// Takes documents with their sums.
pub(crate) trait Collect {
    /// Smaller sums are of no interest any more; at least 1. `u32::MAX` ends the search.
    fn min_sum(&self) -> u32;

    /// The same, given that there are documents, all of which may be in the result and none of
    /// which was offered, with at least these sums.
    fn min_sum_among(&self, _lower_bounds: &mut Vec<u32>) -> u32 {
        self.min_sum()
    }

    /// Takes the documents `start..start + sums.len()`. A sum of 0 is no match.
    fn collect(&mut self, start: DocId, sums: &[u32]);

    /// Whether documents may come in any order.
    fn takes_any_order(&self) -> bool;

    /// Size of the result; 0 where it is not known.
    fn n_wanted(&self) -> usize;

    /// How many of the best documents are to be offered, about, until so many are taken.
    fn n_to_offer(&self) -> usize {
        self.n_wanted()
    }
}

/// Hands documents to a callback in ascending order.
pub(crate) struct Callback<F> {
    min_sum: u32,
    /// Takes a document and its sum, returns the smallest sum that still matters.
    visit: F,
}

impl<F: FnMut(DocId, u32) -> u32> Callback<F> {
    pub(crate) fn new(min_sum: u32, visit: F) -> Callback<F> {
        let min_sum = min_sum.max(1);
        Callback { min_sum, visit }
    }
}

impl<F: FnMut(DocId, u32) -> u32> Collect for Callback<F> {
    fn min_sum(&self) -> u32 {
        self.min_sum
    }

    fn collect(&mut self, start: DocId, sums: &[u32]) {
        let (min_sum, visit) = (&mut self.min_sum, &mut self.visit);
        for_each_at_least(*min_sum, start, sums, |doc, sum| {
            *min_sum = visit(doc, sum).max(1);
            *min_sum
        });
    }

    fn takes_any_order(&self) -> bool {
        false
    }

    fn n_wanted(&self) -> usize {
        0
    }
}

/// Calls `visit` for every document with at least the sum that it last returned, `min_sum` at
/// first.
#[inline]
pub(super) fn for_each_at_least(
    mut min_sum: u32,
    start: DocId,
    sums: &[u32],
    mut visit: impl FnMut(DocId, u32) -> u32,
) {
    for (group_start, group) in (start..).step_by(GROUP).zip(sums.chunks(GROUP)) {
        if max_of(group) < min_sum {
            continue;
        }
        for (doc, &sum) in (group_start..).zip(group) {
            if sum >= min_sum {
                min_sum = visit(doc, sum);
            }
        }
    }
}

/// The largest of some sums, or one more than that.
///
/// The baseline of x86-64 has no maximum of 32-bit integers, but one of floats, and positive
/// floats are ordered like their bits: this takes a third of the instructions. Half of a sum is
/// never the bits of a NaN, see `FixedPoint`.
#[inline]
pub(super) fn max_of(sums: &[u32]) -> u32 {
    let mut maxima = [0f32; 16];
    let (chunks, rest) = sums.as_chunks::<16>();
    for chunk in chunks {
        for (max, &sum) in maxima.iter_mut().zip(chunk) {
            let half = f32::from_bits(sum >> 1);
            *max = if half > *max { half } else { *max };
        }
    }
    let max = maxima.iter().fold(0, |max, half| max.max(half.to_bits()));
    let max = rest.iter().fold(max, |max, &sum| max.max(sum >> 1));
    max << 1 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn maximum_is_at_most_one_more(
            sums in proptest::collection::vec(prop_oneof![0u32..4, 0u32..=0xff00_0000], 0..100),
        ) {
            let max = sums.iter().copied().max().unwrap_or(0);
            prop_assert!(max_of(&sums) == max | 1);
        }
    }
}
