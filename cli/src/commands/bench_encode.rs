//! `laconic bench encode`: the encoder's speed, without a checkpoint.

use anyhow::Result;
use clap::{Args, ValueEnum};
use laconic_model::bench::{MAX_TOKENS, Shape};

use super::Global;
use super::options::Weights;
use crate::bench::encoder::EncoderBench;
use crate::terminal::{Ending, print_json, progress};

/// Measure the encoder on random weights of a known shape
///
/// Makes up the weights in memory and encodes random token ids. Tokenizing is measured by itself,
/// with laconic-nano's tokenizer on abstracts. Prints times, rates, the share of each part, the rate of the product kernels where
/// nothing has to be fetched, and the time of reading the weights once, which no query beats.
/// `LACONIC_CPU=avx512` (no AMX), `avx-vnni`, `avx2` or `scalar` in the environment, on aarch64
/// `neon-dotprod`, `neon` or `scalar`, caps the instructions used.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  laconic bench encode                            the 1B shape, one thread, f32 and int8
  laconic bench encode --shape tiny               is it working?
  laconic bench encode --weights int8 --texts 8 --tokens 128 --threads 2
  laconic bench encode --fidelity --rounds 1      what does int8 change?
  laconic bench encode --weights int8,q8_0,q6_k,q5_k,q4_k
  LACONIC_CPU=avx2 laconic bench encode")]
pub(crate) struct BenchEncode {
    /// Shape of the network: 1b and 3b are Llama 3.2's, 8b is Llama 3.1's
    #[arg(long, value_enum, default_value = "1b")]
    shape: ShapeName,
    /// Formats to compare; all are held in memory at once
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT,…",
        value_delimiter = ',',
        default_value = "f32,int8"
    )]
    weights: Vec<Weights>,
    /// Tokens of a text
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "16,128,512",
          value_parser = parse_tokens)]
    tokens: Vec<usize>,
    /// Texts of a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    texts: usize,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    threads: usize,
    /// Rounds, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_count)]
    rounds: usize,
    /// Seed of weights and texts
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Also compare the term weights of all formats with those of the first
    #[arg(long)]
    fidelity: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ShapeName {
    Tiny,
    #[value(name = "1b")]
    Llama1B,
    #[value(name = "3b")]
    Llama3B,
    #[value(name = "8b")]
    Llama8B,
}

impl From<ShapeName> for Shape {
    fn from(name: ShapeName) -> Self {
        match name {
            ShapeName::Tiny => Self::Tiny,
            ShapeName::Llama1B => Self::Llama1B,
            ShapeName::Llama3B => Self::Llama3B,
            ShapeName::Llama8B => Self::Llama8B,
        }
    }
}

fn parse_tokens(text: &str) -> Result<usize, String> {
    super::bench::parse_within(text, MAX_TOKENS)
}

pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    super::bench::parse_within(text, 1024)
}

impl BenchEncode {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let n_steps = self.weights.len() * (1 + self.tokens.len() * (self.rounds + 1));
        let bar = progress("rounds", Some(n_steps as u64), global.quiet);
        let bench = EncoderBench {
            shape: self.shape.into(),
            formats: self
                .weights
                .iter()
                .map(|weights| (weights.to_string(), weights.format()))
                .collect(),
            lengths: self.tokens,
            texts: self.texts,
            threads: self.threads,
            rounds: self.rounds,
            seed: self.seed,
        };
        let report = bench.run(self.fidelity, &|| bar.inc(1))?;
        bar.finish_and_clear();
        match global.json {
            true => print_json(&report)?,
            false => report.print()?,
        }
        Ok(Ending::Done)
    }
}
