//! `laconic bench` at tiny sizes: that it measures, not how fast.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("laconic-bench-test-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    fn bench(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_laconic"))
            .current_dir(&self.0)
            .arg("bench")
            .args(arguments.split_whitespace())
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &str) -> Value {
        let output = self.bench(&format!("{arguments} --json"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const TINY: &str = "--docs 2000 --queries 5 --rounds 2";

/// What does not depend on time: postings and bytes, and the exact hits' work.
fn counts(report: &Value) -> String {
    let collection = &report["collections"][0];
    let index = &collection["index"];
    let result = &collection["results"][0];
    format!(
        "{} {} {} {}",
        index["postings"],
        index["bytes_per_posting"],
        index["terms"],
        result["mean_query_postings"]
    )
}

fn assert_is_svg(path: &Path) {
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap();
        assert!(
            !text.contains('>') && tag.matches('"').count() % 2 == 0,
            "{tag}"
        );
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert_eq!(open, [""; 0]);
    assert!(svg.matches("<polyline").count() >= 2);
}

#[test]
fn report_has_its_keys_and_every_exact_method_is_exact() {
    let scratch = Scratch::new("report");
    let report = scratch.json(&format!("{TINY} --verify --methods laconic,exhaustive,topdocs,plain,custom-scorer,boolean,overestimate=1.5"));
    for key in ["cpu", "cores", "os", "arch", "date", "laconic_version"] {
        assert!(report["machine"].get(key).is_some(), "{key}");
    }
    assert_eq!(report["format"], 1);
    assert_eq!(report["settings"]["verified"], true);
    let collection = &report["collections"][0];
    assert_eq!(collection["collection"], "synthetic");
    assert_eq!(collection["order"], "random");
    assert_eq!(collection["index"]["documents"], 2000);
    assert!(
        collection["index"]["bytes_per_posting"]["total"]
            .as_f64()
            .unwrap()
            > 0.5
    );
    let results = collection["results"].as_array().unwrap();
    assert_eq!([&results[0]["k"], &results[1]["k"]], [10, 1000]);
    let methods = results[0]["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 7);
    for method in methods {
        for key in [
            "mean_ms",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "queries_per_second",
            "ratio",
        ] {
            assert!(method[key].as_f64().unwrap() > 0.0, "{key} of {method}");
        }
        let is_exact = method["exact"].as_bool().unwrap();
        assert!(!is_exact || method["recall"] == 1.0, "{method}");
    }
    assert_eq!(methods[1]["ratio"], 1.0);
    assert_eq!(methods[5]["recall"], Value::Null);
}

#[test]
fn several_segments_and_few_bits_are_verified_too() {
    let scratch = Scratch::new("segments");
    let arguments = "--verify --segments 3 --bits 5 --threads 2 --order topic";
    let report = scratch.json(&format!("{TINY} {arguments}"));
    assert_eq!(report["collections"][0]["index"]["segments"], 3);
    assert_eq!(report["collections"][0]["order"], "topic");
}

#[test]
fn a_bisected_index_is_verified_too() {
    let scratch = Scratch::new("bisected");
    let report = scratch.json(&format!("{TINY} --verify --order bisected"));
    assert_eq!(report["collections"][0]["order"], "bisected");
    assert_eq!(report["collections"][0]["index"]["documents"], 2000);
}

#[test]
fn the_same_seed_makes_the_same_collection() {
    let scratch = Scratch::new("seed");
    let quick = "--docs 1000 --queries 3 --rounds 1 --k 10 --methods laconic";
    let first = counts(&scratch.json(quick));
    assert_eq!(first, counts(&scratch.json(quick)));
    assert_ne!(first, counts(&scratch.json(&format!("{quick} --seed 1"))));
}

#[test]
fn sweeps_are_plotted_and_indexes_kept() {
    let scratch = Scratch::new("sweep");
    let sweep = "--docs 500,1000 --queries 3 --rounds 1 --k 5,50 --query-terms 4,20 \
                 --methods laconic,plain --dir indexes --svg plots";
    let report = scratch.json(sweep);
    assert_eq!(report["collections"].as_array().unwrap().len(), 2);
    assert_eq!(
        report["collections"][0]["results"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(report["collections"][0]["index"]["reused"], false);
    let plots: Vec<PathBuf> = fs::read_dir(scratch.0.join("plots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(plots.len(), 12, "{plots:?}");
    plots.iter().for_each(|plot| assert_is_svg(plot));
    let again = scratch.json(sweep);
    assert_eq!(again["collections"][0]["index"]["reused"], true);
    assert_eq!(counts(&report), counts(&again));
}

#[test]
fn vectors_of_files_are_measured_as_they_are_and_resampled() {
    let scratch = Scratch::new("files");
    let document = |n: u32| {
        let terms: BTreeSet<u32> = (0..8).map(|i| (n * 7 + i * i) % 50).collect();
        let pairs = terms
            .iter()
            .map(|t| format!("\"t{t}\": {}", 1 + (n * 31 + t) % 255));
        let pairs: Vec<String> = pairs.collect();
        format!("{{\"id\": {n}, \"vector\": {{{}}}}}\n", pairs.join(", "))
    };
    let documents: String = (0..300).map(document).collect();
    fs::write(scratch.0.join("docs.jsonl"), documents).unwrap();
    fs::write(
        scratch.0.join("queries.tsv"),
        "0\tt1:64 t8:32\n1\tt3:255 t4:1 t5:7\n",
    )
    .unwrap();
    let files = "--vectors docs.jsonl --vector-scale 64 --rounds 1 --queries 9 --k 10 --verify";
    let report = scratch.json(&format!("{files} --query-vectors queries.tsv"));
    let collection = &report["collections"][0];
    assert_eq!(collection["index"]["documents"], 300);
    assert_eq!(collection["order"], Value::Null);
    assert_eq!(collection["results"][0]["mean_query_terms"], 2.5);
    let shuffled = scratch.json(&format!("{files} --order random"));
    assert_eq!(
        shuffled["collections"][0]["index"]["postings"],
        collection["index"]["postings"]
    );
    let resampled = scratch.json(&format!("{files} --resample --docs 1000"));
    assert_eq!(resampled["collections"][0]["collection"], "resampled");
    assert_eq!(resampled["collections"][0]["index"]["documents"], 1000);
}

#[test]
fn real_vectors_are_resampled_where_they_are() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let vectors = format!("{data}/arguana-debates/vectors.splade-v3.jsonl.gz");
    let queries = format!("{data}/sparse/msmarco-dev-queries.splade-v3.jsonl.gz");
    if !Path::new(&vectors).exists() || !Path::new(&queries).exists() {
        println!("skipped: no {vectors}");
        return;
    }
    let scratch = Scratch::new("real");
    let report = scratch.json(&format!(
        "--vectors {vectors} --vector-scale 51.2 --query-vectors {queries} --resample --docs 3000 \
         --queries 5 --rounds 1 --verify"
    ));
    assert_eq!(report["collections"][0]["index"]["documents"], 3000);
}

#[test]
fn the_table_is_for_people_and_mistakes_are_named() {
    let scratch = Scratch::new("table");
    let output = scratch.bench("--docs 500 --queries 2 --rounds 1 --k 10");
    let table = String::from_utf8(output.stdout).unwrap();
    for word in [
        "500 documents",
        "custom-scorer",
        "p99",
        "a posting",
        "ratios to exhaustive",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    for (arguments, message) in [
        ("--methods wand", "is no method"),
        ("--methods plain --baseline laconic", "not among"),
        ("--bits 9", "9"),
        ("--k 0", "whole number"),
        ("--resample", "--vectors"),
        ("--vectors absent.jsonl --order topic", "bisected"),
        ("--vectors absent.jsonl --segments 2", "--docs"),
    ] {
        let output = scratch.bench(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(message), "{arguments}: {stderr}");
    }
    let output = scratch.bench("--vectors absent.jsonl");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_encoder_is_measured_in_every_format_and_length() {
    let scratch = Scratch::new("encode");
    let arguments = "encode --shape tiny --tokens 1,20 --texts 3 --rounds 1 --threads 2 --fidelity";
    let report = scratch.json(arguments);
    let rows = report["results"].as_array().unwrap();
    let what: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["weights"], row["tokens"], row["texts"]))
        .collect();
    let expected = [
        "\"f32\" 1 3",
        "\"int8\" 1 3",
        "\"f32\" 20 3",
        "\"int8\" 20 3",
    ];
    assert_eq!(what, expected);
    for row in rows {
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
        let parts = [
            "share_linear",
            "share_attention",
            "share_head",
            "share_rest",
        ];
        let parts = parts.map(|part| row[part].as_f64().unwrap());
        assert!(parts.iter().all(|part| *part >= 0.0), "{row}");
        assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    for row in report["fidelity"].as_array().unwrap() {
        assert!(row["cosine"].as_f64().unwrap() > 0.999, "{row}");
    }
    let bytes = |idx: usize| report["models"][idx]["weight_bytes"].as_u64().unwrap();
    assert!(bytes(1) * 3 < bytes(0));
    let table = scratch.bench(arguments).stdout;
    let table = String::from_utf8(table).unwrap();
    for word in ["plain read", "ceiling", "tokens/s", "attn", "cosine"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    for (arguments, message) in [
        ("encode --tokens 9000", "whole number"),
        ("encode --shape 2b", "2b"),
        ("encode --weights f64", "f64"),
        ("--docs 5 encode", "cannot be used"),
    ] {
        let output = scratch.bench(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(message), "{arguments}: {stderr}");
    }
}
