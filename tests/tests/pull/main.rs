//! `laconic model pull` against a hub on this machine: what is pulled, where it lands, and that
//! the rest of laconic can use it.

#![allow(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

mod faults;
mod places;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};

use laconic_tests::hub::{COMMIT, Files, Hub, OLDER, Request, sha256};
use laconic_tests::{Outcome, Scratch, scratch, workspace};

const PULL: &str = "model pull org/nano";

/// A folder's files, as a repository has them.
fn files(folder: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => files.extend(
                self::files(&path)
                    .into_iter()
                    .map(|(file, bytes)| (format!("{name}/{file}"), bytes)),
            ),
            false => drop(files.insert(name, fs::read(&path).unwrap())),
        }
    }
    files
}

/// The bundled model, and what repositories hold besides.
fn nano() -> Files {
    let mut files = files(&workspace().join("fixtures/nano"));
    for other in [
        "pytorch_model.bin",
        "modeling_nano.py",
        "onnx/model.onnx",
        ".gitattributes",
    ] {
        files.insert(other.to_owned(), b"not to be pulled".to_vec());
    }
    files
}

/// Runs `laconic` with a cache of its own in the folder `hf`, and no token but of `variables`.
fn laconic(scratch: &Scratch, hub: &Hub, variables: &[(&str, &str)], arguments: &str) -> Outcome {
    let mut command = scratch.command(arguments);
    for variable in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
    ] {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", format!("http://{}", hub.address()));
    command.env("HF_HOME", scratch.path("hf"));
    command.envs(variables.iter().copied());
    Outcome::new(arguments, command.output().unwrap())
}

fn cache(scratch: &Scratch) -> PathBuf {
    scratch.path("hf/hub/models--org--nano")
}

fn snapshot(scratch: &Scratch, commit: &str) -> PathBuf {
    cache(scratch).join("snapshots").join(commit)
}

/// Requests for files, not for the listing.
fn of_files(requests: &[Request]) -> Vec<&Request> {
    let is_file = |request: &&Request| !request.path.starts_with("/api/models");
    requests.iter().filter(is_file).collect()
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).into_keys().collect()
}

#[test]
fn a_pulled_snapshot_encodes_as_the_model_does() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    let pulled = laconic(&scratch, &hub, &[], PULL).succeeds();
    let snapshot = snapshot(&scratch, COMMIT);
    assert_eq!(pulled.stdout, format!("{}\n", snapshot.display()));
    assert!(pulled.stderr.contains(COMMIT), "{pulled}");
    let loaded = [
        "config.json",
        "laconic.json",
        "model.safetensors",
        "tokenizer.json",
    ];
    assert_eq!(names(&snapshot), loaded);
    assert_eq!(
        fs::read_to_string(cache(&scratch).join("refs/main")).unwrap(),
        COMMIT
    );
    // As the hub's own library names contents: by their SHA-256 where the hub knows it.
    let weights = fs::read(workspace().join("fixtures/nano/model.safetensors")).unwrap();
    let blob = cache(&scratch).join("blobs").join(sha256(&weights));
    assert_eq!(
        snapshot.join("model.safetensors").canonicalize().unwrap(),
        blob.canonicalize().unwrap()
    );

    scratch.write(
        "docs.jsonl",
        r#"{"_id": "a", "text": "vitamin D and bone density"}"#,
    );
    let encode = |model: &Path| {
        let encode = format!(
            "encode --kind document --input docs.jsonl --model '{}'",
            model.display()
        );
        scratch.laconic(&encode).succeeds().stdout
    };
    let encoded = encode(&snapshot);
    assert!(encoded.contains("\"vector\""), "{encoded}");
    assert_eq!(encoded, encode(&workspace().join("fixtures/nano")));
}

#[test]
fn a_second_pull_downloads_nothing() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    laconic(&scratch, &hub, &[], PULL).succeeds();
    assert!(!of_files(&hub.requests()).is_empty());
    let json = laconic(&scratch, &hub, &[], &format!("{PULL} --quiet --json"));
    let json = json.succeeds().silently().json();
    let requests = hub.requests();
    assert_eq!(
        (requests.len(), of_files(&requests).len()),
        (1, 0),
        "{requests:?}"
    );
    let pulled = &json["pulled"];
    assert_eq!(
        (&pulled["id"], &pulled["commit"]),
        (&"org/nano".into(), &COMMIT.into())
    );
    let endpoint = format!("http://{}", hub.address());
    assert_eq!(
        (&pulled["revision"], &pulled["endpoint"]),
        (&"main".into(), &endpoint.into())
    );
    assert_eq!(json["model"], snapshot(&scratch, COMMIT).to_str().unwrap());
    let files = pulled["files"].as_array().unwrap();
    assert_eq!(files.len(), 4);
    for file in files {
        let path = workspace()
            .join("fixtures/nano")
            .join(file["path"].as_str().unwrap());
        let bytes = fs::read(path).unwrap();
        assert_eq!(file["bytes"], bytes.len());
        assert_eq!(file["sha256"], sha256(&bytes));
    }
}

/// Of a new commit only what changed is downloaded, and an old one stays reachable by tag and by
/// hash.
#[test]
fn a_revision_is_pinned_to_its_commit() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    let mut older = nano();
    older.insert("laconic.json".into(), b"{\"top_k\": 7}".to_vec());
    hub.commit(OLDER, older);
    laconic(&scratch, &hub, &[], PULL).succeeds();
    hub.requests();
    for revision in ["v1", OLDER] {
        let pull = format!("{PULL} --revision {revision}");
        laconic(&scratch, &hub, &[], &pull).succeeds();
        let snapshot = snapshot(&scratch, OLDER);
        assert_eq!(
            fs::read(snapshot.join("laconic.json")).unwrap(),
            b"{\"top_k\": 7}"
        );
    }
    let requests = hub.requests();
    let gets = of_files(&requests)
        .into_iter()
        .filter(|request| request.method == "GET");
    let gets: Vec<&str> = gets.map(|request| request.path.as_str()).collect();
    assert!(
        gets.iter().all(|path| path.ends_with("laconic.json")),
        "{gets:?}"
    );
    assert_eq!(
        fs::read_to_string(cache(&scratch).join("refs/v1")).unwrap(),
        OLDER
    );
    assert_eq!(
        fs::read_to_string(cache(&scratch).join("refs/main")).unwrap(),
        COMMIT
    );
    assert!(!cache(&scratch).join("refs").join(OLDER).exists());
}

/// Modules and routes have folders of their own, which only files name that have to be pulled first.
#[test]
fn a_repository_with_modules_is_pulled_whole() {
    let router = workspace().join("laconic-model/tests/families/router");
    let (scratch, hub) = (scratch!(), Hub::start(files(&router)));
    laconic(&scratch, &hub, &[], PULL).succeeds();
    let snapshot = snapshot(&scratch, COMMIT);
    let mut expected = names(&router);
    expected.retain(|name| name != "golden.json");
    assert_eq!(names(&snapshot), expected);
    let info = |model: &Path| {
        let info = scratch.laconic(&format!("model info --json '{}'", model.display()));
        info.succeeds().json()["fingerprint"].clone()
    };
    assert_eq!(info(&snapshot), info(&router));
}

#[test]
fn a_gguf_file_is_pulled_when_asked_for() {
    let (scratch, hub) = (scratch!(), scratch!());
    let nano_dir = workspace().join("fixtures/nano");
    let quantize = format!(
        "model quantize '{}' q/small.gguf --format q8_0",
        nano_dir.display()
    );
    fs::create_dir_all(hub.path("q")).unwrap();
    hub.laconic(&quantize).succeeds();
    let mut files = nano();
    files.insert(
        "small.gguf".into(),
        fs::read(hub.path("q/small.gguf")).unwrap(),
    );
    files.remove("model.safetensors");
    let hub = Hub::start(files);
    laconic(&scratch, &hub, &[], PULL).fails(3, &["pickles"]);
    laconic(&scratch, &hub, &[], &format!("{PULL} --file other.gguf"))
        .fails(3, &["has no other.gguf"]);
    laconic(
        &scratch,
        &hub,
        &[],
        &format!("{PULL} --file pytorch_model.bin"),
    )
    .exits(2);
    let pulled = laconic(&scratch, &hub, &[], &format!("{PULL} --file small.gguf")).succeeds();
    let model = snapshot(&scratch, COMMIT).join("small.gguf");
    assert_eq!(pulled.stdout, format!("{}\n", model.display()));
    scratch
        .laconic(&format!("model info '{}'", model.display()))
        .succeeds();
}
