//! The one error type of the crate.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, on which file or document, and what to do about it.
///
/// Opaque on purpose: the kinds of failure may grow without a breaking
/// release. Ask the predicates for what a program can act on; print it for a
/// person.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    document_idx: Option<usize>,
    source: Option<Source>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Io,
    Missing,
    Corrupt,
    Unsupported,
    InvalidInput,
    NotFinite,
    OutOfMemory,
    #[cfg(feature = "device")]
    Device,
    #[cfg(feature = "train")]
    Training,
}

impl Error {
    /// The operating system refused to read a file.
    pub fn is_io(&self) -> bool {
        self.0.kind == Kind::Io
    }

    /// A file that the model needs is not there (weights, config, tokenizer).
    pub fn is_missing(&self) -> bool {
        self.0.kind == Kind::Missing
    }

    /// A model file is damaged, or its parts do not belong together.
    pub fn is_corrupt(&self) -> bool {
        self.0.kind == Kind::Corrupt
    }

    /// The files are sound, but of a kind this crate does not run.
    pub fn is_unsupported(&self) -> bool {
        self.0.kind == Kind::Unsupported
    }

    /// The caller passed something unusable: an unknown knob, a value out of
    /// range, a token id beyond the vocabulary.
    pub fn is_invalid_input(&self) -> bool {
        self.0.kind == Kind::InvalidInput
    }

    /// A logit was NaN or infinite; see [`Error::document_idx`].
    pub fn is_not_finite(&self) -> bool {
        self.0.kind == Kind::NotFinite
    }

    /// Memory ran out, the machine's or the device's, even for the one text that
    /// [`Error::document_idx`] names, or for the weights.
    pub fn is_out_of_memory(&self) -> bool {
        self.0.kind == Kind::OutOfMemory
    }

    /// A device failed while it encoded, other than by running out of memory.
    #[cfg(feature = "device")]
    pub fn is_device(&self) -> bool {
        self.0.kind == Kind::Device
    }

    /// Training could not go on: the tensor library refused (out of memory, a device lost), or
    /// the loss left the finite numbers.
    #[cfg(feature = "train")]
    pub fn is_training(&self) -> bool {
        self.0.kind == Kind::Training
    }

    /// Index, in the batch handed in, of the text the error is about.
    pub fn document_idx(&self) -> Option<usize> {
        self.0.document_idx
    }

    pub(crate) fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        let message = format!("{action} {}: {source}", path.display());
        Self::new(Kind::Io, message).with_source(source)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    pub(crate) fn invalid_input(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidInput, message)
    }

    pub(crate) fn out_of_memory(message: impl Into<String>) -> Self {
        Self::new(Kind::OutOfMemory, message)
    }

    #[cfg(feature = "device")]
    pub(crate) fn device(message: impl Into<String>) -> Self {
        Self::new(Kind::Device, message)
    }

    #[cfg(feature = "train")]
    pub(crate) fn training(message: impl Into<String>) -> Self {
        Self::new(Kind::Training, message)
    }

    pub(crate) fn not_finite(document_idx: usize, position: usize, token_id: usize) -> Self {
        let message = format!(
            "the logit of token {token_id} at position {position} is NaN or infinite; the weights \
             are damaged or overflow in f32, load another copy of the model"
        );
        Self::new(Kind::NotFinite, message).at_document(document_idx)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names the text that was being worked on, unless one is named already.
    pub(crate) fn at_document(mut self, idx: usize) -> Self {
        self.0.document_idx.get_or_insert(idx);
        self
    }

    /// Counts the texts that the caller handed in before this part of them.
    pub(crate) fn shift_document(mut self, n_before: usize) -> Self {
        self.0.document_idx = self.0.document_idx.map(|idx| idx + n_before);
        self
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            document_idx: None,
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(idx) = self.0.document_idx {
            write!(f, "encoding text {idx} of the batch: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("document_idx", &self.0.document_idx)
            .field("source", &self.0.source)
            .finish()
    }
}

#[cfg(feature = "train")]
impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Self::training(format!("computing a training step: {source}")).with_source(source)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_answers_to_its_own_predicate_only() {
        let io = Error::io("reading", Path::new("x"), std::io::Error::other("why"));
        let all = [
            io,
            Error::missing("m"),
            Error::corrupt("m"),
            Error::unsupported("m"),
            Error::invalid_input("m"),
            Error::not_finite(0, 0, 0),
            Error::out_of_memory("m"),
        ];
        let predicates = [
            Error::is_io,
            Error::is_missing,
            Error::is_corrupt,
            Error::is_unsupported,
            Error::is_invalid_input,
            Error::is_not_finite,
            Error::is_out_of_memory,
        ];
        for (i, error) in all.iter().enumerate() {
            for (j, predicate) in predicates.iter().enumerate() {
                assert_eq!(predicate(error), i == j, "{error:?} against predicate {j}");
            }
        }
    }

    #[test]
    fn the_cause_stays_reachable() {
        let error = Error::io(
            "reading",
            Path::new("a/b"),
            std::io::Error::other("disk on fire"),
        );
        assert_eq!(error.to_string(), "reading a/b: disk on fire");
        assert_eq!(
            error.source().map(ToString::to_string).as_deref(),
            Some("disk on fire")
        );
    }

    #[test]
    fn the_first_document_named_is_kept() {
        let error = Error::invalid_input("too long")
            .at_document(3)
            .at_document(5);
        assert_eq!(error.document_idx(), Some(3));
        let error = error.shift_document(1024);
        assert_eq!(
            error.to_string(),
            "encoding text 1027 of the batch: too long"
        );
    }
}
