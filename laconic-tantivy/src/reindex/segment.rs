//! [`Assembly`]: segments of the new index, one after the other.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tantivy::directory::Directory;
use tantivy::directory::error::OpenReadError;
use tantivy::index::{IndexMeta, SegmentComponent, SegmentId, SegmentMeta};
use tantivy::{DocId, HasLen, Index, Segment};
use xxhash_rust::xxh3::xxh3_128;

use super::assemble::ReindexReport;
use super::carry::Carry;
use super::merge::PieceMerge;
use super::piece::Piece;
use super::{ReindexJob, ReindexProgress, ReindexStep, report};
use crate::bounds::{EXTENSION, bounds_plugin, write_bounds};
use crate::bulk::{copy_component, splice_field};
use crate::{Error, LaconicField};

/// With more postings than this, a segment's bounds are not held in memory beside the lists but
/// read off the finished lists.
const MAX_HELD_POSTINGS: u64 = 1 << 28;

/// An index under construction.
pub(super) struct Assembly<'a> {
    pub(super) job: &'a ReindexJob,
    pub(super) metas: &'a IndexMeta,
    pub(super) index: &'a Index,
    pub(super) field: &'a LaconicField,
    pub(super) done: u64,
    pub(super) total: u64,
    /// Set when the progress callback asked to stop.
    pub(super) stopped: Option<Error>,
    pub(super) progress: &'a mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
    pub(super) report: ReindexReport,
}

impl Assembly<'_> {
    /// Writes the documents of the next segment.
    pub(super) fn segment(
        &mut self,
        source: &Segment,
        pieces: &[Piece],
    ) -> Result<Vec<SegmentMeta>, Error> {
        let attempt = || format!("writing segment {}", source.id().short_uuid_string());
        self.check_checksums(source)?;
        let outcome = self.carry(source, pieces);
        // What the progress callback wished came through Tantivy's errors.
        let metas = match self.stopped.take() {
            Some(cancelled) => return Err(cancelled),
            None => outcome.map_err(|e| Error::during(attempt(), e))?,
        };
        self.report.segments += metas.len() as u64;
        for piece in pieces {
            let counts = piece.counts();
            self.report.documents += counts.documents;
            self.report.empty_documents += counts.empty;
            self.report.postings += counts.postings();
        }
        for meta in &metas {
            meta.untrack_temp_docstore();
        }
        Ok(metas)
    }

    fn carry(&mut self, source: &Segment, pieces: &[Piece]) -> tantivy::Result<Vec<SegmentMeta>> {
        match self.job.plan.carry {
            Carry::Purge if source.meta().has_deletes() => {
                Ok(self.purged(source, pieces)?.into_iter().collect())
            }
            Carry::Rewrite { memory_budget } => {
                let memory_budget = usize::try_from(memory_budget).unwrap_or(usize::MAX);
                self.rewritten(source, pieces, memory_budget)
            }
            Carry::Copy | Carry::Purge => {
                let target = self.target(source.id(), source.meta());
                self.write(source, &target, pieces, None)?;
                Ok(vec![target.meta().clone()])
            }
        }
    }

    /// A segment of the new index with the documents that `meta` has.
    pub(super) fn target(&self, id: SegmentId, meta: &SegmentMeta) -> Segment {
        let target = self.index.new_segment_meta(id, meta.max_doc());
        self.index.segment(match meta.delete_opstamp() {
            Some(opstamp) => target.with_delete_meta(meta.num_deleted_docs(), opstamp),
            None => target,
        })
    }

    /// A copy gets a new checksum, which must not make damage look sound.
    fn check_checksums(&self, source: &Segment) -> Result<(), Error> {
        for path in files(source, self.metas) {
            let directory = self.job.source.directory();
            let attempt = || format!("reading {} of the source", path.display());
            let exists = directory.exists(&path);
            if !exists.map_err(|e| Error::during(attempt(), e))? {
                continue;
            }
            let is_sound = directory.validate_checksum(&path);
            if !is_sound.map_err(|e| Error::during(attempt(), e))? {
                return Err(Error::corrupt(format!(
                    "{} of the source does not match its checksum; `laconic check` tells what is \
                     damaged",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Writes `target`: the files of `source`, and the pieces spliced in.
    pub(super) fn write(
        &mut self,
        source: &Segment,
        target: &Segment,
        pieces: &[Piece],
        new_ids: Option<(DocId, &[DocId])>,
    ) -> tantivy::Result<()> {
        let postings: u64 = pieces.iter().map(|piece| piece.counts().postings()).sum();
        let plugin = bounds_plugin(target)?.filter(|_| postings <= MAX_HELD_POSTINGS);
        let mut bounds = plugin.map(|plugin| plugin.field_bounds(target.meta().max_doc()));
        let field = self.field.field();
        let max_impact = self.field.identity().quantizer.max_impact();
        let mut lists = PieceMerge {
            pieces,
            max_impact,
            new_ids,
            progress: &mut |postings| self.advance(postings),
        };
        splice_field(source, target, field, &mut lists, &mut bounds)?;
        let directory = source.index().directory();
        for component in copied(source, self.metas) {
            let path = source.relative_path(component.clone());
            // A program's component need not have a file for every segment.
            if directory.exists(&path)? {
                copy_component(source, target, component)?;
                self.advance(directory.open_read(&path)?.len() as u64)?;
            }
        }
        match (plugin, bounds) {
            (Some(plugin), Some(bounds)) => plugin.write_knowing(target, vec![(field, bounds)])?,
            _ => write_bounds(target)?,
        }
        let bounds = SegmentComponent::Custom(EXTENSION.to_owned());
        for component in SPLICED.into_iter().chain([bounds]) {
            let path = source.relative_path(component);
            let len = len(directory, &path)?;
            self.advance(len)?;
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, more: u64) -> io::Result<()> {
        self.done += more;
        let state = self.state();
        report(self.progress, state).map_err(|cancelled| {
            self.stopped = Some(cancelled);
            io::Error::other("stopped")
        })
    }

    fn state(&self) -> ReindexProgress {
        ReindexProgress {
            step: ReindexStep::Assembling,
            done: self.done.min(self.total),
            resumed: 0,
            total: self.total,
        }
    }
}

/// The files that are copied as they are.
fn copied(source: &Segment, metas: &IndexMeta) -> Vec<SegmentComponent> {
    let mut components = vec![
        SegmentComponent::FieldNorms,
        SegmentComponent::FastFields,
        SegmentComponent::Store,
    ];
    let delete = source
        .meta()
        .has_deletes()
        .then_some(SegmentComponent::Delete);
    components.extend(delete);
    // Ours has the new field's bounds, so it is written anew.
    let extensions = metas.persisted_custom_extensions.iter();
    let foreign = extensions.filter(|extension| *extension != EXTENSION);
    components.extend(foreign.cloned().map(SegmentComponent::Custom));
    components
}

/// Files of a segment but its bounds, which follow from the others. Some need not exist.
pub(super) fn files(segment: &Segment, metas: &IndexMeta) -> Vec<PathBuf> {
    let components = copied(segment, metas).into_iter().chain(SPLICED);
    components
        .map(|component| segment.relative_path(component))
        .collect()
}

/// The name of a segment made from another, the same whenever it is made.
pub(super) fn derived_id(id: SegmentId, what: &str) -> SegmentId {
    let hash = xxh3_128(format!("{} {what}", id.uuid_string()).as_bytes());
    // Thirty-two hexadecimal digits are such a name.
    SegmentId::from_uuid_string(&format!("{hash:032x}")).unwrap_or(id)
}

/// The files that have a section per field.
const SPLICED: [SegmentComponent; 3] = [
    SegmentComponent::Terms,
    SegmentComponent::Postings,
    SegmentComponent::Positions,
];

/// Bytes of a file; 0 for one that a segment need not have.
pub(super) fn len(directory: &dyn Directory, path: &Path) -> Result<u64, Error> {
    match directory.open_read(path) {
        Ok(file) => Ok(file.len() as u64),
        Err(OpenReadError::FileDoesNotExist(_)) => Ok(0),
        Err(error) => Err(Error::during(format!("reading {}", path.display()), error)),
    }
}
