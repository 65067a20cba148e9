//! [`TermLookup`]: from a term to its posting list and its row in a few nanoseconds.
//!
//! Tantivy's dictionary walks a finite-state transducer byte by byte and unpacks the place of the
//! posting list; for a query of forty terms that is a quarter of the time of a pruned search.
//! This hash table lies in the component's file and is read in place. It holds the frequent
//! terms, as many as a bound on its size allows; Tantivy's dictionary knows the others.

use std::io::{self, Write};
use std::ops::Range;

use tantivy::directory::OwnedBytes;

/// An entry: where the posting list begins, its bytes, its documents, its row or none, and where
/// the term ends in the bytes of all terms.
const ENTRY_LEN: usize = 20;

/// Slots hold entry numbers plus one; 0 is free.
const SLOT_LEN: usize = 4;

const NO_ROW: u32 = u32::MAX;

/// Where a term's posting list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TermPlace {
    pub(crate) doc_freq: u32,
    pub(crate) postings: Range<usize>,
    /// Number of its row of bounds.
    pub(crate) row: Option<usize>,
}

/// Terms that a table has at the most; the rarest are left out.
const MAX_ENTRIES: usize = 1 << 20;

/// Collects the terms of a field.
#[derive(Default)]
pub(super) struct TermLookupBuilder {
    terms: Vec<(Box<[u8]>, TermPlace)>,
    /// Of the terms kept so far.
    min_doc_freq: u32,
}

impl TermLookupBuilder {
    /// A term with its place, if the table can hold that at all.
    pub(super) fn add(&mut self, term: &[u8], place: TermPlace) {
        // Offsets have 32 bits. A field of more than 4 GiB of postings does without the rest.
        if u32::try_from(place.postings.end).is_err() || place.doc_freq < self.min_doc_freq {
            return;
        }
        self.terms.push((term.into(), place));
        while self.terms.len() > MAX_ENTRIES {
            self.drop_rarest();
        }
    }

    fn drop_rarest(&mut self) {
        self.min_doc_freq = self.min_doc_freq.max(1).saturating_mul(2);
        self.terms
            .retain(|(_, place)| place.doc_freq >= self.min_doc_freq);
    }

    /// Writes a table of at most `max_len` bytes: number of slots, number of entries, slots,
    /// entries, terms.
    pub(super) fn write(mut self, max_len: usize, out: &mut impl Write) -> io::Result<()> {
        while table_len(&self.terms) > max_len && !self.terms.is_empty() {
            self.drop_rarest();
        }
        let mut slots = vec![0u32; n_slots(self.terms.len())];
        let (mut entries, mut bytes) = (Vec::new(), Vec::new());
        for (number, (term, place)) in (1u32..).zip(&self.terms) {
            let mut slot = slot_of(term, slots.len());
            while slots[slot] != 0 {
                slot = (slot + 1) % slots.len();
            }
            slots[slot] = number;
            bytes.extend_from_slice(term);
            let row = place.row.and_then(|row| u32::try_from(row).ok());
            let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            entries.extend([
                narrow(place.postings.start),
                narrow(place.postings.len()),
                place.doc_freq,
                row.unwrap_or(NO_ROW),
                narrow(bytes.len()),
            ]);
        }
        let n_entries = u32::try_from(self.terms.len()).unwrap_or(u32::MAX);
        let n_slots = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        for number in [n_slots, n_entries].into_iter().chain(slots).chain(entries) {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&bytes)
    }
}

fn table_len(terms: &[(Box<[u8]>, TermPlace)]) -> usize {
    let bytes: usize = terms.iter().map(|(term, _)| term.len()).sum();
    8 + n_slots(terms.len()) * SLOT_LEN + terms.len() * ENTRY_LEN + bytes
}

/// At most three quarters full.
fn n_slots(n_terms: usize) -> usize {
    (n_terms + n_terms / 3 + 1).next_power_of_two()
}

/// The table, read in place.
pub(crate) struct TermLookup {
    slots: OwnedBytes,
    entries: OwnedBytes,
    terms: OwnedBytes,
}

impl TermLookup {
    /// Opens the table at the beginning of `bytes`, or `None` when they cannot be one.
    pub(crate) fn open(mut bytes: OwnedBytes) -> Option<TermLookup> {
        let [a, b, c, d, n_entries @ ..]: [u8; 8] = *bytes.as_slice().first_chunk()?;
        let n_slots = u32::from_le_bytes([a, b, c, d]) as usize;
        let n_entries = u32::from_le_bytes(n_entries) as usize;
        bytes.advance(8);
        let fixed_len = n_slots * SLOT_LEN + n_entries * ENTRY_LEN;
        if !n_slots.is_power_of_two() || n_entries >= n_slots || fixed_len > bytes.len() {
            return None;
        }
        let (slots, bytes) = bytes.split(n_slots * SLOT_LEN);
        let (entries, terms) = bytes.split(n_entries * ENTRY_LEN);
        Some(TermLookup {
            slots,
            entries,
            terms,
        })
    }

    /// The place of a term; `None` when it is not in the table.
    pub(crate) fn get(&self, term: &[u8]) -> Option<TermPlace> {
        let (slots, _) = self.slots.as_slice().as_chunks::<SLOT_LEN>();
        let mut slot = slot_of(term, slots.len());
        // Fewer entries than slots, so a free slot ends the search; a damaged table ends it too.
        for _ in 0..slots.len() {
            let number = u32::from_le_bytes(*slots.get(slot)?) as usize;
            let idx = number.checked_sub(1)?;
            let entry = self.entry(idx)?;
            if self.term(idx, &entry) == Some(term) {
                return Some(entry.place);
            }
            slot = (slot + 1) % slots.len();
        }
        None
    }

    /// Reads what `get` will read of these terms. Each step for all terms before the next, so that
    /// the processor waits for many at a time: one by one, they wait for memory four times each.
    pub(crate) fn approach<'t>(&self, terms: impl Iterator<Item = &'t [u8]>) {
        let (slots, _) = self.slots.as_slice().as_chunks::<SLOT_LEN>();
        let numbers: Vec<u32> = terms
            .map(|term| slots.get(slot_of(term, slots.len())).copied())
            .map(|slot| slot.map_or(0, u32::from_le_bytes))
            .collect();
        let entry = |number: &u32| self.entry((*number as usize).checked_sub(1)?);
        let ends: Vec<usize> = numbers
            .iter()
            .map(|number| entry(number).map_or(0, |entry| entry.term_end))
            .collect();
        for end in ends {
            std::hint::black_box(self.terms.as_slice().get(end.saturating_sub(1)).copied());
        }
    }

    fn entry(&self, idx: usize) -> Option<Entry> {
        let (entries, _) = self.entries.as_slice().as_chunks::<ENTRY_LEN>();
        let ([start, len, doc_freq, row, term_end], _) = entries.get(idx)?.as_chunks::<4>() else {
            return None;
        };
        let number = |raw: &[u8; 4]| u32::from_le_bytes(*raw);
        let start = number(start) as usize;
        Some(Entry {
            place: TermPlace {
                doc_freq: number(doc_freq),
                postings: start..start + number(len) as usize,
                row: (number(row) != NO_ROW).then_some(number(row) as usize),
            },
            term_end: number(term_end) as usize,
        })
    }

    fn term(&self, idx: usize, entry: &Entry) -> Option<&[u8]> {
        let start = match idx.checked_sub(1) {
            Some(before) => self.entry(before)?.term_end,
            None => 0,
        };
        self.terms.as_slice().get(start..entry.term_end)
    }
}

struct Entry {
    place: TermPlace,
    term_end: usize,
}

/// Part of the file's format. Folded multiplication of eight bytes at a time, as in wyhash; every
/// match is compared byte by byte, so terms that collide cost time only.
fn slot_of(term: &[u8], n_slots: usize) -> usize {
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ term.len() as u64;
    for chunk in term.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let key = u128::from(hash ^ u64::from_le_bytes(word));
        let product = key * 0xd6e8_feb8_6659_fd93;
        let folded = (product >> 64) ^ (product & u128::from(u64::MAX));
        hash = u64::try_from(folded).unwrap_or(0);
    }
    usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0) & n_slots.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(idx: usize) -> TermPlace {
        TermPlace {
            doc_freq: u32::try_from(idx).unwrap() + 1,
            postings: idx * 10..idx * 10 + 7,
            row: idx.is_multiple_of(3).then_some(idx / 3),
        }
    }

    fn table<'a>(terms: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut builder = TermLookupBuilder::default();
        for (idx, term) in terms.into_iter().enumerate() {
            builder.add(term, place(idx));
        }
        let mut bytes = Vec::new();
        builder.write(usize::MAX, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn finds_every_term_and_no_other(
            terms in proptest::collection::btree_set("[a-cé]{0,12}", 0..200),
            others in proptest::collection::vec("[a-cé]{0,12}", 0..50),
        ) {
            let bytes = table(terms.iter().map(|term| term.as_bytes()));
            let lookup = TermLookup::open(OwnedBytes::new(bytes)).unwrap();
            for (idx, term) in terms.iter().enumerate() {
                prop_assert_eq!(lookup.get(term.as_bytes()), Some(place(idx)));
            }
            for other in others.iter().filter(|other| !terms.contains(*other)) {
                prop_assert_eq!(lookup.get(other.as_bytes()), None);
            }
        }

        #[test]
        fn small_tables_hold_frequent_terms(max_len in 0usize..4000) {
            let mut builder = TermLookupBuilder::default();
            let terms: Vec<String> = (0..100).map(|n| format!("term{n}")).collect();
            for (idx, term) in terms.iter().enumerate() {
                builder.add(term.as_bytes(), place(idx));
            }
            let mut bytes = Vec::new();
            builder.write(max_len, &mut bytes).unwrap();
            prop_assert!(bytes.len() <= max_len.max(12));
            let lookup = TermLookup::open(OwnedBytes::new(bytes)).unwrap();
            let found = terms.iter().map(|term| lookup.get(term.as_bytes()).is_some());
            prop_assert!(found.is_sorted(), "a rarer term is there, a more frequent one is not");
        }

        #[test]
        fn damaged_tables_do_not_panic(
            at in 0usize..400, byte in any::<u8>(), cut in 0usize..400,
        ) {
            let terms: Vec<String> = (0..9).map(|n| format!("term{n}")).collect();
            let mut bytes = table(terms.iter().map(|term| term.as_bytes()));
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(len - cut % len);
            if let Some(lookup) = TermLookup::open(OwnedBytes::new(bytes)) {
                for term in &terms {
                    lookup.get(term.as_bytes());
                }
            }
        }
    }
}
