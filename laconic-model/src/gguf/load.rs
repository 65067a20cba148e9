//! Tensors of a GGUF file: compared with the config, read in order, packed.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::header::{Gguf, TensorInfo};
use super::names::{Order, ROPE_FREQS, is_rotated, reorder, to_gguf};
use super::{TYPES, TensorType};
use crate::blocks::BlockFormat;
use crate::config::Config;
use crate::error::Error;
use crate::float16::{widen_bf16, widen_f16};
use crate::folder::Fingerprint;
use crate::matmul::Matrix;
use crate::options::WeightFormat;
use crate::weights::{Expected, Weight, Weights, manifest};

/// A tensor's bytes, in the order of rows that we compute with.
struct Data {
    kind: TensorType,
    bytes: Vec<u8>,
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
        self.read_data(config, fingerprint, |tensor, data| {
            tensors.insert(tensor.name.clone(), data.pack(tensor, format));
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
        self.read_data(config, fingerprint, |tensor, data| accept(tensor, data.numbers()))
    }

    fn read_data(
        mut self,
        config: &Config,
        fingerprint: &mut Fingerprint,
        mut accept: impl FnMut(&Expected, Data) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let expected = manifest(config);
        let wanted = self.check_manifest(&expected, config)?;
        fingerprint.begin("weights", self.len);
        fingerprint.update(self.hash.as_bytes());
        for idx in 0..self.tensors.len() {
            let bytes = self.read_bytes(idx)?;
            fingerprint.update(&bytes);
            let info = &self.tensors[idx];
            let Some(tensor) = wanted.get(info.name.as_str()) else { continue };
            let mut data = Data { kind: info.kind, bytes };
            self.check_finite(info, &data)?;
            if is_rotated(&tensor.name) {
                data.bytes = reorder(&data.bytes, info.shape[0], config.head_dim, Order::Separate);
            }
            accept(tensor, data)?;
        }
        Ok(())
    }

    /// The manifest by llama.cpp's names, each found in the file and of its shape.
    fn check_manifest<'a>(
        &self,
        expected: &'a [Expected],
        config: &Config,
    ) -> Result<HashMap<String, &'a Expected>, Error> {
        let mut found: HashMap<&str, &TensorInfo> =
            self.tensors.iter().map(|info| (info.name.as_str(), info)).collect();
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

    fn check_finite(&self, info: &TensorInfo, data: &Data) -> Result<(), Error> {
        match data.is_finite() {
            true => Ok(()),
            false => Err(self.damaged(format!(
                "tensor {} holds a number that is NaN or infinite",
                info.name
            ))),
        }
    }

    /// A tensor's bytes: as many as were found to lie in the file.
    fn read_bytes(&mut self, idx: usize) -> Result<Vec<u8>, Error> {
        let info = &self.tensors[idx];
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(info.n_bytes).map_err(|source| {
            Error::unsupported(format!(
                "reading tensor {} of {}: {source}; this machine has too little memory for the \
                 model",
                info.name, self.name
            ))
            .with_source(source)
        })?;
        let place = SeekFrom::Start(self.start + info.offset);
        let read = self.file.seek(place).and_then(|_| {
            let limit = u64::try_from(info.n_bytes).unwrap_or(u64::MAX);
            self.file.by_ref().take(limit).read_to_end(&mut bytes)
        });
        match read {
            Ok(n_read) if n_read == info.n_bytes => Ok(bytes),
            Ok(_) => Err(self.damaged(format!("it ends in tensor {}", info.name))),
            Err(source) => {
                let why = format!("reading tensor {}: {source}", info.name);
                Err(self.damaged(why).with_source(source))
            }
        }
    }

    /// The numbers of a small tensor.
    pub(super) fn read_floats(&mut self, idx: usize) -> Result<Vec<f32>, Error> {
        let (kind, bytes) = (self.tensors[idx].kind, self.read_bytes(idx)?);
        Ok(Data { kind, bytes }.numbers())
    }
}

impl Data {
    fn is_finite(&self) -> bool {
        let words = self.bytes.as_chunks::<2>().0.iter().copied().map(u16::from_le_bytes);
        match self.kind {
            // An exponent of ones is infinity or NaN.
            TensorType::F32 => {
                let words = self.bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes);
                words.fold(true, |all, bits| all & (bits & 0x7f80_0000 != 0x7f80_0000))
            }
            TensorType::F16 => words.fold(true, |all, bits| all & (bits & 0x7c00 != 0x7c00)),
            TensorType::Bf16 => words.fold(true, |all, bits| all & (bits & 0x7f80 != 0x7f80)),
            TensorType::Blocks(format) => format.is_finite(&self.bytes),
        }
    }

    fn numbers(&self) -> Vec<f32> {
        let words = self.bytes.as_chunks::<2>().0.iter().copied().map(u16::from_le_bytes);
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
        if let (Some(inputs), TensorType::Blocks(blocks)) = (tensor.inputs(), self.kind)
            && is_held(format, blocks)
        {
            let is_weight_only = format == WeightFormat::Q8_0WeightOnly;
            return Weight::Matrix(Matrix::pack_blocks(blocks, &self.bytes, inputs, is_weight_only));
        }
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
