//! Does an index that exists get vectors at 50,000 documents a second on one thread?
//!
//! `cargo bench -p laconic-tantivy --bench reindex`, with `LACONIC_BENCH_DOCS` and
//! `LACONIC_BENCH_ROUNDS` for other sizes. The source has documents of about 1 KiB of text, stored
//! and indexed with positions, in several segments; vectors of 200 terms are in memory; source, job
//! and result are folders of the disk, synced as ever. Peak memory is that of everything after the
//! vectors were made, files in the page cache that are mapped included.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, may panic, and counts below 2^53"
)]

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use common::{Vocabulary, collection, median, size};
use laconic_tantivy::{Error, Identity, Reindexer, SparseVector, UnitDocuments, UnitVectors};
use tantivy::directory::MmapDirectory;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::{FAST, STORED, STRING, Schema, TEXT};
use tantivy::{Index, IndexWriter, doc};

fn main() {
    let n_docs = size("LACONIC_BENCH_DOCS", 200_000, 2000);
    let rounds = size("LACONIC_BENCH_ROUNDS", 3, 1);
    let folder = tempfile::tempdir().unwrap();
    let source = source(&folder.path().join("source"), n_docs);
    let collection = collection(n_docs);
    let vocabulary = Vocabulary::new(&collection);
    let vectors: Vec<SparseVector> = collection
        .docs()
        .map(|weights| vocabulary.vector(&weights))
        .collect();
    let postings: usize = vectors.iter().map(SparseVector::len).sum();
    println!(
        "{n_docs} documents, {} terms each",
        postings / vectors.len()
    );
    let held = memory("VmRSS");
    let (mut work, mut assembly) = (Vec::new(), Vec::new());
    let mut bytes = (0, 0);
    for round in 0..rounds {
        let [pieces, target] = ["pieces", "target"].map(|name| {
            let path = folder.path().join(format!("{name}{round}"));
            std::fs::create_dir(&path).unwrap();
            MmapDirectory::open(path).unwrap()
        });
        let start = Instant::now();
        let job = Reindexer::new(&source, "laconic", Identity::default());
        let job = job.begin(pieces).unwrap();
        let give = &mut |documents: &UnitDocuments<'_>, taken: &mut UnitVectors<'_>| {
            let ords = documents.reader().fast_fields().u64("ord")?;
            for doc in documents.live() {
                let ord = usize::try_from(ords.first(doc).unwrap_or(0)).unwrap_or(0);
                taken.push(doc, &vectors[ord])?;
            }
            Ok::<(), Error>(())
        };
        let go_on = &mut |_| ControlFlow::Continue(());
        job.work(|_| true, give, go_on).unwrap();
        work.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let report = job.assemble(target, go_on).unwrap();
        assembly.push(start.elapsed().as_secs_f64());
        assert_eq!(report.documents, u64::from(n_docs));
        bytes = (report.bytes_before, report.bytes_after);
    }
    let (work, assembly) = (median(work), median(assembly));
    println!(
        "{:.0} MB become {:.0} MB",
        bytes.0 as f64 / 1e6,
        bytes.1 as f64 / 1e6
    );
    println!("vectors to pieces  {work:.2} s");
    println!("pieces to index    {assembly:.2} s");
    println!(
        "documents a second {:.0}",
        f64::from(n_docs) / (work + assembly)
    );
    if let (Some(held), Some(peak)) = (held, memory("VmHWM")) {
        println!(
            "peak memory        {} MB over {held} MB of vectors",
            peak.saturating_sub(held)
        );
    }
}

/// An index of a program that has Tantivy alone.
fn source(path: &Path, n_docs: u32) -> Index {
    let mut schema = Schema::builder();
    let ord = schema.add_u64_field("ord", FAST);
    let id = schema.add_text_field("id", STRING | STORED);
    let body = schema.add_text_field("body", TEXT | STORED);
    std::fs::create_dir(path).unwrap();
    let index = Index::create_in_dir(path, schema.build()).unwrap();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 100_000_000).unwrap();
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let mut state = 1u64;
    for number in 0..n_docs {
        let mut text = String::with_capacity(1100);
        while text.len() < 1024 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // The square makes small numbers, and so long posting lists, more frequent.
            let share = (state >> 40) as f64 / 16_777_216.0;
            text.push_str(&format!("word{:.0} ", share * share * 50_000.0));
        }
        let number = u64::from(number);
        writer
            .add_document(doc!(ord => number, id => format!("d{number}"), body => text))
            .unwrap();
    }
    writer.commit().unwrap();
    index
}

/// A figure of the process in MB, where the system has one.
fn memory(figure: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(figure))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}
