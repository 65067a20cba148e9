//! [`optimize`]: an index in one segment, with documents that share terms next to each other.
//!
//! [`bisection`] finds the order, from the [`forward`] index of a laconic field; [`segment`]
//! writes the documents in it. The documents of a block become alike: a term is in fewer blocks,
//! so that search can pass over more of them. Posting lists hardly shrink, although their gaps do:
//! Tantivy packs 128 gaps at a time with the bits of the largest, and some stay large.

mod bisection;
mod forward;
mod inverted;
mod lists;
mod rows;
mod segment;

use std::time::Instant;

use tantivy::directory::Directory;
use tantivy::index::{SegmentComponent, SegmentMeta};
use tantivy::merge_policy::NoMergePolicy;
use tantivy::{DocId, HasLen, Index, IndexWriter, Segment, SegmentReader};

use crate::{Error, LaconicField, MIN_MEMORY_BUDGET, register};
pub(crate) use bisection::{Forward, MIN_DOC_FREQ, bisect};
use forward::read_forward;
pub(crate) use inverted::Source;
use lists::FieldLists;
pub(crate) use rows::Rows;
pub(crate) use segment::{check_components, write_segment};

/// A segment of Tantivy has fewer than 2^31 documents.
const MAX_DOCS: DocId = (1 << 31) - 1;

/// How to [`optimize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptimizeOptions {
    /// Bring the documents into a new order, instead of only merging segments.
    pub reorder: bool,
    /// Threads. The result does not depend on them.
    pub n_threads: usize,
    /// Bytes to work with. Reordering uses eight for every posting of the laconic field; with
    /// less it leaves out frequent terms when it looks for the order, which gets a little worse.
    pub memory_budget: usize,
    /// Largest segment to make. Best is one for all; each further one costs a search some time.
    pub max_docs_per_segment: DocId,
}

impl Default for OptimizeOptions {
    fn default() -> OptimizeOptions {
        OptimizeOptions {
            reorder: true,
            n_threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_budget: 1 << 30,
            max_docs_per_segment: MAX_DOCS,
        }
    }
}

/// What [`optimize`] is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptimizeStep {
    /// Reading the posting lists of the laconic field, in bytes.
    Reading,
    /// Looking for the order of the documents.
    Ordering,
    /// Writing new segments, in bytes of the posting lists they are made from.
    Writing,
    /// Merging without reordering, in segments.
    Merging,
}

/// How far [`optimize`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptimizeProgress {
    /// What is being done.
    pub step: OptimizeStep,
    /// How much of the step is done.
    pub done: u64,
    /// How much there is to do in this step.
    pub total: u64,
}

/// What [`optimize`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OptimizeReport {
    /// Live documents.
    pub documents: u64,
    /// Deleted documents whose space was given back.
    pub dropped_documents: u64,
    /// Segments there were.
    pub segments_before: u64,
    /// Segments there are.
    pub segments_after: u64,
    /// Bytes of the segments' files there were.
    pub bytes_before: u64,
    /// Bytes of the segments' files there are.
    pub bytes_after: u64,
    /// Seconds spent looking for the order.
    pub ordering_seconds: f64,
}

/// Merges the segments of `index` into one, drops deleted documents, and brings documents with
/// similar vectors in `field` next to each other, which makes search faster. Scores do not change; document addresses do, and with them the order of documents with
/// equal scores.
///
/// Holds Tantivy's writer lock. The new segments are published in one commit that keeps the old
/// payload; until then, and if anything fails or the process dies, the index is what it was (only
/// when the very last sync of the folder fails is it the new one already). Readers that are open
/// keep what they see. On disk there has to be room for a second copy.
///
/// # Errors
/// `is_busy` when another writer holds the index. `is_invalid_input` when `field` is not one of
/// the index, or when reordering an index that is sorted by a field or has components of another
/// program. `is_corrupt` and Tantivy's for what cannot be read or written.
pub fn optimize(
    index: &Index,
    field: &LaconicField,
    options: OptimizeOptions,
    progress: &mut dyn FnMut(OptimizeProgress),
) -> Result<OptimizeReport, Error> {
    let stored = LaconicField::of(&index.schema(), field.field())?;
    stored.identity().check_same(field.identity())?;
    let mut index = index.clone();
    register(&mut index)?;
    if options.reorder {
        check_order(&index)?;
        check_components(&index)?;
    }
    let mut writer = index
        .writer_with_num_threads(1, MIN_MEMORY_BUDGET)
        .map_err(|e| Error::during("opening the index for writing", e))?;
    writer.set_merge_policy(Box::new(NoMergePolicy));
    remove_unused(&writer)?;
    let mut report = OptimizeReport::default();
    let size = |index| sizes(index).map_err(|e| Error::during("reading meta.json", e));
    (report.segments_before, report.bytes_before) = size(&index)?;
    let mut optimizer = Optimizer {
        writer: &mut writer,
        field: &stored,
        options,
        progress,
        report: &mut report,
    };
    optimizer.run()?;
    if let Err(error) = remove_unused(&writer) {
        // The next writer tries again.
        log::warn!("the index is optimized, but old files are left: {error}");
    }
    writer
        .wait_merging_threads()
        .map_err(|e| Error::during("closing the index", e))?;
    (report.segments_after, report.bytes_after) = size(&index)?;
    Ok(report)
}

/// Refuses an index that has an order of its own.
pub(crate) fn check_order(index: &Index) -> Result<(), Error> {
    match &index.settings().sort_by_field {
        None => Ok(()),
        Some(sort) => Err(Error::invalid(format!(
            "the index keeps its documents sorted by `{}`; they cannot be brought into another \
             order; merge without reordering",
            sort.field
        ))),
    }
}

/// Deletes files that belong to no segment: of a session that did not end, or replaced ones.
fn remove_unused(writer: &IndexWriter) -> Result<(), Error> {
    let removed = writer.garbage_collect_files().wait();
    removed
        .map(|_| ())
        .map_err(|e| Error::during("removing unused files", e))
}

/// Segments and bytes.
fn sizes(index: &Index) -> tantivy::Result<(u64, u64)> {
    let metas = index.load_metas()?;
    let paths = metas.list_segment_files();
    // Some that are listed need not exist.
    let files = paths
        .iter()
        .filter_map(|path| index.directory().open_read(path).ok());
    let bytes = files.map(|file| file.len() as u64).sum();
    Ok((metas.segments.len() as u64, bytes))
}

struct Optimizer<'a> {
    writer: &'a mut IndexWriter,
    field: &'a LaconicField,
    options: OptimizeOptions,
    progress: &'a mut dyn FnMut(OptimizeProgress),
    report: &'a mut OptimizeReport,
}

impl Optimizer<'_> {
    fn run(&mut self) -> Result<(), Error> {
        // While these live, no garbage collection takes the files of the old segments.
        let segments = self
            .writer
            .index()
            .searchable_segments()
            .map_err(|e| Error::during("reading meta.json", e))?;
        for segment in &segments {
            self.report.documents += u64::from(segment.meta().num_docs());
            self.report.dropped_documents += u64::from(segment.meta().num_deleted_docs());
        }
        if self.report.documents >= u64::from(DocId::MAX) {
            return Err(Error::invalid("the index has more than 2^32 documents"));
        }
        if !self.options.reorder {
            return self
                .merge(&segments)
                .map_err(|e| Error::during("merging segments", e));
        }
        let is_settled = self.report.dropped_documents == 0 && self.report.documents < 2;
        if segments.is_empty() || is_settled && segments.len() == 1 {
            return Ok(());
        }
        self.reorder(&segments)
    }

    fn reorder(&mut self, segments: &[Segment]) -> Result<(), Error> {
        let readers = segments
            .iter()
            .filter(|segment| segment.meta().num_docs() > 0);
        let readers = readers.map(SegmentReader::open);
        let readers = readers
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::during("opening a segment", e))?;
        let rows = self.ordered_rows(&readers)?;
        let metas = self
            .write(&readers, &rows)
            .map_err(|e| Error::during("writing a reordered segment", e))?;
        self.publish(metas)
            .map_err(|e| Error::during("committing the reordered index", e))
    }

    /// The documents in the order they are to have.
    fn ordered_rows(&mut self, readers: &[SegmentReader]) -> Result<Rows, Error> {
        let rows = Rows::stacked(readers);
        let (field, progress) = (self.field, &mut self.progress);
        let forward = FieldLists::open(readers, field.field()).and_then(|lists| {
            read_forward(
                &lists,
                &rows,
                self.options.memory_budget,
                &mut |done, total| {
                    progress(OptimizeProgress {
                        step: OptimizeStep::Reading,
                        done,
                        total,
                    });
                },
            )
        });
        let forward =
            forward.map_err(|e| Error::during(format!("reading field `{}`", field.name()), e))?;
        let ordering = |done| OptimizeProgress {
            step: OptimizeStep::Ordering,
            done,
            total: u64::from(rows.n_docs()),
        };
        (self.progress)(ordering(0));
        let start = Instant::now();
        let order = bisect(forward, self.options.n_threads)?;
        self.report.ordering_seconds = start.elapsed().as_secs_f64();
        (self.progress)(ordering(u64::from(rows.n_docs())));
        Ok(rows.reordered(&order, readers))
    }

    fn write(
        &mut self,
        readers: &[SegmentReader],
        rows: &Rows,
    ) -> tantivy::Result<Vec<SegmentMeta>> {
        let size = self.options.max_docs_per_segment.clamp(1, MAX_DOCS);
        let starts = (0..rows.n_docs()).step_by(size as usize);
        let mut list_bytes = 0;
        for reader in readers {
            list_bytes += reader.open_read(SegmentComponent::Postings)?.len() as u64;
        }
        let (mut done, total) = (0, list_bytes * starts.len() as u64);
        let mut metas = Vec::new();
        for start in starts {
            let source = Source {
                readers,
                rows,
                range: start..start.saturating_add(size).min(rows.n_docs()),
                memory_budget: self.options.memory_budget / 2,
            };
            let target = self.writer.new_segment().with_max_doc(source.n_docs());
            write_segment(&source, &target, self.options.n_threads, &mut |bytes| {
                done += bytes;
                (self.progress)(OptimizeProgress {
                    step: OptimizeStep::Writing,
                    done,
                    total,
                });
            })?;
            let meta = target.meta().clone();
            meta.untrack_temp_docstore();
            metas.push(meta);
        }
        Ok(metas)
    }

    /// Puts new segments in the place of all there are, in one commit.
    fn publish(&mut self, metas: Vec<SegmentMeta>) -> tantivy::Result<()> {
        let payload = self.writer.index().load_metas()?.payload;
        // Takes the segments off the writer's list only; `meta.json` has them until the commit.
        self.writer.delete_all_documents()?;
        for meta in metas {
            self.writer.add_segment(meta)?;
        }
        let mut commit = self.writer.prepare_commit()?;
        if let Some(payload) = &payload {
            commit.set_payload(payload);
        }
        commit.commit()?;
        // Tantivy syncs the directory before it renames `meta.json`, not after.
        Ok(self.writer.index().directory().sync_directory()?)
    }

    /// Tantivy's own merges: each publishes itself and keeps the payload.
    fn merge(&mut self, segments: &[Segment]) -> tantivy::Result<()> {
        let groups = groups(segments, self.options.max_docs_per_segment);
        let (mut done, total) = (0, segments.len() as u64);
        for group in groups {
            let ids: Vec<_> = group.iter().map(Segment::id).collect();
            self.writer.merge(&ids).wait()?;
            done += ids.len() as u64;
            (self.progress)(OptimizeProgress {
                step: OptimizeStep::Merging,
                done,
                total,
            });
        }
        Ok(self.writer.index().directory().sync_directory()?)
    }
}

/// Neighbouring segments that fit into one, where there is something to merge.
fn groups(segments: &[Segment], max_docs: DocId) -> Vec<&[Segment]> {
    let mut groups = Vec::new();
    let (mut start, mut n_docs) = (0, 0u64);
    for (end, segment) in segments.iter().enumerate() {
        let more = u64::from(segment.meta().num_docs());
        if n_docs + more > u64::from(max_docs) {
            groups.push(&segments[start..end]);
            (start, n_docs) = (end, 0);
        }
        n_docs += more;
    }
    groups.push(&segments[start..]);
    groups.retain(|group| match group {
        [] => false,
        [segment] => segment.meta().num_deleted_docs() > 0,
        _ => true,
    });
    groups
}
