//! Does the bulk writer make 20 million postings a second searchable on one thread, is it 20 times
//! faster than the token-repeating path, and is merging two segments as fast as building one?
//!
//! `cargo bench -p laconic-tantivy --bench indexing`, with `LACONIC_BENCH_DOCS` and
//! `LACONIC_BENCH_ROUNDS` for other sizes. From vectors in memory to a committed segment with
//! bounds, which is in memory too, so that no disk is measured; on one indexing thread, except
//! where the line says otherwise. The rounds alternate. The token-repeating path, which gets its
//! field texts ready-made, indexes a twentieth of the documents.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, may panic, and counts below 2^53"
)]

mod common;

use std::time::Instant;

use common::{Vocabulary, collection, median, size};
use laconic_tantivy::{
    BulkWriter, Identity, IndexStats, LaconicField, OptimizeOptions, SparseVector, optimize,
    register,
};
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::{Field, STORED, STRING, Schema};
use tantivy::{Index, IndexWriter, doc};

const MEMORY_BUDGET: usize = 400_000_000;

struct Fields {
    schema: Schema,
    id: Field,
    laconic: LaconicField,
}

impl Fields {
    fn new() -> Fields {
        let mut builder = Schema::builder();
        let id = builder.add_text_field("id", STRING | STORED);
        let laconic = LaconicField::add_to(&mut builder, "laconic", Identity::default());
        Fields {
            schema: builder.build(),
            id,
            laconic,
        }
    }

    fn create(&self) -> Index {
        let mut index = Index::create_in_ram(self.schema.clone());
        register(&mut index).unwrap();
        index
    }
}

/// Seconds, and the index. With several `parts`, each is a commit and a segment.
fn by_bulk(
    fields: &Fields,
    vectors: &[SparseVector],
    parts: usize,
    n_threads: usize,
) -> (f64, Index) {
    let index = fields.create();
    let start = Instant::now();
    let writer = BulkWriter::new(&index, &fields.laconic, None, MEMORY_BUDGET).unwrap();
    let mut writer = writer.without_merges().with_threads(n_threads);
    for part in vectors.chunks(vectors.len().div_ceil(parts)) {
        for (n, vector) in part.iter().enumerate() {
            writer
                .add(doc!(fields.id => n.to_string()), vector)
                .unwrap();
        }
        writer.commit(None).unwrap();
    }
    (start.elapsed().as_secs_f64(), index)
}

/// Seconds to make one segment of those of `index`.
fn by_merging(fields: &Fields, index: &Index) -> f64 {
    let options = OptimizeOptions {
        reorder: false,
        n_threads: 1,
        memory_budget: MEMORY_BUDGET,
        ..OptimizeOptions::default()
    };
    let start = Instant::now();
    let report = optimize(index, &fields.laconic, options, &mut |_| {}).unwrap();
    assert_eq!(report.segments_after, 1);
    start.elapsed().as_secs_f64()
}

/// Seconds, and the index.
fn by_repetition(fields: &Fields, texts: &[String]) -> (f64, Index) {
    let index = fields.create();
    let start = Instant::now();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, MEMORY_BUDGET).unwrap();
    writer.set_merge_policy(Box::new(NoMergePolicy));
    let laconic = fields.laconic.field();
    for (n, text) in texts.iter().enumerate() {
        let document = doc!(fields.id => n.to_string(), laconic => text.as_str());
        writer.add_document(document).unwrap();
    }
    writer.commit().unwrap();
    (start.elapsed().as_secs_f64(), index)
}

fn print_path(name: &str, seconds: &[f64], index: &Index) {
    let stats = IndexStats::read(index).unwrap();
    let field = &stats.fields[0];
    let seconds = median(seconds.to_vec());
    let rate = |count: u64| count as f64 / seconds;
    let bytes = (field.posting_bytes + field.dictionary_bytes) as f64;
    println!(
        "{name:<24} {:>12.0} postings/s {:>10.0} documents/s {:>6.2} bytes/posting",
        rate(field.postings),
        rate(stats.documents),
        bytes / field.postings as f64,
    );
}

fn print_shape(index: &Index) {
    let stats = IndexStats::read(index).unwrap();
    let field = &stats.fields[0];
    let histogram = (0u64..).zip(&field.impact_histogram);
    let impacts: u64 = histogram.map(|(impact, count)| impact * count).sum();
    println!(
        "{} documents, {:.0} postings each, {} terms, mean impact {:.1}",
        stats.documents,
        field.postings as f64 / stats.documents as f64,
        field.terms,
        impacts as f64 / field.postings as f64,
    );
}

fn main() {
    let n_docs = size("LACONIC_BENCH_DOCS", 200_000, 200);
    let rounds = size("LACONIC_BENCH_ROUNDS", 5, 1);
    let collection = collection(n_docs);
    let vocabulary = Vocabulary::new(&collection);
    let vectors: Vec<_> = collection
        .docs()
        .map(|weights| vocabulary.vector(&weights))
        .collect();
    let few = &vectors[..vectors.len().div_ceil(20)];
    let texts: Vec<_> = few.iter().map(SparseVector::to_json).collect();
    let fields = Fields::new();

    let mut paths = [
        "bulk writer",
        "bulk writer, 2 threads",
        "merge of 2 segments",
        "bulk writer, a twentieth",
        "token repetition",
    ]
    .map(|name| (name, Vec::new(), fields.create()));
    for _ in 0..rounds {
        let (_, halves) = by_bulk(&fields, &vectors, 2, 1);
        let timed = [
            by_bulk(&fields, &vectors, 1, 1),
            by_bulk(&fields, &vectors, 1, 2),
            (by_merging(&fields, &halves), halves),
            by_bulk(&fields, few, 1, 1),
            by_repetition(&fields, &texts),
        ];
        for ((_, seconds, last), (time, index)) in paths.iter_mut().zip(timed) {
            seconds.push(time);
            *last = index;
        }
    }
    print_shape(&paths[0].2);
    for (name, seconds, index) in &paths {
        print_path(name, seconds, index);
    }
    let ratio = |slow: usize, fast: usize| {
        let pairs = paths[slow].1.iter().zip(&paths[fast].1);
        median(pairs.map(|(slow, fast)| slow / fast).collect())
    };
    println!(
        "medians of {rounds} rounds: the bulk writer is {:.1} times as fast as token repetition, \
         a merge {:.2} times as fast as building",
        ratio(4, 3),
        ratio(0, 2)
    );
}
