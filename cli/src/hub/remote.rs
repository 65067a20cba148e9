//! What a hub says about a repository and its files.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::attempt::{Failure, patiently};
use super::client::{Answer, Client};
use super::error::{HubError, Result};
use super::names::{Commit, Etag, Revision, is_plain_path};
use super::url::Url;

/// Listings of tens of thousands of files fit.
const MAX_LISTING: u64 = 32 << 20;

/// A revision resolved: its commit and the names of its files, all of them plain paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commit: Commit,
    pub(super) names: BTreeSet<String>,
}

/// A file as the hub describes it.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    pub(super) name: String,
    pub(super) etag: Etag,
    /// `None` if it is only told with the content.
    pub(super) n_bytes: Option<u64>,
    pub(super) url: Url,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Asks which commit a revision is, and what it holds.
pub(super) fn list(client: &Client, revision: &Revision) -> Result<Listing> {
    let mut segments = vec!["api", "models"];
    segments.extend(client.segments());
    let name = revision.to_string();
    segments.extend(["revision", &name]);
    let url = client.endpoint.below(&segments);
    let what = format!("{} at {revision}", client.id);
    let answer = patiently(|| {
        let answer = client.get(&url, 0, &what)?;
        let body = answer.into_body().into_with_config().limit(MAX_LISTING);
        body.read_to_vec().map_err(|error| {
            let error = format!("reading what {url} answers: {error}; try again");
            Failure::passing(HubError::network(error))
        })
    })?;
    parse(&answer, &url)
}

fn parse(answer: &[u8], url: &Url) -> Result<Listing> {
    let info: Info = serde_json::from_slice(answer).map_err(|error| {
        HubError::corrupt(format!(
            "{url} answers what no hub does ({error}); is HF_ENDPOINT right?"
        ))
    })?;
    let commit = Commit::new(&info.sha).ok_or_else(|| {
        let shown: String = info.sha.chars().take(80).collect();
        HubError::corrupt(format!("{url}: `sha` is {shown:?}, which is no commit"))
    })?;
    let names: BTreeSet<String> = info
        .siblings
        .into_iter()
        .map(|file| file.rfilename)
        .collect();
    // Whoever lists one such name is not to be believed in the others.
    if let Some(name) = names.iter().find(|name| !is_plain_path(name)) {
        let shown: String = name.chars().take(80).collect();
        return Err(HubError::corrupt(format!(
            "{url} lists a file {shown:?}, a name that leads out of a folder; nothing of this \
             repository is pulled"
        )));
    }
    Ok(Listing { commit, names })
}

/// Asks for a file's ETag and size.
pub(super) fn describe(client: &Client, commit: &Commit, name: &str) -> Result<RemoteFile> {
    let mut segments = client.segments();
    let commit_name = commit.to_string();
    segments.extend(["resolve", &commit_name]);
    segments.extend(name.split('/'));
    let url = client.endpoint.below(&segments);
    let what = format!("{name} of {}", client.id);
    let answer = patiently(|| client.head(&url, &what))?;
    if let Some(other) = answer.first_header("x-repo-commit")
        && other != commit_name
    {
        return Err(HubError::corrupt(format!(
            "{what} was asked for at commit {commit} and is answered at another one; is \
             HF_ENDPOINT right?"
        )));
    }
    let etag = answer
        .first_header("x-linked-etag")
        .or(answer.header("etag"));
    let etag = etag.and_then(Etag::from_header).ok_or_else(|| {
        HubError::corrupt(format!(
            "{what}: the hub states no usable ETag; is HF_ENDPOINT right?"
        ))
    })?;
    Ok(RemoteFile {
        name: name.to_owned(),
        n_bytes: size(&answer),
        etag,
        url,
    })
}

/// The size as the hub knows it, or that of the answer if it is the file itself.
fn size(answer: &Answer) -> Option<u64> {
    let number = |text: &str| text.trim().parse().ok();
    let linked = answer.first_header("x-linked-size").and_then(number);
    let is_file = answer.status() == 200;
    let own = answer.header("content-length").filter(|_| is_file);
    linked.or_else(|| own.and_then(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(answer: &str) -> Result<Listing> {
        parse(
            answer.as_bytes(),
            &Url::parse("https://hub.example/api").unwrap(),
        )
    }

    #[test]
    fn listings_are_believed_only_as_a_whole() {
        let sha = "c0".repeat(20);
        let listing = |sha: &str, name: &str| {
            let files =
                serde_json::json!([{"rfilename": "config.json", "size": 1}, {"rfilename": name}]);
            parsed(&serde_json::json!({"sha": sha, "siblings": files, "id": "x"}).to_string())
        };
        let fine = listing(&sha, "1_Pooling/config.json").unwrap();
        assert_eq!(fine.names.len(), 2);
        for name in ["../config.json", "/config.json", "a\\b", "a/../../b", ""] {
            let error = listing(&sha, name).unwrap_err();
            assert!(error.to_string().contains("leads out"), "{name:?}: {error}");
            assert_eq!(error.exit_code(), Some(4));
        }
        for sha in ["main", "../../../x", ""] {
            assert!(listing(sha, "a").unwrap_err().to_string().contains("`sha`"));
        }
        for text in ["", "[]", "{}", r#"{"sha": 1, "siblings": []}"#, "<html>"] {
            assert!(
                parsed(text)
                    .unwrap_err()
                    .to_string()
                    .contains("HF_ENDPOINT")
            );
        }
    }
}
