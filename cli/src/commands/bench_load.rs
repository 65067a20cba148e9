//! `laconic bench load`: how soon a model is ready, without a checkpoint.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use laconic_model::bench::{RandomModel, write_random};
use serde::Serialize;

use super::Global;
use super::bench_encode::{ShapeName, parse_count};
use super::model_quantize::Format;
use super::options::Weights;
use crate::bench::encoder::median;
use crate::terminal::{Ending, note, print, print_json, progress};

/// Measure how soon a GGUF file of a known shape is ready to encode
///
/// Writes a random network into DIR, loads it several times, all but the tokenizer, and removes
/// it. The file is in the page cache, having just been written, if memory suffices.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  laconic bench load /tmp --format q4_k --threads 2")]
pub(crate) struct BenchLoad {
    /// Folder for the file: 1.3 GB for the 1B shape in q8_0
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Shape of the network
    #[arg(long, value_enum, default_value = "1b")]
    shape: ShapeName,
    /// Format of the file
    #[arg(long, value_enum, default_value = "q8_0")]
    format: Format,
    /// Format in memory
    #[arg(long, value_enum, default_value = "stored")]
    weights: Weights,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_count)]
    threads: usize,
    /// Times it is loaded
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_count)]
    rounds: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    file_bytes: u64,
    weight_bytes: u64,
    /// Of every round.
    seconds: Vec<f64>,
    median_seconds: f64,
}

impl BenchLoad {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let folder = self
            .folder
            .join(format!("laconic-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let report = self.measure(&folder.join("random.gguf"), global.quiet);
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("removing {}", folder.display()))?;
        let report = report?;
        if global.json {
            print_json(&report)?;
            return Ok(Ending::Done);
        }
        let megabytes = |bytes: u64| bytes / 1_000_000;
        print(format_args!(
            "{} MB in the file, {} MB in memory, ready in {:.2} s (median of {})",
            megabytes(report.file_bytes),
            megabytes(report.weight_bytes),
            report.median_seconds,
            report.seconds.len()
        ))?;
        Ok(Ending::Done)
    }

    fn measure(&self, path: &std::path::Path, quiet: bool) -> Result<Report> {
        note(quiet, "writing the file");
        let bar = progress("tensors", Some(0), quiet);
        write_random(
            self.shape.into(),
            self.format.into(),
            0,
            path,
            |done, all| {
                bar.set_length(all);
                bar.set_position(done);
            },
        )?;
        bar.finish_and_clear();
        let (mut seconds, mut weight_bytes) = (Vec::new(), 0);
        for _ in 0..self.rounds {
            let (model, time) = RandomModel::load(path, self.weights.format(), self.threads)?;
            seconds.push(time.as_secs_f64());
            weight_bytes = model.weight_bytes();
        }
        Ok(Report {
            file_bytes: std::fs::metadata(path)?.len(),
            weight_bytes: u64::try_from(weight_bytes)?,
            median_seconds: median(&mut seconds.clone()),
            seconds,
        })
    }
}
