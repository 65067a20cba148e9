//! One safetensors file: header parsed and checked, tensors read in order.
//!
//! Layout (safetensors format, version 0.x): eight bytes little-endian header
//! length, that many bytes of JSON (name → dtype, shape, offsets), then the
//! data without gaps up to the end of the file.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::Error;
use crate::float16::{widen_bf16, widen_f16};
use crate::folder::{Fingerprint, Folder};

/// Longest header accepted. A 405B Llama needs well under 1 MiB.
const MAX_HEADER: u64 = 16 << 20;

/// Bytes read at a time; a multiple of every element size.
const CHUNK: usize = 1 << 20;

/// An open safetensors file whose header has been found consistent with
/// itself and with the file's length. No data has been read yet.
pub(crate) struct Shard {
    pub(crate) name: String,
    /// In the order of their data.
    pub(crate) tensors: Vec<(String, TensorInfo)>,
    file: File,
    len: u64,
    prefix: [u8; 8],
    header: Vec<u8>,
}

impl Shard {
    /// Opens a shard; `None` if the folder has no such file.
    pub(crate) fn open(folder: &Folder, name: &str) -> Result<Option<Self>, Error> {
        let Some(open) = folder.file(name)? else {
            return Ok(None);
        };
        let mut file = open.file;
        let describe = |source| Error::io("reading", &folder.path().join(name), source);
        if open.len < 8 {
            return Err(damaged(name, "it is shorter than its own header length"));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(describe)?;
        let mut header = vec![0; header_len(name, prefix, open.len)?];
        file.read_exact(&mut header).map_err(describe)?;
        let tensors = parse_header(name, &header, open.len)?;
        Ok(Some(Self {
            name: name.to_owned(),
            tensors,
            file,
            len: open.len,
            prefix,
            header,
        }))
    }

    /// Reads every tensor once, in file order.
    ///
    /// Those that `is_wanted` are widened to f32, checked to be finite and
    /// handed to `accept`; the others are only hashed.
    pub(crate) fn read(
        mut self,
        fingerprint: &mut Fingerprint,
        is_wanted: impl Fn(&str) -> bool,
        mut accept: impl FnMut(String, Vec<f32>),
    ) -> Result<(), Error> {
        fingerprint.begin("weights", self.len);
        fingerprint.update(&self.prefix);
        fingerprint.update(&self.header);
        let mut buffer = vec![0; CHUNK];
        for (tensor, info) in std::mem::take(&mut self.tensors) {
            let is_wanted = is_wanted(&tensor);
            let mut values = Vec::new();
            if is_wanted {
                reserve(&self.name, &tensor, &info, &mut values)?;
            }
            self.read_chunks(&tensor, &info, &mut buffer, |chunk| {
                fingerprint.update(chunk);
                if is_wanted {
                    widen(info.dtype, chunk, &mut values);
                }
            })?;
            if is_wanted {
                self.check_finite(&tensor, &values)?;
                accept(tensor, values);
            }
        }
        Ok(())
    }

    fn read_chunks(
        &mut self,
        tensor: &str,
        info: &TensorInfo,
        buffer: &mut [u8],
        mut consume: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut left = info.data_offsets.1 - info.data_offsets.0;
        while left > 0 {
            let chunk = &mut buffer[..left.min(CHUNK)];
            self.file.read_exact(chunk).map_err(|source| {
                damaged(&self.name, format!("reading tensor {tensor}: {source}"))
                    .with_source(source)
            })?;
            consume(chunk);
            left -= chunk.len();
        }
        Ok(())
    }

    fn check_finite(&self, tensor: &str, values: &[f32]) -> Result<(), Error> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(idx) => Err(damaged(
                &self.name,
                format!(
                    "element {idx} of tensor {tensor} is {}, not a finite number",
                    values[idx]
                ),
            )),
        }
    }
}

/// Makes room for a tensor, whose size is bounded: its offsets were found to
/// lie within the file.
fn reserve(
    shard: &str,
    tensor: &str,
    info: &TensorInfo,
    values: &mut Vec<f32>,
) -> Result<(), Error> {
    values
        .try_reserve_exact(info.shape.iter().product())
        .map_err(|source| {
            Error::unsupported(format!(
            "reading tensor {tensor} of {shard}: {source}; this machine has too little memory for \
             the model in f32"
        ))
        .with_source(source)
        })
}

/// Whether this crate can read tensors of a type.
pub(crate) fn is_readable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

fn header_len(name: &str, prefix: [u8; 8], file_len: u64) -> Result<usize, Error> {
    refuse_other_formats(name, prefix)?;
    let len = u64::from_le_bytes(prefix);
    if len > MAX_HEADER {
        return Err(damaged(
            name,
            format!("its header claims {len} bytes, over {MAX_HEADER}"),
        ));
    }
    if len > file_len.saturating_sub(8) {
        return Err(damaged(
            name,
            format!("its header claims {len} bytes, more than there are"),
        ));
    }
    usize::try_from(len)
        .map_err(|source| damaged(name, "its header is too long").with_source(source))
}

/// Tells by its first bytes a file that only bears the name of safetensors.
fn refuse_other_formats(name: &str, prefix: [u8; 8]) -> Result<(), Error> {
    let format = match prefix {
        [b'P', b'K', 3, 4, ..] => "a zip archive, as PyTorch writes for pickles",
        // A header of 384 to 1,408 bytes may have a length that begins like a pickle; but it ends in
        // zeros, where a pickle has its first instructions.
        [0x80, 1..=5, _, rest @ ..] if rest != [0; 5] => "a Python pickle",
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file",
        _ => return Ok(()),
    };
    Err(Error::unsupported(format!(
        "reading {name}: it is {format}, and only safetensors are read; convert it with the \
         checkpoint's own tools"
    )))
}

fn parse_header(
    name: &str,
    header: &[u8],
    file_len: u64,
) -> Result<Vec<(String, TensorInfo)>, Error> {
    let UniqueMap(mut tensors) = serde_json::from_slice::<UniqueMap<TensorInfo>>(header)
        .map_err(|source| damaged(name, format!("its header: {source}")).with_source(source))?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let metadata = Metadata::new(None, tensors.clone())
        .map_err(|source| damaged(name, format!("its header: {source}")).with_source(source))?;
    let expected = [8, header.len(), metadata.data_len()]
        .into_iter()
        .try_fold(0, usize::checked_add);
    if expected.and_then(|len| u64::try_from(len).ok()) != Some(file_len) {
        return Err(damaged(
            name,
            format!(
                "its header describes {} bytes of tensors, the file has {}",
                metadata.data_len(),
                file_len
                    .saturating_sub(8)
                    .saturating_sub(u64::try_from(header.len()).unwrap_or(0))
            ),
        ));
    }
    Ok(tensors)
}

fn damaged(name: &str, why: impl fmt::Display) -> Error {
    Error::corrupt(format!(
        "reading {name}: {why}; copy the file again from its source"
    ))
}

fn widen(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => values.extend(pairs(bytes).map(widen_f16)),
        Dtype::BF16 => values.extend(pairs(bytes).map(widen_bf16)),
        _ => values.extend(bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes)),
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes)
}

/// A JSON object whose keys are all different, in file order.
///
/// serde's own maps keep the last of two equal keys without a word, and the
/// two readers of one file may then disagree about what is in it.
pub(crate) struct UniqueMap<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = UniqueMap<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("`{key}` appears twice")));
            }
            // Free text that the format allows beside the tensors.
            if key == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((key, map.next_value()?));
            }
        }
        Ok(UniqueMap(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn every_16_bit_code_widens_as_candle_widens_it() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (dtype, theirs) in [(Dtype::F16, DType::F16), (Dtype::BF16, DType::BF16)] {
            let mut ours = Vec::new();
            widen(dtype, &bytes, &mut ours);
            let expected = Tensor::from_raw_buffer(&bytes, theirs, &[1 << 16], &Device::Cpu)
                .and_then(|tensor| tensor.to_dtype(DType::F32)?.to_vec1::<f32>())
                .unwrap();
            assert_eq!(ours.len(), expected.len());
            for (code, (a, b)) in ours.iter().zip(&expected).enumerate() {
                let is_same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                assert!(is_same, "{dtype:?} {code:#06x}: {a} is not {b}");
            }
        }
    }

    #[test]
    fn equal_keys_are_refused() {
        let twice = r#"{"a": 1, "b": 2, "a": 1}"#;
        let error = serde_json::from_str::<UniqueMap<u32>>(twice).err().unwrap();
        assert!(error.to_string().contains("`a` appears twice"), "{error}");
        let once = r#"{"b": 1, "__metadata__": {"x": "y"}, "a": 2}"#;
        let UniqueMap(entries) = serde_json::from_str::<UniqueMap<u32>>(once).unwrap();
        assert_eq!(entries, [("b".to_owned(), 1), ("a".to_owned(), 2)]);
    }

    #[test]
    fn header_lengths_are_bounded_before_anything_is_allocated() {
        for (len, file_len) in [
            (u64::MAX, 100),
            (MAX_HEADER + 1, u64::MAX),
            (93, 100),
            (1, 8),
        ] {
            assert!(
                header_len("m", len.to_le_bytes(), file_len).is_err(),
                "{len} of {file_len}"
            );
        }
        assert_eq!(header_len("m", 92_u64.to_le_bytes(), 100).unwrap(), 92);
        // Lengths that begin like a pickle.
        for len in [0x180_u64, 0x580, 0x00ff_0280] {
            let found = header_len("m", len.to_le_bytes(), 1 << 40).unwrap();
            assert_eq!(u64::try_from(found).unwrap(), len);
        }
    }

    #[test]
    fn other_formats_are_told_by_their_first_bytes() {
        for magic in [b"PK\x03\x04....", b"\x80\x02cos\nsy", b"GGUF\x03\0\0\0"] {
            assert!(
                header_len("m", *magic, 1 << 40)
                    .unwrap_err()
                    .is_unsupported()
            );
        }
    }
}
