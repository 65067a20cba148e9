//! What a GGUF file says it holds, found consistent with itself and with its length before any data
//! is read.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;

use super::reader::{Reader, Value, damaged};
use super::{TYPES, TensorType};
use crate::error::Error;
use crate::folder::OpenFile;

/// Entries of the metadata, and tensors: Llama 405B has 1,138.
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_NAME: u64 = 256;
const MAX_DIMS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 16;

/// An open GGUF file. No data has been read yet.
pub(crate) struct Gguf {
    pub(super) name: String,
    pub(super) metadata: BTreeMap<String, Value>,
    /// In the order of their data.
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) file: File,
    pub(super) len: u64,
    /// Where the data begin.
    pub(super) start: u64,
    /// Of the header's bytes.
    pub(super) hash: String,
}

/// Where a tensor lies and what it looks like; all of it is in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Outermost first, unlike in the file.
    pub(super) shape: Vec<usize>,
    pub(super) kind: TensorType,
    /// Behind the start of the data.
    pub(super) offset: u64,
    pub(super) n_bytes: usize,
}

impl Gguf {
    /// Reads the header of a file.
    pub(crate) fn open(open: OpenFile, name: &str) -> Result<Self, Error> {
        let OpenFile { file, len } = open;
        let header = Header::read(&file, name, len)?;
        Ok(Self {
            name: name.to_owned(),
            metadata: header.metadata,
            tensors: header.tensors,
            file,
            len,
            start: header.start,
            hash: header.hash,
        })
    }
}

struct Header {
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    start: u64,
    hash: String,
}

impl Header {
    fn read(file: impl Read, name: &str, len: u64) -> Result<Self, Error> {
        let mut reader = Reader::new(file, name);
        check_magic(&mut reader, name)?;
        let n_tensors = count(&mut reader, "its number of tensors")?;
        let n_entries = count(&mut reader, "its number of metadata entries")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..n_entries {
            let key = reader.text("a key of the metadata", MAX_NAME)?;
            let value = reader.value(&key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(reader.damaged(format!("{key} is given twice")));
            }
        }
        let mut tensors = Vec::new();
        for _ in 0..n_tensors {
            tensors.push(tensor(&mut reader, name)?);
        }
        let alignment = alignment(&metadata).ok_or_else(|| {
            reader.damaged("general.alignment is not a power of two from 8 to 65536")
        })?;
        let (n_read, hash) = reader.finish();
        let start = n_read.next_multiple_of(alignment);
        check_places(&mut tensors, alignment, len.checked_sub(start))
            .map_err(|why| damaged(name, why))?;
        Ok(Self {
            metadata,
            tensors,
            start,
            hash,
        })
    }
}

fn check_magic(reader: &mut Reader<'_, impl Read>, name: &str) -> Result<(), Error> {
    if reader.u32("its first bytes")?.to_le_bytes() != *b"GGUF" {
        return Err(reader.damaged("it does not begin with GGUF"));
    }
    match reader.u32("its version")? {
        2 | 3 => Ok(()),
        version => {
            let order = match version.swap_bytes() {
                2 | 3 => " (written on a big-endian machine)",
                _ => "",
            };
            Err(Error::unsupported(format!(
                "reading {name}: it is GGUF of version {version}{order}, and only 2 and 3 are \
                 read; convert the checkpoint again"
            )))
        }
    }
}

fn count(reader: &mut Reader<'_, impl Read>, what: &str) -> Result<u64, Error> {
    match reader.u64(what)? {
        count if count <= MAX_ENTRIES => Ok(count),
        count => Err(reader.damaged(format!("{what} is {count}, over {MAX_ENTRIES}"))),
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Option<u64> {
    match metadata.get("general.alignment") {
        None => Some(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(alignment)) => Some(*alignment)
            .filter(|alignment| alignment.is_power_of_two())
            .filter(|alignment| (8..=MAX_ALIGNMENT).contains(alignment)),
        Some(_) => None,
    }
}

fn tensor(reader: &mut Reader<'_, impl Read>, file: &str) -> Result<TensorInfo, Error> {
    let name = reader.text("the name of a tensor", MAX_NAME)?;
    let n_dims = reader.u32(&name)?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(reader.damaged(format!("tensor {name} has {n_dims} dimensions")));
    }
    let mut shape = Vec::new();
    for _ in 0..n_dims {
        let size = reader.u64(&name)?;
        let size = usize::try_from(size).ok().filter(|size| *size > 0);
        let size = size.ok_or_else(|| reader.damaged(format!("tensor {name} has no size")))?;
        shape.push(size);
    }
    let kind = reader.u32(&name)?;
    let offset = reader.u64(&name)?;
    let kind = tensor_type(kind, &name, file)?;
    let (n_numbers, n_bytes) = kind.block();
    let row = shape[0];
    if !row.is_multiple_of(n_numbers) {
        return Err(reader.damaged(format!(
            "tensor {name} has rows of {row}, which are no whole blocks of {n_numbers}"
        )));
    }
    let sizes = shape[1..].iter().copied().chain([row / n_numbers]);
    let n_bytes = sizes.into_iter().try_fold(n_bytes, usize::checked_mul);
    let n_bytes = n_bytes
        .ok_or_else(|| reader.damaged(format!("tensor {name} of shape {shape:?} overflows")))?;
    shape.reverse();
    Ok(TensorInfo {
        name,
        shape,
        kind,
        offset,
        n_bytes,
    })
}

fn tensor_type(id: u32, tensor: &str, file: &str) -> Result<TensorType, Error> {
    let known = TYPES.iter().find(|(known, ..)| *known == id);
    match known {
        Some((_, _, Some(kind))) => Ok(*kind),
        Some((_, name, None)) => Err(Error::unsupported(format!(
            "reading {file}: tensor {tensor} is {name}, and only F32, F16, BF16, Q8_0, Q6_K, Q5_K \
             and Q4_K are read; quantize the checkpoint anew"
        ))),
        None => Err(Error::unsupported(format!(
            "reading {file}: tensor {tensor} is of type {id}, which is not known; quantize the \
             checkpoint anew"
        ))),
    }
}

/// Each tensor must begin where the one before it ends, aligned, and the last end with the file.
fn check_places(
    tensors: &mut [TensorInfo],
    alignment: u64,
    available: Option<u64>,
) -> Result<(), String> {
    let available = available.ok_or("it ends before its tensors begin")?;
    let mut names = HashSet::new();
    tensors.sort_by_key(|tensor| tensor.offset);
    let (mut end, mut next) = (0_u64, 0_u64);
    for tensor in tensors.iter() {
        let name = &tensor.name;
        if !names.insert(name.as_str()) {
            return Err(format!("tensor {name} is given twice"));
        }
        if tensor.offset != next {
            return Err(format!(
                "tensor {name} begins at {} and should at {next}, behind the one before it",
                tensor.offset
            ));
        }
        end = u64::try_from(tensor.n_bytes)
            .ok()
            .and_then(|n_bytes| tensor.offset.checked_add(n_bytes))
            .filter(|end| *end <= available)
            .ok_or_else(|| format!("tensor {name} reaches beyond its end"))?;
        next = end.next_multiple_of(alignment);
    }
    if available > next {
        return Err(format!("{} bytes follow its last tensor", available - end));
    }
    Ok(())
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
