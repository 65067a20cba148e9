//! What a hub does not give away, and what is not taken from one.

use laconic_tests::hub::{Files, Hub};
use laconic_tests::scratch;

use super::{PULL, cache, laconic, nano};

const TOKEN: &str = "hf_SECRETsecretSECRET";

#[test]
fn a_hub_that_wants_a_token_gets_it_and_nobody_else_does() {
    let (scratch, hub, cdn) = (scratch!(), Hub::start(nano()), Hub::start(nano()));
    hub.set(|hub| {
        hub.token = Some(TOKEN.to_owned());
        hub.elsewhere = Some(cdn.address());
    });
    let told = ["HTTP 401", "HF_TOKEN", "HF_HOME/token"];
    laconic(&scratch, &hub, &[], PULL).fails(3, &told);
    let wrong = laconic(&scratch, &hub, &[("HF_TOKEN", "hf_other")], PULL);
    let wrong = wrong.fails(3, &["refuses the token", "HTTP 401"]);
    assert!(!wrong.stderr.contains("hf_other"), "{wrong}");
    hub.requests();
    scratch.write("hf/token", format!("{TOKEN}\n"));
    let pulled = laconic(&scratch, &hub, &[], &format!("{PULL} -vv")).succeeds();
    assert!(!pulled.stderr.contains("SECRET"), "{pulled}");
    let bearer = format!("Bearer {TOKEN}");
    for request in hub.requests() {
        assert_eq!(
            request.headers.get("authorization"),
            Some(&bearer),
            "{request:?}"
        );
    }
    let elsewhere = cdn.requests();
    assert!(!elsewhere.is_empty());
    for request in elsewhere {
        assert_eq!(request.headers.get("authorization"), None, "{request:?}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    let page = format!("http://{}/org/nano", hub.address());
    let token = [("HF_TOKEN", TOKEN)];
    let refused = |status, code, variables: &[_], parts: &[&str]| {
        hub.set(|hub| hub.refuses = Some((status, code)));
        let outcome = laconic(&scratch, &hub, variables, PULL).fails(3, parts);
        assert!(!outcome.stderr.contains("SECRET"), "{outcome}");
    };
    refused(
        401,
        "GatedRepo",
        &[],
        &["gated", "accept its terms", &page, "HF_TOKEN"],
    );
    refused(
        403,
        "GatedRepo",
        &token,
        &["accept its terms", &page, "HTTP 403"],
    );
    refused(403, "", &token, &["HTTP 403", "may read it"]);
    refused(401, "RepoNotFound", &[], &["check the name", "HF_TOKEN"]);
    refused(
        404,
        "RepoNotFound",
        &token,
        &["org/nano at main", "HTTP 404", &page],
    );
    refused(
        404,
        "RevisionNotFound",
        &[],
        &["no such revision", "org/nano at main"],
    );
    let requests = hub.requests();
    assert_eq!(requests.len(), 6, "what lasts is not tried again");
}

#[test]
fn names_that_lead_out_of_a_folder_are_refused() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    let hostile = [
        "../escaped.json",
        "/etc/escaped.json",
        "a/../../escaped.json",
        "..\\escaped.json",
        "C:/escaped.json",
        "a//b",
        "./config.json",
        "model.safetensors\u{0}",
    ];
    for name in hostile {
        hub.set(|hub| hub.also_lists = vec![name.to_owned()]);
        laconic(&scratch, &hub, &[], PULL).fails(4, &["leads out", "nothing"]);
    }
    assert!(!cache(&scratch).join("blobs").exists());
    // An index and a list of modules are no more to be believed than the listing.
    hub.set(|hub| *hub = Default::default());
    let index = r#"{"weight_map": {"a": "../../../escaped.safetensors"}}"#;
    let modules = r#"[{"path": "../../escaped"}]"#;
    for (file, json) in [
        ("model.safetensors.index.json", index),
        ("modules.json", modules),
    ] {
        let mut files = nano();
        files.remove("model.safetensors");
        files.insert(file.to_owned(), json.into());
        let hub = Hub::start(files);
        laconic(&scratch, &hub, &[], PULL).fails(4, &[file, "escaped", "leads out"]);
    }
}

#[test]
fn a_repository_of_pickles_is_refused() {
    let scratch = scratch!();
    let mut files = nano();
    files.remove("model.safetensors");
    let hub = Hub::start(files);
    let parts = ["pytorch_model.bin", "pickles", "save_pretrained"];
    laconic(&scratch, &hub, &[], PULL).fails(3, &parts);
    let asked = hub
        .requests()
        .into_iter()
        .any(|request| request.path.contains("pytorch_model"));
    assert!(!asked, "not even looked at");
    let index = r#"{"weight_map": {"a": "pytorch_model.bin"}}"#;
    let files = Files::from([
        ("config.json".to_owned(), b"{}".to_vec()),
        ("pytorch_model.bin".to_owned(), b"x".to_vec()),
        ("model.safetensors.index.json".to_owned(), index.into()),
    ]);
    let hub = Hub::start(files);
    laconic(&scratch, &hub, &[], PULL).fails(4, &["pytorch_model.bin", "no safetensors file"]);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_asked() {
    let (scratch, hub) = (scratch!(), Hub::start(nano()));
    for id in ["hf://org/nano", "org/nano/x", "../nano", "org/..", "''"] {
        laconic(&scratch, &hub, &[], &format!("model pull {id}")).exits(2);
    }
    laconic(
        &scratch,
        &hub,
        &[],
        &format!("{PULL} --revision ../../main"),
    )
    .exits(2);
    let endpoint = [("HF_ENDPOINT", "https://me:secret@hub.example")];
    let outcome = laconic(&scratch, &hub, &endpoint, PULL).fails(2, &["HF_ENDPOINT"]);
    assert!(!outcome.stderr.contains("secret"), "{outcome}");
    assert!(hub.requests().is_empty());
    // Loading never touches the network.
    scratch.write("docs.jsonl", r#"{"_id": "a", "text": "a"}"#);
    let encode = "encode --kind document --input docs.jsonl --model hf://org/nano";
    laconic(&scratch, &hub, &[], encode).exits(3);
    assert!(hub.requests().is_empty());
}
