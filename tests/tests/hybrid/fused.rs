//! What a fused score is, what explains it, and what cannot be fused.

use std::collections::BTreeMap;

use laconic_tests::{Scratch, scratch};
use serde_json::Value;

use super::{N_DOCS, ONE, assert_near, generated, hits, id, ranked, score};

/// The two rankings behind hybrid search, `k` hits of each.
fn sides(scratch: &Scratch, k: usize, filter: &str) -> [Vec<(String, f64)>; 2] {
    ["sparse", "bm25"].map(|mode| {
        // A text query is no sparse one without a model, so each side gets its own file.
        let query = match mode {
            "sparse" => "--query-vectors one-v.jsonl",
            _ => "--queries one-q.jsonl",
        };
        let search = format!("search --index idx {query} --json --mode {mode} -k {k} {filter}");
        ranked(&hits(&scratch.laconic(&search).succeeds()))
    })
}

/// The value of each document of a list, by the formula of that name.
fn values(fusion: &str, list: &[(String, f64)]) -> BTreeMap<String, f64> {
    let n = f64::from(u32::try_from(list.len()).unwrap());
    let max = list[0].1;
    let min = list.last().unwrap().1;
    let mean = list.iter().map(|(_, score)| score).sum::<f64>() / n;
    let variance = list
        .iter()
        .map(|(_, score)| (score - mean).powi(2))
        .sum::<f64>()
        / n;
    let value = |(rank, (id, score)): (f64, &(String, f64))| {
        let value = match fusion {
            "sum" => *score,
            "rrf" => 1.0 / (60.0 + rank),
            "minmax" => (score - min) / (max - min),
            "zscore" => (((score - mean) / variance.sqrt() + 3.0) / 6.0).clamp(0.0, 1.0),
            "tmm" => score / max,
            _ => unreachable!("{fusion}"),
        };
        (id.clone(), value)
    };
    (1..).map(f64::from).zip(list).map(value).collect()
}

#[test]
fn fused_scores_follow_from_the_two_rankings() {
    let scratch = generated();
    for (fusion, n_candidates, weights) in [
        ("rrf", 100, [0.5, 0.5]),
        ("rrf", 7, [0.5, 0.5]),
        ("minmax", 40, [0.7, 0.3]),
        ("zscore", 40, [0.7, 0.3]),
        ("tmm", 40, [0.2, 0.8]),
        // Every document that matches takes part in a sum, not only the candidates.
        ("sum", N_DOCS, [1.0, 1.0]),
        ("sum", N_DOCS, [2.0, 0.25]),
        ("tmm", 40, [1.0, 0.0]),
    ] {
        for filter in ["", "--filter 'number:[100 TO *]'"] {
            let [sparse, bm25] = weights;
            let search = format!(
                "{ONE} --mode hybrid --fusion {fusion} --weight sparse={sparse},bm25={bm25} \
                 --candidates {n_candidates} -k 1000 {filter}"
            );
            let found = hits(&scratch.laconic(&search).succeeds().silently());
            let mut expected = BTreeMap::<String, f64>::new();
            let sides = sides(&scratch, n_candidates, filter);
            for (list, weight) in sides.iter().zip(weights).filter(|(_, w)| *w > 0.0) {
                for (id, value) in values(fusion, list) {
                    *expected.entry(id).or_default() += weight * value;
                }
            }
            assert_eq!(found.len(), expected.len(), "{search}");
            for hit in &found {
                assert_near(score(hit), expected[&id(hit)]);
            }
            assert!(
                found
                    .windows(2)
                    .all(|pair| score(&pair[0]) >= score(&pair[1]))
            );
        }
    }
}

/// The plain call is the sum of both scores; rescoring lets a document count where it was not among
/// the candidates.
#[test]
fn defaults_and_rescoring() {
    let scratch = generated();
    let search = format!("{ONE} --mode hybrid");
    let same = |plain: &str, spelled: &str| {
        let print = |options| {
            scratch
                .laconic(&format!("{search} {options}"))
                .succeeds()
                .stdout
        };
        assert_eq!(print(plain), print(spelled));
    };
    same("", "--fusion sum --weight sparse=1,bm25=1");
    let spelled = "--weight sparse=0.5,bm25=0.5 --rank-constant 60 --candidates 100";
    same("--fusion rrf", spelled);
    let rrf = scratch
        .laconic(&format!("{search} --fusion rrf"))
        .succeeds();
    let other = scratch.laconic(&format!("{search} --rank-constant 1"));
    assert_ne!(other.succeeds().stdout, rrf.stdout);

    for (fusion, changes) in [("rrf", true), ("tmm", true), ("minmax", false)] {
        let few = format!("{search} --fusion {fusion} --candidates 5 -k 10 --explain");
        let without = hits(&scratch.laconic(&few).succeeds());
        let with = hits(
            &scratch
                .laconic(&format!("{few} --rescore-missing"))
                .succeeds(),
        );
        let parts = |hits: &[Value]| -> Vec<Value> {
            let lists = hits.iter().map(|hit| &hit["explanation"]["fusion"]);
            lists
                .flat_map(|lists| lists.as_array().unwrap().clone())
                .collect()
        };
        assert!(parts(&without).iter().all(|part| part["rescored"] == false));
        let rescored: Vec<_> = parts(&with)
            .into_iter()
            .filter(|part| part["rescored"] == true)
            .collect();
        assert!(!rescored.is_empty());
        let all = sides(&scratch, N_DOCS, "");
        for hit in &with {
            for (part, list) in hit["explanation"]["fusion"]
                .as_array()
                .unwrap()
                .iter()
                .zip(&all)
            {
                let exact = list.iter().find(|(doc, _)| *doc == id(hit));
                match exact {
                    Some((_, exact)) => assert_near(part["score"].as_f64().unwrap(), *exact),
                    None => assert_eq!(part["score"], Value::Null),
                }
            }
        }
        let sum = |hits: &[Value]| hits.iter().map(score).sum::<f64>();
        assert_eq!(sum(&with) > sum(&without) + 1e-6, changes, "{fusion}");
    }
}

#[test]
fn an_explanation_of_fusion_adds_up() {
    let scratch = generated();
    for fusion in ["sum", "rrf", "minmax", "zscore", "tmm"] {
        let search = format!("{ONE} --mode hybrid --fusion {fusion} -k 50 --candidates 20");
        let explained = scratch
            .laconic(&format!("{search} --explain"))
            .succeeds()
            .silently();
        let hits = hits(&explained);
        assert!(!hits.is_empty());
        for hit in &hits {
            let explanation = &hit["explanation"];
            let parts = explanation["fusion"].as_array().unwrap();
            assert_eq!(parts.len(), 2);
            let number = |part: &Value, key: &str| part[key].as_f64().unwrap();
            let sum: f64 = parts.iter().map(|part| number(part, "contribution")).sum();
            assert_near(sum, score(hit));
            for part in parts {
                let product = number(part, "weight") * number(part, "normalized");
                assert_near(number(part, "contribution"), product);
            }
            if let Some(sparse) = parts[0]["score"].as_f64() {
                let terms = explanation["learned"]["terms"].as_array().unwrap();
                assert_near(
                    terms.iter().map(|term| number(term, "contribution")).sum(),
                    sparse,
                );
            }
            // It may match though the list did not hold it.
            let bm25 = number(&explanation["bm25"], "score");
            assert_near(parts[1]["score"].as_f64().unwrap_or(bm25), bm25);
            let clauses = explanation["bm25"]["clauses"].as_array().unwrap();
            let clauses = clauses.iter().map(|clause| number(clause, "score"));
            assert_near(clauses.sum(), bm25);
            let tree = explanation["tantivy"].as_array().unwrap();
            assert_eq!(tree.len(), 1);
            assert_near(number(&tree[0], "value"), score(hit));
        }
        let text = search.replace("--json", "--explain");
        let text = scratch.laconic(&text).succeeds().silently().stdout;
        for part in [
            "sparse  rank    1, score",
            "bm25    ",
            " × weight ",
            " impact ",
            "BM25 ",
        ] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}

#[test]
fn a_text_is_enough_with_a_model() {
    let scratch = scratch!();
    scratch.write_checkpoint("ck", 0);
    scratch.write(
        "docs.jsonl",
        "{\"_id\": \"a\", \"text\": \"bone density\"}\n{\"_id\": \"b\", \"text\": \"posting lists\"}\n",
    );
    scratch
        .laconic("index --index idx --docs docs.jsonl --model ck")
        .succeeds();
    let search = "search --index idx --model ck --mode hybrid --json bone";
    for fusion in ["sum", "rrf", "minmax", "zscore", "tmm"] {
        let found = hits(
            &scratch
                .laconic(&format!("{search} --fusion {fusion}"))
                .succeeds(),
        );
        assert_eq!(id(&found[0]), "a", "{fusion}");
    }
}

#[test]
fn what_hybrid_search_lacks_or_does_not_know_is_a_usage_error() {
    let scratch = generated();
    scratch.write(
        "two-q.jsonl",
        "{\"_id\": \"one\", \"text\": \"w2\"}\n{\"_id\": \"two\", \"text\": \"w4\"}\n",
    );
    let hybrid = "search --index idx --mode hybrid";
    let files = "--queries one-q.jsonl --query-vectors one-v.jsonl";
    for (arguments, parts) in [
        (format!("{hybrid} density"), &["--model", "hybrid"][..]),
        (format!("{hybrid} --queries q.jsonl"), &["--model"]),
        (
            format!("{hybrid} --query-vectors v.jsonl"),
            &["as text", "--queries"],
        ),
        (
            format!("{hybrid} --queries two-q.jsonl --query-vectors one-v.jsonl"),
            &["`two`", "no vector"],
        ),
        (
            format!("{hybrid} {files} --verify --fusion rrf"),
            &["no exhaustive form"],
        ),
        (
            format!("{hybrid} {files} --fusion rrf --fusion tmm"),
            &["more than once"],
        ),
        (
            format!("{hybrid} {files} --fusion tmm --rank-constant 5"),
            &["rrf", "tmm"],
        ),
        (format!("{hybrid} {files} --rank-constant NaN"), &["NaN"]),
        (
            "search --index idx --mode bm25 w2 --fusion rrf".to_owned(),
            &["--fusion", "--mode hybrid"],
        ),
        (
            "search --index idx --mode bm25 w2 --after 1:99:0".to_owned(),
            &["`1:99:0`", "without `--after`"],
        ),
        (
            "search --index idx --mode bm25 --queries q.jsonl --after 1:0:0".to_owned(),
            &["one query"],
        ),
        (
            "search --index idx --query-vectors one-v.jsonl --query-terms 1 --after 1:0:0"
                .to_owned(),
            &["exact"],
        ),
        (
            "search --index idx --mode bm25 w2 --offset 1000000".to_owned(),
            &["1000010 hits"],
        ),
    ] {
        scratch.laconic(&arguments).fails(2, parts);
    }
    for (arguments, part) in [
        ("--weight sparse=0.7,dense=0.3", "`dense` in `dense=0.3`"),
        ("--weight sparse=0.7,bm25=x", "`x` in `bm25=x`"),
        ("--weight sparse=0.7", "bm25 has no weight"),
        ("--fusion best", "best"),
        ("--candidates 0", "a number from 1"),
        ("--rank-constant -1", "-1"),
        ("--after 1:2", "three parts"),
        ("--after 1:0:0 --offset 3", "cannot be used with"),
        ("--verify --offset 3", "cannot be used with"),
        ("--min-score NaN", "finite"),
    ] {
        let outcome = scratch
            .laconic(&format!("{hybrid} {files} {arguments}"))
            .exits(2);
        assert!(outcome.stderr.contains(part), "{outcome}");
        assert_eq!(outcome.stdout, "");
    }
}
