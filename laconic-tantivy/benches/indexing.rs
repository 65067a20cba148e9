//! Is the bulk writer at least 20 times faster than the token-repeating path on the same
//! documents?
//!
//! `cargo bench -p laconic-tantivy --bench indexing`, with `LACONIC_BENCH_DOCS` and
//! `LACONIC_BENCH_ROUNDS` for other sizes. Both paths write to memory with one indexing thread;
//! the rounds alternate. The token-repeating path gets its field texts ready-made.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, may panic, and counts below 2^53"
)]

mod common;

use std::time::Instant;

use common::{Vocabulary, collection, median, size};
use laconic_tantivy::{BulkWriter, Identity, IndexStats, LaconicField, SparseVector, register};
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

/// Seconds, and the index.
fn by_bulk(fields: &Fields, vectors: &[SparseVector]) -> (f64, Index) {
    let index = fields.create();
    let start = Instant::now();
    let writer = BulkWriter::new(&index, &fields.laconic, None, MEMORY_BUDGET).unwrap();
    let mut writer = writer.without_merges();
    for (n, vector) in vectors.iter().enumerate() {
        writer
            .add(doc!(fields.id => n.to_string()), vector)
            .unwrap();
    }
    writer.commit(None).unwrap();
    (start.elapsed().as_secs_f64(), index)
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
        "{name:<18} {:>12.0} postings/s {:>10.0} documents/s {:>6.2} bytes/posting",
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
    let n_docs = size("LACONIC_BENCH_DOCS", 20_000, 200);
    let rounds = size("LACONIC_BENCH_ROUNDS", 3, 1);
    let collection = collection(n_docs);
    let vocabulary = Vocabulary::new(&collection);
    let vectors: Vec<_> = collection
        .docs()
        .map(|weights| vocabulary.vector(&weights))
        .collect();
    let texts: Vec<_> = vectors.iter().map(SparseVector::to_json).collect();
    let fields = Fields::new();

    let (mut bulk, mut repetition) = (Vec::new(), Vec::new());
    let mut indices = (fields.create(), fields.create());
    for _ in 0..rounds {
        let (seconds, index) = by_bulk(&fields, &vectors);
        bulk.push(seconds);
        indices.0 = index;
        let (seconds, index) = by_repetition(&fields, &texts);
        repetition.push(seconds);
        indices.1 = index;
    }
    print_shape(&indices.0);
    print_path("bulk writer", &bulk, &indices.0);
    print_path("token repetition", &repetition, &indices.1);
    let ratios: Vec<f64> = repetition
        .iter()
        .zip(&bulk)
        .map(|(slow, fast)| slow / fast)
        .collect();
    println!(
        "the bulk writer is {:.1} times as fast (median of {rounds} rounds)",
        median(ratios)
    );
}
