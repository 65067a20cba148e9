//! A GGUF file, tensor by tensor.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};

use rayon::prelude::*;

use super::metadata::{Entry, entries};
use super::names::{Order, ROPE_FREQS, is_rotated, reorder, to_gguf};
use super::{TYPES, TensorType};
use crate::config::Config;
use crate::float16::{narrow_bf16, narrow_f16};
use crate::matmul::{Cpu, Work};
use crate::rope::scaling_factors;
use crate::weights::{Expected, manifest};

const ALIGNMENT: u64 = 32;
const VERSION: u32 = 3;

/// What a file will hold, and where.
pub(crate) struct Plan {
    header: Vec<u8>,
    /// By our names.
    places: BTreeMap<String, Place>,
    rope_freqs: Option<(u64, Vec<f32>)>,
    head_dim: usize,
}

#[derive(Clone, Copy)]
struct Place {
    kind: TensorType,
    offset: u64,
}

impl Plan {
    /// Lays out the network of a config, its matrices in a type each.
    pub(crate) fn new(
        config: &Config,
        name: &str,
        config_json: Option<&str>,
        preset_json: Option<&str>,
        kind_of: impl Fn(&Expected) -> TensorType,
    ) -> Self {
        let mut offset = 0_u64;
        let mut infos = Vec::new();
        let mut n_tensors = 0_u64;
        let mut place = |name: &str, shape: &[usize], kind: TensorType| {
            let at = offset;
            text(&mut infos, name);
            infos.extend(u32::try_from(shape.len()).unwrap_or(0).to_le_bytes());
            // Innermost first.
            for size in shape.iter().rev() {
                infos.extend((*size as u64).to_le_bytes());
            }
            infos.extend(kind.id().to_le_bytes());
            infos.extend(at.to_le_bytes());
            let (n_numbers, n_bytes) = kind.block();
            let n_blocks = shape.iter().product::<usize>() / n_numbers;
            offset = (at + (n_blocks * n_bytes) as u64).next_multiple_of(ALIGNMENT);
            n_tensors += 1;
            at
        };
        let factors = scaling_factors(config);
        let rope_freqs = factors.map(|factors| {
            (
                place(ROPE_FREQS, &[factors.len()], TensorType::F32),
                factors,
            )
        });
        let mut places = BTreeMap::new();
        let mut largest = TensorType::F32;
        for tensor in manifest(config) {
            let kind = kind_of(&tensor);
            if tensor.inputs().is_some() {
                largest = kind;
            }
            let theirs = to_gguf(&tensor.name).unwrap_or_else(|| tensor.name.clone());
            let offset = place(&theirs, &tensor.shape(), kind);
            places.insert(tensor.name, Place { kind, offset });
        }
        let metadata = entries(config, name, config_json, preset_json, file_type(largest));
        let mut header = b"GGUF".to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(n_tensors.to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        metadata
            .iter()
            .for_each(|(key, value)| entry(&mut header, key, value));
        header.extend(infos);
        let padding = padding(header.len() as u64);
        header.extend(padding);
        Self {
            header,
            places,
            rope_freqs,
            head_dim: config.head_dim,
        }
    }
}

/// Writes the header and what the config implies; [`tensor`](Writer::tensor) does the rest.
pub(crate) fn write<W: Write + Seek>(plan: &Plan, out: W) -> io::Result<Writer<'_, W>> {
    let mut writer = Writer { plan, out };
    writer.out.write_all(&plan.header)?;
    if let Some((offset, factors)) = &plan.rope_freqs {
        writer.put(*offset, &bytes_of(TensorType::F32, factors))?;
    }
    Ok(writer)
}

/// A file being written.
pub(crate) struct Writer<'a, W> {
    plan: &'a Plan,
    out: W,
}

impl<W: Write + Seek> Writer<'_, W> {
    /// Writes one tensor of the manifest.
    pub(crate) fn tensor(&mut self, tensor: &Expected, values: &[f32]) -> io::Result<()> {
        let Some(place) = self.plan.places.get(&tensor.name).copied() else {
            return Ok(());
        };
        let mut bytes = bytes_of(place.kind, values);
        if is_rotated(&tensor.name) {
            let n_rows = tensor.shape()[0];
            bytes = reorder(&bytes, n_rows, self.plan.head_dim, Order::Interleave);
        }
        self.put(place.offset, &bytes)
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = self.plan.header.len() as u64 + offset;
        self.out.seek(SeekFrom::Start(start))?;
        self.out.write_all(bytes)?;
        self.out.write_all(padding(bytes.len() as u64))
    }

    /// What was written to.
    pub(crate) fn finish(self) -> W {
        self.out
    }
}

struct Blocks<'a>(crate::blocks::BlockFormat, &'a [f32], &'a mut [u8]);

impl Work for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.quantize(self.1, self.2);
    }
}

fn bytes_of(kind: TensorType, values: &[f32]) -> Vec<u8> {
    match kind {
        TensorType::F32 => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        TensorType::F16 => values
            .iter()
            .flat_map(|x| narrow_f16(*x).to_le_bytes())
            .collect(),
        TensorType::Bf16 => values
            .iter()
            .flat_map(|x| narrow_bf16(*x).to_le_bytes())
            .collect(),
        TensorType::Blocks(format) => {
            const CHUNK: usize = 64;
            let mut bytes = vec![0; values.len() / format.inputs() * format.bytes()];
            let chunks = bytes.par_chunks_mut(CHUNK * format.bytes());
            chunks
                .zip(values.par_chunks(CHUNK * format.inputs()))
                .for_each(|(bytes, values)| {
                    Cpu::this().vectorized(Blocks(format, values, bytes));
                });
            bytes
        }
    }
}

/// What follows so many bytes up to the next tensor.
fn padding(len: u64) -> &'static [u8] {
    let n_bytes = usize::try_from(len.next_multiple_of(ALIGNMENT) - len).unwrap_or(0);
    &[0; 32][..n_bytes]
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn entry(out: &mut Vec<u8>, key: &str, value: &Entry) {
    text(out, key);
    match value {
        Entry::U32(value) => {
            out.extend(4_u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Entry::F32(value) => {
            out.extend(6_u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        Entry::Flag(value) => {
            out.extend(7_u32.to_le_bytes());
            out.push(u8::from(*value));
        }
        Entry::Text(value) => {
            out.extend(8_u32.to_le_bytes());
            text(out, value);
        }
    }
}

/// llama.cpp's number for what most of a file is in (`llama_ftype`).
fn file_type(kind: TensorType) -> u32 {
    let name = TYPES.iter().find(|(_, _, known)| *known == Some(kind));
    match name.map_or("", |(_, name, _)| *name) {
        "F16" => 1,
        "Q8_0" => 7,
        "Q4_K" => 14,
        "Q5_K" => 16,
        "Q6_K" => 18,
        "BF16" => 32,
        _ => 0,
    }
}
