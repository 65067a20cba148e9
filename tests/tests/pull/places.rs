//! The cache without a network, and folders of one's own.

use std::fs;

use laconic_tests::hub::{COMMIT, Hub};
use laconic_tests::{Outcome, scratch};

use super::{PULL, laconic, names, nano, snapshot};

#[test]
fn an_output_folder_holds_files_and_where_they_came_from() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    let pull = format!("{PULL} --output copy");
    let pulled = laconic(&scratch, &hub, &[], &pull).succeeds();
    assert_eq!(pulled.stdout, "copy\n");
    let loaded = [
        "config.json",
        "laconic-pull.json",
        "laconic.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    assert_eq!(names(&scratch.path("copy")), loaded);
    for name in loaded {
        let path = scratch.path("copy").join(name);
        assert!(
            fs::symlink_metadata(path).unwrap().is_file(),
            "{name} is a link"
        );
    }
    let manifest: serde_json::Value =
        serde_json::from_str(&scratch.read("copy/laconic-pull.json")).unwrap();
    assert_eq!(manifest["commit"], COMMIT);
    assert_eq!(manifest["files"].as_array().unwrap().len(), 4);
    assert!(
        !snapshot(&scratch, COMMIT)
            .join("laconic-pull.json")
            .exists()
    );
    scratch.laconic("model info copy").succeeds();
    // What is there is not touched, and nothing is asked of the hub.
    hub.requests();
    laconic(&scratch, &hub, &[], &pull).fails(2, &["--output copy", "new folder"]);
    assert!(hub.requests().is_empty());
    let beside = names(&scratch.path(""));
    assert!(
        !beside.iter().any(|name| name.contains("incomplete")),
        "{beside:?}"
    );
}

#[test]
fn offline_answers_come_from_the_cache_alone() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    let offline = format!("{PULL} --offline");
    laconic(&scratch, &hub, &[], &offline).fails(3, &["org/nano at main", "--offline"]);
    laconic(&scratch, &hub, &[], PULL).succeeds();
    let snapshot = snapshot(&scratch, COMMIT);
    hub.requests();
    let by_flag = laconic(&scratch, &hub, &[], &offline).succeeds();
    assert_eq!(by_flag.stdout, format!("{}\n", snapshot.display()));
    let by_commit = format!("{PULL} --revision {COMMIT}");
    laconic(&scratch, &hub, &[("HF_HUB_OFFLINE", "1")], &by_commit).succeeds();
    let other = format!("{PULL} --revision v1");
    laconic(&scratch, &hub, &[("HF_HUB_OFFLINE", "1")], &other).fails(3, &["org/nano at v1"]);
    // A part is gone, then another is damaged.
    fs::remove_file(snapshot.join("model.safetensors").canonicalize().unwrap()).unwrap();
    laconic(&scratch, &hub, &[], &offline).fails(3, &["model.safetensors"]);
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    let parts = ["in the cache", "has no model.safetensors", "--offline"];
    laconic(&scratch, &hub, &[], &offline).fails(3, &parts);
    assert!(hub.requests().is_empty(), "offline is offline");
    laconic(&scratch, &hub, &[], PULL).succeeds();
    let blob = snapshot.join("model.safetensors").canonicalize().unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    laconic(&scratch, &hub, &[], &offline).fails(3, &["model.safetensors", "damaged"]);
    laconic(&scratch, &hub, &[], PULL).succeeds();
    laconic(&scratch, &hub, &[], &offline)
        .succeeds()
        .silently_but(COMMIT);
}

trait Silence {
    fn silently_but(self, word: &str);
}

impl Silence for Outcome {
    /// One line on stderr, with `word`.
    fn silently_but(self, word: &str) {
        assert!(
            self.stderr.lines().count() == 1 && self.stderr.contains(word),
            "{self}"
        );
    }
}
