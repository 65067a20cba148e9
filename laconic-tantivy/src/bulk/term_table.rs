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
/// vocabulary is at most 15 bytes long: such a term is its own key, held in the slot, so that a
/// look-up is one cache miss and two comparisons of words. `benches/indexing.rs` measures it.
///
/// Hashed with random seeds: terms come from outside and could be chosen to collide.
pub(crate) struct TermTable {
    /// Linear probing, at most half full; the length is a power of two.
    slots: Vec<Slot>,
    seeds: [u64; 2],
    long: HashMap<Box<[u8]>, u32, RandomState>,
    long_bytes: usize,
    terms: Terms,
}

/// Terms by their number, in one buffer.
#[derive(Default)]
pub(crate) struct Terms {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Terms {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }
}

#[derive(Clone, Copy)]
struct Slot {
    key: ShortTerm,
    id: u32,
}

/// A term of at most 15 bytes, padded with zeros, and its length in the sixteenth. Two terms have
/// the same key only if they are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ShortTerm([u64; 2]);

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
            slots: vec![
                Slot {
                    key: ShortTerm([0; 2]),
                    id: FREE
                };
                1024
            ],
            seeds: [random.hash_one(0u64), random.hash_one(1u64)],
            long: HashMap::default(),
            long_bytes: 0,
            terms: Terms::default(),
        }
    }

    /// The number of the term at `place` of `text`, the next one if it is new.
    #[inline]
    pub(crate) fn number(&mut self, text: &[u8], place: Range<usize>) -> u32 {
        let Some(key) = ShortTerm::new(text, &place) else {
            return self.number_of_long(&text[place]);
        };
        let slot = self.slot_of(key);
        match self.slots[slot].id {
            FREE => self.insert(slot, key, &text[place]),
            id => id,
        }
    }

    /// The slot that holds `key`, or the free one where it belongs.
    fn slot_of(&self, key: ShortTerm) -> usize {
        let mask = self.slots.len() - 1;
        let mut idx = key.hash(self.seeds) & mask;
        // At most half of the slots are taken, so a free one comes.
        while self.slots[idx].id != FREE && self.slots[idx].key != key {
            idx = (idx + 1) & mask;
        }
        idx
    }

    fn insert(&mut self, slot: usize, key: ShortTerm, term: &[u8]) -> u32 {
        let id = self.add(term);
        self.slots[slot] = Slot { key, id };
        if self.terms.len() * 2 > self.slots.len() {
            self.grow();
        }
        id
    }

    fn grow(&mut self) {
        let doubled = vec![
            Slot {
                id: FREE,
                ..self.slots[0]
            };
            2 * self.slots.len()
        ];
        let taken = std::mem::replace(&mut self.slots, doubled);
        for slot in taken.into_iter().filter(|slot| slot.id != FREE) {
            let idx = self.slot_of(slot.key);
            self.slots[idx] = slot;
        }
    }

    fn number_of_long(&mut self, term: &[u8]) -> u32 {
        if let Some(&id) = self.long.get(term) {
            return id;
        }
        let id = self.add(term);
        self.long.insert(term.into(), id);
        self.long_bytes += term.len();
        id
    }

    fn add(&mut self, term: &[u8]) -> u32 {
        // The memory budget flushes long before 2^32 distinct terms.
        let id = u32::try_from(self.terms.len()).unwrap_or(FREE - 1);
        self.terms.text.extend_from_slice(term);
        self.terms.ends.push(self.terms.text.len());
        id
    }

    /// Bytes held, and those that growing will take when it is near.
    pub(crate) fn mem_usage(&self) -> usize {
        let is_near = 8 * self.terms.len() >= 3 * self.slots.len();
        let slots = self.slots.len() * size_of::<Slot>() * if is_near { 3 } else { 1 };
        let long = self.long.capacity() * size_of::<(Box<[u8]>, u32)>() + 2 * self.long_bytes;
        let ends = self.terms.ends.capacity() * size_of::<usize>();
        slots + long + ends + self.terms.text.capacity()
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
        for term in terms {
            let next = u32::try_from(expected.len()).unwrap();
            let id = *expected.entry(term.clone()).or_insert(next);
            // At the end of the text and with something behind it.
            let text = format!("b{term}and more than sixteen bytes");
            let place = 1..1 + term.len();
            assert_eq!(table.number(text.as_bytes(), place.clone()), id, "{term}");
            let text = text[..place.end].as_bytes();
            assert_eq!(table.number(text, place), id, "{term}");
        }
        assert_eq!(table.terms.len(), expected.len());
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
