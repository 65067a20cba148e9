//! Connections that break, servers that fail, contents that are not what was promised.

use std::fs;

use laconic_tests::hub::{COMMIT, Hub, Request, sha256};
use laconic_tests::scratch;

use super::{PULL, cache, laconic, nano, snapshot};

const BREAK: usize = 2 << 20;

/// Where the requests for the rest of a large file begin.
fn starts(requests: &[Request]) -> Vec<usize> {
    let range = |request: &Request| {
        let range = request.headers.get("range")?;
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    };
    let large = requests
        .iter()
        .filter(|request| request.path.starts_with("/cdn"));
    large.filter_map(range).collect()
}

/// Names in the cache's `blobs` that are no whole contents.
fn incomplete(scratch: &laconic_tests::Scratch) -> Vec<String> {
    let entries = fs::read_dir(cache(scratch).join("blobs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".incomplete")).collect()
}

#[test]
fn a_broken_connection_is_gone_on_with() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    hub.set(|hub| hub.breaks_after = Some(BREAK));
    laconic(&scratch, &hub, &[], PULL).succeeds();
    // 7 MB in pieces of 2 MiB, each asked for from where the last one ended.
    assert_eq!(starts(&hub.requests()), [BREAK, 2 * BREAK, 3 * BREAK]);
    let weights = fs::read(snapshot(&scratch, COMMIT).join("model.safetensors")).unwrap();
    assert_eq!(sha256(&weights), sha256(&nano()["model.safetensors"]));
    assert!(incomplete(&scratch).is_empty());
}

#[test]
fn another_pull_goes_on_where_one_was_broken_off() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    hub.set(|hub| (hub.breaks_after, hub.dies_at_break) = (Some(BREAK), true));
    let failed = laconic(&scratch, &hub, &[], PULL);
    failed.fails(7, &["HTTP 503", "try again"]);
    assert_eq!(incomplete(&scratch).len(), 1);
    assert!(
        !snapshot(&scratch, COMMIT).exists(),
        "a snapshot that can be seen is whole"
    );
    hub.set(|hub| *hub = Default::default());
    hub.requests();
    laconic(&scratch, &hub, &[], PULL).succeeds();
    assert_eq!(starts(&hub.requests()), [BREAK]);
    assert!(incomplete(&scratch).is_empty());
}

/// The part that is there belongs to an ETag; of another content everything is downloaded.
#[test]
fn a_part_of_another_content_is_not_gone_on_with() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    hub.set(|hub| (hub.breaks_after, hub.dies_at_break) = (Some(BREAK), true));
    laconic(&scratch, &hub, &[], PULL).exits(7);
    let mut files = nano();
    let weights = files.get_mut("model.safetensors").unwrap();
    *weights.last_mut().unwrap() ^= 1;
    let expected = sha256(weights);
    hub.commit(COMMIT, files);
    hub.set(|hub| *hub = Default::default());
    hub.requests();
    laconic(&scratch, &hub, &[], PULL).succeeds();
    assert_eq!(starts(&hub.requests()), [0; 0]);
    let pulled = fs::read(snapshot(&scratch, COMMIT).join("model.safetensors")).unwrap();
    assert_eq!(sha256(&pulled), expected);
}

#[test]
fn a_server_without_ranges_is_asked_for_everything_again() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    hub.set(|hub| (hub.breaks_after, hub.dies_at_break) = (Some(BREAK), true));
    laconic(&scratch, &hub, &[], PULL).exits(7);
    hub.set(|hub| {
        *hub = Default::default();
        hub.ignores_ranges = true;
    });
    laconic(&scratch, &hub, &[], PULL).succeeds();
    // One that breaks as well never gets anywhere, and that is noticed.
    fs::remove_dir_all(cache(&scratch)).unwrap();
    hub.set(|hub| hub.breaks_after = Some(BREAK));
    hub.requests();
    laconic(&scratch, &hub, &[], PULL).fails(7, &["model.safetensors", "broke off at byte"]);
    assert_eq!(
        starts(&hub.requests()).len(),
        4,
        "four more attempts than the first"
    );
}

#[test]
fn failures_that_pass_are_waited_for() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    hub.set(|hub| hub.n_unavailable = 3);
    laconic(&scratch, &hub, &[], PULL).succeeds();
}

#[test]
fn a_wrong_hash_or_size_is_refused_and_nothing_kept() {
    let scratch = scratch!();
    let hub = Hub::start(nano());
    let wrong = "ab".repeat(32);
    hub.set(|hub| hub.lies_about_sha256 = Some(wrong.clone()));
    let actual = sha256(&nano()["model.safetensors"]);
    for output in ["", "--output copy"] {
        let failed = laconic(&scratch, &hub, &[], &format!("{PULL} {output}"));
        failed.fails(4, &["model.safetensors", &wrong, &actual, "thrown away"]);
    }
    let blobs = cache(&scratch).join("blobs");
    assert!(!blobs.join(&wrong).exists() && incomplete(&scratch).is_empty());
    assert!(!snapshot(&scratch, COMMIT).exists() && !cache(&scratch).join("refs").exists());
    assert!(!scratch.path("copy").exists());
    for gap in [1, -1] {
        hub.set(|hub| {
            *hub = Default::default();
            hub.lies_about_size = gap;
        });
        let stated = 6_999_384 + gap;
        let parts = [
            "model.safetensors",
            &format!("{stated} bytes and sends 6999384"),
        ];
        laconic(&scratch, &hub, &[], PULL).fails(4, &parts);
        assert!(incomplete(&scratch).is_empty() && !snapshot(&scratch, COMMIT).exists());
    }
}
