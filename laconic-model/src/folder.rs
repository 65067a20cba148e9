//! The model folder: files opened by plain name, read under a cap, hashed.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::error::Error;

/// A folder out of which no file name can lead.
#[derive(Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Where the Hugging Face hub cache keeps what `snapshots/<revision>/`
    /// links to; `None` for any other folder.
    blobs: Option<PathBuf>,
}

/// An open regular file and its length in bytes.
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) len: u64,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let root = path.canonicalize().map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::missing(format!(
                "opening model folder {}: it does not exist; name a folder with config.json and \
                 *.safetensors",
                path.display()
            )),
            _ => Error::io("opening model folder", path, source),
        })?;
        if !root.is_dir() {
            return Err(Error::invalid_input(format!(
                "opening model folder {}: it is not a folder; name the folder that holds \
                 config.json",
                path.display()
            )));
        }
        let blobs = hub_blobs(&root);
        Ok(Self { root, blobs })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// The folder's own name, for people; never used to find anything.
    pub(crate) fn name(&self) -> String {
        self.root
            .file_name()
            .unwrap_or(self.root.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// Opens a file of this folder; `None` if there is none of that name.
    ///
    /// `name` must be a plain name. A link is followed only to a file inside
    /// the folder (or inside the hub cache's own `blobs`).
    pub(crate) fn file(&self, name: &str) -> Result<Option<OpenFile>, Error> {
        check_plain_name(name)?;
        let path = self.root.join(name);
        let target = match path.canonicalize() {
            Ok(target) => target,
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("opening", &path, source)),
        };
        let is_inside = target.starts_with(&self.root)
            || self
                .blobs
                .as_ref()
                .is_some_and(|blobs| target.starts_with(blobs));
        if !is_inside {
            return Err(Error::corrupt(format!(
                "opening {}: it is a link out of the model folder; copy the file itself there",
                path.display()
            )));
        }
        open_regular(&target).map(Some)
    }

    /// A folder of this folder, under the same rules: a plain name, and no link out of it.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Self, Error> {
        check_plain_name(name)?;
        let path = self.root.join(name);
        let root = path.canonicalize().map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::missing(format!(
                "opening {}: there is no such folder; download the checkpoint again",
                path.display()
            )),
            _ => Error::io("opening", &path, source),
        })?;
        if !root.starts_with(&self.root) || !root.is_dir() {
            return Err(Error::corrupt(format!(
                "opening {}: it is not a folder inside the model folder; copy the folder itself \
                 there",
                path.display()
            )));
        }
        let blobs = self.blobs.clone();
        Ok(Self { root, blobs })
    }

    /// Reads a whole small file of this folder; `None` if it is not there.
    pub(crate) fn read(&self, name: &str, cap: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.file(name)? {
            Some(file) => read_capped(file, &self.root.join(name), cap).map(Some),
            None => Ok(None),
        }
    }

    /// Names of the entries that are valid UTF-8, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let describe = |source| Error::io("listing", &self.root, source);
        let mut names = Vec::new();
        for entry in self.root.read_dir().map_err(describe)? {
            names.extend(entry.map_err(describe)?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }
}

/// Reads a whole file named by the caller, wherever it lies.
pub(crate) fn read_named(path: &Path, cap: u64) -> Result<Vec<u8>, Error> {
    read_capped(open_regular(path)?, path, cap)
}

/// Refuses any file name that is more than a name.
///
/// Separators of every platform are refused on every platform, so that a
/// folder which loads here loads, or is refused, everywhere alike.
fn check_plain_name(name: &str) -> Result<(), Error> {
    let is_odd = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    let is_plain = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['.', '~', ' '])
        && !name.ends_with(['.', ' '])
        && !name.chars().any(is_odd);
    if is_plain {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::corrupt(format!(
        "opening {shown:?} of the model folder: it is not a plain file name, and files outside the \
         folder are not read; mend the file that names it"
    )))
}

/// Opens a file that a caller named, wherever it lies, or that was found to lie where it should.
pub(crate) fn open_regular(path: &Path) -> Result<OpenFile, Error> {
    // Asked before opening: opening a pipe waits for its other end.
    let metadata = path.metadata().map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::missing(format!(
            "opening {}: there is no such file; check the name",
            path.display()
        )),
        _ => Error::io("opening", path, source),
    })?;
    if !metadata.is_file() {
        return Err(Error::invalid_input(format!(
            "opening {}: it is not a regular file; name a file",
            path.display()
        )));
    }
    let file = File::open(path).map_err(|source| Error::io("opening", path, source))?;
    Ok(OpenFile {
        file,
        len: metadata.len(),
    })
}

fn read_capped(open: OpenFile, path: &Path, cap: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    // One byte over the cap tells "too long" from "just fits", whatever the
    // metadata said.
    let mut bounded = open.file.take(cap.saturating_add(1));
    bounded
        .read_to_end(&mut bytes)
        .map_err(|source| Error::io("reading", path, source))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > cap) {
        return Err(Error::corrupt(format!(
            "reading {}: it is longer than {cap} bytes, more than such a file ever needs; check \
             that it is the right file",
            path.display()
        )));
    }
    Ok(bytes)
}

/// `models--x/blobs` when the folder is `models--x/snapshots/<revision>`.
fn hub_blobs(root: &Path) -> Option<PathBuf> {
    let snapshots = root.parent()?;
    let model = snapshots.parent()?;
    let is_cache = snapshots.file_name()? == "snapshots"
        && model.file_name()?.to_string_lossy().starts_with("models--");
    is_cache.then(|| model.join("blobs"))
}

/// Running hash over everything that decides what the encoder computes.
pub(crate) struct Fingerprint(Xxh3);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(Xxh3::new())
    }

    /// Starts a part; its length keeps neighbouring parts from running
    /// together.
    pub(crate) fn begin(&mut self, part: &str, len: u64) {
        self.0.update(part.as_bytes());
        self.0.update(&len.to_le_bytes());
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn part(&mut self, part: &str, bytes: &[u8]) {
        self.begin(part, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.update(bytes);
    }

    /// 32 hexadecimal digits.
    pub(crate) fn finish(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "mödel.json",
        ] {
            assert!(check_plain_name(good).is_ok(), "{good}");
        }
        for bad in [
            "", ".", "..", "../a", "/a", "a/b", "a\\b", "C:a", "a\0b", "~/a", "a.", " a",
        ] {
            assert!(check_plain_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_plain_name(&"a".repeat(256)).is_err());
    }

    #[test]
    fn a_cap_is_exact() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"12345").unwrap();
        let folder = Folder::open(folder.path()).unwrap();
        assert_eq!(folder.read("a", 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert!(folder.read("a", 4).unwrap_err().is_corrupt());
        assert!(folder.read("b", 4).unwrap().is_none());
    }

    #[test]
    fn the_hub_cache_is_told_from_other_folders() {
        let blobs = hub_blobs(Path::new("/c/models--a--b/snapshots/0123"));
        assert_eq!(blobs.as_deref(), Some(Path::new("/c/models--a--b/blobs")));
        for other in [
            "/c/models--a--b/snapshot/0123",
            "/c/x/snapshots/0123",
            "/",
            "a",
        ] {
            assert!(hub_blobs(Path::new(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        let hash = |parts: &[(&str, &[u8])]| {
            let mut fingerprint = Fingerprint::new();
            parts
                .iter()
                .for_each(|(name, bytes)| fingerprint.part(name, bytes));
            fingerprint.finish()
        };
        assert_ne!(
            hash(&[("a", b"xy"), ("b", b"z")]),
            hash(&[("a", b"x"), ("b", b"yz")])
        );
    }
}
