//! [`TermTable`]: numbers for terms, in order of first sight.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::RandomState;

/// Marks a free slot.
const FREE: u32 = u32::MAX;

/// Term → number.
///
/// This table is asked once per posting and was half of the time of bulk indexing as a map of
/// strings, which costs three cache misses and a call of `memcmp`. Nearly every term of a real
/// vocabulary is at most 15 bytes long: such a term is its own key. The numbers are in a small
/// table of slots, the keys in the order of numbers beside the count that every look-up changes:
/// frequent terms are seen early, so that those of most look-ups share a few cache lines.
/// `benches/indexing.rs` measures it.
///
/// Hashed with random seeds: terms come from outside and could be chosen to collide.
pub(crate) struct TermTable {
    /// Numbers. Linear probing, at most half full; the length is a power of two.
    slots: Vec<u32>,
    entries: Vec<Entry>,
    seeds: [u64; 2],
    long: HashMap<Box<[u8]>, u32, RandomState>,
    long_bytes: usize,
    terms: Terms,
}

#[derive(Clone, Copy)]
struct Entry {
    /// [`LONG`] for a term that is found in another way.
    key: ShortTerm,
    n_lookups: u32,
}

/// Terms by their number, in one buffer.
#[derive(Default)]
pub(crate) struct Terms {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Terms {
    pub(crate) fn get(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }
}

/// A term of at most 15 bytes, padded with zeros, and its length in the sixteenth. Two terms have
/// the same key only if they are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ShortTerm([u64; 2]);

/// No term has more than 15 bytes by its last one.
const LONG: ShortTerm = ShortTerm([u64::MAX; 2]);

impl ShortTerm {
    /// The term at `place` of `text`. What lies behind it is read with it and masked: looking
    /// at the length first would be a branch that nobody can predict.
    #[inline]
    fn new(text: &[u8], place: &Range<usize>) -> Option<ShortTerm> {
        let len = place.len();
        if len > 15 {
            return None;
        }
        let mut bytes = [0; 16];
        match text.get(place.start..).and_then(|text| text.first_chunk()) {
            Some(chunk) => bytes = *chunk,
            None => bytes[..len].copy_from_slice(&text[place.clone()]),
        }
        let key = u128::from_le_bytes(bytes) & ((1 << (8 * len)) - 1) | (len as u128) << 120;
        let [low, high] = [key & u128::from(u64::MAX), key >> 64];
        // Halves of 128 bits.
        Some(ShortTerm(
            [low, high].map(|half| u64::try_from(half).unwrap_or(0)),
        ))
    }

    /// Folded multiplication, as in wyhash and foldhash.
    #[inline]
    fn hash(self, seeds: [u64; 2]) -> usize {
        let ShortTerm([head, tail]) = self;
        let product = u128::from(head ^ seeds[0]) * u128::from(tail ^ seeds[1]);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        usize::try_from((low ^ high) & u128::from(u32::MAX)).unwrap_or(0)
    }
}

impl TermTable {
    pub(crate) fn new() -> TermTable {
        let random = RandomState::default();
        TermTable {
            slots: vec![FREE; 1024],
            entries: Vec::new(),
            seeds: [random.hash_one(0u64), random.hash_one(1u64)],
            long: HashMap::default(),
            long_bytes: 0,
            terms: Terms::default(),
        }
    }

    /// The number of the term at `place` of `text`, the next one if it is new. Counts the look-up.
    #[inline]
    pub(crate) fn number(&mut self, text: &[u8], place: Range<usize>) -> u32 {
        let Some(key) = ShortTerm::new(text, &place) else {
            return self.number_of_long(&text[place]);
        };
        let mask = self.slots.len() - 1;
        let mut slot = key.hash(self.seeds) & mask;
        // At most half of the slots are taken, so a free one comes; its number has no entry.
        while let Some(entry) = self.entries.get_mut(self.slots[slot] as usize) {
            if entry.key == key {
                entry.n_lookups += 1;
                return self.slots[slot];
            }
            slot = (slot + 1) & mask;
        }
        self.insert(slot, key, &text[place])
    }

    /// Moves the counts of look-ups out, by number.
    pub(crate) fn take_counts(&mut self) -> impl Iterator<Item = u32> {
        let entries = self.entries.iter_mut();
        entries.map(|entry| std::mem::take(&mut entry.n_lookups))
    }

    /// Distinct terms.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cold]
    fn insert(&mut self, slot: usize, key: ShortTerm, term: &[u8]) -> u32 {
        let id = self.add(key, term);
        self.slots[slot] = id;
        if self.entries.len() * 2 > self.slots.len() {
            self.grow();
        }
        id
    }

    fn grow(&mut self) {
        self.slots = vec![FREE; 2 * self.slots.len()];
        let mask = self.slots.len() - 1;
        for (id, entry) in (0..).zip(&self.entries) {
            if entry.key == LONG {
                continue;
            }
            let mut slot = entry.key.hash(self.seeds) & mask;
            while self.slots[slot] != FREE {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = id;
        }
    }

    fn number_of_long(&mut self, term: &[u8]) -> u32 {
        if let Some(&id) = self.long.get(term) {
            self.entries[id as usize].n_lookups += 1;
            return id;
        }
        let id = self.add(LONG, term);
        self.long.insert(term.into(), id);
        self.long_bytes += term.len();
        id
    }

    fn add(&mut self, key: ShortTerm, term: &[u8]) -> u32 {
        // The memory budget flushes long before 2^32 distinct terms.
        let id = u32::try_from(self.entries.len()).unwrap_or(FREE - 1);
        self.entries.push(Entry { key, n_lookups: 1 });
        self.terms.text.extend_from_slice(term);
        self.terms.ends.push(self.terms.text.len());
        id
    }

    /// Bytes held.
    pub(crate) fn mem_usage(&self) -> usize {
        let long = self.long.capacity() * size_of::<(Box<[u8]>, u32)>() + 2 * self.long_bytes;
        self.slots.len() * size_of::<u32>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.terms.ends.capacity() * size_of::<usize>()
            + self.terms.text.capacity()
            + long
    }

    /// The terms by their numbers.
    pub(crate) fn into_terms(self) -> Terms {
        self.terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn check(terms: impl IntoIterator<Item = String>) {
        let mut table = TermTable::new();
        let mut expected: HashMap<String, u32> = HashMap::new();
        let mut n_lookups = 0;
        for term in terms {
            let next = u32::try_from(expected.len()).unwrap();
            let id = *expected.entry(term.clone()).or_insert(next);
            n_lookups += 2;
            // At the end of the text and with something behind it.
            let text = format!("b{term}and more than sixteen bytes");
            let place = 1..1 + term.len();
            assert_eq!(table.number(text.as_bytes(), place.clone()), id, "{term}");
            let text = &text.as_bytes()[..place.end];
            assert_eq!(table.number(text, place), id, "{term}");
        }
        assert_eq!(table.len(), expected.len());
        let counts: Vec<u32> = table.take_counts().collect();
        assert_eq!(counts.iter().sum::<u32>(), n_lookups);
        assert!(table.take_counts().all(|count| count == 0));
        let terms = table.into_terms();
        for (term, id) in expected {
            assert_eq!(terms.get(id), term.as_bytes());
        }
    }

    /// All lengths around the borders of the key's forms, with NULs that padding could hide.
    #[test]
    fn terms_that_look_alike_are_told_apart() {
        let letters = ['\0', 'a'];
        let patterned = (1..40).flat_map(|len: usize| {
            (0..len).flat_map(move |place| {
                letters.map(|letter| {
                    let chars = (0..len).map(|idx| if idx == place { letter } else { 'b' });
                    chars.collect::<String>()
                })
            })
        });
        let uniform = (1..40).flat_map(|len| letters.map(|c| c.to_string().repeat(len)));
        let terms: Vec<_> = patterned.chain(uniform).collect();
        check(terms.iter().chain(&terms).cloned());
    }

    #[test]
    fn grows_without_losing_anything() {
        check((0..20_000).chain(0..20_000).map(|i| format!("Ġterm{i}")));
    }

    proptest! {
        #[test]
        fn numbers_like_a_map_of_strings(
            terms in proptest::collection::vec("[ab\\x00é]{1,20}", 0..300),
        ) {
            check(terms);
        }
    }
}
