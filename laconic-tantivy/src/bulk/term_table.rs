//! [`TermTable`]: numbers for terms, in order of first sight.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// Marks a free slot.
const FREE: u32 = u32::MAX;

/// Term → number.
///
/// This table is asked once per posting and was half of the time of bulk indexing as a map of
/// strings, which costs three cache misses and a call of `memcmp`. Nearly every term of a real
/// vocabulary is at most 16 bytes long: such a term is its own key, held in the slot, so that a
/// look-up is one cache miss and three comparisons of words. `benches/indexing.rs` measures it.
///
/// Hashed with random seeds: terms come from outside and could be chosen to collide.
pub(crate) struct TermTable {
    /// Linear probing, at most half full; the length is a power of two.
    slots: Vec<Slot>,
    seeds: [u64; 2],
    long: HashMap<Box<str>, u32, RandomState>,
    terms: Vec<Box<str>>,
    term_bytes: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    key: ShortTerm,
    id: u32,
}

/// A term of at most 16 bytes: its first and last eight bytes, which overlap or are padded with
/// zeros as its length asks for, and that length. Two terms have the same key only if they are
/// the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ShortTerm {
    head: u64,
    tail: u64,
    len: u32,
}

impl ShortTerm {
    fn new(term: &str) -> Option<ShortTerm> {
        let bytes = term.as_bytes();
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= 16)?;
        let (head, tail) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            _ => (below_eight(bytes), 0),
        };
        Some(ShortTerm { head, tail, len })
    }

    /// Folded multiplication, as in wyhash and foldhash.
    fn hash(self, seeds: [u64; 2]) -> usize {
        let tail = self.tail ^ (u64::from(self.len) << 56);
        let product = u128::from(self.head ^ seeds[0]) * u128::from(tail ^ seeds[1]);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        usize::try_from((low ^ high) & u128::from(u32::MAX)).unwrap_or(0)
    }
}

/// Fewer than eight bytes in one word; a copy of so few would cost more than this.
fn below_eight(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>(), bytes) {
        (Some(head), Some(tail), _) => {
            u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32
        }
        (.., &[a, b, c]) => u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]),
        (.., &[a, b]) => u64::from_le_bytes([a, b, 0, 0, 0, 0, 0, 0]),
        (.., &[a]) => u64::from(a),
        _ => 0,
    }
}

impl TermTable {
    pub(crate) fn new() -> TermTable {
        let random = RandomState::default();
        TermTable {
            slots: vec![
                Slot {
                    key: ShortTerm {
                        head: 0,
                        tail: 0,
                        len: 0
                    },
                    id: FREE
                };
                1024
            ],
            seeds: [random.hash_one(0u64), random.hash_one(1u64)],
            long: HashMap::default(),
            terms: Vec::new(),
            term_bytes: 0,
        }
    }

    /// The number of `term`, the next one if it is new.
    pub(crate) fn number(&mut self, term: &str) -> u32 {
        let Some(key) = ShortTerm::new(term) else {
            return self.number_of_long(term);
        };
        let slot = self.slot_of(key);
        match self.slots[slot].id {
            FREE => self.insert(slot, key, term),
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

    fn insert(&mut self, slot: usize, key: ShortTerm, term: &str) -> u32 {
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

    fn number_of_long(&mut self, term: &str) -> u32 {
        if let Some(&id) = self.long.get(term) {
            return id;
        }
        let id = self.add(term);
        self.long.insert(term.into(), id);
        id
    }

    fn add(&mut self, term: &str) -> u32 {
        // The memory budget flushes long before 2^32 distinct terms.
        let id = u32::try_from(self.terms.len()).unwrap_or(FREE - 1);
        self.terms.push(term.into());
        self.term_bytes += term.len();
        id
    }

    /// Distinct terms.
    pub(crate) fn len(&self) -> usize {
        self.terms.len()
    }

    /// Bytes held.
    pub(crate) fn mem_usage(&self) -> usize {
        let long = self.long.capacity() * size_of::<(Box<str>, u32)>();
        let terms = self.terms.capacity() * size_of::<Box<str>>();
        self.slots.len() * size_of::<Slot>() + long + terms + 2 * self.term_bytes
    }

    /// The terms in the order of their numbers.
    pub(crate) fn into_terms(self) -> Vec<Box<str>> {
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
            assert_eq!(table.number(&term), id, "{term}");
        }
        assert_eq!(table.len(), expected.len());
        for (id, term) in (0u32..).zip(table.into_terms()) {
            assert_eq!(expected[&*term], id);
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
