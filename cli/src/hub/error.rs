//! What can go wrong between a hub, its cache and us.

use std::fmt::{self, Display};
use std::io;
use std::path::Path;

/// A pull that failed, and what to do about it.
#[derive(Debug)]
pub(crate) struct HubError {
    kind: Kind,
    message: String,
    source: Option<io::Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usage,
    Missing,
    Denied,
    Corrupt,
    Network,
    Io,
}

pub(super) type Result<T> = std::result::Result<T, HubError>;

impl HubError {
    /// A mistake in what was asked for.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// What is asked for is not there.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// The hub wants another token, or none at all of us.
    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, message)
    }

    /// What came is not what was promised, or nothing that may be believed.
    pub(super) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(Kind::Corrupt, message)
    }

    /// The hub cannot be reached, or broke off.
    pub(super) fn network(message: impl Into<String>) -> Self {
        Self::new(Kind::Network, message)
    }

    /// Doing `what` with the file failed.
    pub(super) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        Self {
            kind: Kind::Io,
            message: format!("{what} {}", path.display()),
            source: Some(source),
        }
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The exit code that tells this cause apart; `None` for the one of everything else.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self.kind {
            Kind::Usage => Some(2),
            Kind::Missing | Kind::Denied => Some(3),
            Kind::Corrupt => Some(4),
            Kind::Network | Kind::Io => None,
        }
    }
}

impl Display for HubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HubError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
