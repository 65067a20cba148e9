//! [`VectorJoin`]: the vectors of a file, looked up by document id.

use std::collections::HashMap;

use anyhow::Result;
use laconic_tantivy::SparseVector;

use crate::collection::{InputError, Located, Records, VectorRecord};

/// Joins a vector file to a document file by id.
///
/// Both are read forwards at the same time. Where they agree in order nothing is kept; a vector
/// that comes before its document waits in memory.
pub(crate) struct VectorJoin {
    records: Records<VectorRecord>,
    waiting: HashMap<String, SparseVector>,
    skip_invalid: bool,
    /// Lines left out because they could not be read.
    pub(crate) skipped: u64,
}

impl VectorJoin {
    pub(crate) fn new(records: Records<VectorRecord>, skip_invalid: bool) -> VectorJoin {
        let records = records.with_unique_ids();
        VectorJoin {
            records,
            waiting: HashMap::new(),
            skip_invalid,
            skipped: 0,
        }
    }

    /// The vector of document `id`, `None` if the file has none.
    ///
    /// # Errors
    /// On the first line that cannot be read, unless such lines are skipped.
    pub(crate) fn take(&mut self, id: &str) -> Result<Option<SparseVector>, InputError> {
        if let Some(vector) = self.waiting.remove(id) {
            return Ok(Some(vector));
        }
        while let Some((found, vector)) = self.read()? {
            if found == id {
                return Ok(Some(vector));
            }
            self.waiting.insert(found, vector);
        }
        Ok(None)
    }

    /// Reads the rest of the file. Returns how many vectors no document asked for.
    ///
    /// # Errors
    /// As [`take`](VectorJoin::take).
    pub(crate) fn finish(&mut self) -> Result<usize, InputError> {
        while let Some((id, vector)) = self.read()? {
            self.waiting.insert(id, vector);
        }
        Ok(self.waiting.len())
    }

    fn read(&mut self) -> Result<Option<(String, SparseVector)>, InputError> {
        loop {
            let Some(record) = self.records.next() else {
                return Ok(None);
            };
            match record.and_then(to_vector) {
                Ok(located) => return Ok(Some(located.record)),
                Err(error) if self.skip_invalid && error.is_skippable() => {
                    log::warn!("skipped: {error}");
                    self.skipped += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Checks a record's weights; errors carry file and line.
///
/// # Errors
/// What [`SparseVector::from_pairs`] refuses.
pub(crate) fn to_vector(
    located: Located<VectorRecord>,
) -> Result<Located<(String, SparseVector)>, InputError> {
    located.try_map(|record| {
        Ok::<_, laconic_tantivy::Error>((
            record.id,
            SparseVector::from_pairs(record.weights.iter())?,
        ))
    })
}
