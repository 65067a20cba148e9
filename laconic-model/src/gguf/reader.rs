//! The header's bytes: numbers, texts and values, none of them believed.

use std::fmt::Display;
use std::io::{self, BufReader, Read};

use crate::error::Error;
use crate::folder::Fingerprint;

/// Longest header accepted: vocabularies of a quarter million entries with their merges take 12 MB.
pub(super) const MAX_HEADER: u64 = 128 << 20;
/// Longest text that is kept.
const MAX_TEXT: u64 = 1 << 20;
/// Arrays in arrays.
const MAX_DEPTH: u32 = 4;

/// Reads a header, counts and hashes its bytes.
pub(super) struct Reader<'a, R> {
    inner: io::Take<BufReader<R>>,
    name: &'a str,
    n_read: u64,
    hash: Fingerprint,
}

/// A value of the metadata. Arrays are passed over; their length is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    Array(u64),
}

impl<'a, R: Read> Reader<'a, R> {
    pub(super) fn new(inner: R, name: &'a str) -> Self {
        Self {
            inner: BufReader::with_capacity(1 << 16, inner).take(MAX_HEADER),
            name,
            n_read: 0,
            hash: Fingerprint::new(),
        }
    }

    pub(super) fn damaged(&self, why: impl Display) -> Error {
        damaged(self.name, why)
    }

    /// Bytes read so far, and their hash.
    pub(super) fn finish(self) -> (u64, String) {
        (self.n_read, self.hash.finish())
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|source| {
            let why = match self.inner.limit() {
                0 => format!("its header is longer than {MAX_HEADER} bytes"),
                _ => format!("{source} in {what}"),
            };
            self.damaged(why).with_source(source)
        })?;
        self.n_read += bytes.len() as u64;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.take(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.take(what).map(u64::from_le_bytes)
    }

    /// A text of at most `cap` bytes.
    pub(super) fn text(&mut self, what: &str, cap: u64) -> Result<String, Error> {
        let len = self.u64(what)?;
        if len > cap {
            return Err(self.damaged(format!("{what} claims {len} bytes, over {cap}")));
        }
        let mut bytes = Vec::new();
        // Room is made as bytes arrive, not as they are announced.
        let n_read = self.inner.by_ref().take(len).read_to_end(&mut bytes);
        let n_read = n_read.map_err(|source| self.damaged(&source).with_source(source))?;
        if n_read as u64 != len {
            return Err(self.damaged(format!("it ends in {what}")));
        }
        self.n_read += len;
        self.hash.update(&bytes);
        String::from_utf8(bytes).map_err(|source| {
            self.damaged(format!("{what} is not UTF-8"))
                .with_source(source)
        })
    }

    /// A value, its type before it.
    pub(super) fn value(&mut self, key: &str) -> Result<Value, Error> {
        let kind = self.u32(key)?;
        self.value_of(kind, key, 0)
    }

    fn value_of(&mut self, kind: u32, key: &str, depth: u32) -> Result<Value, Error> {
        Ok(match kind {
            0 => Value::Unsigned(u64::from(u8::from_le_bytes(self.take(key)?))),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.take(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.take(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.take(key)?))),
            4 => Value::Unsigned(u64::from(self.u32(key)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.take(key)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.take(key)?))),
            7 => match self.take(key)? {
                [0] => Value::Flag(false),
                [1] => Value::Flag(true),
                [other] => return Err(self.damaged(format!("{key} is a boolean of {other}"))),
            },
            8 => Value::Text(self.text(key, MAX_TEXT)?),
            9 => self.array(key, depth + 1)?,
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.take(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.take(key)?)),
            other => return Err(self.damaged(format!("{key} has a value of unknown type {other}"))),
        })
    }

    /// Passes over an array: however many elements it claims, each takes a byte of the file.
    fn array(&mut self, key: &str, depth: u32) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(self.damaged(format!("{key} has arrays in arrays, {depth} deep")));
        }
        let kind = self.u32(key)?;
        let len = self.u64(key)?;
        if len > MAX_HEADER {
            return Err(self.damaged(format!("{key} claims {len} elements")));
        }
        for _ in 0..len {
            self.value_of(kind, key, depth)?;
        }
        Ok(Value::Array(len))
    }
}

pub(super) fn damaged(name: &str, why: impl Display) -> Error {
    Error::corrupt(format!(
        "reading {name}: {why}; copy the file again from its source"
    ))
}
