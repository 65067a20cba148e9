//! `laconic plan`, `work` and `assemble`: `laconic reindex` in parts, on any number of machines.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use laconic_tantivy::{ReindexJob, ReindexPlan};
use serde_json::json;
use tantivy::Index;
use tantivy::directory::MmapDirectory;

use super::Global;
use super::cache_options::CacheOptions;
use super::options::ModelOptions;
use super::reindex::{assemble, explain_full, work};
use super::reindex_options::{Leniency, PlanOptions, remarks, to_json};
use crate::encoding::{self, CachedEncoder};
use crate::reindexing::{Folders, Recipe, Vectors, Watch, directory};
use crate::terminal::{Ending, UsageError, note, print, print_json};

/// Plan a reindexing job for several workers
///
/// Writes into JOB what is to be done: which index, which vectors, and units of documents that
/// `laconic work` does in any order, on any machines that see SRC and JOB. JOB may be on a
/// network file system. `laconic assemble` makes the index in the end.
#[derive(Debug, Args)]
#[command(after_help = "Example, with eight workers:\n  \
        laconic plan shop --job job --text title,body --model laconic-1b\n  \
        laconic work --job job --model laconic-1b --units 0/8    # 1/8 … 7/8 elsewhere\n  \
        laconic assemble --job job shop-laconic")]
pub(crate) struct Plan {
    /// Folder of the index that exists
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Folder of the job, made if missing
    #[arg(long, value_name = "DIR")]
    job: PathBuf,
    #[command(flatten)]
    plan: PlanOptions,
}

impl Plan {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let source = laconic_tantivy::open_in_dir(&self.source)?;
        let (reindexer, recipe, encoder) = self.plan.reindexer(&source, &self.source)?;
        // What cannot work is found out before the workers are started.
        let file = self.plan.file();
        let encoder = encoder.map(CachedEncoder::without_cache);
        Vectors::open(&recipe, &source.schema(), encoder, file, (false, false))?;
        let job = reindexer.begin(directory(&self.job)?)?;
        let plan = job.plan();
        if !global.json {
            print(format_args!(
                "{} documents in {} units",
                plan.n_docs(),
                plan.n_units()
            ))?;
            return Ok(Ending::Done);
        }
        let units = plan.units().map(|unit| {
            json!({
                "unit": unit.number,
                "segment": unit.segment,
                "first_doc": unit.first_doc,
                "end_doc": unit.end_doc,
            })
        });
        print_json(&json!({
            "documents": plan.n_docs(),
            "units": units.collect::<Vec<_>>(),
        }))?;
        Ok(Ending::Done)
    }
}

/// Do units of a planned job
///
/// Reads the documents of SRC and writes their posting lists into the folder of the job. Units
/// that are done already, and sound, are passed over, so a worker that died is simply started
/// again. Two workers that do the same unit do no harm.
#[derive(Debug, Args)]
#[command(
    after_help = "Example, as the third of eight tasks of Kubernetes or Slurm:\n  \
        laconic work --job job --model laconic-1b --units 2/8"
)]
pub(crate) struct Work {
    /// Folder of the job
    #[arg(long, value_name = "DIR")]
    job: PathBuf,
    /// Which units: 7, 0-9, or 2/8 for the third of eight equal parts (parts count from 0)
    #[arg(long, value_name = "UNITS", default_value = "0/1", value_parser = parse_units)]
    units: Units,
    /// Folder of the index that exists, if it is elsewhere than where it was planned
    #[arg(long, value_name = "SRC")]
    source: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    /// The vector file the job was planned with
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// The file of texts the job was planned with
    #[arg(long, value_name = "FILE", conflicts_with = "vectors")]
    text_file: Option<PathBuf>,
    #[command(flatten)]
    leniency: Leniency,
    #[command(flatten)]
    cache: CacheOptions,
    /// Keep a JSON file of the progress, replaced as a whole about every second
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,
}

/// Part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Units {
    Range { first: u32, last: u32 },
    Part { number: u32, of: u32 },
}

fn parse_units(text: &str) -> Result<Units, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let units = match (text.split_once('/'), text.split_once('-')) {
        (Some((part, of)), _) => number(part)
            .zip(number(of))
            .and_then(|(number, of)| (number < of).then_some(Units::Part { number, of })),
        (None, Some((first, last))) => number(first)
            .zip(number(last))
            .and_then(|(first, last)| (first <= last).then_some(Units::Range { first, last })),
        (None, None) => number(text).map(|unit| Units::Range {
            first: unit,
            last: unit,
        }),
    };
    units.ok_or_else(|| "a unit (7), a range (0-9) or a part (0/8 to 7/8) is needed".to_owned())
}

impl Units {
    /// The first unit and the one behind the last, of `n_units`.
    fn range(self, n_units: u32) -> Result<std::ops::Range<u32>> {
        match self {
            Units::Part { number, of } => {
                let start = |part: u32| {
                    let start = u64::from(n_units) * u64::from(part) / u64::from(of);
                    u32::try_from(start).unwrap_or(n_units)
                };
                Ok(start(number)..start(number + 1))
            }
            Units::Range { last, .. } if last >= n_units => Err(UsageError(format!(
                "there is no unit {last}; the job has {n_units}, counted from 0"
            ))
            .into()),
            Units::Range { first, last } => Ok(first..last + 1),
        }
    }
}

impl Work {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let job = open_job(&self.job, self.source.as_deref())?.0;
        let wanted = self.units.range(job.plan().n_units())?;
        let recipe = Recipe::from_json(job.plan().recipe())?;
        let encoder = self.model.load()?;
        if let Some(encoder) = &encoder {
            let model = encoding::identity(encoder)?;
            job.plan().identity()?.check_model(Some(&model))?;
        }
        let schema = job.source().schema();
        let encoder = encoder.map(|encoder| self.cache.cached(encoder, global.quiet));
        let encoder = encoder.transpose()?;
        let file = self.vectors.as_deref().or(self.text_file.as_deref());
        let mut vectors = Vectors::open(&recipe, &schema, encoder, file, self.leniency.both())?;
        let start = Instant::now();
        let mut watch = Watch::new(self.progress.clone(), global.quiet);
        let done = work(
            &job,
            |unit| wanted.contains(&unit),
            &mut vectors,
            &mut watch,
        );
        let finished = watch.finish(done.is_ok());
        let advice = "start the worker again";
        let report = done.map_err(|error| explain_full(error, &self.job, advice))?;
        finished?;
        let (seconds, skipped) = (start.elapsed().as_secs_f64(), vectors.skipped_lines());
        if global.json {
            print_json(&to_json(&report, None, vectors.tally, skipped, seconds))?;
            return Ok(Ending::Done);
        }
        print(format_args!(
            "{} units, {} documents, {} postings, {seconds:.1} s{}",
            report.units + report.resumed_units,
            report.documents,
            report.postings,
            remarks(&report, vectors.tally, skipped)
        ))?;
        Ok(Ending::Done)
    }
}

/// Join the units of a planned job into the new index
///
/// Verifies that every unit is there, sound, and of this plan; then writes the new index in
/// DST.partial and renames it to DST. Names the units that are missing or damaged; `laconic work`
/// does them again. The folder of the job is kept.
#[derive(Debug, Args)]
pub(crate) struct Assemble {
    /// Folder of the new index, which must not exist
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// Folder of the job
    #[arg(long, value_name = "DIR")]
    job: PathBuf,
    /// Folder of the index that exists, if it is elsewhere than where it was planned
    #[arg(long, value_name = "SRC")]
    source: Option<PathBuf>,
    /// Keep a JSON file of the progress, replaced as a whole about every second
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,
}

impl Assemble {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let (job, source) = open_job(&self.job, self.source.as_deref())?;
        let folders = Folders::new(&source, &self.target)?;
        if folders.is_finished() {
            folders.tidy_up()?;
            note(global.quiet, "the earlier run had come to its end");
            return Ok(Ending::Done);
        }
        folders.check_free()?;
        if folders.job().exists() {
            return Err(UsageError(format!(
                "{} belongs to a run of `laconic reindex`; choose another folder",
                folders.path().display()
            ))
            .into());
        }
        let _lock = folders.lock()?;
        let start = Instant::now();
        let mut watch = Watch::new(self.progress.clone(), global.quiet);
        let assembled = assemble(&job, &folders, &mut watch);
        let finished = watch.finish(assembled.is_ok());
        let advice = "run the same command again";
        let report = assembled.map_err(|error| explain_full(error, folders.path(), advice))?;
        finished?;
        folders.tidy_up()?;
        let seconds = start.elapsed().as_secs_f64();
        if global.json {
            print_json(&json!({
                "documents": report.documents,
                "empty_vectors": report.empty_documents,
                "postings": report.postings,
                "segments": report.segments,
                "bytes_before": report.bytes_before,
                "bytes_after": report.bytes_after,
                "seconds": seconds,
            }))?;
            return Ok(Ending::Done);
        }
        print(format_args!(
            "{} documents, {} postings, {} → {} bytes, {seconds:.1} s",
            report.documents, report.postings, report.bytes_before, report.bytes_after,
        ))?;
        Ok(Ending::Done)
    }
}

/// The job in a folder, and where its source is.
fn open_job(folder: &Path, source: Option<&Path>) -> Result<(ReindexJob, PathBuf)> {
    if !folder.join("plan.json").exists() {
        return Err(UsageError(format!(
            "there is no plan in {}; make one with `laconic plan`",
            folder.display()
        ))
        .into());
    }
    let directory: MmapDirectory = directory(folder)?;
    let plan = ReindexPlan::read(&directory)?;
    let source = source.map_or_else(|| PathBuf::from(plan.location()), Path::to_owned);
    let index: Index = laconic_tantivy::open_in_dir(&source)?;
    Ok((ReindexJob::open(&index, directory)?, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_unit_once() {
        for n_units in [0, 1, 7, 8, 100] {
            for of in [1, 3, 8, 150] {
                let parts =
                    (0..of).flat_map(|number| Units::Part { number, of }.range(n_units).unwrap());
                assert_eq!(parts.collect::<Vec<_>>(), (0..n_units).collect::<Vec<_>>());
            }
        }
        let range = |text| parse_units(text).unwrap().range(10).ok();
        assert_eq!(range("0-9"), Some(0..10));
        assert_eq!(range("7"), Some(7..8));
        assert_eq!(range("0-10"), None);
        for wrong in ["", "8/8", "3-2", "a", "-1", "1/0", "1/2/3"] {
            assert!(parse_units(wrong).is_err(), "{wrong}");
        }
    }
}
