//! `laconic optimize` as a user calls it.

use laconic_tests::{Docs, Hit, Scratch, scratch};
use serde_json::Value;
use tantivy::directory::{Directory, INDEX_WRITER_LOCK, MmapDirectory};

/// An index of three segments, in which documents were replaced.
fn three_segments() -> (Scratch, Docs) {
    let scratch = scratch!();
    let docs = Docs::generate(600, 5);
    scratch.write("docs.jsonl", docs.documents());
    scratch.write("vectors.jsonl", docs.vectors());
    scratch.write("queries.jsonl", docs.query_vectors(20));
    for range in [0..300, 200..400, 350..600] {
        let part = Docs(docs.0[range].to_vec());
        scratch.write("part.jsonl", part.documents());
        scratch.write("part_vectors.jsonl", part.vectors());
        scratch
            .laconic("index --index idx --docs part.jsonl --vectors part_vectors.jsonl --no-resume")
            .succeeds();
    }
    scratch
        .laconic("index --index idx --docs docs.jsonl --vectors vectors.jsonl")
        .succeeds();
    (scratch, docs)
}

fn hits(scratch: &Scratch, index: &str) -> Vec<Hit> {
    let search = "--query-vectors queries.jsonl -k 1000 --format trec";
    let outcome = scratch.laconic(&format!("search --index {index} {search}"));
    let mut hits = outcome.succeeds().silently().hits();
    hits.sort_by(|a, b| (&a.query, &a.doc).cmp(&(&b.query, &b.doc)));
    hits
}

fn json(scratch: &Scratch, command: &str) -> Value {
    let outcome = scratch.laconic(&format!("{command} --json")).succeeds();
    serde_json::from_str(&outcome.stdout).expect("one line of JSON")
}

#[test]
fn finds_the_same_in_one_smaller_segment() {
    let (scratch, docs) = three_segments();
    let before = hits(&scratch, "idx");
    assert!(before.len() > 1000);
    for option in ["--threads 1 --memory 16", "--threads 2", "--no-reorder"] {
        let report = json(&scratch, &format!("optimize --index idx {option}"));
        assert_eq!(report["documents"], 600);
        assert_eq!(report["segments_after"], 1);
        assert_eq!(hits(&scratch, "idx"), before, "{option}");
        let check = json(&scratch, "check --index idx");
        assert_eq!(check["clean"], true, "{check}");
        let info = json(&scratch, "info --index idx");
        assert_eq!(info["deleted_documents"], 0);
        assert_eq!(info["segments"], 1);
    }
    // Where indexing stood is not forgotten, and documents can be replaced as ever.
    scratch
        .laconic("index --index idx --docs docs.jsonl --vectors vectors.jsonl")
        .succeeds();
    assert_eq!(json(&scratch, "info --index idx")["deleted_documents"], 0);
    let some = Docs(docs.0[..10].to_vec());
    scratch.write("some.jsonl", some.documents());
    scratch.write("some_vectors.jsonl", some.vectors());
    scratch
        .laconic("index --index idx --docs some.jsonl --vectors some_vectors.jsonl")
        .succeeds();
    assert_eq!(hits(&scratch, "idx"), before);
    let outcome = scratch
        .laconic("optimize --index idx")
        .succeeds()
        .silently();
    let line = outcome.stdout;
    assert!(
        line.starts_with("600 documents (10 deleted ones dropped), 2 → 1 segments, "),
        "{line}"
    );
    assert_eq!(hits(&scratch, "idx"), before);
}

/// `index` with threads and reordering finds what it finds without.
#[test]
fn indexing_in_another_way_finds_the_same() {
    let (scratch, _) = three_segments();
    let expected = hits(&scratch, "idx");
    for (n, option) in [
        "--reorder",
        "--threads 2 --memory 64",
        "--reorder --threads 3",
    ]
    .into_iter()
    .enumerate()
    {
        let index = format!("idx{n}");
        scratch
            .laconic(&format!(
                "index --index {index} --docs docs.jsonl --vectors vectors.jsonl {option}"
            ))
            .succeeds();
        assert_eq!(hits(&scratch, &index), expected, "{option}");
        let check = json(&scratch, &format!("check --index {index}"));
        assert_eq!(check["clean"], true, "{check}");
    }
    scratch
        .laconic("index --index bm25 --docs docs.jsonl --threads 2")
        .succeeds();
    let refused = scratch.laconic("index --index none --docs docs.jsonl --reorder");
    refused.fails(2, &["--reorder"]);
}

#[test]
fn says_what_it_cannot_do() {
    let (scratch, _) = three_segments();
    let before = hits(&scratch, "idx");
    let directory = MmapDirectory::open(scratch.path("idx")).expect("an index");
    let lock = directory
        .acquire_lock(&INDEX_WRITER_LOCK)
        .expect("nobody writes");
    let outcome = scratch.laconic("optimize --index idx").exits(6);
    assert!(
        outcome.stderr.contains("idx; wait for it"),
        "{}",
        outcome.stderr
    );
    drop(lock);
    scratch
        .laconic("optimize --index idx --field text")
        .exits(3);
    scratch
        .laconic("optimize --index idx --field nope")
        .exits(3);
    scratch.laconic("optimize --index nowhere").exits(3);
    scratch.laconic("optimize --index idx --threads 0").exits(2);
    scratch.laconic("optimize --index idx --memory 1").exits(2);
    scratch
        .laconic("index --index words --docs docs.jsonl")
        .succeeds();
    let outcome = scratch.laconic("optimize --index words").exits(3);
    assert!(
        outcome.stderr.contains("no learned-sparse vectors"),
        "{}",
        outcome.stderr
    );
    assert_eq!(hits(&scratch, "idx"), before);
}
