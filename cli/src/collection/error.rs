//! The error of reading a collection: which file, which line, why, what to do.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a collection file, or one line of it, could not be read.
///
/// The reason is private so that new ones can be added freely; act on the predicates and show
/// the message.
#[derive(Debug)]
pub struct InputError(Box<Fault>);

#[derive(Debug)]
struct Fault {
    file: Arc<str>,
    line: Option<u64>,
    reason: Reason,
}

#[derive(Debug)]
pub(super) enum Reason {
    Open(io::Error),
    Read(io::Error),
    StreamCutShort,
    StreamDamaged(io::Error),
    LineTooLong {
        limit: usize,
    },
    NotUtf8 {
        byte: usize,
    },
    /// A file that is not text at all; `is` says what it looks like instead.
    NotText {
        is: &'static str,
    },
    LineCutShort(String),
    Malformed(String),
    RepeatedId {
        id: String,
        first_line: u64,
    },
    /// The record could be read, but what it was meant for does not take it.
    Refused(Box<dyn std::error::Error + Send + Sync>),
    PositionMissing,
}

impl InputError {
    pub(super) fn new(file: &Arc<str>, line: Option<u64>, reason: Reason) -> InputError {
        InputError(Box::new(Fault {
            file: Arc::clone(file),
            line,
            reason,
        }))
    }

    /// The file's path as it was given, or a name for standard input.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// The line at fault, counted from 1; `None` when the file could not be opened.
    pub fn line(&self) -> Option<u64> {
        self.0.line
    }

    /// The operating system failed, not the content: no such file, no permission, disk error.
    pub fn is_io(&self) -> bool {
        matches!(self.0.reason, Reason::Open(_) | Reason::Read(_))
    }

    /// The content is at fault: a line that is no record, a damaged or cut compressed stream.
    pub fn is_malformed(&self) -> bool {
        !self.is_io() && !self.is_position_mismatch()
    }

    /// The file, or its last line, ends too early.
    pub fn is_truncated(&self) -> bool {
        matches!(
            self.0.reason,
            Reason::StreamCutShort | Reason::LineCutShort(_)
        )
    }

    /// Only this line is lost: reading can go on with the next one.
    pub fn is_skippable(&self) -> bool {
        use Reason as R;
        matches!(
            self.0.reason,
            R::LineTooLong { .. }
                | R::NotUtf8 { .. }
                | R::LineCutShort(_)
                | R::Malformed(_)
                | R::RepeatedId { .. }
                | R::Refused(_)
        )
    }

    /// The file does not reach, or does not have a line end at, the position to resume from.
    pub fn is_position_mismatch(&self) -> bool {
        matches!(self.0.reason, Reason::PositionMissing)
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}", self.0.file)?;
        if let Some(line) = self.0.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}; {}", self.0.reason, self.0.reason.remedy())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Open(source) | Reason::Read(source) => source.fmt(f),
            Reason::StreamCutShort => f.write_str("the compressed file is truncated"),
            Reason::StreamDamaged(source) => write!(f, "the file cannot be decompressed: {source}"),
            Reason::LineTooLong { limit } => {
                write!(f, "the line is longer than the limit of {limit} bytes")
            }
            Reason::NotUtf8 { byte } => write!(f, "byte {byte} of the line is not UTF-8"),
            Reason::NotText { is } => write!(f, "the content {is}"),
            Reason::LineCutShort(why) => write!(f, "truncated line at the end of the file: {why}"),
            Reason::Malformed(why) => f.write_str(why),
            Reason::RepeatedId { id, first_line } => {
                write!(f, "id `{id}` was already given on line {first_line}")
            }
            Reason::Refused(source) => source.fmt(f),
            Reason::PositionMissing => {
                f.write_str("the file has changed since the position to resume from was stored")
            }
        }
    }
}

impl Reason {
    fn remedy(&self) -> &'static str {
        match self {
            Reason::Open(_) => "check the path and its permissions",
            Reason::Read(_) => "check the disk or the pipe and run again",
            Reason::StreamCutShort | Reason::StreamDamaged(_) => "fetch or write the file again",
            Reason::LineTooLong { .. } => "split the record or raise the limit",
            Reason::NotUtf8 { .. } => "convert the file to UTF-8",
            Reason::NotText { .. } => {
                "give plain UTF-8 text, or that compressed once by gzip or zstd"
            }
            Reason::LineCutShort(_) => "write the file again, or remove its last line",
            Reason::RepeatedId { .. } => "an id names one record of a file: remove one of the two",
            Reason::Malformed(_) | Reason::Refused(_) => "correct or remove the line",
            Reason::PositionMissing => "start again from the beginning of the file",
        }
    }
}

impl std::error::Error for InputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.reason {
            Reason::Open(source) | Reason::Read(source) | Reason::StreamDamaged(source) => {
                Some(source)
            }
            Reason::Refused(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

/// Why a line is not the record it should be, before anyone knows which line it is.
#[derive(Debug)]
pub(crate) struct Malformed {
    message: String,
    is_syntax: bool,
}

impl Malformed {
    /// The line is well formed, its content is not what is asked for.
    pub(crate) fn content(message: impl Into<String>) -> Malformed {
        Malformed {
            message: message.into(),
            is_syntax: false,
        }
    }

    /// The line is not JSON.
    pub(super) fn syntax(message: impl Into<String>) -> Malformed {
        Malformed {
            message: message.into(),
            is_syntax: true,
        }
    }

    /// A last line without line end that is not JSON was most likely cut.
    pub(super) fn into_reason(self, is_terminated: bool) -> Reason {
        if self.is_syntax && !is_terminated {
            Reason::LineCutShort(self.message)
        } else {
            Reason::Malformed(self.message)
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
