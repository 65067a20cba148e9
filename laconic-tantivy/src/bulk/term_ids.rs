//! [`TermIds`]: numbers for terms, in order of first sight.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Term → number.
///
/// Nearly every term of a real vocabulary is at most 15 bytes long. Such a term is its own key,
/// compared as two words, where a `Box<str>` costs a cache miss and a call of `memcmp`: this map
/// is asked once per posting, and was half of the time of bulk indexing.
///
/// Hashed with a random seed: terms come from outside and could be chosen to collide.
#[derive(Default)]
pub(crate) struct TermIds {
    short: HashMap<ShortTerm, u32, RandomState>,
    long: HashMap<Box<str>, u32, RandomState>,
    long_bytes: usize,
}

impl TermIds {
    /// The number of `term`, a new one if it has none yet.
    pub(crate) fn number(&mut self, term: &str) -> u32 {
        // The memory budget flushes long before 2^32 distinct terms.
        let next = u32::try_from(self.len()).unwrap_or(u32::MAX);
        if let Some(term) = ShortTerm::new(term) {
            return *self.short.entry(term).or_insert(next);
        }
        if let Some(&number) = self.long.get(term) {
            return number;
        }
        self.long_bytes += term.len();
        self.long.insert(term.into(), next);
        next
    }

    /// Distinct terms.
    pub(crate) fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    /// Bytes held.
    pub(crate) fn mem_usage(&self) -> usize {
        // Hash tables are at most 7/8 full, and half that after they have grown.
        let short = self.short.capacity() * (size_of::<(ShortTerm, u32)>() + 1);
        let long = self.long.capacity() * (size_of::<(Box<str>, u32)>() + 1);
        short + long + self.long_bytes
    }
}

impl IntoIterator for TermIds {
    type Item = (Box<str>, u32);
    type IntoIter = Box<dyn Iterator<Item = (Box<str>, u32)>>;

    /// Terms with their numbers, in no order.
    fn into_iter(self) -> Self::IntoIter {
        let short = self.short.into_iter().map(|(term, number)| (term.into_str(), number));
        Box::new(short.chain(self.long))
    }
}

/// A term of at most 15 bytes, zero-padded, with its length in the last byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ShortTerm(u64, u64);

const MAX_SHORT: u8 = 15;

impl ShortTerm {
    fn new(term: &str) -> Option<ShortTerm> {
        let len = u8::try_from(term.len()).ok().filter(|len| *len <= MAX_SHORT)?;
        let mut bytes = [0; 16];
        bytes[..term.len()].copy_from_slice(term.as_bytes());
        bytes[15] = len;
        let packed = u128::from_le_bytes(bytes);
        let (low, high) = (packed & u128::from(u64::MAX), packed >> 64);
        Some(ShortTerm(u64::try_from(low).ok()?, u64::try_from(high).ok()?))
    }

    fn into_str(self) -> Box<str> {
        let packed = u128::from(self.0) | u128::from(self.1) << 64;
        let bytes = packed.to_le_bytes();
        let term = std::str::from_utf8(&bytes[..usize::from(bytes[15])]);
        term.expect("`new` copied a whole string").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_like_a_plain_map(terms in proptest::collection::vec("[a\\x00é]{0,20}", 0..60)) {
            let mut ids = TermIds::default();
            let mut expected: HashMap<&str, u32> = HashMap::new();
            for term in &terms {
                let next = u32::try_from(expected.len()).unwrap();
                let number = *expected.entry(term).or_insert(next);
                prop_assert_eq!(ids.number(term), number);
                prop_assert_eq!(ids.len(), expected.len());
            }
            let found: HashMap<Box<str>, u32> = ids.into_iter().collect();
            prop_assert_eq!(found.len(), expected.len());
            for (term, number) in expected {
                prop_assert_eq!(found.get(term), Some(&number));
            }
        }
    }

    #[test]
    fn length_boundary() {
        let mut ids = TermIds::default();
        let terms: Vec<String> = (0..40).map(|n| "x".repeat(n)).collect();
        for (number, term) in (0..).zip(&terms) {
            assert_eq!(ids.number(term), number);
        }
        assert_eq!(ids.short.len(), 16);
        for (number, term) in (0..).zip(&terms) {
            assert_eq!(ids.number(term), number);
        }
    }
}
