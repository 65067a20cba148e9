//! Names that become parts of addresses and of paths: checked once, here.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::error::{HubError, Result};

/// A repository: `OWNER/NAME`, or `NAME` alone as a few old ones have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoId(String);

/// What a user calls a state of a repository: branch, tag, commit or `refs/pr/1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision(String);

/// The hash that a revision stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit(String);

/// The name of a file's content: the SHA-256 of a large file, Git's hash of a small one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Etag(String);

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_fine = |part: &&str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty()
                && part.len() <= 96
                && part.chars().all(is_plain)
                && !part.starts_with(['.', '-'])
                && !part.ends_with(['.', '-'])
                // The cache writes a slash as two dashes.
                && !part.contains("--")
                && !part.contains("..")
        };
        match parts.len() <= 2 && parts.iter().all(is_fine) {
            true => Ok(Self(text.to_owned())),
            false => Err(HubError::usage(format!(
                "{text:?} is no name of a repository; expected OWNER/NAME, of letters, digits, \
                 '-', '_' and '.', as in the address of its page"
            ))),
        }
    }
}

impl FromStr for Revision {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+@/".contains(c);
        let is_fine = |part: &str| !part.is_empty() && !part.starts_with('.') && part.len() <= 200;
        match text.chars().all(is_plain) && text.split('/').all(is_fine) && !text.contains("..") {
            true => Ok(Self(text.to_owned())),
            false => Err(HubError::usage(format!(
                "{text:?} is no revision; expected a branch, a tag or a commit"
            ))),
        }
    }
}

impl Revision {
    /// The revision as a commit, if it has the form of one.
    pub(super) fn as_commit(&self) -> Option<Commit> {
        Commit::new(&self.0)
    }
}

impl Commit {
    /// `None` for anything but a hash: it names a folder.
    pub(super) fn new(text: &str) -> Option<Self> {
        is_hash(text).then(|| Self(text.to_owned()))
    }
}

impl Etag {
    /// An ETag as it stands in a header; `None` for what must not name a file.
    pub(super) fn from_header(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_fine = !text.is_empty()
            && text.len() <= 128
            && text.chars().all(is_plain)
            && !text.starts_with('.')
            && !text.ends_with(".incomplete");
        is_fine.then(|| Self(text.to_owned()))
    }

    /// The SHA-256 of the content, if that is what this is.
    pub(super) fn sha256(&self) -> Option<&str> {
        (self.0.len() == 64 && is_hash(&self.0)).then_some(&self.0)
    }
}

fn is_hash(text: &str) -> bool {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    matches!(text.len(), 40 | 64) && text.chars().all(is_digit)
}

/// Whether a name of a file in a repository leads nowhere but into a folder: a relative path of
/// plain components, for every operating system.
pub(super) fn is_plain_path(name: &str) -> bool {
    let is_odd = |c: char| matches!(c, '\\' | ':') || c.is_control();
    let is_fine = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    name.len() <= 1024 && name.split('/').all(is_fine) && !name.chars().any(is_odd)
}

macro_rules! shown_as_text {
    ($($name:ident)*) => { $(
        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}

impl RepoId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

shown_as_text!(RepoId Revision Commit Etag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "a\\b",
            "..\\a",
            "C:/a",
            "C:a",
            "a\0",
            "a\nb",
            "file:a",
        ] {
            assert!(!is_plain_path(name), "{name:?}");
        }
        for name in [
            "config.json",
            "1_Pooling/config.json",
            "a b",
            "..a",
            "é.json",
        ] {
            assert!(is_plain_path(name), "{name:?}");
        }
    }

    #[test]
    fn repositories_and_revisions() {
        for id in ["org/name", "org/na.me_1-x", "bert-base"] {
            assert_eq!(id.parse::<RepoId>().unwrap().to_string(), id);
        }
        for id in [
            "", "/", "a/", "/a", "a/b/c", "a/..", "../a", "a--b/c", "hf://a/b", "a/b?c", "a b",
        ] {
            assert!(id.parse::<RepoId>().is_err(), "{id:?}");
        }
        for revision in ["main", "v1.0", "refs/pr/1", "feature/x+y"] {
            assert!(revision.parse::<Revision>().is_ok(), "{revision:?}");
        }
        for revision in [
            "", "..", "a/../b", "/a", "a/", "a//b", "a b", "a\\b", ".git", "a?b",
        ] {
            assert!(revision.parse::<Revision>().is_err(), "{revision:?}");
        }
    }

    #[test]
    fn commits_and_etags_name_files_safely() {
        assert!(Commit::new(&"a1".repeat(20)).is_some());
        for commit in ["main", "../../x", "", &"g".repeat(40), &"A".repeat(40)] {
            assert!(Commit::new(commit).is_none(), "{commit:?}");
        }
        let sha256 = "0f".repeat(32);
        let etag = Etag::from_header(&format!("\"{sha256}\"")).unwrap();
        assert_eq!(etag.sha256(), Some(sha256.as_str()));
        let etag = Etag::from_header("W/\"abc-1\"").unwrap();
        assert_eq!((etag.to_string().as_str(), etag.sha256()), ("abc-1", None));
        for etag in [
            "",
            "\"\"",
            "..",
            "a/b",
            "\"../../x\"",
            "a\\b",
            ".a",
            "a.incomplete",
        ] {
            assert!(Etag::from_header(etag).is_none(), "{etag:?}");
        }
    }
}
