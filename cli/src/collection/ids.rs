//! What an id may be, and finding ids that are given twice.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

use super::error::{InputError, Malformed, Reason};
use super::lines::Place;

/// The longest id accepted, in bytes.
pub const MAX_ID_BYTES: usize = 512;

/// Ids are columns of TREC files: white space in them would shift the columns.
pub(crate) fn check_id(field: &str, id: &str) -> Result<(), Malformed> {
    if id.is_empty() {
        return Err(Malformed::content(format!("`{field}` is empty")));
    }
    if id.len() > MAX_ID_BYTES {
        let n_bytes = id.len();
        return Err(Malformed::content(format!(
            "`{field}` is {n_bytes} bytes long, {MAX_ID_BYTES} are allowed"
        )));
    }
    match id.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(c) => Err(Malformed::content(format!(
            "`{field}` holds white space or a control character (U+{:04X})",
            u32::from(c)
        ))),
        None => Ok(()),
    }
}

/// Finds ids that one file gives twice.
///
/// Ids are kept as 96 bits of two keyed hashes, so a document costs 17 bytes of a table that is
/// between half and full, however long its id. Two of 10⁹ different ids are taken for equal with
/// a chance below 10⁻¹¹, and since the keys are drawn at random no file can provoke it.
#[derive(Default)]
pub struct DuplicateIds {
    keys: [RandomState; 2],
    lines: HashMap<[u8; 12], u32>,
}

impl DuplicateIds {
    /// Notes an id and where it stands.
    ///
    /// # Errors
    /// When the id was noted before, naming both lines.
    pub fn insert(&mut self, id: &str, place: &Place) -> Result<(), InputError> {
        // A file of over 2³² lines with ids has outgrown this table's memory long before.
        let line = u32::try_from(place.line()).unwrap_or(u32::MAX);
        match self.lines.entry(self.digest(id)) {
            Entry::Vacant(entry) => {
                entry.insert(line);
                Ok(())
            }
            Entry::Occupied(entry) => Err(place.fault(Reason::RepeatedId {
                id: id.to_owned(),
                first_line: u64::from(*entry.get()),
            })),
        }
    }

    fn digest(&self, id: &str) -> [u8; 12] {
        let [first, second] = self
            .keys
            .each_ref()
            .map(|key| key.hash_one(id).to_le_bytes());
        let mut digest = [0; 12];
        digest[..8].copy_from_slice(&first);
        digest[8..].copy_from_slice(&second[..4]);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{LineReader, documents};

    #[test]
    fn a_repeated_id_is_found_among_many() {
        let line = |id: usize| format!("{{\"_id\": {id}, \"text\": \"\"}}\n");
        let text: String = (0..50_000).chain([31_234]).map(line).collect();
        let lines = LineReader::from_reader("f", std::io::Cursor::new(text)).unwrap();
        let mut faults = documents(lines).with_unique_ids().filter_map(Result::err);
        let fault = faults.next().unwrap();
        assert_eq!(fault.line(), Some(50_001));
        assert!(
            fault
                .to_string()
                .contains("`31234` was already given on line 31235"),
            "{fault}"
        );
        assert!(faults.next().is_none());
    }

    #[test]
    fn unicode_ids_are_accepted_and_white_space_is_not() {
        for id in ["a", "é/ñ:1", "文書", "-", "\u{1f600}"] {
            assert!(check_id("_id", id).is_ok(), "{id}");
        }
        for id in ["", " ", "a\u{3000}b", "a\u{85}", "\u{1b}[0m"] {
            assert!(check_id("_id", id).is_err(), "{id:?}");
        }
    }
}
