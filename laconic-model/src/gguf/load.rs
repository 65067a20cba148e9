//! Tensors of a GGUF file: compared with the config, read in order, packed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::header::{Gguf, TensorInfo};
use super::names::{Order, ROPE_FREQS, is_rotated, reorder, to_gguf};
use super::{TYPES, TensorType};
use crate::blocks::BlockFormat;
use crate::config::Config;
use crate::error::Error;
use crate::float16::{widen_bf16, widen_f16};
use crate::folder::Fingerprint;
use crate::matmul::{GROUP, Matrix};
use crate::options::WeightFormat;
use crate::weights::{Expected, Stored, Weight, Weights, manifest};

/// Bytes that are read, hashed and packed by one task at a time.
const PART: usize = 1 << 20;

/// A tensor's bytes, in the order of rows that we compute with.
struct Data {
    kind: TensorType,
    bytes: Vec<u8>,
}

/// One tensor of the file, and what it is to us.
struct Place<'a> {
    file: &'a Gguf,
    info: &'a TensorInfo,
    tensor: &'a Expected,
    head_dim: usize,
}

impl Gguf {
    /// Loads every tensor of the network, each packed before the next is read.
    pub(crate) fn weights(
        self,
        config: &Config,
        format: WeightFormat,
        fingerprint: &mut Fingerprint,
    ) -> Result<Weights, Error> {
        let mut tensors = HashMap::new();
        self.for_each(config, fingerprint, |place, fingerprint| {
            let weight = match (place.tensor.inputs(), place.info.kind) {
                (Some(_), TensorType::Blocks(blocks)) if is_held(format, blocks) => {
                    let is_weight_only = format == WeightFormat::Q8_0WeightOnly;
                    Weight::Matrix(place.read_matrix(blocks, is_weight_only, fingerprint)?)
                }
                _ => place.read(fingerprint)?.pack(place.tensor, format),
            };
            tensors.insert(place.tensor.name.clone(), weight);
            Ok(())
        })?;
        Ok(Weights::new(tensors))
    }

    /// As [`read_each`](crate::weights::read_each), for this file.
    pub(crate) fn read_each(
        self,
        config: &Config,
        fingerprint: &mut Fingerprint,
        mut accept: impl FnMut(&Expected, Vec<f32>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.for_each(config, fingerprint, |place, fingerprint| {
            accept(place.tensor, place.read(fingerprint)?.numbers())
        })
    }

    /// As [`inspect`](crate::weights::inspect), of this file.
    pub(crate) fn inspect(
        self,
        config: &Config,
        fingerprint: &mut Fingerprint,
    ) -> Result<Vec<Stored>, Error> {
        let mut stored = Vec::new();
        self.for_each(config, fingerprint, |place, fingerprint| {
            place.read(fingerprint)?;
            stored.push(Stored {
                tensor: place.tensor.clone(),
                dtype: place.info.kind.name().to_owned(),
                shard: place.file.name.clone(),
            });
            Ok(())
        })?;
        Ok(stored)
    }

    fn for_each(
        &self,
        config: &Config,
        fingerprint: &mut Fingerprint,
        mut accept: impl FnMut(&Place<'_>, &mut Fingerprint) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let expected = manifest(config);
        let wanted = self.check_manifest(&expected, config)?;
        fingerprint.begin("weights", self.len);
        fingerprint.update(self.hash.as_bytes());
        for info in &self.tensors {
            match wanted.get(info.name.as_str()) {
                Some(tensor) => {
                    let head_dim = config.head_dim;
                    accept(
                        &Place {
                            file: self,
                            info,
                            tensor,
                            head_dim,
                        },
                        fingerprint,
                    )?;
                }
                None => fingerprint.update(&self.read_bytes(info)?),
            }
        }
        Ok(())
    }

    /// The manifest by llama.cpp's names, each found in the file and of its shape.
    fn check_manifest<'a>(
        &self,
        expected: &'a [Expected],
        config: &Config,
    ) -> Result<HashMap<String, &'a Expected>, Error> {
        let mut found: HashMap<&str, &TensorInfo> = self
            .tensors
            .iter()
            .map(|info| (info.name.as_str(), info))
            .collect();
        found.remove(ROPE_FREQS);
        let mut wanted = HashMap::new();
        for tensor in expected {
            let name = to_gguf(&tensor.name).unwrap_or_else(|| tensor.name.clone());
            let Some(info) = found.remove(name.as_str()) else {
                return Err(self.damaged(format!(
                    "tensor {name} is missing (llama.block_count = {})",
                    config.n_layers
                )));
            };
            if !tensor.is_shape(&info.shape) {
                return Err(self.damaged(format!(
                    "tensor {name} has shape {:?}, the metadata imply {}",
                    info.shape,
                    tensor.shape_text()
                )));
            }
            if tensor.inputs().is_none() && matches!(info.kind, TensorType::Blocks(_)) {
                return Err(self.damaged(format!("{name} is a vector, and quantized")));
            }
            wanted.insert(name, tensor);
        }
        match found.keys().min() {
            None => Ok(wanted),
            Some(extra) => Err(self.damaged(format!(
                "the network of {} layers has no tensor {extra:?}",
                config.n_layers
            ))),
        }
    }

    /// A tensor's bytes: as many as were found to lie in the file.
    fn read_bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(info.n_bytes).map_err(|source| {
            Error::unsupported(format!(
                "reading tensor {} of {}: {source}; this machine has too little memory for the \
                 model",
                info.name, self.name
            ))
            .with_source(source)
        })?;
        bytes.resize(info.n_bytes, 0);
        self.read_part(info, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Some of a tensor's bytes.
    fn read_part(&self, info: &TensorInfo, start: usize, out: &mut [u8]) -> Result<(), Error> {
        let place = self.start + info.offset + start as u64;
        read_exact_at(&self.file, out, place).map_err(|source| {
            let why = format!("reading tensor {}: {source}", info.name);
            self.damaged(why).with_source(source)
        })
    }

    /// The numbers of a small tensor.
    pub(super) fn read_floats(&self, info: &TensorInfo) -> Result<Vec<f32>, Error> {
        let (kind, bytes) = (info.kind, self.read_bytes(info)?);
        Ok(Data { kind, bytes }.numbers())
    }
}

impl Place<'_> {
    /// Rows that are read together: whole groups, of queries and keys whole heads as well.
    fn part_rows(&self) -> usize {
        let rows = match is_rotated(&self.tensor.name) {
            true => common_multiple(GROUP, self.head_dim),
            false => GROUP,
        };
        let row_bytes = (self.info.n_bytes / self.info.shape[0]).max(1);
        (PART / row_bytes / rows).max(1) * rows
    }

    /// The whole tensor, checked; the fingerprint grows by the hashes of its parts.
    fn read(&self, fingerprint: &mut Fingerprint) -> Result<Data, Error> {
        let kind = self.info.kind;
        let mut data = Data {
            kind,
            bytes: self.file.read_bytes(self.info)?,
        };
        let n_rows = self.info.shape[0];
        let part = self.part_rows() * (self.info.n_bytes / n_rows);
        let hashes: Vec<u128> = data.bytes.par_chunks(part).map(xxh3_128).collect();
        hashes
            .iter()
            .for_each(|hash| fingerprint.update(&hash.to_le_bytes()));
        if !data.is_finite() {
            return Err(self.not_finite());
        }
        if is_rotated(&self.tensor.name) {
            data.bytes = reorder(&data.bytes, n_rows, self.head_dim, Order::Separate);
        }
        Ok(data)
    }

    /// The same, part by part, each packed while it is in cache.
    fn read_matrix(
        &self,
        format: BlockFormat,
        is_weight_only: bool,
        fingerprint: &mut Fingerprint,
    ) -> Result<Matrix, Error> {
        let shape = [self.info.shape[0], self.info.shape[1]];
        let (part, row_bytes) = (self.part_rows(), self.info.n_bytes / shape[0]);
        let hashes: Vec<OnceLock<u128>> = (0..shape[0].div_ceil(part))
            .map(|_| OnceLock::new())
            .collect();
        let read = |rows: Range<usize>, bytes: &mut Vec<u8>| {
            bytes.resize(rows.len() * row_bytes, 0);
            self.file
                .read_part(self.info, rows.start * row_bytes, bytes)?;
            hashes[rows.start / part].get_or_init(|| xxh3_128(bytes));
            if !format.is_finite(bytes) {
                return Err(self.not_finite());
            }
            if is_rotated(&self.tensor.name) {
                *bytes = reorder(bytes, rows.len(), self.head_dim, Order::Separate);
            }
            Ok(())
        };
        let matrix = Matrix::read_blocks(format, shape, part, is_weight_only, read)?;
        let hashes = hashes.iter().filter_map(OnceLock::get);
        hashes.for_each(|hash| fingerprint.update(&hash.to_le_bytes()));
        Ok(matrix)
    }

    fn not_finite(&self) -> Error {
        let name = &self.info.name;
        self.file.damaged(format!(
            "tensor {name} holds a number that is NaN or infinite"
        ))
    }
}

fn common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, place)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut place: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, place)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n_read => {
                out = &mut out[n_read..];
                place += n_read as u64;
            }
        }
    }
    Ok(())
}

impl Data {
    /// The bytes in pairs, for types of 16 bits.
    fn words(&self) -> impl Iterator<Item = u16> {
        let (pairs, _) = self.bytes.as_chunks::<2>();
        pairs.iter().copied().map(u16::from_le_bytes)
    }

    fn is_finite(&self) -> bool {
        let words = self.words();
        match self.kind {
            // An exponent of ones is infinity or NaN.
            TensorType::F32 => {
                let words = self
                    .bytes
                    .as_chunks()
                    .0
                    .iter()
                    .copied()
                    .map(u32::from_le_bytes);
                words.fold(true, |all, bits| all & (bits & 0x7f80_0000 != 0x7f80_0000))
            }
            TensorType::F16 => words.fold(true, |all, bits| all & (bits & 0x7c00 != 0x7c00)),
            TensorType::Bf16 => words.fold(true, |all, bits| all & (bits & 0x7f80 != 0x7f80)),
            TensorType::Blocks(format) => format.is_finite(&self.bytes),
        }
    }

    fn numbers(&self) -> Vec<f32> {
        let words = self.words();
        match self.kind {
            TensorType::F32 => {
                let words = self.bytes.as_chunks().0.iter().copied();
                words.map(f32::from_le_bytes).collect()
            }
            TensorType::F16 => words.map(widen_f16).collect(),
            TensorType::Bf16 => words.map(widen_bf16).collect(),
            TensorType::Blocks(format) => {
                let n_blocks = self.bytes.len() / format.bytes();
                let mut values = vec![0.0; n_blocks * format.inputs()];
                format.dequantize(&self.bytes, &mut values);
                values
            }
        }
    }

    fn pack(&self, tensor: &Expected, format: WeightFormat) -> Weight {
        if format != WeightFormat::Stored && matches!(self.kind, TensorType::Blocks(_)) {
            let name = TYPES.iter().find(|(_, _, kind)| *kind == Some(self.kind));
            let name = name.map_or("", |(_, name, _)| *name);
            log::debug!("{}: {name} is made {format:?}", tensor.name);
        }
        tensor.pack(self.numbers(), format)
    }
}

/// Whether blocks are held as they are.
fn is_held(format: WeightFormat, blocks: BlockFormat) -> bool {
    match format {
        WeightFormat::Stored => true,
        WeightFormat::Q8_0 | WeightFormat::Q8_0WeightOnly => blocks == BlockFormat::Q8_0,
        WeightFormat::Q6K => blocks == BlockFormat::Q6K,
        WeightFormat::Q5K => blocks == BlockFormat::Q5K,
        WeightFormat::Q4K => blocks == BlockFormat::Q4K,
        _ => false,
    }
}
