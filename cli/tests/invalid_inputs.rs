//! Every file of `fixtures/invalid` is refused where and for the reason its `.expected` says.
//!
//! The corpus is written by `fixtures/invalid/make.py`. A fault found elsewhere (by fuzzing, by a
//! user) becomes one more case there.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use laconic_cli::collection::{
    self, InputError, LineReader, Located, Record, Records, VectorScale,
};
use laconic_cli::eval::Qrels;
use laconic_tantivy::SparseVector;

/// The first fault of a file, and how many records are read when faulty lines are skipped.
struct Found {
    first_fault: Option<InputError>,
    n_records: usize,
}

fn skip_faults<T>(records: impl Iterator<Item = Result<Located<T>, InputError>>) -> Found {
    let mut found = Found {
        first_fault: None,
        n_records: 0,
    };
    let mut is_over = false;
    for record in records {
        assert!(
            !is_over,
            "nothing comes behind a fault that cannot be skipped"
        );
        match record {
            Ok(_) => found.n_records += 1,
            Err(fault) => {
                is_over = !fault.is_skippable();
                assert!(fault.is_malformed() && !fault.is_io(), "{fault}");
                found.first_fault.get_or_insert(fault);
            }
        }
    }
    found
}

fn read_records<T: Record>(records: Records<T>) -> Found {
    skip_faults(records.with_unique_ids())
}

fn read_documents(lines: LineReader) -> Found {
    read_records(collection::documents(lines))
}

fn read_queries(lines: LineReader) -> Found {
    read_records(collection::queries(lines))
}

/// Through the vector type's own door, as indexing does.
fn read_vectors(lines: LineReader) -> Found {
    let records = collection::vectors(lines, VectorScale::ONE).with_unique_ids();
    skip_faults(
        records.map(|located| {
            located?.try_map(|record| SparseVector::from_pairs(record.weights.iter()))
        }),
    )
}

fn read_qrels(lines: LineReader) -> Found {
    Found {
        first_fault: Qrels::read(lines).err(),
        n_records: 0,
    }
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/invalid")
        .join(kind);
    let entries = fs::read_dir(folder).expect("the corpus is part of the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension != "expected")
    });
    paths.sort();
    paths
}

fn expectations(case: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(case.with_extension("expected")).expect("beside each case");
    let pairs = text
        .lines()
        .map(|line| line.split_once(": ").expect("`key: value`"));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What is wrong with how a case was read, if anything.
fn complaint(case: &Path, found: &Found) -> Option<String> {
    let expected = expectations(case);
    let Some(fault) = &found.first_fault else {
        return Some("is accepted".into());
    };
    let message = fault.to_string();
    let line = fault.line().map(|line| line.to_string());
    let is_as_expected = line.as_ref() == Some(&expected["line"])
        && message.contains(&expected["reason"])
        && message.contains(&format!(", line {}: ", expected["line"]))
        && found.n_records.to_string() == expected["records"];
    (!is_as_expected).then(|| format!("{} records, {message}\n    {expected:?}", found.n_records))
}

fn run(kind: &str, n_least: usize, read: fn(LineReader) -> Found) {
    let cases = cases(kind);
    assert!(
        cases.len() >= n_least,
        "only {} cases of {kind}",
        cases.len()
    );
    let complaints: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let found = read(LineReader::open(case).expect("every case can be opened"));
            complaint(case, &found).map(|what| format!("{}: {what}", case.display()))
        })
        .collect();
    assert!(
        complaints.is_empty(),
        "{}\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    println!("{kind}: {} cases refused as expected", cases.len());
}

#[test]
fn documents() {
    run("documents", 100, read_documents);
}

#[test]
fn vectors() {
    run("vectors", 140, read_vectors);
}

#[test]
fn queries() {
    run("queries", 100, read_queries);
}

#[test]
fn qrels() {
    run("qrels", 25, read_qrels);
}
