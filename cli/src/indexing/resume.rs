//! [`Progress`]: how far an indexing job has come, kept in the commit it belongs to.
//!
//! Progress and documents move in one rename of `meta.json`, so a killed job leaves no side file
//! to disagree with. A later run over the same file goes on behind the last committed line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Bytes at either end of a file that identify it.
const PROBE: usize = 64 * 1024;

/// What a commit of `laconic index` carries as its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Version of this record.
    pub(crate) laconic_index: u32,
    /// The input read.
    pub(crate) input: InputFile,
    /// Lines of it whose documents are in the commit.
    pub(crate) lines: u64,
    /// True when the whole input is.
    pub(crate) complete: bool,
}

/// Identity of an input file: size and hash of its first and last 64 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputFile {
    bytes: u64,
    ends: String,
}

impl InputFile {
    /// Identifies a file; `None` for standard input and other things without a size.
    pub(crate) fn identify(path: &Path) -> Result<Option<InputFile>> {
        if path.as_os_str() == "-" || !path.is_file() {
            return Ok(None);
        }
        let context = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(context)?;
        let bytes = file.metadata().with_context(context)?.len();
        let mut ends = Vec::with_capacity(2 * PROBE);
        file.by_ref()
            .take(PROBE as u64)
            .read_to_end(&mut ends)
            .with_context(context)?;
        file.seek(SeekFrom::Start(bytes.saturating_sub(PROBE as u64)))
            .with_context(context)?;
        file.take(PROBE as u64)
            .read_to_end(&mut ends)
            .with_context(context)?;
        let hash = xxhash_rust::xxh3::xxh3_128(&ends);
        Ok(Some(InputFile {
            bytes,
            ends: format!("{hash:032x}"),
        }))
    }
}

impl Progress {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn new(input: InputFile, lines: u64, complete: bool) -> Progress {
        Progress {
            laconic_index: Progress::VERSION,
            input,
            lines,
            complete,
        }
    }

    pub(crate) fn to_payload(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Lines of `input` that an unfinished earlier run has committed; 0 if the last commit is
    /// of something else.
    pub(crate) fn committed_lines(payload: Option<&str>, input: &InputFile) -> u64 {
        let progress = payload.and_then(|json| serde_json::from_str::<Progress>(json).ok());
        let unfinished = progress.filter(|progress| {
            progress.laconic_index == Progress::VERSION
                && !progress.complete
                && progress.input == *input
        });
        unfinished.map_or(0, |progress| progress.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unfinished_run_over_the_same_file_counts() {
        let file = |bytes| InputFile {
            bytes,
            ends: "00".into(),
        };
        let payload = |complete| Progress::new(file(7), 12, complete).to_payload().unwrap();
        let lines = |payload: &str, input| Progress::committed_lines(Some(payload), &input);
        assert_eq!(lines(&payload(false), file(7)), 12);
        assert_eq!(lines(&payload(true), file(7)), 0);
        assert_eq!(lines(&payload(false), file(8)), 0);
        assert_eq!(lines("somebody else's payload", file(7)), 0);
        assert_eq!(Progress::committed_lines(None, &file(7)), 0);
    }
}
