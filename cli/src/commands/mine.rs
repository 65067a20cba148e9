//! `laconic mine`: hard negatives for training pairs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use laconic_tantivy::{Approximation, Bm25};

use super::Global;
use super::options::ModelOptions;
use crate::collection::{self, LineReader, example_json};
use crate::corpus::Corpus;
use crate::hybrid::Hybrid;
use crate::retrieval::{MAX_K, Mode, Retriever};
use crate::terminal::{Ending, UsageError, note, progress};
use crate::training::Miner;

/// Find hard negatives for training pairs in an index
///
/// Searches for each pair's query, by BM25 or by a model, and takes from the hits those that are
/// not its own document and do not score too close to it. The group of a pair is the id of its
/// document, as `pairs` writes it. Pairs for which too few are found are left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  laconic mine --index idx --mode bm25 --pairs pairs.jsonl \
                        --output triplets.jsonl\n  laconic mine --index idx --model phase1/model \
                        --pairs pairs.jsonl --output triplets.jsonl --negatives 15"
)]
pub(crate) struct Mine {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Pairs, JSON lines {"query", "positive", "group"}; plain, gzip or zstd
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Where the pairs go, with "negatives", hardest first
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelOptions,
    /// How to search
    #[arg(long, value_enum, default_value = "sparse")]
    mode: Mode,
    /// Hits looked at
    #[arg(long, short, default_value_t = 100)]
    k: usize,
    /// Hits passed over at the top
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Negatives of each pair
    #[arg(long, value_name = "N", default_value_t = 7)]
    negatives: usize,
    /// Leave out hits that score more than this share of the pair's own document: they may be
    /// answers nobody marked
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    margin: f32,
}

impl Mine {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        if self.k == 0 || self.k > MAX_K || !self.margin.is_finite() || self.margin <= 0.0 {
            let message = format!("--k goes from 1 to {MAX_K}, --margin is above 0");
            return Err(UsageError(message).into());
        }
        let corpus = Corpus::open(&self.index)?;
        let encoder = self.model.load()?;
        if encoder.is_none() && self.mode != Mode::Bm25 {
            let message = "to search by a model, name its checkpoint with --model; --mode bm25 \
                           needs none";
            return Err(UsageError(message.to_owned()).into());
        }
        let retriever = Retriever {
            corpus: &corpus,
            searcher: corpus.searcher()?,
            mode: self.mode,
            encoder: encoder.as_ref(),
            vectors_of: None,
            filter: None,
            n_threads: 1,
            bm25: Bm25::default(),
            approximation: Approximation::default(),
            hybrid: Hybrid::default(),
        };
        let mut miner = Miner {
            retriever,
            depth: self.k,
            skip: self.skip,
            negatives: self.negatives,
            margin: self.margin,
        };
        let describe = || format!("cannot write {}", self.output.display());
        let mut output = BufWriter::new(File::create(&self.output).with_context(describe)?);
        let bar = progress("pairs", None, global.quiet);
        let (mut n_written, mut n_short, mut n_too_close) = (0, 0, 0);
        for pair in collection::examples(LineReader::open(&self.pairs)?) {
            let mined = miner.mine(pair?.record.0)?;
            n_too_close += mined.n_too_close;
            bar.inc(1);
            if mined.example.negatives.len() < self.negatives {
                n_short += 1;
                continue;
            }
            writeln!(output, "{}", example_json(&mined.example)).with_context(describe)?;
            n_written += 1;
        }
        output.flush().with_context(describe)?;
        bar.finish_and_clear();
        note(
            global.quiet,
            format_args!(
                "{n_written} pairs with {} negatives each; {n_short} left out with fewer; \
                 {n_too_close} hits scored too close to their pair's own document",
                self.negatives
            ),
        );
        match n_written {
            0 => Ok(Ending::NothingFound),
            _ => Ok(Ending::Done),
        }
    }
}
