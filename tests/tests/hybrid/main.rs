//! Hybrid search, paging and tuning as a user calls them: fused scores against arithmetic on the two
//! rankings, pages against the whole list, figures against `eval`.
#![allow(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

mod fused;
mod paging;
mod syntax;
mod tuning;

use laconic_tests::{Docs, Outcome, Scratch, scratch};
use serde_json::{Value, json};

const N_DOCS: usize = 300;

const ONE: &str = "search --index idx --queries one-q.jsonl --query-vectors one-v.jsonl --json";

/// Generated documents in several segments, and some of them as queries `q.jsonl` (texts) and
/// `v.jsonl` (vectors).
fn generated() -> Scratch {
    let scratch = scratch!();
    let docs = Docs::generate(N_DOCS, 7);
    scratch.write("v.jsonl", docs.query_vectors(8));
    let queries = docs.0.iter().take(8);
    let queries = queries.map(|doc| json!({"_id": doc.id, "text": doc.text}).to_string() + "\n");
    scratch.write("q.jsonl", queries.collect::<String>());
    // One query, whose vector the words of its text do not follow from.
    scratch.write("one-q.jsonl", r#"{"_id": "one", "text": "w2 w12 common"}"#);
    let one = r#"{"_id": "one", "vector": {"w8": 1.5, "w2": 0.5, "w18": 1}}"#;
    scratch.write("one-v.jsonl", one);
    // The segments of one session are merged, those of several are not.
    let (documents, vectors) = (docs.documents(), docs.vectors());
    let lines = documents.lines().zip(vectors.lines());
    let lines: Vec<(&str, &str)> = lines.collect();
    for part in lines.chunks(N_DOCS / 4) {
        let (docs, vectors): (Vec<_>, Vec<_>) = part.iter().copied().unzip();
        scratch.write("docs.jsonl", docs.join("\n"));
        scratch.write("vectors.jsonl", vectors.join("\n"));
        let index = "index --index idx --docs docs.jsonl --vectors vectors.jsonl";
        scratch.laconic(index).succeeds();
    }
    let info = scratch.laconic("info --index idx --json").succeeds().json();
    assert_eq!(
        (&info["segments"], &info["documents"]),
        (&json!(4), &json!(N_DOCS))
    );
    scratch
}

/// The hits of a search for the one query.
fn hits(outcome: &Outcome) -> Vec<Value> {
    outcome.json()["hits"].as_array().unwrap().clone()
}

fn id(hit: &Value) -> String {
    hit["_id"].as_str().unwrap().to_owned()
}

fn score(hit: &Value) -> f64 {
    hit["score"].as_f64().unwrap()
}

fn ranked(hits: &[Value]) -> Vec<(String, f64)> {
    hits.iter().map(|hit| (id(hit), score(hit))).collect()
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    // Rounding of `f32`, and of small shares to the unit of integer sums.
    let tolerance = 1e-5 * expected.abs() + 1e-6;
    assert!((found - expected).abs() <= tolerance, "{found} {expected}");
}
