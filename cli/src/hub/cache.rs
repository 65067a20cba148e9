//! The hub's cache on disk: contents in `blobs`, a folder of links to them in
//! `snapshots/COMMIT`, what revisions stand for in `refs`. Other tools read and write it too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::error::{HubError, Result};
use super::names::{Commit, Etag, RepoId, Revision};

/// Folders below a snapshot that are looked into.
const MAX_DEPTH: usize = 4;

/// What the cache has of one repository.
pub(super) struct RepoCache {
    places: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
    revision: Revision,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, id: &RepoId, revision: &Revision) -> Self {
        let repo = Repo::with_revision(id.to_string(), RepoType::Model, revision.to_string());
        let name = repo.folder_name();
        Self {
            places: Cache::new(cache.to_owned()).repo(repo),
            folder: cache.join(&name),
            locks: cache.join(".locks").join(&name),
            revision: revision.clone(),
        }
    }

    /// The commit that the revision stood for when it was last pulled.
    pub(super) fn commit(&self) -> Option<Commit> {
        let file = self.folder.join("refs").join(self.revision.to_string());
        let text = fs::read_to_string(file).ok();
        let noted = text.and_then(|text| Commit::new(text.trim()));
        // A commit stands for itself, and has no note.
        noted.or_else(|| self.revision.as_commit())
    }

    /// Notes what the revision stands for.
    pub(super) fn note_commit(&self, commit: &Commit) -> Result<()> {
        if self.commit().as_ref() == Some(commit) {
            return Ok(());
        }
        let noted = self.places.create_ref(&commit.to_string());
        noted.map_err(|error| HubError::io("cannot note the revision in", &self.folder, error))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.places.pointer_path(&commit.to_string())
    }

    /// The content of a file of a snapshot, if it is there.
    pub(super) fn content(&self, commit: &Commit, name: &str) -> Option<PathBuf> {
        let path = self.snapshot(commit).join(name).canonicalize().ok()?;
        // A link out of the repository's cache is not of the hub's tools.
        let is_inside = path.starts_with(self.folder.canonicalize().ok()?);
        (is_inside && path.is_file()).then_some(path)
    }

    /// The names of a snapshot's files.
    pub(super) fn names(&self, commit: &Commit) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let root = self.snapshot(commit);
        collect(&root, "", 0, &mut names)
            .map_err(|error| HubError::io("cannot list the cached files in", &root, error))?;
        Ok(names)
    }

    /// Where the content with an ETag is, or will be.
    pub(super) fn blob(&self, etag: &Etag) -> PathBuf {
        self.folder.join("blobs").join(etag.to_string())
    }

    /// Keeps others from downloading the same content at the same time; the hub's own library
    /// locks the same file.
    pub(super) fn lock(&self, etag: &Etag) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        let open = || {
            fs::create_dir_all(&self.locks)?;
            fs::create_dir_all(self.folder.join("blobs"))?;
            let file = File::options().create(true).append(true).open(&path)?;
            if file.try_lock().is_err() {
                log::warn!("waiting for another process that downloads the same file");
                match file.lock() {
                    // Some network file systems have no locks; the hash is checked in any case.
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                    locked => locked?,
                }
            }
            Ok(file)
        };
        open().map_err(|error| HubError::io("cannot lock", &path, error))
    }

    /// Makes `name` a file of a snapshot, by a link to its content as the hub's tools do.
    pub(super) fn link(&self, commit: &Commit, name: &str, etag: &Etag) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        let link = || {
            let parent = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(parent)?;
            let beside = parent.join(format!(".{etag}.{}", std::process::id()));
            let _ = fs::remove_file(&beside);
            link_or_copy(&self.blob(etag), etag, name, &beside)?;
            fs::rename(&beside, &path)
        };
        link().map_err(|error| HubError::io("cannot write", &path, error))
    }
}

#[cfg(unix)]
fn link_or_copy(_blob: &Path, etag: &Etag, name: &str, link: &Path) -> io::Result<()> {
    // Relative, so that the cache can be moved: out of the file's folder, the commit's, `snapshots`.
    let up = "../".repeat(1 + name.split('/').count());
    std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), link)
}

/// Links need a privilege on Windows.
#[cfg(not(unix))]
fn link_or_copy(blob: &Path, _etag: &Etag, _name: &str, link: &Path) -> io::Result<()> {
    fs::copy(blob, link).map(|_| ())
}

fn collect(
    folder: &Path,
    prefix: &str,
    depth: usize,
    names: &mut BTreeSet<String>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            if depth < MAX_DEPTH {
                collect(&path, &format!("{name}/"), depth + 1, names)?;
            }
        } else {
            // A link whose content is gone as well: whoever wants it is told so.
            names.insert(name);
        }
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_lead_to_contents() {
        let dir = tempfile::tempdir().unwrap();
        let revision: Revision = "refs/pr/1".parse().unwrap();
        let cache = RepoCache::new(dir.path(), &"org/name".parse().unwrap(), &revision);
        let commit = Commit::new(&"ab".repeat(20)).unwrap();
        let etag = Etag::from_header("\"e1\"").unwrap();
        drop(cache.lock(&etag).unwrap());
        fs::write(cache.blob(&etag), "content").unwrap();
        for name in ["config.json", "1_Pooling/config.json"] {
            cache.link(&commit, name, &etag).unwrap();
            // Once more, as when a pull is repeated.
            cache.link(&commit, name, &etag).unwrap();
            let path = cache.content(&commit, name).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "content");
        }
        let expected = "models--org--name/snapshots/abababababababababababababababababababab";
        assert_eq!(cache.snapshot(&commit), dir.path().join(expected));
        let names = cache.names(&commit).unwrap();
        assert_eq!(
            Vec::from_iter(names),
            ["1_Pooling/config.json", "config.json"]
        );
        assert_eq!(cache.commit(), None);
        cache.note_commit(&commit).unwrap();
        assert_eq!(cache.commit(), Some(commit));
        assert!(
            dir.path()
                .join("models--org--name/refs/refs/pr/1")
                .is_file()
        );
    }

    #[test]
    fn a_link_out_of_the_cache_is_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let main: Revision = "main".parse().unwrap();
        let cache = RepoCache::new(dir.path(), &"org/name".parse().unwrap(), &main);
        let commit = Commit::new(&"ab".repeat(20)).unwrap();
        fs::create_dir_all(cache.snapshot(&commit)).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        let link = cache.snapshot(&commit).join("config.json");
        std::os::unix::fs::symlink(dir.path().join("secret"), link).unwrap();
        assert_eq!(cache.content(&commit, "config.json"), None);
    }
}
