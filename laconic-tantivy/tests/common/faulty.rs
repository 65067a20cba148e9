//! [`FaultyDirectory`]: a directory in memory whose n-th operation fails, or whose disk is full.
#![allow(dead_code, reason = "every test file uses its own part of this module")]

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, RamDirectory, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Never,
    /// The n-th open, write, flush, close, replacement, deletion or sync from now, counted from 1,
    /// and that one only.
    AtCall(u64),
    /// That one and all after it.
    FromCall(u64),
    /// Everything that writes, once this many bytes are written.
    DiskFullAfter(u64),
    /// Reading `meta.json`.
    ReadingMeta,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    calls: u64,
    bytes: u64,
    failures: u64,
    paths: BTreeSet<PathBuf>,
}

/// A `RamDirectory` with faults. A file whose writer fails stays behind, cut short, as on a disk.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDirectory {
    inner: RamDirectory,
    state: Arc<Mutex<State>>,
}

impl FaultyDirectory {
    pub(crate) fn new() -> FaultyDirectory {
        let state = State {
            fault: Fault::Never,
            calls: 0,
            bytes: 0,
            failures: 0,
            paths: BTreeSet::new(),
        };
        FaultyDirectory {
            inner: RamDirectory::create(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Counts start anew.
    pub(crate) fn arm(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        (state.fault, state.calls, state.bytes, state.failures) = (fault, 0, 0, 0);
    }

    /// Operations that failed since the fault was armed.
    pub(crate) fn failures(&self) -> u64 {
        self.state.lock().unwrap().failures
    }

    /// Every file there is, locks excepted.
    pub(crate) fn paths(&self) -> BTreeSet<PathBuf> {
        self.state.lock().unwrap().paths.clone()
    }

    fn call(&self, bytes: usize) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        state.bytes += bytes as u64;
        let fails = match state.fault {
            Fault::Never | Fault::ReadingMeta => false,
            Fault::AtCall(n) => state.calls == n,
            Fault::FromCall(n) => state.calls >= n,
            Fault::DiskFullAfter(limit) => bytes > 0 && state.bytes > limit,
        };
        if !fails {
            return Ok(());
        }
        state.failures += 1;
        Err(io::Error::other(format!(
            "injected at call {} ({:?})",
            state.calls, state.fault
        )))
    }

    fn enter(&self, path: &Path) {
        self.state.lock().unwrap().paths.insert(path.to_owned());
    }
}

impl Directory for FaultyDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        let io_error = |error| DeleteError::IoError {
            io_error: Arc::new(error),
            filepath: path.into(),
        };
        self.call(0).map_err(io_error)?;
        self.state.lock().unwrap().paths.remove(path);
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let io_error = |error| OpenWriteError::IoError {
            io_error: Arc::new(error),
            filepath: path.into(),
        };
        self.call(0).map_err(io_error)?;
        let inner = self.inner.open_write(path)?;
        self.enter(path);
        let file = FaultyFile {
            inner: Some(inner),
            directory: self.clone(),
        };
        Ok(BufWriter::new(Box::new(file)))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        if self.state.lock().unwrap().fault == Fault::ReadingMeta && path == Path::new("meta.json")
        {
            let io_error = Arc::new(io::Error::other("injected on reading"));
            return Err(OpenReadError::IoError {
                io_error,
                filepath: path.into(),
            });
        }
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.call(data.len())?;
        self.enter(path);
        self.inner.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.call(0)?;
        self.inner.sync_directory()
    }

    /// Locks never fail: on a disk they are no files that are written.
    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(watch_callback)
    }
}

struct FaultyFile {
    inner: Option<WritePtr>,
    directory: FaultyDirectory,
}

impl FaultyFile {
    fn inner(&mut self) -> io::Result<&mut WritePtr> {
        self.inner
            .as_mut()
            .ok_or_else(|| io::Error::other("closed"))
    }
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.directory.call(bytes.len())?;
        self.inner()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.directory.call(0)?;
        self.inner()?.flush()
    }
}

impl TerminatingWrite for FaultyFile {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.directory.call(0)?;
        self.inner
            .take()
            .map_or(Ok(()), TerminatingWrite::terminate)
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        let _ = self.inner.take().map(TerminatingWrite::terminate);
    }
}
