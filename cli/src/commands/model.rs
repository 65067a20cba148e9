//! `laconic model`: checkpoints.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use laconic_model::train::NewModel;

use super::Global;
use super::model_info::Info;
use crate::collection::{self, LineReader};
use crate::terminal::{Ending, note, progress};

/// Get checkpoints, make them, and look into them
#[derive(Debug, Args)]
pub(crate) struct Model {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "hub")]
    Pull(super::model_pull::Pull),
    New(New),
    Quantize(super::model_quantize::Quantize),
    Info(Info),
}

/// Make a small model to train, with a tokenizer for the texts of a corpus
///
/// The tokenizer is a byte-level BPE of lower-case text, trained on the corpus. The model is a
/// Llama that begins as a matcher of words: each position weighs its own token, rare ones more.
/// `train` teaches it what else to weigh.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  laconic model new corpus.jsonl.gz --output start")]
struct New {
    /// Documents as JSON lines; plain, gzip or zstd; - for standard input
    #[arg(value_name = "FILE")]
    docs: PathBuf,
    /// Folder of the checkpoint; files of the same names in it are replaced
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Most entries of the vocabulary
    #[arg(long, value_name = "N", default_value_t = NewModel::default().vocab_size)]
    vocabulary: usize,
    /// Width of the residual stream
    #[arg(long, value_name = "N", default_value_t = NewModel::default().hidden_size)]
    hidden: usize,
    /// Inner width of the MLPs
    #[arg(long, value_name = "N", default_value_t = NewModel::default().intermediate_size)]
    intermediate: usize,
    /// Transformer blocks
    #[arg(long, value_name = "N", default_value_t = NewModel::default().layers)]
    layers: usize,
    /// Attention heads
    #[arg(long, value_name = "N", default_value_t = NewModel::default().heads)]
    heads: usize,
    /// Tokens that the model reads of a text
    #[arg(long, value_name = "N", default_value_t = NewModel::default().max_length)]
    max_length: usize,
    /// Seed of all random values
    #[arg(long, default_value_t = NewModel::default().seed)]
    seed: u64,
}

impl Model {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        match self.command {
            #[cfg(feature = "hub")]
            Command::Pull(pull) => pull.run(global),
            Command::New(new) => new.run(global),
            Command::Quantize(quantize) => quantize.run(global),
            Command::Info(info) => info.run(global),
        }
    }
}

impl New {
    fn run(self, global: &Global) -> Result<Ending> {
        let bar = progress("documents", None, global.quiet);
        let mut texts = Vec::new();
        for document in collection::documents(LineReader::open(&self.docs)?) {
            let document = document?.record;
            let title = document.title.as_deref().unwrap_or("");
            texts.push(format!("{title} {}", document.text));
            bar.inc(1);
        }
        bar.finish_and_clear();
        note(global.quiet, "training the tokenizer");
        let shape = NewModel {
            vocab_size: self.vocabulary,
            hidden_size: self.hidden,
            intermediate_size: self.intermediate,
            layers: self.layers,
            heads: self.heads,
            max_length: self.max_length,
            seed: self.seed,
        };
        shape.write(&self.output, &texts)?;
        note(
            global.quiet,
            format_args!("wrote {}", self.output.display()),
        );
        Ok(Ending::Done)
    }
}
