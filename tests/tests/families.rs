//! Checkpoints of BERT and DistilBERT, in the layouts they are published in, from text to hits.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::{Path, PathBuf};

use laconic_tests::{Scratch, scratch};
use serde_json::{Value, json};

const DOCS: &str = r#"{"_id": "a", "title": "Copper", "text": "copper conducts electricity well"}
{"_id": "b", "text": "jumping over the lazy dogs"}
{"_id": "c", "text": "what is the weather in new york now"}
"#;

const QUERY: &str =
    "'g, v, d, quick sums, i: postings, keeps retrieval of weighted density in women'";

fn checkpoint(family: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../laconic-model/tests/families");
    models.join(family)
}

#[test]
fn every_layout_is_encoded_indexed_and_searched() {
    for family in ["bert", "opensearch", "sparse-encoder", "legacy", "router"] {
        let scratch = scratch!();
        scratch.write("docs.jsonl", DOCS);
        let model = format!("--model '{}'", checkpoint(family).display());
        let index = format!("index --index idx --docs docs.jsonl {model}");
        scratch.laconic(&index).succeeds();
        let search = format!("search --index idx {model} --format trec {QUERY}");
        let mut found = scratch.laconic(&search).succeeds().docs();
        found.sort();
        assert_eq!(found, sharing_a_term(&scratch, &model), "{family}");
        let explained = format!("search --index idx {model} --explain {QUERY}");
        scratch.laconic(&explained).succeeds();
        // Another checkpoint's queries must not meet this one's documents.
        let other = if family == "bert" {
            "opensearch"
        } else {
            "bert"
        };
        let other = format!("--model '{}'", checkpoint(other).display());
        let refused = scratch.laconic(&format!("search --index idx {other} 'copper'"));
        refused.exits(5);
    }
}

/// Documents whose vectors have a term of the query's.
fn sharing_a_term(scratch: &Scratch, model: &str) -> Vec<String> {
    let vectors = |kind: &str, input: &str| {
        let encode = format!("encode {model} --kind {kind} --input {input}");
        scratch.laconic(&encode).succeeds().json_lines()
    };
    let text = QUERY.trim_matches('\'');
    scratch.write("query.jsonl", json!({"_id": "q", "text": text}).to_string());
    let query = vectors("query", "query.jsonl").remove(0);
    let query = query["vector"].as_object().unwrap();
    let shares = |doc: &Value| {
        let vector = doc["vector"].as_object().unwrap();
        vector.keys().any(|term| query.contains_key(term))
    };
    let docs = vectors("document", "docs.jsonl");
    let found = docs.iter().filter(|doc| shares(doc));
    let found: Vec<String> = found
        .map(|doc| doc["_id"].as_str().unwrap().into())
        .collect();
    assert!(!found.is_empty(), "nothing to find");
    found
}

/// A query of an inference-free model is its own words, pieces and all, with the table's weights.
#[test]
fn looked_up_queries_have_readable_terms() {
    let scratch = scratch!();
    scratch.write(
        "queries.jsonl",
        r#"{"_id": "q", "text": "Jumpings copper copper"}"#,
    );
    let table: Value =
        serde_json::from_slice(&std::fs::read(checkpoint("opensearch").join("idf.json")).unwrap())
            .unwrap();
    let model = checkpoint("opensearch");
    let encode = format!(
        "encode --model '{}' --kind query --input queries.jsonl",
        model.display()
    );
    let line: Value = serde_json::from_str(&scratch.laconic(&encode).succeeds().stdout).unwrap();
    let vector = line["vector"].as_object().unwrap();
    let terms: Vec<&str> = vector.keys().map(String::as_str).collect();
    assert_eq!(terms, ["##s", "copper", "jumping"]);
    for (term, weight) in vector {
        let gap = weight.as_f64().unwrap() - table[term].as_f64().unwrap();
        assert!(gap.abs() < 1e-4, "{term}: {weight}");
    }
}

#[test]
fn training_says_that_it_wants_a_llama() {
    let scratch = scratch!();
    let pair = r#"{"query": "copper", "positive": "copper conducts"}"#;
    scratch.write("pairs.jsonl", format!("{pair}\n").repeat(4));
    let model = checkpoint("bert");
    let train = format!(
        "train '{}' --pairs pairs.jsonl --output out --set steps=1",
        model.display()
    );
    scratch.laconic(&train).fails(3, &["`bert`", "llama"]);
}

#[test]
fn model_info_says_what_a_folder_holds() {
    let scratch = scratch!();
    let info = |family: &str, options: &str| {
        let model = checkpoint(family);
        let command = format!("model info '{}' {options}", model.display());
        scratch.laconic(&command).succeeds()
    };
    let router = info("router", "--json").json();
    assert_eq!(router["family"], "bert");
    assert_eq!(router["shape"]["num_hidden_layers"], 2);
    assert_eq!(router["queries"]["by"], "table");
    assert_eq!(router["special_tokens"], json!(["[CLS]", "[SEP]"]));
    assert_eq!(router["preset"]["knobs"]["saturations"], "2");
    let paths = router["files"].as_array().unwrap().iter();
    let paths: Vec<&str> = paths.map(|file| file["path"].as_str().unwrap()).collect();
    for path in [
        "modules.json",
        "router_config.json",
        "document_0_Transformer/model.safetensors",
        "query_0_SparseStaticEmbedding/model.safetensors",
    ] {
        assert!(paths.contains(&path), "{path}: {paths:?}");
    }
    let stored: u64 = router["stored_as"]["F16"].as_u64().unwrap();
    assert_eq!(router["parameters"].as_u64(), Some(stored));
    // 200 × 32 words, 64 + 2 places, two layers, the head.
    let layer = 4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32;
    let expected = (200 + 64 + 2) * 32 + 64 + 2 * layer + 32 * 32 + 32 + 64 + 200;
    assert_eq!(stored, expected);
    let text = info("opensearch", "--set top_k=7").stdout;
    for word in [
        "distilbert",
        "drop_specials",
        "\"7\"",
        "looked up",
        "idf.json",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // The identity is the one that an index is made with.
    scratch.write("docs.jsonl", DOCS);
    let bert = checkpoint("bert");
    let index = format!(
        "index --index idx --docs docs.jsonl --model '{}'",
        bert.display()
    );
    scratch.laconic(&index).succeeds();
    let field = scratch.laconic("info --index idx --json").succeeds().json();
    let bert = info("bert", "--json").json();
    assert_eq!(field["laconic_fields"][0]["model"], bert["model_id"]);
    let preset = format!("splade@{}", bert["preset"]["hash"].as_str().unwrap());
    assert_eq!(field["laconic_fields"][0]["preset"], preset);
}

#[test]
fn a_preset_may_be_named() {
    let scratch = scratch!();
    scratch.write("docs.jsonl", DOCS);
    let model = format!("--model '{}'", checkpoint("bert").display());
    let encode = |options: &str| {
        let command = format!("encode {model} --kind document --input docs.jsonl {options}");
        scratch.laconic(&command)
    };
    let plain = encode("").succeeds().stdout;
    let named = encode("--preset splade --set max_length=64")
        .succeeds()
        .stdout;
    assert_eq!(plain, named);
    let other = encode("--preset opensearch --set max_length=64")
        .succeeds()
        .stdout;
    assert_ne!(plain, other);
    assert!(
        !other.contains("[CLS]") && plain.contains("[CLS]"),
        "{plain}"
    );
    encode("--preset splode").fails(3, &["splode", "laconic, splade, opensearch"]);
    scratch
        .laconic("index --index idx --docs docs.jsonl --preset splade")
        .fails(2, &["--model"]);
}
