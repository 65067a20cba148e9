//! [`SparseVector`]: term → positive term weight, checked once on entry.

use crate::Error;

/// Longest term accepted, in bytes of UTF-8. Tantivy itself silently drops tokens over 65,530
/// bytes; the longest entry of a real vocabulary is far below this.
pub const MAX_TERM_BYTES: usize = 255;

/// Most terms one vector may hold. LACONIC keeps 512; the bound is what an untrusted input
/// may make us allocate.
pub const MAX_TERMS: usize = 1 << 16;

/// A sparse vector: terms with their weights.
///
/// Every weight is finite and greater than zero, every term is 1 to 255 bytes long and occurs
/// once; nothing behind this type checks that again. Terms are kept in the byte order of the
/// term dictionary, so that look-ups walk it forwards. The strings share one buffer.
///
/// ```
/// use laconic_tantivy::SparseVector;
///
/// let vector = SparseVector::from_pairs([("Ġsearch", 1.37), ("Ġindex", 0.25), ("Ġthe", 0.0)])?;
/// assert_eq!(vector.len(), 2); // zero weights are dropped
/// assert_eq!(vector.iter().next(), Some(("Ġindex", 0.25)));
/// assert!(SparseVector::from_pairs([("Ġsearch", f32::NAN)]).is_err());
/// # Ok::<(), laconic_tantivy::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SparseVector {
    text: String,
    ends: Vec<u32>,
    weights: Vec<f32>,
}

/// A vector's memory, for loops over all postings of a collection.
#[derive(Clone, Copy)]
pub(crate) struct VectorParts<'a> {
    /// All terms, one behind the other.
    pub(crate) text: &'a [u8],
    /// Where each term ends.
    pub(crate) ends: &'a [u32],
    pub(crate) weights: &'a [f32],
}

impl SparseVector {
    /// Builds a vector from (term, term weight) pairs in any order.
    ///
    /// # Errors
    /// `is_invalid_input`, naming the term: a weight that is NaN, infinite or negative; a term
    /// that is empty, longer than [`MAX_TERM_BYTES`] or given twice (even with weight zero);
    /// more than [`MAX_TERMS`] terms.
    pub fn from_pairs<S, I>(pairs: I) -> Result<SparseVector, Error>
    where
        S: AsRef<str>,
        I: IntoIterator<Item = (S, f32)>,
    {
        let pairs = pairs.into_iter();
        let mut checked = Vec::with_capacity(pairs.size_hint().0.min(MAX_TERMS));
        for (term, weight) in pairs {
            check_pair(term.as_ref(), weight)?;
            if checked.len() == MAX_TERMS {
                return Err(too_many_terms());
            }
            checked.push((term, weight));
        }
        let term = |number: u32| checked[number as usize].0.as_ref();
        let order = order(checked.len(), &term);
        if let Some(pair) = order.windows(2).find(|w| term(w[0]) == term(w[1])) {
            return Err(duplicate_term(term(pair[0])));
        }
        let sorted = order.iter().map(|&number| &checked[number as usize]);
        let kept = sorted.filter(|(_, weight)| *weight > 0.0);
        Ok(SparseVector::from_sorted(
            kept.map(|(term, weight)| (term.as_ref(), *weight)),
        ))
    }

    /// `pairs` obeys every rule of the type and is sorted by term bytes.
    fn from_sorted<'a>(pairs: impl Iterator<Item = (&'a str, f32)> + Clone) -> SparseVector {
        let (n_bytes, n_terms) = pairs.clone().fold((0, 0), |(bytes, terms), (term, _)| {
            (bytes + term.len(), terms + 1)
        });
        let mut vector = SparseVector {
            text: String::with_capacity(n_bytes),
            ends: Vec::with_capacity(n_terms),
            weights: Vec::with_capacity(n_terms),
        };
        for (term, weight) in pairs {
            vector.text.push_str(term);
            // At most MAX_TERMS × MAX_TERM_BYTES < 2^24 bytes, so the offset always fits.
            vector
                .ends
                .push(u32::try_from(vector.text.len()).unwrap_or(u32::MAX));
            vector.weights.push(weight);
        }
        vector
    }

    /// Number of terms.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// True for a vector without terms: such a document matches no sparse query.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// Terms with their weights, in byte order of the terms.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f32)> + Clone {
        (0..self.len()).map(|idx| (self.term(idx), self.weights[idx]))
    }

    /// The vector as it lies in memory.
    pub(crate) fn parts(&self) -> VectorParts<'_> {
        VectorParts {
            text: self.text.as_bytes(),
            ends: &self.ends,
            weights: &self.weights,
        }
    }

    fn term(&self, idx: usize) -> &str {
        let start = idx
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        &self.text[start..self.ends[idx] as usize]
    }

    /// The weight of `term`, if the vector has it.
    pub fn weight(&self, term: &str) -> Option<f32> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.term(middle).as_bytes().cmp(term.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(self.weights[middle]),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The `max_terms` terms of largest weight (of equal weights, those first in byte order):
    /// static pruning, which changes results.
    #[must_use]
    pub fn top_terms(&self, max_terms: usize) -> SparseVector {
        if self.len() <= max_terms {
            return self.clone();
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|&a, &b| self.weights[b].total_cmp(&self.weights[a]));
        order.truncate(max_terms);
        order.sort_unstable();
        SparseVector::from_sorted(order.iter().map(|&idx| (self.term(idx), self.weights[idx])))
    }
}

/// The numbers of terms in byte order of the terms.
fn order<'t>(n_terms: usize, term: &impl Fn(u32) -> &'t str) -> Vec<u32> {
    // Most comparisons end with the first bytes and do not go to the text: with them, a vector in
    // any order is sorted in half the time.
    let numbers = 0..u32::try_from(n_terms).unwrap_or(u32::MAX);
    let keys = numbers.map(|number| (leading_bytes(term(number)), number));
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable_by(|&(a, first), &(b, second)| {
        let by_text = || term(first).as_bytes().cmp(term(second).as_bytes());
        a.cmp(&b).then_with(by_text)
    });
    keys.into_iter().map(|(_, number)| number).collect()
}

/// The first eight bytes as a number of the same order.
fn leading_bytes(term: &str) -> u64 {
    match term.as_bytes().first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..term.len()].copy_from_slice(term.as_bytes());
            u64::from_be_bytes(bytes)
        }
    }
}

fn check_pair(term: &str, weight: f32) -> Result<(), Error> {
    if term.is_empty() {
        return Err(Error::invalid(
            "a term of the vector is empty; leave it out",
        ));
    }
    if term.len() > MAX_TERM_BYTES {
        return Err(Error::invalid(format!(
            "term `{}…` is {} bytes long, {MAX_TERM_BYTES} are allowed",
            abbreviate(term),
            term.len()
        )));
    }
    check_weight(term, weight)
}

fn check_weight(term: &str, weight: f32) -> Result<(), Error> {
    let fault = match weight {
        w if w.is_nan() => "is not a number",
        w if w.is_infinite() => "is infinite or too large for 32 bits",
        w if w < 0.0 => "is negative",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!(
        "weight of term `{term}` {fault} ({weight}); term weights are finite and at least 0"
    )))
}

fn abbreviate(term: &str) -> String {
    term.chars().take(24).collect()
}

fn duplicate_term(term: &str) -> Error {
    Error::invalid(format!(
        "term `{term}` is given twice; a vector names a term once"
    ))
}

pub(crate) fn too_many_terms() -> Error {
    Error::invalid(format!("the vector has more than {MAX_TERMS} terms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(pairs: &[(&str, f32)]) -> String {
        SparseVector::from_pairs(pairs.iter().copied())
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn sorts_by_bytes_and_drops_zeros() {
        let vector =
            SparseVector::from_pairs([("b", 1.0), ("é", 3.0), ("a", 2.0), ("c", 0.0), ("d", -0.0)])
                .unwrap();
        let pairs: Vec<_> = vector.iter().collect();
        assert_eq!(pairs, [("a", 2.0), ("b", 1.0), ("é", 3.0)]);
        assert_eq!(vector.weight("é"), Some(3.0));
        assert_eq!(vector.weight("c"), None);
    }

    #[test]
    fn refuses_by_name() {
        assert!(reason(&[("tok", f32::NAN)]).contains("`tok` is not a number"));
        assert!(reason(&[("tok", f32::INFINITY)]).contains("`tok` is infinite"));
        assert!(reason(&[("tok", f32::NEG_INFINITY)]).contains("`tok` is infinite"));
        assert!(reason(&[("tok", -0.5)]).contains("`tok` is negative"));
        assert!(reason(&[("tok", 1.0), ("x", 1.0), ("tok", 0.0)]).contains("`tok` is given twice"));
        assert!(reason(&[("", 1.0)]).contains("empty"));
    }

    #[test]
    fn term_length_boundary() {
        for (bytes, accepted) in [(255, true), (256, false), (65_530, false), (65_531, false)] {
            let term = "x".repeat(bytes);
            assert_eq!(
                SparseVector::from_pairs([(term, 1.0)]).is_ok(),
                accepted,
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn term_count_boundary() {
        let vector = |n: usize| SparseVector::from_pairs((0..n).map(|i| (format!("t{i}"), 1.0)));
        assert_eq!(vector(MAX_TERMS).unwrap().len(), MAX_TERMS);
        assert!(vector(MAX_TERMS + 1).is_err());
    }

    #[test]
    fn top_terms_keeps_the_largest_and_breaks_ties_by_term() {
        let vector =
            SparseVector::from_pairs([("d", 1.0), ("a", 0.5), ("b", 2.0), ("c", 1.0)]).unwrap();
        let cut: Vec<_> = vector
            .top_terms(2)
            .iter()
            .map(|(t, _)| t.to_owned())
            .collect();
        assert_eq!(cut, ["b", "c"]);
        assert_eq!(vector.top_terms(9), vector);
        assert!(vector.top_terms(0).is_empty());
    }

    /// Every f32 bit pattern of one term: sampled densely here, all 2^32 by
    /// `LACONIC_ALL_WEIGHTS=1 cargo test --release -p laconic-tantivy every_weight`.
    #[test]
    fn every_weight_is_judged_rightly() {
        let step = if std::env::var_os("LACONIC_ALL_WEIGHTS").is_some() {
            1
        } else {
            4_099
        };
        let mut bits = 0u64;
        while bits <= u64::from(u32::MAX) {
            let weight = f32::from_bits(u32::try_from(bits).unwrap());
            let accepted = check_weight("t", weight).is_ok();
            assert_eq!(accepted, weight.is_finite() && weight >= 0.0, "{weight}");
            bits += step;
        }
    }

    proptest! {
        #[test]
        fn keeps_every_positive_pair(pairs in proptest::collection::btree_map("[a-zĠé]{1,6}", 0.0f32..4.0, 0..40)) {
            let vector = SparseVector::from_pairs(pairs.iter()
                .map(|(term, &weight)| (term.as_str(), weight))).unwrap();
            let expected: Vec<_> = pairs.iter().filter(|(_, w)| **w > 0.0)
                .map(|(t, w)| (t.as_str(), *w)).collect();
            prop_assert_eq!(vector.iter().collect::<Vec<_>>(), expected);
        }
    }
}
