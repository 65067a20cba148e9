//! What a caller may choose when a model is loaded.

use std::path::{Path, PathBuf};

use crate::blocks::BlockFormat;
use crate::device::Device;
use crate::error::Error;
use crate::folder::Folder;
use crate::preset::{Preset, SIDE_FILE};

pub(crate) const MAX_SIDE_FILE: u64 = 64 << 10;

const DEFAULT_BATCH_TOKENS: usize = 4096;

/// How weights are held in memory, and computed with.
///
/// Formats of few bits are those of GGUF, block for block. A matrix whose inputs are no whole number
/// of a format's blocks takes the next format that fits: [`Q8_0`](Self::Q8_0), then
/// [`F32`](Self::F32).
///
/// A fingerprint does not depend on the format: vectors of several may share an index, which is how
/// a fast query meets documents that were encoded exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// As the file holds them: the blocks of a GGUF in their own formats, whatever else in f32.
    #[default]
    Stored,
    /// 4 bytes a weight: the checkpoint's numbers, computed in f32.
    F32,
    /// 2 bytes a weight: both sides rounded to bfloat16, sums in f32. Where the processor has no
    /// instruction for it, the same numbers are multiplied as f32; sums differ in their last bits.
    Bf16,
    /// 1.03 bytes a weight: bytes with a scale for every 128, multiplied as integers with rows
    /// quantized alike, in attention too. Term weights are close to those of f32, not equal: cosine
    /// 0.9997 on random weights of the 1B shape (`laconic bench encode --fidelity`), 0.9956 on the
    /// tiny golden checkpoints, whose 64 channels average out less.
    Int8,
    /// 1.06 bytes a weight: bytes with a scale for every 32, rows quantized alike.
    Q8_0,
    /// 1.06 bytes a weight: the same weights, but multiplied as f32 with rows as they are. Slower
    /// than f32 where memory does not bound it, in a quarter of the memory.
    Q8_0WeightOnly,
    /// 0.82 bytes a weight: 6 bits in superblocks of 256, rows as bytes.
    Q6K,
    /// 0.70 bytes a weight: 5 bits, likewise.
    Q5K,
    /// 0.58 bytes a weight: 4 bits, likewise.
    Q4K,
}

impl WeightFormat {
    /// All but what a file may hold already.
    pub(crate) const MADE: [Self; 8] = [
        Self::F32,
        Self::Bf16,
        Self::Int8,
        Self::Q8_0,
        Self::Q8_0WeightOnly,
        Self::Q6K,
        Self::Q5K,
        Self::Q4K,
    ];

    /// What it means for a file that holds plain numbers.
    pub(crate) fn of_safetensors(self) -> Self {
        match self {
            Self::Stored => Self::F32,
            format => format,
        }
    }

    /// This format, or the one that takes its place for rows of so many inputs.
    pub(crate) fn for_inputs(self, inputs: usize) -> Self {
        let fits = |blocks: BlockFormat| blocks.row_bytes(inputs).is_some();
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K if fits(BlockFormat::Q4K) => self,
            Self::Q4K | Self::Q5K | Self::Q6K => Self::Q8_0.for_inputs(inputs),
            Self::Q8_0 | Self::Q8_0WeightOnly if !fits(BlockFormat::Q8_0) => Self::F32,
            _ => self,
        }
    }
}

/// How to load a model folder, beyond where it is.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    tokenizer: Option<PathBuf>,
    preset: Option<Preset>,
    overrides: Vec<(String, String)>,
    batch_tokens: Option<usize>,
    weights: WeightFormat,
    device: Device,
    #[cfg(feature = "device")]
    tensors_on_cpu: bool,
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

    /// Holds the weights in this format, [as the file has them](WeightFormat::Stored) unless set.
    pub fn weights(mut self, format: WeightFormat) -> Self {
        self.weights = format;
        self
    }

    /// Runs the network there, on the CPU unless set. Networks are Llamas then, weights are f32, or
    /// bf16 with [`WeightFormat::Bf16`]; the formats of fewer bits are for the CPU.
    ///
    /// Term weights are those of the CPU within 1e-4 in f32, not bit for bit: vectors of several
    /// devices may share an index, as vectors of several formats may.
    ///
    /// [`Encoder::load`](crate::Encoder::load) refuses a device whose feature this program was
    /// built without.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Runs the code for devices on candle's CPU device, slowly: how it is tested without a GPU.
    #[cfg(feature = "device")]
    #[doc(hidden)]
    pub fn tensors_on_cpu(mut self) -> Self {
        self.tensors_on_cpu = true;
        self
    }

    pub(crate) fn on_device(&self) -> Device {
        self.device
    }

    /// Whether the network runs in tensor operations instead of kernels of ours.
    #[cfg(feature = "device")]
    pub(crate) fn wants_tensors(&self) -> bool {
        self.tensors_on_cpu || self.device != Device::Cpu
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

    /// The caller's preset or else the one that fits, overridden by the folder's side file or what
    /// takes its place, then by the caller.
    pub(crate) fn resolve_preset(
        &self,
        folder: &Folder,
        embedded: Option<&str>,
        fitting: Preset,
    ) -> Result<Preset, Error> {
        let mut preset = self.preset.clone().unwrap_or(fitting);
        let side_file = folder.read(SIDE_FILE, MAX_SIDE_FILE)?;
        if let Some(bytes) = side_file.or(embedded.map(|text| text.as_bytes().to_vec())) {
            preset.apply_side_file(&bytes)?;
        }
        for (key, value) in &self.overrides {
            preset.set(key, value)?;
        }
        Ok(preset)
    }
}
