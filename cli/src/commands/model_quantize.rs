//! `laconic model quantize`: a checkpoint as GGUF, in fewer bits.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use laconic_model::{FileFormat, LoadOptions, quantize};

use super::Global;
use crate::terminal::{Ending, note, progress};

/// Write a checkpoint as one GGUF file, its weights in fewer bits
///
/// An encoder of the file computes what one of the checkpoint does with --weights of the same
/// format, bit for bit, and loads sooner. The file carries the config and the preset; the
/// tokenizer stays beside it, as tokenizer.json. Programs that read llama.cpp's Llama models find
/// its names and metadata. What each format costs: docs/formats.md.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  laconic model quantize laconic-1b small --format q8_0    small/laconic-1b-q8_0.gguf, tokenizer.json
  laconic search INDEX \"a question\" --model small")]
pub(crate) struct Quantize {
    /// Folder of a checkpoint, or a GGUF file
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// A name that ends in .gguf; or a folder, which gets the tokenizer too
    #[arg(value_name = "DESTINATION")]
    destination: PathBuf,
    /// How matrices are written; what is no whole number of blocks takes q8_0, then f32
    #[arg(long, value_enum)]
    format: Format,
    /// Tokenizer to put into the folder, if the checkpoint has none
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// 4 bytes a weight: exact
    F32,
    /// 2 bytes a weight, 11 bits of precision
    F16,
    /// 2 bytes a weight, 8 bits of precision
    Bf16,
    /// 1.06 bytes a weight
    #[value(name = "q8_0")]
    Q8_0,
    /// 0.82 bytes a weight
    #[value(name = "q6_k")]
    Q6K,
    /// 0.69 bytes a weight
    #[value(name = "q5_k")]
    Q5K,
    /// 0.56 bytes a weight; loses 0.5 % nDCG@10 (docs/formats.md)
    #[value(name = "q4_k")]
    Q4K,
}

impl From<Format> for FileFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::F16 => Self::F16,
            Format::Bf16 => Self::Bf16,
            Format::Q8_0 => Self::Q8_0,
            Format::Q6K => Self::Q6K,
            Format::Q5K => Self::Q5K,
            Format::Q4K => Self::Q4K,
        }
    }
}

impl Quantize {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let mut options = LoadOptions::new();
        if let Some(tokenizer) = &self.tokenizer {
            options = options.tokenizer(tokenizer);
        }
        let bar = progress("weights", Some(0), global.quiet);
        let format = self.format.into();
        let tick = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let path = quantize(&self.source, &self.destination, format, &options, tick)?;
        bar.finish_and_clear();
        let n_bytes = std::fs::metadata(&path)?.len();
        let size = format_args!(
            "wrote {}, {} MB",
            path.display(),
            n_bytes.div_ceil(1_000_000)
        );
        note(global.quiet, size);
        Ok(Ending::Done)
    }
}
