//! What a caller may choose when a model is loaded.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::folder::Folder;
use crate::preset::{Preset, SIDE_FILE};

const MAX_SIDE_FILE: u64 = 64 << 10;

const DEFAULT_BATCH_TOKENS: usize = 4096;

/// How weights are held in memory, and computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// 4 bytes a weight: the checkpoint's numbers, computed in f32.
    #[default]
    F32,
    /// 1.03 bytes a weight: bytes with a scale for every 128, multiplied as integers with rows
    /// quantized alike. Term weights are close to those of f32, not equal: cosine 0.9997 on random
    /// weights of the 1B shape (`laconic bench encode --fidelity`), 0.9966 on the tiny golden
    /// checkpoints, whose 64 channels average out less.
    ///
    /// A fingerprint does not depend on the format: vectors of both may share an index, which is
    /// how a fast query meets documents that were encoded exactly.
    Int8,
}

/// How to load a model folder, beyond where it is.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    tokenizer: Option<PathBuf>,
    preset: Option<Preset>,
    overrides: Vec<(String, String)>,
    batch_tokens: Option<usize>,
    weights: WeightFormat,
}

impl LoadOptions {
    /// The preset that fits the folder, the folder's own `tokenizer.json`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the tokenizer from this file instead of from the model folder.
    pub fn tokenizer(mut self, path: impl Into<PathBuf>) -> Self {
        self.tokenizer = Some(path.into());
        self
    }

    /// Starts from this preset instead of the one that fits the folder:
    /// [`Preset::laconic`] for a Llama, and for BERT or DistilBERT what the
    /// folder's files say. The folder's `laconic.json` and
    /// [`LoadOptions::set`] override it, in that order.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = Some(preset);
        self
    }

    /// Overrides one knob of the preset; names and ranges are those of
    /// [`Preset::set`] and are checked by [`Encoder::load`](crate::Encoder::load).
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }

    /// Tokens that go through the network together, 4,096 unless set.
    ///
    /// Memory grows with it: about 4 · (3 · hidden + 3 · intermediate) bytes a
    /// token. A text longer than this still goes through, alone.
    pub fn batch_tokens(mut self, n_tokens: usize) -> Self {
        self.batch_tokens = Some(n_tokens);
        self
    }

    /// Holds the weights in this format, f32 unless set.
    pub fn weights(mut self, format: WeightFormat) -> Self {
        self.weights = format;
        self
    }

    pub(crate) fn weight_format(&self) -> WeightFormat {
        self.weights
    }

    pub(crate) fn tokenizer_path(&self) -> Option<&Path> {
        self.tokenizer.as_deref()
    }

    pub(crate) fn max_batch_tokens(&self) -> usize {
        self.batch_tokens.unwrap_or(DEFAULT_BATCH_TOKENS)
    }

    /// The caller's preset or else the one that fits, overridden by the folder's side file, then by
    /// the caller.
    pub(crate) fn resolve_preset(&self, folder: &Folder, fitting: Preset) -> Result<Preset, Error> {
        let mut preset = self.preset.clone().unwrap_or(fitting);
        if let Some(bytes) = folder.read(SIDE_FILE, MAX_SIDE_FILE)? {
            preset.apply_side_file(&bytes)?;
        }
        for (key, value) in &self.overrides {
            preset.set(key, value)?;
        }
        Ok(preset)
    }
}
