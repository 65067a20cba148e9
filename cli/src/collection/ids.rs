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
/// a chance below 10⁻¹⁰, and since the keys are drawn at random no file can provoke it.
#[derive(Default)]
pub struct DuplicateIds {
    keys: [RandomState; 2],
    lines: HashMap<[u32; 3], u32>,
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

    fn digest(&self, id: &str) -> [u32; 3] {
        let [a, b, c, d] = halves(self.keys[0].hash_one(id)).first_chunk::<4>();
        [a, b, c]
    }
}
