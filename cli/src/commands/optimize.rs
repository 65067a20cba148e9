//! `laconic optimize`: one segment, similar documents next to each other.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use laconic_tantivy::{
    LaconicField, OptimizeOptions, OptimizeProgress, OptimizeReport, OptimizeStep,
};
use serde_json::{Value, json};

use super::Global;
use crate::corpus::LACONIC_FIELD;
use crate::terminal::{BusyError, Ending, UsageError, print, print_json, progress};

/// Make an index faster to search
///
/// Merges all segments into one, gives back the space of deleted documents, and reorders the
/// documents so that those with similar vectors stand next to each other: a search can then pass
/// over more of them. Worth it once a collection is complete; documents
/// can still be added, replaced and deleted afterwards. Results stay the same, except for the
/// order of documents with equal scores.
///
/// The old index stays whole and can be searched until the new one is finished, also if this
/// command is killed; the disk needs room for both. Nothing else can write to the index meanwhile.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  laconic optimize --index idx --memory 4096\n\n\
    Time: about 15 seconds for 200,000 documents of 200 terms on two processors; it grows a \
    little faster than the documents.\n\
    Memory: 8 bytes for every posting of the field (200,000 documents of 200 terms: 320 MB) find \
    the best order; with less, frequent terms are left out when looking for it."
)]
pub(crate) struct Optimize {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Field whose vectors tell which documents are similar, if the index has several
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Threads [default: one per processor]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
    /// Memory to work with, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = parse_memory)]
    memory: usize,
    /// Merge segments and drop deleted documents only
    #[arg(long)]
    no_reorder: bool,
}

pub(super) fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|n| (1..=1024).contains(n));
    threads.ok_or_else(|| "a whole number from 1 to 1024 is needed".to_owned())
}

fn parse_memory(text: &str) -> Result<usize, String> {
    let mebibytes = text.parse().ok().filter(|n| (16..=1 << 20).contains(n));
    mebibytes.ok_or_else(|| "a whole number from 16 to 1048576 is needed".to_owned())
}

impl Optimize {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let index = laconic_tantivy::open_in_dir(&self.index)?;
        let field = self.field(&index)?;
        let bar = progress("starting", Some(0), global.quiet);
        let start = Instant::now();
        let report = laconic_tantivy::optimize(&index, &field, self.options(), &mut |done| {
            show(&bar, done);
        });
        bar.finish_and_clear();
        let report = report.map_err(|error| self.name_if_busy(error))?;
        let seconds = start.elapsed().as_secs_f64();
        match global.json {
            true => print_json(&to_json(&report, seconds))?,
            false => print_text(&report, seconds)?,
        }
        Ok(Ending::Done)
    }

    fn options(&self) -> OptimizeOptions {
        let default = OptimizeOptions::default();
        OptimizeOptions {
            reorder: !self.no_reorder,
            n_threads: self.threads.unwrap_or(default.n_threads),
            memory_budget: self.memory << 20,
            ..default
        }
    }

    fn field(&self, index: &tantivy::Index) -> Result<LaconicField> {
        let schema = index.schema();
        if let Some(name) = &self.field {
            return Ok(LaconicField::find(&schema, name)?);
        }
        match LaconicField::all(&schema)?.as_slice() {
            [] => Ok(LaconicField::find(&schema, LACONIC_FIELD)?),
            [field] => Ok(field.clone()),
            several => {
                let names: Vec<_> = several.iter().map(LaconicField::name).collect();
                let names = names.join(", ");
                Err(UsageError(format!(
                    "the index has several fields with vectors ({names}); choose one with --field"
                ))
                .into())
            }
        }
    }

    /// Tantivy's message does not say which index is locked.
    fn name_if_busy(&self, error: laconic_tantivy::Error) -> anyhow::Error {
        if !error.is_busy() {
            return error.into();
        }
        BusyError(format!(
            "another process is writing to the index in {}; wait for it to end and run again",
            self.index.display()
        ))
        .into()
    }
}

fn show(bar: &ProgressBar, progress: OptimizeProgress) {
    bar.set_message(match progress.step {
        OptimizeStep::Reading => "reading",
        OptimizeStep::Ordering => "ordering",
        OptimizeStep::Writing => "writing",
        OptimizeStep::Merging => "merging",
    });
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}

fn to_json(report: &OptimizeReport, seconds: f64) -> Value {
    json!({
        "documents": report.documents,
        "dropped_documents": report.dropped_documents,
        "segments_before": report.segments_before,
        "segments_after": report.segments_after,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "seconds": seconds,
    })
}

fn print_text(report: &OptimizeReport, seconds: f64) -> Result<()> {
    Ok(print(format_args!(
        "{} documents ({} deleted ones dropped), {} → {} segments, {} → {} bytes, {seconds:.1} s",
        report.documents,
        report.dropped_documents,
        report.segments_before,
        report.segments_after,
        report.bytes_before,
        report.bytes_after,
    ))?)
}
