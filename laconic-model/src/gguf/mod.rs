//! GGUF files: read with every number checked, written in one rename.
//!
//! The format (ggml's `docs/gguf.md`): a header, metadata (key → typed value), one entry for each
//! tensor (name, dimensions, type, offset), padding, then the tensors' data, each aligned. Names and
//! keys are those of llama.cpp's Llama architecture; what they mean to us is in `names` and
//! `metadata`.

mod header;
mod load;
mod metadata;
mod names;
mod reader;
mod write;

pub(crate) use header::Gguf;
pub(crate) use write::{Plan, write};

use crate::blocks::BlockFormat;

/// The extension of a file's name.
pub(crate) const EXTENSION: &str = "gguf";

/// How a tensor's numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    F16,
    Bf16,
    Blocks(BlockFormat),
}

/// Ids and names of types, those of ggml; what is not read has no type of ours.
const TYPES: [(u32, &str, Option<TensorType>); 25] = [
    (0, "F32", Some(TensorType::F32)),
    (1, "F16", Some(TensorType::F16)),
    (2, "Q4_0", None),
    (3, "Q4_1", None),
    (6, "Q5_0", None),
    (7, "Q5_1", None),
    (8, "Q8_0", Some(TensorType::Blocks(BlockFormat::Q8_0))),
    (9, "Q8_1", None),
    (10, "Q2_K", None),
    (11, "Q3_K", None),
    (12, "Q4_K", Some(TensorType::Blocks(BlockFormat::Q4K))),
    (13, "Q5_K", Some(TensorType::Blocks(BlockFormat::Q5K))),
    (14, "Q6_K", Some(TensorType::Blocks(BlockFormat::Q6K))),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", None),
    (17, "IQ2_XS", None),
    (18, "IQ3_XXS", None),
    (19, "IQ1_S", None),
    (20, "IQ4_NL", None),
    (21, "IQ3_S", None),
    (22, "IQ2_S", None),
    (23, "IQ4_XS", None),
    (28, "F64", None),
    (29, "IQ1_M", None),
    (30, "BF16", Some(TensorType::Bf16)),
];

impl TensorType {
    fn name(self) -> &'static str {
        let found = TYPES.iter().find(|(_, _, known)| *known == Some(self));
        found.map_or("?", |(_, name, _)| *name)
    }

    fn id(self) -> u32 {
        let found = TYPES.iter().find(|(_, _, known)| *known == Some(self));
        found.map_or(0, |(id, ..)| *id)
    }

    /// Numbers that are written together, and the bytes they take.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Blocks(format) => (format.inputs(), format.bytes()),
        }
    }
}
