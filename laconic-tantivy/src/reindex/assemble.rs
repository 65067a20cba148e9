//! [`ReindexJob::assemble`]: pieces and the source's files into the new index.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tantivy::directory::error::{DeleteError, OpenReadError};
use tantivy::directory::{Directory, DirectoryLock, INDEX_WRITER_LOCK};
use tantivy::index::IndexMeta;
use tantivy::{Index, SegmentReader};

use super::meta::{schema_of, with_field};
use super::piece::{Found, Piece, piece_path};
use super::segment::{Assembly, len};
use super::{ReindexJob, ReindexProgress};
use crate::Error;
use crate::bounds::BoundsPlugin;

/// What [`ReindexJob::assemble`] made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReindexReport {
    /// Segments, as many as the source has if it was copied.
    pub segments: u64,
    /// Live documents.
    pub documents: u64,
    /// Of these, without any posting of the new field.
    pub empty_documents: u64,
    /// Postings of the new field.
    pub postings: u64,
    /// Bytes of the source's files.
    pub bytes_before: u64,
    /// Bytes of the new index's files.
    pub bytes_after: u64,
}

impl ReindexJob {
    /// Joins the pieces of all units, each of which has to be there and sound, with copies of the
    /// source's files, as an index in the folder `target`. What an interrupted call left there is
    /// removed first. `target` becomes an index that holds documents with the last write; nothing
    /// is read from it before.
    ///
    /// # Errors
    /// `is_invalid_input` naming units that are missing, `is_corrupt` naming pieces that are
    /// damaged or of another plan, and source files whose checksum is wrong; `is_mismatch` when
    /// the source changed; `is_busy`; `is_cancelled`; Tantivy's for I/O.
    pub fn assemble(
        &self,
        target: impl Into<Box<dyn Directory>>,
        progress: &mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
    ) -> Result<ReindexReport, Error> {
        self.plan.check_source(&self.source)?;
        let pieces = self.all_pieces()?;
        let target = target.into();
        let _lock = lock(&*target)?;
        let metas = self.source.load_metas();
        let metas = metas.map_err(|e| Error::during("reading the source's meta.json", e))?;
        let raw = self.source.directory().atomic_read(Path::new("meta.json"));
        let raw = raw.map_err(|e| Error::during("reading the source's meta.json", e))?;
        let mut meta = with_field(&raw, &self.plan)?;
        let (schema, field) = schema_of(&meta, &self.plan)?;
        remove_leftovers(&*target).map_err(|e| Error::during("emptying the target", e))?;
        let index = Index::builder()
            .schema(schema)
            .settings(metas.index_settings.clone())
            .register_plugin(BoundsPlugin::default().shared())
            .open_or_create(target.clone())
            .map_err(|e| Error::during("creating the new index", e))?;
        let mut assembly = Assembly {
            job: self,
            metas: &metas,
            index: &index,
            field: &field,
            done: 0,
            total: self.size(&metas, &pieces)?,
            stopped: None,
            progress,
            report: ReindexReport::default(),
        };
        // While these live, no garbage collection takes the files of the new segments.
        let mut made = Vec::new();
        for (segment, pieces) in self.segments()?.iter().zip(&pieces) {
            made.extend(assembly.segment(segment, pieces)?);
        }
        let mut result = assembly.report;
        self.plan.check_source(&self.source)?;
        if !self.plan.carry.is_copy() {
            let segments = serde_json::to_value(&made);
            meta["segments"] =
                segments.map_err(|e| Error::during("writing meta.json", io::Error::other(e)))?;
        }
        publish(&index, &meta).map_err(|e| Error::during("writing the new meta.json", e))?;
        result.bytes_before = bytes(&self.source)?;
        result.bytes_after = bytes(&index)?;
        self.verify(target)?;
        Ok(result)
    }

    /// Bytes of the source's files.
    ///
    /// # Errors
    /// Tantivy's for what cannot be read.
    pub fn source_bytes(&self) -> Result<u64, Error> {
        bytes(&self.source)
    }

    /// The pieces of each segment, all of them read for their checksums.
    fn all_pieces(&self) -> Result<Vec<Vec<Piece>>, Error> {
        let mut pieces: Vec<Vec<Piece>> = self.segments()?.iter().map(|_| Vec::new()).collect();
        let mut missing = Vec::new();
        for unit in self.plan.units() {
            let found = Piece::find(&*self.directory, self.plan_hash, &unit);
            match found.map_err(|e| Error::during(format!("reading unit {}", unit.number), e))? {
                Found::Piece(piece) => pieces[unit.segment].push(piece),
                Found::Nothing => missing.push(unit.number),
                Found::Refused(why) => {
                    return Err(Error::corrupt(format!(
                        "{} of the job {why}; do unit {} again",
                        piece_path(&unit).display(),
                        unit.number
                    )));
                }
            }
        }
        let Some(first) = missing.first() else {
            return Ok(pieces);
        };
        let (n_missing, n_units) = (missing.len(), self.plan.n_units());
        Err(Error::invalid(format!(
            "{n_missing} of {n_units} units are missing, unit {first} the first of them; do them \
             before the index is assembled"
        )))
    }

    /// Bytes to copy, and postings to write.
    fn size(&self, metas: &IndexMeta, pieces: &[Vec<Piece>]) -> Result<u64, Error> {
        let postings = pieces
            .iter()
            .flatten()
            .map(|piece| piece.counts().postings());
        let files = metas.list_segment_files();
        let lens = files.iter().map(|path| len(self.source.directory(), path));
        Ok(postings.sum::<u64>() + lens.sum::<Result<u64, Error>>()?)
    }

    /// Opens what was made, and compares its documents with the source's.
    fn verify(&self, target: Box<dyn Directory>) -> Result<(), Error> {
        let attempt = || "opening the new index";
        let mut index = Index::open(target).map_err(|e| Error::during(attempt(), e))?;
        crate::register(&mut index)?;
        let made = index.searchable_segments();
        let made = made.map_err(|e| Error::during(attempt(), e))?;
        let sources = self.segments()?;
        let mut n_docs = 0;
        let mut is_same = !self.plan.carry.is_copy() || made.len() == sources.len();
        for (number, made) in made.iter().enumerate() {
            let reader = SegmentReader::open(made).map_err(|e| Error::during(attempt(), e))?;
            n_docs += u64::from(reader.num_docs());
            if let (true, Some(source)) = (self.plan.carry.is_copy(), sources.get(number)) {
                let docs = (source.meta().max_doc(), source.meta().num_docs());
                is_same &= docs == (reader.max_doc(), reader.num_docs());
                is_same &= made.id() == source.id();
            }
        }
        is_same &= n_docs == self.plan.n_docs();
        match is_same {
            true => Ok(()),
            false => Err(Error::corrupt(
                "the new index has other documents than the source",
            )),
        }
    }
}

fn lock(target: &dyn Directory) -> Result<DirectoryLock, Error> {
    let lock = target.acquire_lock(&INDEX_WRITER_LOCK);
    lock.map_err(|_| Error::busy("another process is writing to the folder of the new index"))
}

/// Deletes what an interrupted assembly left, the list of it last.
fn remove_leftovers(target: &dyn Directory) -> tantivy::Result<()> {
    let list = Path::new(".managed.json");
    let paths: Vec<PathBuf> = match target.atomic_read(list) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
        Err(OpenReadError::FileDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for path in paths.iter().map(PathBuf::as_path).chain([list]) {
        match target.delete(path) {
            Ok(()) | Err(DeleteError::FileDoesNotExist(_)) => {}
            Err(error) => return Err(io::Error::other(error).into()),
        }
    }
    Ok(target.sync_directory()?)
}

/// Makes the folder an index with documents.
fn publish(index: &Index, meta: &Value) -> io::Result<()> {
    let directory = index.directory();
    let files = directory.list_managed_files().into_iter();
    // What was made for the time being is gone.
    let mut files: Vec<_> = files
        .filter(|path| directory.exists(path).unwrap_or(true))
        .collect();
    // As a list in order, so that two runs make the same files.
    files.sort_unstable();
    let mut list = serde_json::to_vec(&files)?;
    list.push(b'\n');
    directory.atomic_write(Path::new(".managed.json"), &list)?;
    directory.sync_directory()?;
    let mut meta = serde_json::to_vec_pretty(meta)?;
    meta.push(b'\n');
    directory.atomic_write(Path::new("meta.json"), &meta)?;
    directory.sync_directory()
}

fn bytes(index: &Index) -> Result<u64, Error> {
    let metas = index.load_metas();
    let metas = metas.map_err(|e| Error::during("reading meta.json", e))?;
    let files = metas.list_segment_files();
    files.iter().map(|path| len(index.directory(), path)).sum()
}
