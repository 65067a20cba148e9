//! [`VectorLookup`]: the vectors of a file by id, in whatever order they are asked for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use laconic_tantivy::SparseVector;

use crate::collection::{self, InputError, LineReader, Records, VectorRecord, VectorScale};
use crate::indexing::to_vector;

/// Reads a vector file forwards, as far as the ids asked for need. Of a vector that nobody asked
/// for yet, only its place is kept, or the vector itself if the file is compressed.
pub(crate) struct VectorLookup {
    path: PathBuf,
    scale: VectorScale,
    records: Records<VectorRecord>,
    /// Opened again to go back to a vector passed over; `None` for a compressed file.
    again: Option<File>,
    passed: HashMap<String, Passed>,
    skip_invalid: bool,
    /// Lines left out because they could not be read.
    pub(crate) skipped: u64,
}

enum Passed {
    At { offset: u64, len: u64 },
    Here(SparseVector),
}

impl VectorLookup {
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(
        path: &Path,
        scale: VectorScale,
        skip_invalid: bool,
    ) -> Result<VectorLookup> {
        let records = collection::vectors(LineReader::open(path)?, scale).with_unique_ids();
        let context = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(context)?;
        let mut head = Vec::new();
        file.by_ref()
            .take(4)
            .read_to_end(&mut head)
            .with_context(context)?;
        let is_plain = !head.starts_with(&[0x1f, 0x8b]) && head != [0x28, 0xb5, 0x2f, 0xfd];
        Ok(VectorLookup {
            path: path.to_owned(),
            scale,
            records,
            again: is_plain.then_some(file),
            passed: HashMap::new(),
            skip_invalid,
            skipped: 0,
        })
    }

    /// The vector of `id`, `None` if the file has none.
    ///
    /// # Errors
    /// On the first line that cannot be read, unless such lines are skipped.
    pub(crate) fn find(&mut self, id: &str) -> Result<Option<SparseVector>> {
        match self.passed.remove(id) {
            Some(Passed::Here(vector)) => return Ok(Some(vector)),
            Some(Passed::At { offset, len }) => return self.read_at(offset, len).map(Some),
            None => {}
        }
        while let Some(record) = self.records.next() {
            let located = match record.and_then(to_vector) {
                Ok(located) => located,
                Err(error) => {
                    self.skip(error)?;
                    continue;
                }
            };
            let (found, vector) = located.record;
            if found == id {
                return Ok(Some(vector));
            }
            let (start, end) = (located.place.offset(), located.place.end().n_bytes);
            let passed = match self.again {
                Some(_) => Passed::At {
                    offset: start,
                    len: end - start,
                },
                None => Passed::Here(vector),
            };
            self.passed.insert(found, passed);
        }
        Ok(None)
    }

    fn skip(&mut self, error: InputError) -> Result<(), InputError> {
        if !(self.skip_invalid && error.is_skippable()) {
            return Err(error);
        }
        log::warn!("skipped: {error}");
        self.skipped += 1;
        Ok(())
    }

    /// Goes back to a line that was read before.
    fn read_at(&self, offset: u64, len: u64) -> Result<SparseVector> {
        let name = self.path.display().to_string();
        let changed = || format!("{name} has changed while it was read");
        let mut file = self.again.as_ref().with_context(changed)?;
        file.seek(SeekFrom::Start(offset)).with_context(changed)?;
        let mut line = Vec::new();
        file.take(len)
            .read_to_end(&mut line)
            .with_context(changed)?;
        let lines = LineReader::from_reader(&name, std::io::Cursor::new(line))?;
        let mut records = collection::vectors(lines, self.scale);
        let record = records.next().with_context(changed)?;
        Ok(to_vector(record?)?.record.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, weight: f32) -> String {
        format!("{{\"_id\": \"{id}\", \"vector\": {{\"t\": {weight}}}}}\n")
    }

    /// Any order, plain or compressed; nothing is found twice.
    #[test]
    fn vectors_are_found_in_any_order() {
        let lines: Vec<String> = (0..50u8)
            .map(|n| line(&n.to_string(), 1.0 + f32::from(n)))
            .collect();
        let text = format!("\u{feff}\n{}", lines.concat());
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
        for content in [text.into_bytes(), gz.finish().unwrap()] {
            let folder =
                std::env::temp_dir().join(format!("laconic-lookup-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("vectors");
            std::fs::write(&path, content).unwrap();
            let mut lookup = VectorLookup::open(&path, VectorScale::ONE, false).unwrap();
            for n in (0..50u16).map(|n| n * 7 % 50) {
                let vector = lookup.find(&n.to_string()).unwrap().unwrap();
                assert_eq!(vector.weight("t"), Some(1.0 + f32::from(n)));
            }
            assert!(lookup.find("7").unwrap().is_none());
            assert!(lookup.find("nobody").unwrap().is_none());
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
