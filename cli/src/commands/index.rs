//! `laconic index`: documents and vectors into an index.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use laconic_tantivy::{Identity, ImpactQuantizer, QuantizationLoss};

use super::Global;
use super::cache_options::CacheOptions;
use super::optimize::parse_threads;
use super::options::{ModelOptions, given_model, vector_scale};
use crate::collection::{self, DEFAULT_LINE_LIMIT, LineReader, VectorScale};
use crate::encoding_cache::EncodingCache;
use crate::indexing::{IndexJob, IndexReport, SegmentOptions, VectorSource, open_or_create};
use crate::terminal::{BusyError, Ending, UsageError, note, progress};

/// Index documents with their learned-sparse vectors, beside BM25
///
/// Documents are JSON lines {"_id", "title", "text", …}, plain, gzip or zstd; further fields are
/// kept and can be searched. Vectors are computed with --model or read with --vectors; without
/// either the index serves BM25 alone. Adding an _id that is there replaces the document.
///
/// Everything up to the last commit survives a kill; running the same command again goes on from
/// there.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  laconic index --index idx --docs corpus.jsonl.gz --model laconic-1b"
)]
pub(crate) struct Index {
    /// Folder of the index, made if missing
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Documents; - for standard input
    #[arg(long, value_name = "FILE")]
    docs: PathBuf,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    cache: CacheOptions,
    /// Vectors as JSON lines {"_id", "vector": {term: weight}}
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    vectors: Option<PathBuf>,
    /// Factor the weights of the vector file were multiplied with
    #[arg(long, value_name = "S", default_value = "1", value_parser = vector_scale)]
    vector_scale: VectorScale,
    /// Name of the model that made the vectors, recorded with the index
    #[arg(long, value_name = "NAME", requires = "vectors")]
    vectors_model: Option<String>,
    /// Index documents that the vector file lacks without sparse terms, instead of stopping
    #[arg(long, requires = "vectors")]
    allow_missing_vectors: bool,
    /// Bits of an impact, 4 to 8, for a new index [default: 5, or what the index has]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(4..=8))]
    bits: Option<u8>,
    /// Count lines that cannot be read and go on, instead of stopping at the first
    #[arg(long)]
    skip_invalid: bool,
    /// Longest line accepted, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_LINE_LIMIT >> 20,
          value_parser = parse_mebibytes)]
    max_line: usize,
    /// Memory for the segments under construction, in MiB; a segment that fills it is written
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = parse_memory)]
    memory: usize,
    /// Threads that build segments, beside those that read and encode
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
    /// Bring documents with similar vectors next to each other in every segment written, which
    /// makes search faster; `laconic optimize` does so for the index as a whole
    #[arg(long)]
    reorder: bool,
    /// Seconds between commits
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = parse_seconds)]
    commit_every: f64,
    /// Read an input from its start even if an earlier, unfinished run has committed part of it
    #[arg(long)]
    no_resume: bool,
}

fn parse_mebibytes(text: &str) -> Result<usize, String> {
    let mebibytes = text
        .parse::<usize>()
        .ok()
        .filter(|n| (1..=4096).contains(n));
    mebibytes.ok_or_else(|| "a whole number from 1 to 4096 is needed".to_owned())
}

fn parse_memory(text: &str) -> Result<usize, String> {
    let mebibytes = text
        .parse::<usize>()
        .ok()
        .filter(|n| (20..=1 << 20).contains(n));
    mebibytes.ok_or_else(|| "a whole number from 20 to 1048576 is needed".to_owned())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|n| (0.0..=1e9).contains(n));
    seconds.ok_or_else(|| "a number of seconds is needed".to_owned())
}

impl Index {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        if self.docs.as_os_str() != "-" && !self.docs.exists() {
            // A mistyped name leaves no empty index behind.
            LineReader::open(&self.docs)?;
        }
        let vectors = self.vector_source(global.quiet)?;
        let n_found = match &vectors {
            VectorSource::Model(encoder) => encoder.cache.as_ref().map(EncodingCache::n_found),
            _ => None,
        };
        if self.reorder && matches!(vectors, VectorSource::None) {
            let message = "--reorder goes by vectors; give some with `--model` or `--vectors`";
            return Err(UsageError(message.to_owned()).into());
        }
        let corpus = open_or_create(&self.index, self.identity(&vectors, global.quiet)?)?;
        let bar = progress("documents", None, global.quiet);
        let job = IndexJob {
            docs: &self.docs,
            vectors,
            skip_invalid: self.skip_invalid,
            line_limit: self.max_line << 20,
            segments: SegmentOptions {
                memory_budget: self.memory << 20,
                n_threads: self.threads,
                reorder: self.reorder,
            },
            commit_every: Duration::from_secs_f64(self.commit_every),
            resume: !self.no_resume,
            progress: &mut |n_documents| bar.set_position(n_documents),
        };
        let report = job.run(&corpus);
        bar.finish_and_clear();
        let ending = print_report(&report.map_err(|error| self.name_if_busy(error))?, global)?;
        let n_found = n_found.map_or(0, |n_found| n_found.load(Relaxed));
        if n_found > 0 {
            let message = format_args!("{n_found} encodings were in the cache");
            note(global.quiet, message);
        }
        Ok(ending)
    }

    /// Tantivy's message does not say which index is locked.
    fn name_if_busy(&self, error: anyhow::Error) -> anyhow::Error {
        let cause = error.downcast_ref::<laconic_tantivy::Error>();
        if !cause.is_some_and(laconic_tantivy::Error::is_busy) {
            return error;
        }
        let message = format!(
            "another process is writing to the index in {}; wait for it to end and run again",
            self.index.display()
        );
        BusyError(message).into()
    }

    fn vector_source(&self, quiet: bool) -> Result<VectorSource> {
        if let Some(encoder) = self.model.load()? {
            let encoder = self.cache.cached(encoder, quiet)?;
            return Ok(VectorSource::Model(Box::new(encoder)));
        }
        let Some(path) = &self.vectors else {
            return Ok(VectorSource::None);
        };
        let lines = LineReader::open(path)?.with_line_limit(self.max_line << 20);
        Ok(VectorSource::File {
            records: Box::new(collection::vectors(lines, self.vector_scale)),
            model: self.vectors_model.as_deref().map(given_model).transpose()?,
            allow_missing: self.allow_missing_vectors,
        })
    }

    /// What a new index is to be built with, or an old one must have been built with.
    fn identity(&self, vectors: &VectorSource, quiet: bool) -> Result<Option<Identity>> {
        if matches!(vectors, VectorSource::None) {
            return Ok(None);
        }
        let stored = self.stored_identity()?.unwrap_or_default();
        let quantizer = match self.bits {
            Some(bits) => ImpactQuantizer::with_bits(bits)?,
            None => stored.quantizer,
        };
        let model = vectors.model();
        if let (None, Some(stored)) = (&model, &stored.model) {
            let message = "note: the vectors do not say which model made them; taking it to be";
            note(quiet, format_args!("{message} the index's, {stored}"));
        }
        Ok(Some(Identity {
            quantizer,
            model: model.or(stored.model),
        }))
    }

    fn stored_identity(&self) -> Result<Option<Identity>> {
        use crate::corpus::Corpus;
        if !Corpus::exists(&self.index) {
            return Ok(None);
        }
        Ok(Corpus::open(&self.index)?
            .laconic()
            .map(|field| field.identity().clone()))
    }
}

fn print_report(report: &IndexReport, global: &Global) -> Result<Ending> {
    if global.json {
        crate::terminal::print_json(report)?;
        return Ok(Ending::Done);
    }
    crate::terminal::print(format_args!("{}", Summary(report)))?;
    warn_of_loss(report, global.quiet);
    Ok(Ending::Done)
}

fn warn_of_loss(report: &IndexReport, quiet: bool) {
    let loss = QuantizationLoss {
        weights: report.weights,
        clipped: report.clipped_weights,
        vanished: report.vanished_weights,
    };
    // One weight in a hundred at either end means that the scale does not fit these vectors.
    if loss.clipped * 100 > loss.weights {
        note(
            quiet,
            "warning: over 1 % of the weights were clipped; is --vector-scale right?",
        );
    }
    if loss.vanished * 100 > loss.weights {
        note(
            quiet,
            "warning: over 1 % of the weights vanished; is --vector-scale right?",
        );
    }
}

struct Summary<'a>(&'a IndexReport);

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let report = self.0;
        write!(f, "{} documents indexed", report.documents)?;
        if report.postings > 0 {
            write!(f, ", {} postings", report.postings)?;
        }
        write!(f, ", {:.1} s", report.seconds)?;
        for (count, what) in [
            (
                report.resumed_documents,
                "documents were committed by an earlier run",
            ),
            (report.empty_vectors, "documents have no sparse term"),
            (
                report.truncated_texts,
                "texts were cut at the model's maximum length",
            ),
            (
                report.skipped_lines,
                "lines could not be read and were skipped",
            ),
            (report.unused_vectors, "vectors belong to no document"),
            (
                report.clipped_weights,
                "weights were above the range and clipped",
            ),
            (
                report.vanished_weights,
                "weights were too small and dropped",
            ),
        ] {
            if count > 0 {
                write!(f, "\n{count} {what}")?;
            }
        }
        Ok(())
    }
}
