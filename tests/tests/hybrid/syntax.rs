//! Queries that say more than words.

use laconic_tests::scratch;

use super::{hits, id};

const DOCS: &str = r#"{"_id": "a", "title": "Density", "text": "bone density of mice", "year": 2019}
{"_id": "b", "title": "Lists", "text": "posting lists of bone", "year": 2020}
{"_id": "c", "title": "Bone", "text": "density, bone and posting lists", "year": 2021}
{"_id": "d", "title": "Other", "text": "a hybrid of both", "year": 2021}
"#;

#[test]
fn operators_act_as_filters_and_free_words_on_both_sides() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write("docs.jsonl", DOCS);
    scratch
        .laconic("index --index idx --docs docs.jsonl --model ck")
        .succeeds();
    let search = "search --index idx --model ck --mode hybrid --json";
    for (query, expected) in [
        ("+bone -posting", &["a"][..]),
        ("bone +year:[2020 TO *] -hybrid", &["b", "c"]),
        ("+\"bone density\"", &["a"]),
        ("+title:bone lists", &["c"]),
        // A filter alone finds what passes.
        ("year:2021", &["c", "d"]),
        ("year:[2019 TO 2020]", &["a", "b"]),
        ("+bone +hybrid", &[]),
    ] {
        for fusion in ["sum", "rrf", "minmax", "zscore", "tmm"] {
            let search = format!("{search} --fusion {fusion} '{query}'");
            let outcome = scratch.laconic(&search);
            let found = match expected.is_empty() {
                true => hits(&outcome.exits(1)),
                false => hits(&outcome.succeeds()),
            };
            let mut ids: Vec<String> = found.iter().map(id).collect();
            ids.sort();
            assert_eq!(ids, expected, "{search}");
        }
    }
    let all = scratch.laconic(&format!("{search} --plain '+bone -posting'"));
    assert!(hits(&all.succeeds()).len() > 1);
    let verified = scratch.laconic(&format!(
        "{search} --verify '+bone \"bone density\"^2 -hybrid'"
    ));
    let verified = verified.succeeds();
    assert!(verified.stderr.contains("bit for bit"), "{verified}");
}

#[test]
fn mistakes_are_pointed_at() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write("docs.jsonl", DOCS);
    scratch
        .laconic("index --index idx --docs docs.jsonl --model ck")
        .succeeds();
    let search = "search --index idx --model ck --mode hybrid";
    for (query, column) in [("bone (density", "column 6"), ("laconic:bone", "column 1")] {
        let outcome = scratch.laconic(&format!("{search} '{query}'")).exits(3);
        assert!(outcome.stderr.contains(column), "{outcome}");
        assert!(outcome.stderr.contains('^'), "{outcome}");
    }
}

#[test]
fn parameters_of_bm25_can_be_chosen() {
    let scratch = scratch!();
    scratch.write("docs.jsonl", DOCS);
    scratch
        .laconic("index --index idx --docs docs.jsonl")
        .succeeds();
    let search = "search --index idx --mode bm25 --json bone";
    let scores = |options: &str| -> Vec<f64> {
        let found = hits(&scratch.laconic(&format!("{search} {options}")).succeeds());
        found
            .iter()
            .map(|hit| hit["score"].as_f64().unwrap())
            .collect()
    };
    let default = scores("");
    assert_eq!(default, scores("--k1 1.2 --b 0.75"));
    assert_ne!(default, scores("--b 0.2"));
    // With k1 = 0 only the presence of a word counts.
    let binary = scores("--k1 0");
    assert!(binary.len() == 3 && binary.iter().all(|score| *score == binary[0]));
    scratch.laconic(&format!("{search} --b 1.5")).exits(3);
}
