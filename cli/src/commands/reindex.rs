//! `laconic reindex`: a laconic field for an index that exists.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use laconic_tantivy::{ReindexJob, ReindexReport, Reindexer, WorkReport};
use serde_json::json;
use tantivy::Index;
use tantivy::directory::RamDirectory;

use super::Global;
use super::cache_options::CacheOptions;
use super::reindex_options::{Leniency, PlanOptions, note_plugins, remarks, to_json};
use crate::encoding::CachedEncoder;
use crate::reindexing::{Folders, Recipe, Vectors, Watch, directory};
use crate::terminal::{Ending, UsageError, note, print, print_json};

/// Give an index that exists learned-sparse vectors, as a copy
///
/// Makes a new index in DST that holds what the index in SRC holds, and a laconic field. SRC may
/// be of any program that writes with Tantivy 0.27 or a version that it reads. The other fields are
/// not indexed again but copied, so they need not be stored, tokenizers need not be known, and
/// nothing else changes. SRC is only read; if it changes meanwhile, the job ends with an error.
///
/// The new index comes about in DST.partial and gets to DST by one rename. A run that is killed,
/// or fails for want of space, is gone on with by --resume: finished units of documents are
/// not done again, and the result is that of an unbroken run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
        laconic reindex shop shop-laconic --text title,body --model laconic-1b\n  \
        laconic reindex shop shop-laconic --vectors vectors.jsonl --id-field sku --resume\n\n\
        Space: the size of SRC, about 2 bytes for every posting of the new field, and as much \
        again until the end.\nSeveral machines: laconic plan, work, assemble.")]
pub(crate) struct Reindex {
    /// Folder of the index that exists
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Folder of the new index, which must not exist
    #[arg(value_name = "DST")]
    target: PathBuf,
    #[command(flatten)]
    plan: PlanOptions,
    #[command(flatten)]
    leniency: Leniency,
    #[command(flatten)]
    cache: CacheOptions,
    /// Go on where an interrupted run stood, or begin
    #[arg(long)]
    resume: bool,
    /// Estimate time and size from a few documents, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Keep a JSON file of the progress, replaced as a whole about every second
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,
}

impl Reindex {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let source = laconic_tantivy::open_in_dir(&self.source)?;
        if self.dry_run {
            return self.estimate(&source, global);
        }
        let folders = Folders::new(&self.source, &self.target)?;
        if self.resume && folders.is_finished() {
            folders.tidy_up()?;
            note(global.quiet, "the earlier run had come to its end");
            return Ok(Ending::Done);
        }
        folders.check_free()?;
        if folders.is_begun() && !self.resume {
            return Err(UsageError(format!(
                "an earlier run left {}; go on with it by --resume, or delete it",
                folders.path().display()
            ))
            .into());
        }
        let (reindexer, recipe, encoder) = self.plan.reindexer(&source, &self.source)?;
        let encoder = encoder.map(|encoder| self.cache.cached(encoder, global.quiet));
        let mut vectors = self.vectors(&source, &recipe, encoder.transpose()?)?;
        let start = Instant::now();
        let mut watch = Watch::new(self.progress.clone(), global.quiet);
        let made = make(reindexer, &folders, &mut vectors, &mut watch);
        let finished = watch.finish(made.is_ok());
        let advice = "the same command with --resume goes on";
        let (work, assembled) =
            made.map_err(|error| explain_full(error, folders.path(), advice))?;
        finished?;
        let (seconds, skipped) = (start.elapsed().as_secs_f64(), vectors.skipped_lines());
        if global.json {
            print_json(&to_json(
                &work,
                Some(&assembled),
                vectors.tally,
                skipped,
                seconds,
            ))?;
            return Ok(Ending::Done);
        }
        print(format_args!(
            "{} documents, {} postings, {} → {} bytes, {seconds:.1} s{}",
            assembled.documents,
            assembled.postings,
            assembled.bytes_before,
            assembled.bytes_after,
            remarks(&work, vectors.tally, skipped)
        ))?;
        Ok(Ending::Done)
    }

    fn vectors(
        &self,
        source: &Index,
        recipe: &Recipe,
        encoder: Option<CachedEncoder>,
    ) -> Result<Vectors> {
        let file = self.plan.file();
        Vectors::open(
            recipe,
            &source.schema(),
            encoder,
            file,
            self.leniency.both(),
        )
    }

    /// Does a few units, spread over the index, in memory.
    fn estimate(&self, source: &Index, global: &Global) -> Result<Ending> {
        // Encoding takes long, and a vector file is read from its beginning.
        let (unit_docs, most_units) = if self.plan.is_encoded() {
            (16, 8)
        } else {
            (4096, 1)
        };
        let (reindexer, recipe, encoder) = self.plan.reindexer(source, &self.source)?;
        // With a cache, the sample would be no sample.
        let mut vectors =
            self.vectors(source, &recipe, encoder.map(CachedEncoder::without_cache))?;
        let job = reindexer
            .unit_docs(unit_docs)
            .begin(RamDirectory::create())?;
        let every = job.plan().n_units().div_ceil(most_units).max(1);
        let start = Instant::now();
        let sample = job.work(
            |unit| unit % every == 0,
            &mut |documents, taken| vectors.give(documents, taken),
            &mut |_| ControlFlow::Continue(()),
        )?;
        let scale = to_f64(job.plan().n_docs()) / to_f64(sample.documents.max(1));
        let source_bytes = job.source_bytes()?;
        let seconds =
            start.elapsed().as_secs_f64() * scale + to_f64(source_bytes) / COPIED_A_SECOND;
        let postings = to_f64(sample.postings) * scale;
        let bytes = to_f64(source_bytes) + postings * POSTING_BYTES;
        let needed = bytes + postings * POSTING_BYTES;
        if global.json {
            print_json(&json!({
                "documents": job.plan().n_docs(),
                "sampled_documents": sample.documents,
                "postings": postings.round(),
                "seconds": seconds.round(),
                "bytes_before": source_bytes,
                "bytes_after": bytes.round(),
                "bytes_needed": needed.round(),
            }))?;
            return Ok(Ending::Done);
        }
        print(format_args!(
            "{} documents, by a sample of {}: about {} on this machine, {:.0} million postings, \
             {:.2} GB from {:.2} GB; {:.2} GB of free space needed on the way",
            job.plan().n_docs(),
            sample.documents,
            duration(seconds),
            postings / 1e6,
            bytes / 1e9,
            to_f64(source_bytes) / 1e9,
            needed / 1e9,
        ))?;
        Ok(Ending::Done)
    }
}

/// Plan, work and assembly in one.
fn make(
    reindexer: Reindexer,
    folders: &Folders,
    vectors: &mut Vectors,
    watch: &mut Watch,
) -> Result<(WorkReport, ReindexReport)> {
    let _lock = folders.lock()?;
    let begun = reindexer.begin(directory(&folders.job())?);
    let job = begun.inspect_err(|_| folders.remove_if_not_begun())?;
    let work = work(&job, |_| true, vectors, watch)?;
    let assembled = assemble(&job, folders, watch)?;
    folders.tidy_up()?;
    Ok((work, assembled))
}

/// What is to be done about a full disk.
pub(super) fn explain_full(error: anyhow::Error, folder: &Path, advice: &str) -> anyhow::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let ours = cause.downcast_ref::<laconic_tantivy::Error>();
        let system = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        ours.is_some_and(laconic_tantivy::Error::is_storage_full)
            || matches!(
                system,
                Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            )
    };
    match error.chain().any(is_full) {
        true => error.context(format!(
            "there is no space left for {}; what is finished stays: make space, and {advice}",
            folder.display()
        )),
        false => error,
    }
}

/// Does units.
pub(super) fn work(
    job: &ReindexJob,
    wanted: impl Fn(u32) -> bool,
    vectors: &mut Vectors,
    watch: &mut Watch,
) -> Result<WorkReport> {
    job.work(
        wanted,
        &mut |documents, taken| vectors.give(documents, taken),
        &mut |state| {
            watch.show(state);
            ControlFlow::Continue(())
        },
    )
}

/// Joins the units and puts the index in its place.
pub(super) fn assemble(
    job: &ReindexJob,
    folders: &Folders,
    watch: &mut Watch,
) -> Result<ReindexReport> {
    note_plugins(job, watch.is_quiet)?;
    let report = job.assemble(folders.index_directory()?, &mut |state| {
        watch.show(state);
        ControlFlow::Continue(())
    })?;
    folders.publish()?;
    Ok(report)
}

/// Of a posting list with its bounds, where documents have a few hundred terms.
const POSTING_BYTES: f64 = 2.0;

/// Bytes of the source, read twice and written once.
const COPIED_A_SECOND: f64 = 100e6;

/// Counts of documents and bytes are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}
