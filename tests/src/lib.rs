//! What the end-to-end tests share: a folder to work in, the binary as a user would call it, and
//! collections to index.
//!
//! ```no_run
//! # // `scratch!` needs the binary that cargo hands to integration tests only.
//! # let scratch = laconic_tests::Scratch::new("laconic");
//! scratch.write("docs.jsonl", r#"{"_id": "a", "text": "posting lists"}"#);
//! scratch.laconic("index --index idx --docs docs.jsonl").succeeds();
//! let found = scratch.laconic("search --index idx --mode bm25 'posting lists'").succeeds();
//! assert!(found.stdout.contains("posting"));
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of tests fails by panicking, as a test does"
)]

mod collection;
pub mod hub;
mod outcome;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub use collection::{Doc, Docs, gzip, scifact_docs, zstd};
pub use outcome::{Hit, Outcome};

/// A [`Scratch`] folder that calls the binary under test.
#[macro_export]
macro_rules! scratch {
    () => {
        $crate::Scratch::new(env!("CARGO_BIN_EXE_laconic-under-test"))
    };
}

/// A temporary folder, the working directory of every command run in it; gone at the end.
pub struct Scratch {
    dir: tempfile::TempDir,
    binary: &'static str,
}

impl Scratch {
    /// A new folder whose commands run `binary`.
    pub fn new(binary: &'static str) -> Scratch {
        Scratch {
            dir: tempfile::tempdir().unwrap(),
            binary,
        }
    }

    /// A path in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Reads a file as text.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Every file of an index with its bytes; locks are no part of it.
    pub fn index_contents(&self, index: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.path(index)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let files = paths.filter(|path| path.extension().is_none_or(|ext| ext != "lock"));
        files
            .map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap()))
            .collect()
    }

    /// Writes a tiny checkpoint, which is generated from `seed`.
    pub fn write_checkpoint(&self, name: &str, seed: u64) {
        let checkpoint = laconic_fixtures::checkpoint::TinyCheckpoint::default();
        let checkpoint = laconic_fixtures::checkpoint::TinyCheckpoint { seed, ..checkpoint };
        checkpoint.write(&self.path(name)).unwrap();
    }

    /// Runs `laconic` with a line of arguments, quoted as for a shell, and waits for its end.
    pub fn laconic(&self, arguments: &str) -> Outcome {
        Outcome::new(arguments, self.command(arguments).output().unwrap())
    }

    /// As [`laconic`](Scratch::laconic), in a locale.
    pub fn laconic_in(&self, locale: &str, arguments: &str) -> Outcome {
        let mut command = self.command(arguments);
        Outcome::new(arguments, command.env("LC_ALL", locale).output().unwrap())
    }

    /// As [`laconic`](Scratch::laconic), with `input` on standard input.
    pub fn laconic_fed(&self, input: &[u8], arguments: &str) -> Outcome {
        let mut command = self.command(arguments);
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // A process that stops reading, as it does at a faulty line, is no fault of ours.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().unwrap()
        });
        Outcome::new(arguments, output)
    }

    /// Starts `laconic` with its output thrown away.
    pub fn start(&self, arguments: &str) -> Child {
        let mut command = self.command(arguments);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The command, not started.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.binary);
        command
            .current_dir(self.dir.path())
            .args(words(arguments))
            .stdin(Stdio::null())
            // What is printed is not to depend on how the tests are run.
            .env_remove("RUST_BACKTRACE")
            // A cache of its own for each test.
            .env("LACONIC_CACHE", self.path("cache-of-encodings"));
        command
    }

    /// The files of an index in the last commit's segments, `meta.json` first.
    pub fn index_files(&self, index: &str) -> Vec<PathBuf> {
        let meta: serde_json::Value =
            serde_json::from_str(&self.read(format!("{index}/meta.json"))).unwrap();
        let segments = meta["segments"].as_array().unwrap().iter();
        let names: Vec<String> = segments
            .map(|s| s["segment_id"].as_str().unwrap().replace('-', ""))
            .collect();
        let entries = fs::read_dir(self.path(index))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| {
                let file = path.file_name().unwrap().to_string_lossy();
                file == "meta.json" || names.iter().any(|name| file.starts_with(name))
            })
            .collect();
        files.sort_by_key(|path| (!path.ends_with("meta.json"), path.clone()));
        files
    }
}

/// Splits a line into words as a shell does: at white space outside `'…'` and `"…"`.
///
/// ```
/// assert_eq!(laconic_tests::words(r#"a 'b c' d"e f"  '' "#), ["a", "b c", "de f", ""]);
/// ```
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed: {line}");
    words.extend(word);
    words
}

/// A folder of the data that is not part of the repository; `None`, with a line printed, where
/// it is absent.
#[expect(clippy::print_stdout, reason = "what was skipped must be seen")]
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let folder = workspace().join("../shared/data").join(name);
    if !folder.is_dir() {
        println!("skipped: there is no {}", folder.display());
        return None;
    }
    Some(folder.canonicalize().unwrap())
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
