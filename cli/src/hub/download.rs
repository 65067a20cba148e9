//! Downloading one file into the cache: resumed where a part of the same content is there, checked
//! before it gets its name.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::cache::RepoCache;
use super::client::{Answer, Attempt, Client, Failure, patiently};
use super::error::{HubError, Result};
use super::remote::RemoteFile;

/// An attempt that brought less than this before it broke off brought nothing.
const PROGRESS: u64 = 64 << 10;

/// A content on disk, counted and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) path: PathBuf,
    pub(super) n_bytes: u64,
    pub(super) sha256: String,
}

impl Content {
    /// Reads a file and hashes it.
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let hash = || {
            let mut file = File::open(&path)?;
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 1 << 20];
            let mut n_bytes = 0;
            loop {
                let n = match file.read(&mut buffer) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    read => read?,
                };
                if n == 0 {
                    return Ok((n_bytes, hex(&hasher.finalize())));
                }
                n_bytes += n as u64;
                hasher.update(&buffer[..n]);
            }
        };
        let (n_bytes, sha256) = hash().map_err(|e| HubError::io("cannot read", &path, e))?;
        Ok(Self {
            path,
            n_bytes,
            sha256,
        })
    }

    /// Whether this is what the hub said it would be; `Err` says what differs.
    fn check(&self, remote: &RemoteFile) -> std::result::Result<(), String> {
        if let Some(n_bytes) = remote.n_bytes.filter(|n_bytes| *n_bytes != self.n_bytes) {
            let found = self.n_bytes;
            return Err(format!(
                "it has {found} bytes, and the hub states {n_bytes}"
            ));
        }
        match remote.etag.sha256() {
            Some(sha256) if sha256 != self.sha256 => Err(format!(
                "its SHA-256 is {}, and the hub states {sha256}",
                self.sha256
            )),
            _ => Ok(()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gets the content of a file into the cache, if it is not there yet and sound.
pub(super) fn download(
    client: &Client,
    cache: &RepoCache,
    remote: &RemoteFile,
    bar: &ProgressBar,
) -> Result<Content> {
    let _lock = cache.lock(&remote.etag)?;
    let blob = cache.blob(&remote.etag);
    let base = bar.position();
    if blob.is_file() {
        let content = Content::read(blob.clone())?;
        match content.check(remote) {
            Ok(()) => {
                bar.set_position(base + content.n_bytes);
                return Ok(content);
            }
            Err(why) => log::warn!("{} in the cache is damaged, {why}", remote.name),
        }
    }
    // Named by the content's ETag: a part of anything else is another file, and starts anew.
    let part = blob.with_file_name(format!("{}.incomplete", remote.etag));
    let describe = |what: &str, error| HubError::io(what, &part, error);
    let mut longest = fs::metadata(&part).map_or(0, |part| part.len());
    patiently(|| {
        go_on(client, remote, &part, &mut longest, &|at| {
            bar.set_position(base + at)
        })
    })?;
    let content = Content::read(part.clone())?;
    if let Err(why) = content.check(remote) {
        fs::remove_file(&part).map_err(|error| describe("cannot delete", error))?;
        return Err(HubError::corrupt(format!(
            "{} of {} is not what it should be: {why}; it was thrown away; pull again, and if it \
             stays so, do not trust this hub",
            remote.name, client.id
        )));
    }
    let settle = || {
        File::options().append(true).open(&part)?.sync_all()?;
        fs::rename(&part, &blob)
    };
    settle().map_err(|error| describe("cannot keep", error))?;
    Ok(Content {
        path: blob,
        ..content
    })
}

/// Downloads what is missing of `part`.
fn go_on(
    client: &Client,
    remote: &RemoteFile,
    part: &Path,
    longest: &mut u64,
    tick: &dyn Fn(u64),
) -> Attempt<()> {
    let describe = |error| Failure::lasting(HubError::io("cannot write", part, error));
    let file = File::options().create(true).append(true).open(part);
    let mut file = file.map_err(describe)?;
    let mut at = file.metadata().map_err(describe)?.len();
    if remote.n_bytes.is_some_and(|n_bytes| at > n_bytes) {
        at = emptied(&file).map_err(describe)?;
    }
    tick(at);
    if remote.n_bytes == Some(at) {
        return Ok(());
    }
    let what = format!("{} of {}", remote.name, client.id);
    let answer = client.get(&remote.url, at, &what)?;
    match answer.status() {
        206 if first_byte(&answer) == Some(at) => {}
        // The server gives all of it, whatever was asked for.
        200 => at = emptied(&file).map_err(describe)?,
        _ => {
            emptied(&file).map_err(describe)?;
            let error = format!("{what}: the server has no rest behind byte {at}");
            return Err(Failure::passing(HubError::network(error)));
        }
    }
    let whole = remote
        .n_bytes
        .or_else(|| whole_size(&answer, at))
        .ok_or_else(|| {
            let error = format!("{what}: the hub states no size; is HF_ENDPOINT right?");
            Failure::lasting(HubError::corrupt(error))
        })?;
    // One byte more shows that there is more.
    let mut body = answer.into_body().into_reader().take(whole + 1 - at);
    let mut buffer = vec![0; 256 << 10];
    let broken = loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break None,
            Ok(n) => n,
            Err(error) => break Some(error),
        };
        file.write_all(&buffer[..n]).map_err(describe)?;
        at += n as u64;
        tick(at);
    };
    if at == whole {
        return Ok(());
    }
    if at > whole {
        emptied(&file).map_err(describe)?;
        let error = format!("{what}: the hub states {whole} bytes and sends more; pull again");
        return Err(Failure::lasting(HubError::corrupt(error)));
    }
    let why = broken.map_or(String::new(), |error| format!(" ({error})"));
    let error = format!(
        "{what}: the connection broke off at byte {at} of {whole}{why}; pull again to go on from \
         there"
    );
    let mut failure = Failure::passing(HubError::network(error));
    failure.has_progressed = at >= *longest + PROGRESS;
    *longest = at.max(*longest);
    Err(failure)
}

/// Empties the part, which is open for appending; returns where it goes on.
fn emptied(file: &File) -> std::io::Result<u64> {
    file.set_len(0)?;
    Ok(0)
}

/// The first byte of a partial answer, by `Content-Range: bytes 5-9/10`.
fn first_byte(answer: &Answer) -> Option<u64> {
    let range = answer.header("content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// The size of the whole content, by the answer that brings it or its rest.
fn whole_size(answer: &Answer, at: u64) -> Option<u64> {
    if answer.status() == 206 {
        let whole = answer.header("content-range")?.rsplit('/').next()?;
        return whole.trim().parse().ok();
    }
    let rest: u64 = answer.header("content-length")?.trim().parse().ok()?;
    rest.checked_add(at)
}
