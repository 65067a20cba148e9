//! What was pulled, written down; and copied to a folder of one's own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::download::Content;
use super::error::{HubError, Result};

/// Beside the files of an output folder.
const MANIFEST: &str = "laconic-pull.json";

/// What was pulled from where.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Manifest {
    /// The repository.
    pub(crate) id: String,
    /// As asked for.
    pub(crate) revision: String,
    /// What it stood for.
    pub(crate) commit: String,
    /// The hub.
    pub(crate) endpoint: String,
    /// Sorted by path.
    pub(crate) files: Vec<PulledFile>,
}

/// A file, as it is on disk.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PulledFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    #[serde(skip)]
    pub(super) content: PathBuf,
}

impl PulledFile {
    pub(super) fn new(path: String, content: Content) -> Self {
        Self {
            path,
            bytes: content.n_bytes,
            sha256: content.sha256,
            content: content.path,
        }
    }
}

/// A folder that is there as a whole or not at all.
pub(super) struct Output {
    folder: PathBuf,
    /// Where it is written, beside itself; gone at the end.
    scratch: Scratch,
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is none after a success.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Output {
    /// Refuses a folder that has anything in it, before anything is downloaded.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let is_free = match fs::read_dir(folder) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(HubError::io("cannot use", folder, error)),
        };
        let name = folder.file_name().filter(|_| is_free).ok_or_else(|| {
            HubError::usage(format!(
                "--output {}: name a new folder, or an empty one; what is there is not touched",
                folder.display()
            ))
        })?;
        let mut beside = name.to_owned();
        beside.push(format!(".incomplete-{}", std::process::id()));
        Ok(Self {
            folder: folder.to_owned(),
            scratch: Scratch(folder.with_file_name(beside)),
        })
    }

    /// Copies the files and writes the manifest.
    pub(super) fn write(self, manifest: &Manifest) -> Result<()> {
        let write = || {
            for file in &manifest.files {
                let target = self.scratch.0.join(&file.path);
                fs::create_dir_all(target.parent().unwrap_or(&self.scratch.0))?;
                let copied = fs::copy(&file.content, &target)?;
                if copied != file.bytes {
                    let message = format!("{} changed while it was copied", file.path);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                File::open(&target)?.sync_all()?;
            }
            let json = serde_json::to_string_pretty(manifest)?;
            fs::write(self.scratch.0.join(MANIFEST), json + "\n")?;
            // An empty folder may be there, over which not every system renames.
            let _ = fs::remove_dir(&self.folder);
            fs::rename(&self.scratch.0, &self.folder)
        };
        write().map_err(|error| HubError::io("cannot write", &self.folder, error))
    }
}
