//! Encodings are kept from run to run, and change nothing.

use laconic_tests::{Scratch, scratch};

const DOCS: &str = r#"{"_id": "a", "title": "Bones", "text": "bone density"}
{"_id": "b", "text": "posting lists"}
{"_id": "c", "title": "", "text": "Bones bone density"}
"#;

fn with_checkpoint() -> Scratch {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write("docs.jsonl", DOCS);
    scratch
}

fn encode(scratch: &Scratch, options: &str) -> String {
    let command = format!("encode --model ck --kind document --input docs.jsonl {options}");
    scratch.laconic(&command).succeeds().stdout
}

#[test]
fn unchanged_texts_are_not_encoded_again() {
    let scratch = with_checkpoint();
    let index = "index --docs docs.jsonl --model ck --index";
    let first = scratch.laconic(&format!("{index} one")).succeeds();
    assert!(!first.stderr.contains("in the cache"), "{first}");
    let more = format!("{DOCS}{{\"_id\": \"d\", \"text\": \"something new\"}}\n");
    scratch.write("docs.jsonl", more);
    let second = scratch.laconic(&format!("{index} two")).succeeds();
    assert!(
        second.stderr.contains("3 encodings were in the cache"),
        "{second}"
    );
    let without = scratch
        .laconic(&format!("{index} three --no-cache"))
        .succeeds();
    assert!(!without.stderr.contains("in the cache"), "{without}");
    let search = |name: &str| {
        let search = format!("search --index {name} --model ck --format trec 'bone lists new'");
        scratch.laconic(&search).succeeds().stdout
    };
    assert_eq!(search("two"), search("three"));
}

#[test]
fn entries_are_of_one_checkpoint_preset_and_kind() {
    let scratch = with_checkpoint();
    let plain = encode(&scratch, "--no-cache");
    assert_eq!(encode(&scratch, ""), plain);
    assert_eq!(encode(&scratch, ""), plain);
    // Another preset, another kind, another checkpoint: nothing of the above.
    for options in ["--set document_prefix=doc:", "--set top_k=3"] {
        let expected = encode(&scratch, &format!("{options} --no-cache"));
        assert_ne!(expected, plain);
        assert_eq!(encode(&scratch, options), expected, "{options}");
    }
    let query = "encode --model ck --kind query --input docs.jsonl";
    let expected = scratch.laconic(&format!("{query} --no-cache")).succeeds();
    assert_eq!(scratch.laconic(query).succeeds().stdout, expected.stdout);
    scratch.write_checkpoint("ck", 1);
    let other = encode(&scratch, "--no-cache");
    assert_ne!(other, plain);
    assert_eq!(encode(&scratch, ""), other);
}

#[test]
fn a_cache_that_cannot_be_used_is_done_without_unless_it_was_asked_for() {
    let scratch = with_checkpoint();
    let plain = encode(&scratch, "--no-cache");
    scratch.write(
        "mine/encodings.redb",
        "this is no database, and longer than a header\n".repeat(400),
    );
    let command = "encode --model ck --kind document --input docs.jsonl";
    let refused = scratch.laconic(&format!("{command} --cache mine"));
    let refused = refused.exits(7).stderr;
    assert!(
        refused.contains("mine") && refused.contains("--no-cache"),
        "{refused}"
    );
    scratch.write(
        "cache-of-encodings/encodings.redb",
        "nor is this\n".repeat(4000),
    );
    let noted = scratch.laconic(command).succeeds();
    assert_eq!(noted.stdout, plain);
    assert!(noted.stderr.contains("note: "), "{noted}");
}
