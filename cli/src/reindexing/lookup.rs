//! [`Lookup`]: the records of a file by id, in whatever order they are asked for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use laconic_tantivy::SparseVector;

use crate::collection::{
    self, Document, InputError, LineReader, Located, Record, Records, VectorRecord, VectorScale,
};
use crate::indexing::to_vector;

/// Ids with what the file says of them.
pub(crate) type Entry<T> = Result<Located<(String, T)>, InputError>;
type Entries<T> = Box<dyn Iterator<Item = Entry<T>>>;

/// Reads the lines of a file of some kind; ids are to be unique or not.
type Open<T> = Box<dyn Fn(LineReader, bool) -> Entries<T>>;

/// Reads a file forwards, as far as the ids asked for need. Of a record that nobody asked for
/// yet, only its place is kept, or the record itself if the file is compressed.
pub(crate) struct Lookup<T> {
    path: PathBuf,
    open: Open<T>,
    entries: Entries<T>,
    /// Opened again to go back to a record passed over; `None` for a compressed file.
    again: Option<File>,
    passed: HashMap<String, Passed<T>>,
    skip_invalid: bool,
    /// Lines left out because they could not be read.
    pub(crate) skipped: u64,
}

enum Passed<T> {
    At { offset: u64, len: u64 },
    Here(T),
}

/// A title, if there is one, and a text.
pub(crate) type TitleAndBody = (Option<String>, String);

impl Lookup<SparseVector> {
    /// The vectors of a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn of_vectors(path: &Path, scale: VectorScale, skip_invalid: bool) -> Result<Self> {
        let open = move |lines, are_unique| -> Entries<SparseVector> {
            let records = records(collection::vectors(lines, scale), are_unique);
            Box::new(records.map(|record: Result<Located<VectorRecord>, _>| to_vector(record?)))
        };
        Lookup::open(path, Box::new(open), skip_invalid)
    }
}

impl Lookup<TitleAndBody> {
    /// The texts of a file of documents.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn of_texts(path: &Path, skip_invalid: bool) -> Result<Self> {
        let open = |lines, are_unique| -> Entries<TitleAndBody> {
            let records = records(collection::documents(lines), are_unique);
            Box::new(records.map(|record| {
                let Located { record, place } = record?;
                let Document {
                    id, title, text, ..
                } = record;
                Ok(Located {
                    record: (id, (title, text)),
                    place,
                })
            }))
        };
        Lookup::open(path, Box::new(open), skip_invalid)
    }
}

fn records<R: Record>(records: Records<R>, are_unique: bool) -> Records<R> {
    match are_unique {
        true => records.with_unique_ids(),
        false => records,
    }
}

impl<T> Lookup<T> {
    fn open(path: &Path, open: Open<T>, skip_invalid: bool) -> Result<Lookup<T>> {
        let entries = open(LineReader::open(path)?, true);
        let context = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(context)?;
        let mut head = Vec::new();
        file.by_ref()
            .take(4)
            .read_to_end(&mut head)
            .with_context(context)?;
        let is_plain = !head.starts_with(&[0x1f, 0x8b]) && head != [0x28, 0xb5, 0x2f, 0xfd];
        Ok(Lookup {
            path: path.to_owned(),
            open,
            entries,
            again: is_plain.then_some(file),
            passed: HashMap::new(),
            skip_invalid,
            skipped: 0,
        })
    }

    /// What the file says of `id`, `None` if nothing.
    ///
    /// # Errors
    /// On the first line that cannot be read, unless such lines are skipped.
    pub(crate) fn find(&mut self, id: &str) -> Result<Option<T>> {
        match self.passed.remove(id) {
            Some(Passed::Here(entry)) => return Ok(Some(entry)),
            Some(Passed::At { offset, len }) => return self.read_at(offset, len).map(Some),
            None => {}
        }
        while let Some(entry) = self.entries.next() {
            let located = match entry {
                Ok(located) => located,
                Err(error) => {
                    self.skip(error)?;
                    continue;
                }
            };
            let (found, entry) = located.record;
            if found == id {
                return Ok(Some(entry));
            }
            let (start, end) = (located.place.offset(), located.place.end().n_bytes);
            let passed = match self.again {
                Some(_) => Passed::At {
                    offset: start,
                    len: end - start,
                },
                None => Passed::Here(entry),
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
    fn read_at(&self, offset: u64, len: u64) -> Result<T> {
        let name = self.path.display().to_string();
        let changed = || format!("{name} has changed while it was read");
        let mut file = self.again.as_ref().with_context(changed)?;
        file.seek(SeekFrom::Start(offset)).with_context(changed)?;
        let mut line = Vec::new();
        file.take(len)
            .read_to_end(&mut line)
            .with_context(changed)?;
        let lines = LineReader::from_reader(&name, std::io::Cursor::new(line))?;
        let entry = (self.open)(lines, false).next().with_context(changed)?;
        Ok(entry?.record.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any order, plain or compressed; nothing is found twice.
    #[test]
    fn records_are_found_in_any_order() {
        let vector = |n: u16| {
            let weight = 1.0 + f32::from(n);
            format!("{{\"_id\": \"{n}\", \"vector\": {{\"t\": {weight}}}, \"text\": \"{n} t\"}}\n")
        };
        let lines: Vec<String> = (0..50).map(vector).collect();
        let text = format!("\u{feff}\n{}", lines.concat());
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
        for content in [text.into_bytes(), gz.finish().unwrap()] {
            let folder =
                std::env::temp_dir().join(format!("laconic-lookup-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("vectors");
            std::fs::write(&path, content).unwrap();
            let mut vectors = Lookup::of_vectors(&path, VectorScale::ONE, false).unwrap();
            let mut texts = Lookup::of_texts(&path, false).unwrap();
            for n in (0..50u16).map(|n| n * 7 % 50) {
                let vector = vectors.find(&n.to_string()).unwrap().unwrap();
                assert_eq!(vector.weight("t"), Some(1.0 + f32::from(n)));
                let text = texts.find(&n.to_string()).unwrap();
                assert_eq!(text, Some((None, format!("{n} t"))));
            }
            assert!(vectors.find("7").unwrap().is_none());
            assert!(texts.find("nobody").unwrap().is_none());
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
