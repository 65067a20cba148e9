//! Building the index that is measured, or taking one that an earlier run left in `--dir`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use laconic_tantivy::{
    BulkWriter, Identity, ImpactQuantizer, IndexStats, LaconicField, MIN_MEMORY_BUDGET,
    OptimizeOptions, create_in_dir, open_in_dir,
};
use serde::{Deserialize, Serialize};
use tantivy::schema::Schema;
use tantivy::{Index, TantivyDocument};

use super::clock::{CpuOf, timed};
use super::collection::Collection;
use super::real;
use super::text::TextFields;
use crate::terminal::{note, progress};

/// Memory for the segment under construction: six bytes a posting, so a segment holds at least
/// three million documents of two hundred terms.
const MEMORY_BUDGET: usize = 4 << 30;

/// Written last: a folder that has it holds a whole index.
const FIGURES_FILE: &str = "bench.json";

/// How the index is to be built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexPlan {
    pub(crate) bits: u8,
    pub(crate) segments: u32,
    pub(crate) is_bisected: bool,
    /// Whether documents have words and tags.
    pub(crate) has_text: bool,
}

/// An index and what building it took.
pub(crate) struct BuiltIndex {
    pub(crate) index: Index,
    pub(crate) field: LaconicField,
    pub(crate) text: Option<TextFields>,
    pub(crate) figures: IndexFigures,
    /// Removes the folder of an index that nobody asked to keep.
    _scratch: Option<Scratch>,
}

/// What an index holds, and what building it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IndexFigures {
    pub(crate) documents: u64,
    pub(crate) segments: u64,
    pub(crate) terms: u64,
    pub(crate) postings: u64,
    /// Whether an index of an earlier run was taken; the figures of its building are that run's.
    pub(crate) reused: bool,
    /// In the bulk writer, commit included; not making or reading the vectors.
    pub(crate) writing_seconds: f64,
    pub(crate) documents_per_second: f64,
    pub(crate) postings_per_second: f64,
    pub(crate) merging_seconds: f64,
    pub(crate) bisecting_seconds: f64,
    /// Bytes of each kind of file.
    pub(crate) bytes: BTreeMap<String, u64>,
    pub(crate) bytes_per_posting: BytesPerPosting,
}

/// Where the bytes are, per posting.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct BytesPerPosting {
    pub(crate) postings: f64,
    pub(crate) dictionary: f64,
    /// Everything that plain Tantivy would not write.
    pub(crate) bounds: f64,
    pub(crate) total: f64,
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left lies in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl IndexPlan {
    /// The index of `collection` in a folder of its own below `dir`, or in a temporary one.
    ///
    /// # Errors
    /// When the collection cannot be read or the index cannot be written.
    pub(crate) fn open_or_build(
        self,
        collection: &Collection,
        dir: Option<&Path>,
        quiet: bool,
    ) -> Result<BuiltIndex> {
        let name = format!("laconic-bench-{}", std::process::id());
        let scratch = Scratch(std::env::temp_dir().join(name));
        let parent = dir.unwrap_or(&scratch.0);
        let folder = parent.join(self.folder_name(collection));
        let mut figures = match read_figures(&folder) {
            Some(figures) => figures,
            None => self.build(collection, &folder, quiet)?,
        };
        if figures.reused {
            let folder = folder.display();
            note(quiet, format_args!("taking the index in {folder}"));
        }
        let index = open_in_dir(&folder)?;
        let field = LaconicField::find(&index.schema(), "laconic")?;
        figures.segments = index.searchable_segment_ids()?.len() as u64;
        Ok(BuiltIndex {
            text: TextFields::find(&index.schema()),
            index,
            field,
            figures,
            _scratch: dir.is_none().then_some(scratch),
        })
    }

    fn folder_name(self, collection: &Collection) -> String {
        let order = if self.is_bisected { "-bisected" } else { "" };
        let text = if self.has_text { "-text" } else { "" };
        let (key, bits, segments) = (collection.key(), self.bits, self.segments);
        format!("{key}{order}{text}-{bits}bits-{segments}segments")
    }

    fn build(self, collection: &Collection, folder: &Path, quiet: bool) -> Result<IndexFigures> {
        let attempt = || format!("cannot make the index in {}", folder.display());
        if folder.exists() {
            // The rest of a run that was ended.
            fs::remove_dir_all(folder).with_context(attempt)?;
        }
        fs::create_dir_all(folder).with_context(attempt)?;
        let (index, field) = self.create(folder)?;
        let written = self.write(collection, &index, &field, quiet)?;
        let merging = match self.segments {
            1 => merge(&index)?,
            _ => 0.0,
        };
        let bisecting = match self.is_bisected {
            true => self.bisect(&index, &field, quiet)?,
            false => 0.0,
        };
        let mut figures = figures(&index, folder)?;
        figures.writing_seconds = written;
        figures.merging_seconds = merging;
        figures.bisecting_seconds = bisecting;
        figures.documents_per_second = real(figures.documents) / written;
        figures.postings_per_second = real(figures.postings) / written;
        let json = serde_json::to_string_pretty(&figures)?;
        fs::write(folder.join(FIGURES_FILE), json).with_context(attempt)?;
        Ok(figures)
    }

    fn create(self, folder: &Path) -> Result<(Index, LaconicField)> {
        let mut schema = Schema::builder();
        let identity = Identity {
            quantizer: ImpactQuantizer::with_bits(self.bits)?,
            model: None,
        };
        let field = LaconicField::add_to(&mut schema, "laconic", identity);
        if self.has_text {
            TextFields::add_to(&mut schema);
        }
        Ok((create_in_dir(folder, schema.build())?, field))
    }

    /// Seconds spent in the writer.
    fn write(
        self,
        collection: &Collection,
        index: &Index,
        field: &LaconicField,
        quiet: bool,
    ) -> Result<f64> {
        let mut writer = BulkWriter::new(index, field, None, MEMORY_BUDGET)?.without_merges();
        let per_segment = collection
            .n_docs()
            .map_or(u32::MAX, |n_docs| n_docs.div_ceil(self.segments));
        let bar = progress("indexing", collection.n_docs().map(u64::from), quiet);
        let text = TextFields::find(&index.schema());
        let (mut seconds, mut n_docs) = (0.0, 0u32);
        collection.for_each_document(&mut |vector| {
            let document = text.map_or_else(TantivyDocument::default, |text| {
                text.document(vector, n_docs.into())
            });
            let (added, time) = timed_wall(|| writer.add(document, vector));
            added?;
            seconds += time;
            n_docs += 1;
            if n_docs.is_multiple_of(per_segment) {
                let (committed, time) = timed_wall(|| writer.commit(None));
                committed?;
                seconds += time;
            }
            if n_docs.is_multiple_of(1000) {
                bar.inc(1000);
            }
            Ok(())
        })?;
        let (committed, time) = timed_wall(|| writer.commit(None));
        committed?;
        bar.finish_and_clear();
        writer.close()?;
        Ok(seconds + time)
    }

    /// Puts documents that are alike next to each other. On one thread, so that its time can be
    /// compared between machines.
    fn bisect(self, index: &Index, field: &LaconicField, quiet: bool) -> Result<f64> {
        let documents = index.reader()?.searcher().num_docs();
        let per_segment = documents.div_ceil(u64::from(self.segments));
        let options = OptimizeOptions {
            n_threads: 1,
            memory_budget: MEMORY_BUDGET,
            max_docs_per_segment: u32::try_from(per_segment).unwrap_or(u32::MAX).max(1),
            ..OptimizeOptions::default()
        };
        let bar = progress("bisecting", Some(0), quiet);
        let (optimized, seconds) = timed_wall(|| {
            laconic_tantivy::optimize(index, field, options, &mut |step| {
                bar.set_length(step.total);
                bar.set_position(step.done);
            })
        });
        bar.finish_and_clear();
        optimized?;
        Ok(seconds)
    }
}

fn timed_wall<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let (result, seconds) = timed(CpuOf::Thread, work);
    (result, seconds.wall)
}

/// Makes one segment of several, which a collection beyond the memory budget has.
fn merge(index: &Index) -> Result<f64> {
    let segments = index.searchable_segment_ids()?;
    if segments.len() < 2 {
        return Ok(0.0);
    }
    let merged = timed_wall(|| -> tantivy::Result<()> {
        let mut writer: tantivy::IndexWriter =
            index.writer_with_num_threads(1, MIN_MEMORY_BUDGET)?;
        writer.merge(&segments).wait()?;
        writer.garbage_collect_files().wait()?;
        writer.wait_merging_threads()
    });
    merged.0?;
    Ok(merged.1)
}

fn read_figures(folder: &Path) -> Option<IndexFigures> {
    let json = fs::read_to_string(folder.join(FIGURES_FILE)).ok()?;
    let figures: IndexFigures = serde_json::from_str(&json).ok()?;
    Some(IndexFigures {
        reused: true,
        ..figures
    })
}

fn figures(index: &Index, folder: &Path) -> Result<IndexFigures> {
    let stats = IndexStats::read(index)?;
    let field = stats.fields.first().context("the index has its field")?;
    let bytes = bytes_by_kind(folder)?;
    let of_bounds: u64 = bytes
        .iter()
        .filter(|(kind, _)| !WRITTEN_BY_TANTIVY.contains(&kind.as_str()))
        .map(|(_, bytes)| bytes)
        .sum();
    let per_posting = |bytes: u64| real(bytes) / real(field.postings.max(1));
    Ok(IndexFigures {
        documents: stats.documents,
        segments: stats.segments,
        terms: field.terms,
        postings: field.postings,
        reused: false,
        writing_seconds: 0.0,
        documents_per_second: 0.0,
        postings_per_second: 0.0,
        merging_seconds: 0.0,
        bisecting_seconds: 0.0,
        bytes_per_posting: BytesPerPosting {
            postings: per_posting(field.posting_bytes),
            dictionary: per_posting(field.dictionary_bytes),
            bounds: per_posting(of_bounds),
            total: per_posting(field.posting_bytes + field.dictionary_bytes + of_bounds),
        },
        bytes,
    })
}

/// Kinds of segment files that any Tantivy index has.
const WRITTEN_BY_TANTIVY: [&str; 8] = [
    "idx",
    "term",
    "pos",
    "fast",
    "fieldnorm",
    "store",
    "del",
    "temp",
];

/// Bytes of the segments' files by extension.
fn bytes_by_kind(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut bytes = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        if !matches!(kind.as_ref(), "json" | "lock") {
            *bytes.entry(kind.into_owned()).or_default() += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
