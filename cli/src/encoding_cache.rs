//! [`EncodingCache`]: encodings that were computed before, by model and text.
//!
//! Encoding is what indexing spends its time on, and most texts of a collection that is indexed
//! again are what they were. The key is a hash of everything an encoding depends on: checkpoint,
//! preset and the text with its kind, so an entry never has to be thrown away for being stale.
//! The cache may be deleted at any time; what cannot be read in it counts as not there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use laconic_model::{Device, Encoder, Encoding, Text};
use redb::{Database, DatabaseError, ReadableTable, TableDefinition};
use xxhash_rust::xxh3::Xxh3;

/// Name of the file in the cache's folder.
const FILE: &str = "encodings.redb";
/// A file of this size is begun anew.
const MAX_BYTES: u64 = 16 << 30;
/// Entries of another layout have another table.
const ENCODINGS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("encodings/1");
const SECRETS: TableDefinition<'_, &str, u64> = TableDefinition::new("secrets");

/// Encodings on disk, for one checkpoint and preset.
pub struct EncodingCache {
    database: Database,
    /// Hash of checkpoint, preset, format and kind of device, and of a number that is this cache's secret, so that nobody
    /// can make two texts that share an entry.
    model: Xxh3,
    n_found: Arc<AtomicU64>,
}

/// Where the cache is unless the user says otherwise: `LACONIC_CACHE`, or else a folder of the
/// user's caches. `None` on a machine without one.
pub fn default_folder() -> Option<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let below = |variable, folder: &str| named(variable).map(|home| Path::new(&home).join(folder));
    named("LACONIC_CACHE")
        .map(PathBuf::from)
        .or_else(|| below("XDG_CACHE_HOME", "laconic"))
        .or_else(|| below("LOCALAPPDATA", "laconic\\cache"))
        .or_else(|| below("HOME", ".cache/laconic"))
}

impl EncodingCache {
    /// Opens the cache in `folder`, which is made if it is missing. `None` if another process has
    /// it open.
    ///
    /// # Errors
    /// When the folder cannot be written or the file is damaged.
    pub fn open(folder: &Path, encoder: &Encoder) -> Result<Option<EncodingCache>> {
        let path = folder.join(FILE);
        let attempt = || {
            format!(
                "cannot use the cache of encodings {}; delete it, or go without by --no-cache",
                path.display()
            )
        };
        std::fs::create_dir_all(folder).with_context(attempt)?;
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > MAX_BYTES) {
            std::fs::remove_file(&path).with_context(attempt)?;
        }
        let database = match Database::create(&path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(None),
            Err(error) => return Err(error).with_context(attempt),
        };
        let secret = secret(&database).with_context(attempt)?;
        let mut model = Xxh3::with_seed(secret);
        let format = format!("{:?}", encoder.weight_format());
        for part in [
            encoder.fingerprint(),
            encoder.preset().hash().as_str(),
            &format,
        ] {
            add(&mut model, part);
        }
        // Sums are taken in another order there, so bits differ. Nothing is added for a CPU: what
        // older versions kept stays good.
        if encoder.device() != Device::Cpu {
            add(&mut model, encoder.device().kind());
        }
        Ok(Some(EncodingCache {
            database,
            model,
            n_found: Arc::default(),
        }))
    }

    fn key(&self, text: &Text<'_>) -> u128 {
        let mut hash = self.model.clone();
        match text {
            Text::Query(text) => {
                hash.update(b"q");
                add(&mut hash, text);
            }
            Text::Document { title, body } => {
                hash.update(if title.is_some() { b"t" } else { b"d" });
                add(&mut hash, title.unwrap_or_default());
                add(&mut hash, body);
            }
        }
        hash.digest128()
    }

    /// The encodings of `texts` that are there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, texts: &[Text<'_>]) -> Result<Vec<Option<Encoding>>> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(ENCODINGS)?;
        let one = |text| -> Result<Option<Encoding>> {
            let entry = table.get(self.key(text))?;
            Ok(entry.and_then(|entry| read(entry.value())))
        };
        let found = texts.iter().map(one).collect::<Result<Vec<_>>>()?;
        let n_found = found.iter().flatten().count() as u64;
        self.n_found.fetch_add(n_found, Relaxed);
        Ok(found)
    }

    /// How many texts were found since the cache was opened.
    pub fn n_found(&self) -> Arc<AtomicU64> {
        self.n_found.clone()
    }

    /// Adds encodings, all of them or, after a crash, none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put<'t>(
        &self,
        encodings: impl Iterator<Item = (&'t Text<'t>, &'t Encoding)>,
    ) -> Result<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ENCODINGS)?;
            for (text, encoding) in encodings {
                table.insert(self.key(text), written(encoding).as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

/// Length and bytes: no two lists of parts make the same stream.
fn add(hash: &mut Xxh3, part: &str) {
    hash.update(&(part.len() as u64).to_le_bytes());
    hash.update(part.as_bytes());
}

/// The number that seeds this cache's hashes, made with the cache.
fn secret(database: &Database) -> Result<u64> {
    let transaction = database.begin_write()?;
    let secret = {
        let mut secrets = transaction.open_table(SECRETS)?;
        transaction.open_table(ENCODINGS)?;
        let stored = secrets.get("seed")?.map(|seed| seed.value());
        match stored {
            Some(seed) => seed,
            None => {
                // A new map's hasher is seeded by the system.
                let state = std::hash::RandomState::new();
                let seed = std::hash::BuildHasher::hash_one(&state, std::process::id());
                secrets.insert("seed", seed)?;
                seed
            }
        }
    };
    transaction.commit()?;
    Ok(secret)
}

/// Three counts, then token ids and term weights.
fn written(encoding: &Encoding) -> Vec<u8> {
    let counts = [
        encoding.n_tokens,
        encoding.n_dropped_tokens,
        encoding.n_dropped_bytes,
    ];
    let mut bytes = Vec::with_capacity(24 + 8 * encoding.weights.len());
    for count in counts {
        bytes.extend((count as u64).to_le_bytes());
    }
    for (token_id, weight) in &encoding.weights {
        bytes.extend(token_id.to_le_bytes());
        bytes.extend(weight.to_le_bytes());
    }
    bytes
}

fn read(bytes: &[u8]) -> Option<Encoding> {
    let (counts, weights) = bytes.split_at_checked(24)?;
    let (counts, _) = counts.as_chunks::<8>();
    let count = |at: usize| usize::try_from(u64::from_le_bytes(*counts.get(at)?)).ok();
    let (weights, rest) = weights.as_chunks::<8>();
    let weight = |[a, b, c, d, weight @ ..]: &[u8; 8]| {
        let weight = f32::from_le_bytes(*weight);
        let is_weight = weight.is_finite() && weight > 0.0;
        is_weight.then_some((u32::from_le_bytes([*a, *b, *c, *d]), weight))
    };
    let weights = weights.iter().map(weight).collect::<Option<Vec<_>>>()?;
    let encoding = Encoding::from_parts(weights, count(0)?, count(1)?, count(2)?);
    rest.is_empty().then_some(encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_damaged_ones_do_not() {
        let encoding = Encoding::from_parts(vec![(7, 1.5), (3, 0.25)], 9, 2, 0);
        let bytes = written(&encoding);
        assert_eq!(read(&bytes), Some(encoding));
        for len in 0..bytes.len() {
            let is_whole = len >= 24 && (len - 24) % 8 == 0;
            assert_eq!(read(&bytes[..len]).is_some(), is_whole, "{len}");
        }
        for weight in [f32::NAN, -1.0, 0.0, f32::INFINITY] {
            let mut damaged = bytes.clone();
            damaged[28..32].copy_from_slice(&weight.to_le_bytes());
            assert_eq!(read(&damaged), None);
        }
    }
}
