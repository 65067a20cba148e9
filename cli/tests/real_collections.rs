//! Real collections are read whole, and a search over real vectors is judged as published.
//!
//! The data is not part of the repository; without it each test says that it was skipped.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use laconic_cli::collection::{self, LineReader, Record, Records, VectorScale};
use laconic_cli::eval::{Qrels, Run, evaluate};
use laconic_tantivy::SparseVector;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

/// `None`, with a line printed, where the folder is absent.
fn folder(name: &str) -> Option<PathBuf> {
    let folder = Path::new(DATA).join(name);
    if !folder.is_dir() {
        println!("skipped: no {}", folder.display());
    }
    folder.is_dir().then_some(folder)
}

fn lines(path: &Path) -> LineReader {
    LineReader::open(path).unwrap_or_else(|error| panic!("{error}"))
}

fn all<T: Record>(records: Records<T>) -> Vec<T> {
    let records = records.with_unique_ids();
    records
        .map(|located| located.unwrap_or_else(|error| panic!("{error}")).record)
        .collect()
}

#[test]
fn beir_collections_have_their_counts() {
    for (name, n_documents, n_queries, n_judgments) in [
        ("scifact", 5183, 300, 339),
        ("cranfield", 1400, 225, 1837),
        ("arguana-debates", 1298, 1298, 8630),
    ] {
        let Some(folder) = folder(name) else { continue };
        let documents = all(collection::documents(lines(
            &folder.join("corpus.jsonl.gz"),
        )));
        assert_eq!(documents.len(), n_documents, "{name}");
        let queries = all(collection::queries(lines(&folder.join("queries.jsonl.gz"))));
        assert_eq!(queries.len(), n_queries, "{name}");
        let qrels = Qrels::read(lines(&folder.join("qrels/test.tsv"))).unwrap();
        let found: usize = qrels.iter().map(|(_, judgments)| judgments.len()).sum();
        assert_eq!(found, n_judgments, "{name}");
    }
}

#[test]
fn every_real_vector_passes_the_door() {
    let Some(folder) = folder("sparse") else {
        return;
    };
    let scale = VectorScale::new(51.2).unwrap();
    let records = collection::vectors(
        lines(&folder.join("beir-queries.splade-v3.jsonl.gz")),
        scale,
    );
    let mut n_vectors = 0;
    for located in records {
        let vector = located
            .and_then(|located| located.try_map(|r| SparseVector::from_pairs(r.weights.iter())))
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(vector.record.iter().all(|(_, weight)| weight < 3.7));
        n_vectors += 1;
    }
    assert_eq!(n_vectors, 47_282);
}

/// Posting lists of whole weights, whose sums are exact in `f32`.
struct Postings {
    ids: Vec<String>,
    by_term: HashMap<String, Vec<(usize, f32)>>,
}

impl Postings {
    fn new(path: &Path) -> Postings {
        let mut postings = Postings {
            ids: Vec::new(),
            by_term: HashMap::new(),
        };
        for (doc, record) in all(collection::vectors(lines(path), VectorScale::ONE))
            .into_iter()
            .enumerate()
        {
            for (term, weight) in record.weights.iter() {
                postings
                    .by_term
                    .entry(term.to_owned())
                    .or_default()
                    .push((doc, weight));
            }
            postings.ids.push(record.id);
        }
        postings
    }

    /// Every document as the query that finds the others.
    fn search_each_by_all_others(&self) -> Run {
        let mut scores = vec![vec![0.0f32; self.ids.len()]; self.ids.len()];
        for list in self.by_term.values() {
            for &(query, query_weight) in list {
                let row = &mut scores[query];
                list.iter()
                    .for_each(|&(doc, weight)| row[doc] += query_weight * weight);
            }
        }
        let mut run = Run::default();
        for (query, row) in self.ids.iter().zip(scores) {
            let hits = self
                .ids
                .iter()
                .zip(row)
                .filter(|(doc, score)| *doc != query && *score > 0.0);
            run.insert(query, hits).unwrap();
        }
        run
    }
}

#[test]
fn exact_search_has_the_figures_of_the_readme() {
    let Some(folder) = folder("arguana-debates") else {
        return;
    };
    let qrels = Qrels::read(lines(&folder.join("qrels/test.tsv"))).unwrap();
    let run = Postings::new(&folder.join("vectors.splade-v3.jsonl.gz")).search_each_by_all_others();
    let mean = evaluate(&qrels, &run).mean.unwrap();
    assert!(
        (mean.ndcg_at_10 - 0.7594).abs() < 1e-4,
        "{}",
        mean.ndcg_at_10
    );
    assert!(
        (mean.recall_at_100 - 0.9710).abs() < 1e-4,
        "{}",
        mean.recall_at_100
    );
}
