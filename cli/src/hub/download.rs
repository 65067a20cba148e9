//! Downloading one file into the cache: resumed where a part of the same content is there, checked
//! before it gets its name.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::attempt::{Attempt, Failure, patiently};
use super::cache::RepoCache;
use super::client::{Answer, Client};
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
    let mut download = Download {
        client,
        remote,
        part: &part,
        longest: fs::metadata(&part).map_or(0, |part| part.len()),
        bar,
        base,
    };
    patiently(|| download.go_on())?;
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

/// A download that may take several attempts.
struct Download<'a> {
    client: &'a Client,
    remote: &'a RemoteFile,
    /// What is there so far; named by the content's ETag.
    part: &'a Path,
    /// The most bytes that were there after an attempt.
    longest: u64,
    bar: &'a ProgressBar,
    /// Where the bar was before this file.
    base: u64,
}

impl Download<'_> {
    /// Downloads what is missing.
    fn go_on(&mut self) -> Attempt<()> {
        let open = File::options().create(true).append(true).open(self.part);
        let file = open.map_err(|error| self.unwritable(error))?;
        let mut at = file.metadata().map_err(|e| self.unwritable(e))?.len();
        if self.remote.n_bytes.is_some_and(|n_bytes| at > n_bytes) {
            at = self.begin_again(&file)?;
        }
        self.bar.set_position(self.base + at);
        if self.remote.n_bytes == Some(at) {
            return Ok(());
        }
        let what = self.what();
        let answer = self.client.get(&self.remote.url, at, &what)?;
        match answer.status() {
            206 if first_byte(&answer) == Some(at) => {}
            // The server gives all of it, whatever was asked for.
            200 => at = self.begin_again(&file)?,
            _ => {
                self.begin_again(&file)?;
                let error = format!("{what}: the server has no rest behind byte {at}; pull again");
                return Err(Failure::passing(HubError::network(error)));
            }
        }
        let sent = whole_size(&answer, at);
        let whole = self.remote.n_bytes.or(sent).ok_or_else(|| {
            let error = format!("{what}: the hub states no size; is HF_ENDPOINT right?");
            Failure::lasting(HubError::corrupt(error))
        })?;
        if let Some(sent) = sent.filter(|sent| *sent != whole) {
            return Err(self.wrong_size(whole, sent));
        }
        // One byte more shows that there is more.
        let body = answer.into_body().into_reader().take(whole + 1 - at);
        let broken = self.receive(body, &file, &mut at)?;
        match at {
            _ if at == whole => Ok(()),
            _ if at > whole => Err(self.wrong_size(whole, at)),
            _ => Err(self.broken_off(at, whole, broken)),
        }
    }

    /// Writes what comes until it ends, or breaks: then why.
    fn receive(
        &self,
        mut body: impl Read,
        mut file: &File,
        at: &mut u64,
    ) -> Attempt<Option<std::io::Error>> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(error) => return Ok(Some(error)),
            };
            let written = file.write_all(&buffer[..n]);
            written.map_err(|error| self.unwritable(error))?;
            *at += n as u64;
            self.bar.set_position(self.base + *at);
        }
    }

    /// Empties the part; returns where it goes on.
    fn begin_again(&self, file: &File) -> Attempt<u64> {
        file.set_len(0).map_err(|error| self.unwritable(error))?;
        Ok(0)
    }

    fn wrong_size(&self, stated: u64, sent: u64) -> Failure {
        // Whatever it is, it is not this file. An error here would hide the one that matters.
        let _ = fs::remove_file(self.part);
        Failure::lasting(HubError::corrupt(format!(
            "{}: the hub states {stated} bytes and sends {sent}; it was thrown away; pull \
             again, and if it stays so, do not trust this hub",
            self.what()
        )))
    }

    fn broken_off(&mut self, at: u64, whole: u64, why: Option<std::io::Error>) -> Failure {
        let why = why.map_or(String::new(), |error| format!(" ({error})"));
        let mut failure = Failure::passing(HubError::network(format!(
            "{}: the connection broke off at byte {at} of {whole}{why}; pull again to go on from \
             there",
            self.what()
        )));
        failure.has_progressed = at >= self.longest + PROGRESS;
        self.longest = at.max(self.longest);
        failure
    }

    fn unwritable(&self, error: std::io::Error) -> Failure {
        Failure::lasting(HubError::io("cannot write", self.part, error))
    }

    fn what(&self) -> String {
        format!("{} of {}", self.remote.name, self.client.id)
    }
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
