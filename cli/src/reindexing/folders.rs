//! [`Folders`]: a new index comes about beside its place and gets there by one rename.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tantivy::directory::error::LockError;
use tantivy::directory::{Directory, DirectoryLock, INDEX_WRITER_LOCK, MmapDirectory};

use crate::terminal::{BusyError, UsageError};

/// Where an index is to be, and where it is made: in `NAME.partial` beside it.
pub(crate) struct Folders {
    pub(crate) target: PathBuf,
    partial: PathBuf,
}

impl Folders {
    /// # Errors
    /// When `target` has no name, or lies inside `source`, which is not to be written to.
    pub(crate) fn new(source: &Path, target: &Path) -> Result<Folders> {
        let Some(name) = target.file_name() else {
            let message = format!("{} cannot become a folder", target.display());
            return Err(UsageError(message).into());
        };
        let mut partial = name.to_owned();
        partial.push(".partial");
        let folders = Folders {
            partial: target.with_file_name(partial),
            target: target.to_owned(),
        };
        let parent = folders.parent();
        fs::create_dir_all(parent).with_context(|| cannot("make", parent))?;
        let is_inside = match (parent.canonicalize(), source.canonicalize()) {
            (Ok(parent), Ok(source)) => parent.starts_with(source),
            _ => false,
        };
        if is_inside {
            let message = "the new index has to be outside the folder of the old one";
            return Err(UsageError(message.to_owned()).into());
        }
        Ok(folders)
    }

    /// The folder of plan and pieces, for a job in one process.
    pub(crate) fn job(&self) -> PathBuf {
        self.partial.join("job")
    }

    fn index(&self) -> PathBuf {
        self.partial.join("index")
    }

    /// Says that the index is whole, so that where it is gone from here it was renamed.
    fn mark(&self) -> PathBuf {
        self.partial.join("assembled")
    }

    /// Whether an earlier run left something to go on with.
    pub(crate) fn is_begun(&self) -> bool {
        self.partial.exists()
    }

    /// Whether an earlier run came to its end and was only kept from tidying up.
    pub(crate) fn is_finished(&self) -> bool {
        let is_there = self.target.join("meta.json").exists();
        let was_renamed = self.mark().exists() || !self.job().exists();
        is_there && self.is_begun() && was_renamed && !self.index().exists()
    }

    /// Refuses to touch what is in the place of the new index.
    ///
    /// # Errors
    /// When there is anything.
    pub(crate) fn check_free(&self) -> Result<()> {
        match self.target.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(_) => Err(UsageError(format!(
                "there is something at {} already; choose another folder, or move it away",
                self.target.display()
            ))
            .into()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Keeps other processes out of the folder beside, which is made if missing.
    ///
    /// # Errors
    /// When another process is at work there, or it cannot be made.
    pub(crate) fn lock(&self) -> Result<DirectoryLock> {
        let lock = directory(&self.partial)?.acquire_lock(&INDEX_WRITER_LOCK);
        lock.map_err(|error| match error {
            LockError::LockBusy => BusyError(format!(
                "another process is at work in {}; wait for it to end",
                self.partial.display()
            ))
            .into(),
            LockError::IoError(error) => {
                anyhow::Error::new(error).context(cannot("lock", &self.partial))
            }
        })
    }

    /// An empty folder for the index. What a killed process left may have files that no list
    /// names.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn index_directory(&self) -> Result<MmapDirectory> {
        let index = self.index();
        if self.mark().exists() {
            fs::remove_file(self.mark()).with_context(|| cannot("write to", &self.partial))?;
        }
        if index.exists() {
            fs::remove_dir_all(&index).with_context(|| cannot("empty", &index))?;
        }
        directory(&index)
    }

    /// Puts the finished index in its place: one rename, made durable.
    ///
    /// # Errors
    /// When something is there, or the folder cannot be renamed.
    pub(crate) fn publish(&self) -> Result<()> {
        self.check_free()?;
        fs::write(self.mark(), "").with_context(|| cannot("write to", &self.partial))?;
        sync(&self.partial).with_context(|| cannot("sync", &self.partial))?;
        fs::rename(self.index(), &self.target)
            .with_context(|| cannot("put the new index at", &self.target))?;
        sync(self.parent()).with_context(|| cannot("sync", self.parent()))
    }

    /// After a job was refused: nothing is there to go on with, or to delete by hand.
    pub(crate) fn remove_if_not_begun(&self) {
        if !self.job().join("plan.json").exists() {
            // What cannot be removed is in nobody's way but the next run's, which says so.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }

    /// Removes what the job needed.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub(crate) fn tidy_up(&self) -> Result<()> {
        if self.job().exists() {
            // Before the mark, without which a job is one to go on with.
            fs::remove_dir_all(self.job()).with_context(|| cannot("delete", &self.partial))?;
        }
        fs::remove_dir_all(&self.partial).with_context(|| cannot("delete", &self.partial))
    }

    fn parent(&self) -> &Path {
        let parent = self.target.parent();
        parent
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }
}

fn cannot(act: &str, path: &Path) -> String {
    format!("cannot {act} {}", path.display())
}

/// A folder, made if missing.
///
/// # Errors
/// When it cannot be made or opened.
pub(crate) fn directory(path: &Path) -> Result<MmapDirectory> {
    fs::create_dir_all(path).with_context(|| cannot("make", path))?;
    Ok(MmapDirectory::open(path).map_err(tantivy::TantivyError::from)?)
}

#[cfg(unix)]
fn sync(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file.
#[cfg(not(unix))]
fn sync(_: &Path) -> std::io::Result<()> {
    Ok(())
}
