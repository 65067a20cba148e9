//! Checkpoints from a hub that speaks the protocol of huggingface.co, kept in its cache.
//!
//! [`pull`] resolves a revision to a commit, chooses the files that laconic loads, and downloads
//! what the cache lacks; nothing else in laconic touches the network. A hub is not trusted: names
//! are plain paths, contents have the size and SHA-256 that were stated, links appear only when
//! all is there.

mod attempt;
mod cache;
mod choice;
mod client;
mod download;
mod error;
mod names;
mod output;
mod remote;
mod roots;
mod settings;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use indicatif::ProgressBar;

use cache::RepoCache;
use choice::{choose, lacking};
use client::Client;
use download::{Content, download};
use error::Result;
use names::{Commit, Etag};
use output::Output;
use remote::{RemoteFile, describe, list};

pub(crate) use error::HubError;
pub(crate) use names::{RepoId, Revision};
pub(crate) use output::{Manifest, PulledFile};
pub(crate) use settings::Settings;

/// What to do when the cache lacks something.
const ONLINE: &str = "pull it once with the network, without --offline and HF_HUB_OFFLINE";

/// What to pull, and how.
pub(crate) struct Request {
    pub(crate) id: RepoId,
    pub(crate) revision: Revision,
    /// A GGUF file in place of the safetensors.
    pub(crate) gguf: Option<String>,
    /// Only what the cache has.
    pub(crate) is_offline: bool,
    /// Folder that gets copies.
    pub(crate) output: Option<PathBuf>,
}

/// What was pulled, and the folder it is in.
pub(crate) struct Pulled {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

/// Gets a checkpoint into the cache, and from there into the output folder.
///
/// # Errors
/// When the hub has no such checkpoint or does not give it away, cannot be reached, or tells what
/// cannot be true; offline, when the cache lacks a part of it.
pub(crate) fn pull(request: &Request, settings: &Settings, bar: &ProgressBar) -> Result<Pulled> {
    let output = request.output.as_deref().map(Output::new).transpose()?;
    let cache = RepoCache::new(&settings.cache, &request.id, &request.revision);
    let (listing, hub) = match request.is_offline || settings.is_offline {
        true => (cached_listing(&cache, request)?, None),
        false => {
            let client = Client::new(settings, request.id.clone())?;
            (list(&client, &request.revision)?, Some(client))
        }
    };
    let session = Session {
        request,
        cache: &cache,
        hub,
        commit: listing.commit,
        names: listing.names,
        bar,
    };
    let files = session.files()?;
    let manifest = Manifest {
        id: request.id.to_string(),
        revision: request.revision.to_string(),
        commit: session.commit.to_string(),
        endpoint: settings.endpoint.to_string(),
        files,
    };
    let folder = match (output, &request.output) {
        (Some(output), Some(folder)) => {
            output.write(&manifest)?;
            folder.clone()
        }
        _ => cache.snapshot(&session.commit),
    };
    Ok(Pulled { folder, manifest })
}

/// The revision as the cache has it.
fn cached_listing(cache: &RepoCache, request: &Request) -> Result<remote::Listing> {
    let Request { id, revision, .. } = request;
    let absent = || {
        HubError::missing(format!(
            "the cache has nothing of {id} at {revision}; {ONLINE}"
        ))
    };
    let commit = cache.commit().ok_or_else(absent)?;
    if !cache.snapshot(&commit).is_dir() {
        return Err(absent());
    }
    let names = cache.names(&commit)?;
    Ok(remote::Listing { commit, names })
}

/// One pull of one commit.
struct Session<'a> {
    request: &'a Request,
    cache: &'a RepoCache,
    /// `None` offline.
    hub: Option<Client>,
    commit: Commit,
    /// Everything that the commit has, or offline the cache.
    names: BTreeSet<String>,
    bar: &'a ProgressBar,
}

/// A file in the cache, and the ETag it is to be linked to where it is not linked yet.
type Found = (Content, Option<Etag>);

impl Session<'_> {
    /// Gets all files; some are known only when others are read.
    fn files(&self) -> Result<Vec<PulledFile>> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        loop {
            let read = |name: &str| read_json(&found.get(name)?.0);
            let choice = choose(&self.names, self.request.gguf.as_deref(), read)?;
            if let Some(name) = choice.absent.first() {
                return Err(self.absent(name));
            }
            let new = choice
                .names
                .iter()
                .filter(|name| !found.contains_key(*name));
            let new: Vec<&String> = new.collect();
            if new.is_empty() {
                if let Some(error) = lacking(&self.names, &choice, &self.what()) {
                    return Err(match self.hub {
                        Some(_) => error,
                        None => HubError::missing(format!("in the cache, {error}; {ONLINE}")),
                    });
                }
                break;
            }
            for (name, file) in self.get(&new)? {
                found.insert(name, file);
            }
        }
        // Only now: a snapshot that can be seen is whole.
        for (name, (_, etag)) in &found {
            if let Some(etag) = etag {
                self.cache.link(&self.commit, name, etag)?;
            }
        }
        if self.hub.is_some() {
            self.cache.note_commit(&self.commit)?;
        }
        let files = found.into_iter();
        Ok(files
            .map(|(name, (content, _))| PulledFile::new(name, content))
            .collect())
    }

    /// Gets some files, out of the cache or into it.
    fn get(&self, names: &[&String]) -> Result<Vec<(String, Found)>> {
        let mut got = Vec::new();
        let mut remotes: Vec<RemoteFile> = Vec::new();
        for name in names {
            match (self.cached(name)?, &self.hub) {
                (Some(content), _) => got.push(((*name).clone(), (content, None))),
                (None, Some(client)) => remotes.push(describe(client, &self.commit, name)?),
                (None, None) => return Err(self.absent(name)),
            }
        }
        let n_bytes: u64 = remotes.iter().filter_map(|remote| remote.n_bytes).sum();
        self.bar.inc_length(n_bytes);
        for remote in remotes {
            if let Some(client) = &self.hub {
                let content = download(client, self.cache, &remote, self.bar)?;
                got.push((remote.name, (content, Some(remote.etag))));
            }
        }
        Ok(got)
    }

    /// A file of the snapshot in the cache, if it is there and has the hash it is named by.
    fn cached(&self, name: &str) -> Result<Option<Content>> {
        let Some(path) = self.cache.content(&self.commit, name) else {
            return Ok(None);
        };
        let content = Content::read(path)?;
        let blob = content.path.file_name().and_then(|name| name.to_str());
        let stated = blob.and_then(Etag::from_header);
        let stated = stated.as_ref().and_then(Etag::sha256);
        if stated.is_none_or(|sha256| sha256 == content.sha256) {
            return Ok(Some(content));
        }
        let path = content.path.display();
        log::warn!("{name} in the cache is damaged: the SHA-256 of {path} is not its name");
        Ok(None)
    }

    fn absent(&self, name: &str) -> HubError {
        match &self.hub {
            Some(_) => HubError::missing(format!("{} has no {name}", self.what())),
            None => HubError::missing(format!(
                "the cache lacks {name} of {}, or has it damaged; {ONLINE}",
                self.what()
            )),
        }
    }

    fn what(&self) -> String {
        let Request { id, revision, .. } = self.request;
        match revision.as_commit() {
            Some(_) => format!("{id} at {revision}"),
            None => format!("{id} at {revision} ({})", self.commit),
        }
    }
}

/// The JSON of a file that may say which others there are. What is no JSON says nothing here; who
/// loads it says so.
fn read_json(content: &Content) -> Option<serde_json::Value> {
    /// As the loader's cap of an index.
    const MAX_JSON: u64 = 16 << 20;
    if content.n_bytes > MAX_JSON {
        return None;
    }
    serde_json::from_slice(&std::fs::read(&content.path).ok()?).ok()
}
