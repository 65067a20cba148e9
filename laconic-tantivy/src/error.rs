//! The one error type of this crate: what was attempted, on what, why it failed, what to do.

use std::fmt;
use std::io::ErrorKind;

/// An error of `laconic-tantivy`.
///
/// The kind is private so that new ones can be added freely; act on the predicates
/// ([`is_invalid_input`](Error::is_invalid_input), [`is_mismatch`](Error::is_mismatch),
/// [`is_corrupt`](Error::is_corrupt), [`is_busy`](Error::is_busy),
/// [`is_cancelled`](Error::is_cancelled), [`is_storage_full`](Error::is_storage_full)) and show
/// the message.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    column: Option<usize>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    InvalidInput,
    Mismatch,
    Corrupt,
    Busy,
    Cancelled,
    StorageFull,
    Tantivy,
}

impl Error {
    /// The caller's data cannot be used: a weight, a term, a schema, a parameter.
    pub fn is_invalid_input(&self) -> bool {
        self.kind == Kind::InvalidInput
    }

    /// Two sides that have to agree (the index, the vectors, the query) do not: another model,
    /// preset, quantizer or format version.
    pub fn is_mismatch(&self) -> bool {
        self.kind == Kind::Mismatch
    }

    /// Stored data is damaged.
    pub fn is_corrupt(&self) -> bool {
        self.kind == Kind::Corrupt
    }

    /// Another writer holds the index.
    pub fn is_busy(&self) -> bool {
        self.kind == Kind::Busy
    }

    /// The caller's progress callback asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.kind == Kind::Cancelled
    }

    /// The disk, or the caller's share of it, is full.
    pub fn is_storage_full(&self) -> bool {
        self.kind == Kind::StorageFull
    }

    /// Where in a query text something is wrong: a character, counted from 1.
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    pub(crate) fn with_column(mut self, column: usize) -> Error {
        self.column = Some(column);
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::InvalidInput, message)
    }

    pub(crate) fn mismatch(message: impl Into<String>) -> Error {
        Error::new(Kind::Mismatch, message)
    }

    pub(crate) fn busy(message: impl Into<String>) -> Error {
        Error::new(Kind::Busy, message)
    }

    pub(crate) fn cancelled(message: impl Into<String>) -> Error {
        Error::new(Kind::Cancelled, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Error {
        Error::new(Kind::Corrupt, message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            column: None,
            source: None,
        }
    }

    /// Says what was being attempted when `source` came up.
    pub(crate) fn during(
        attempt: impl Into<String>,
        source: impl Into<tantivy::TantivyError>,
    ) -> Error {
        let source = source.into();
        let kind = kind_of(&source);
        Error {
            kind,
            message: attempt.into(),
            column: None,
            source: Some(Box::new(source)),
        }
    }
}

fn kind_of(source: &tantivy::TantivyError) -> Kind {
    use tantivy::TantivyError as T;
    use tantivy::directory::error::{LockError, OpenReadError, OpenWriteError};
    match source {
        T::OpenReadError(OpenReadError::IncompatibleIndex(..)) => Kind::Corrupt,
        T::LockFailure(LockError::LockBusy, _) => Kind::Busy,
        T::IoError(error)
        | T::LockFailure(LockError::IoError(error), _)
        | T::OpenWriteError(OpenWriteError::IoError {
            io_error: error, ..
        }) if is_full(error) => Kind::StorageFull,
        T::DataCorruption(..) | T::IncompatibleIndex(..) => Kind::Corrupt,
        T::InvalidArgument(..)
        | T::SchemaError(..)
        | T::FieldNotFound(..)
        | T::IndexAlreadyExists => Kind::InvalidInput,
        _ => Kind::Tantivy,
    }
}

/// The system's error may be within another, of which the dictionary writer's shows nothing but
/// its text: "… (os error 28)".
fn is_full(error: &std::io::Error) -> bool {
    let code = || {
        let text = error.get_ref()?.to_string();
        let (_, code) = text.rsplit_once("(os error ")?;
        code.strip_suffix(')')?.parse().ok()
    };
    let inner = code().map(|code| std::io::Error::from_raw_os_error(code).kind());
    [Some(error.kind()), inner]
        .iter()
        .flatten()
        .any(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<tantivy::TantivyError> for Error {
    fn from(source: tantivy::TantivyError) -> Error {
        Error::during("Tantivy reported an error", source)
    }
}

/// Tantivy's query traits return Tantivy's error; ours keeps its message there.
impl From<Error> for tantivy::TantivyError {
    fn from(error: Error) -> tantivy::TantivyError {
        match error.kind {
            Kind::Corrupt => tantivy::error::DataCorruption::comment_only(error.to_string()).into(),
            _ => tantivy::TantivyError::InvalidArgument(error.to_string()),
        }
    }
}
