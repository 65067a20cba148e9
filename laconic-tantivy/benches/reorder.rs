//! How long does it take to reorder documents, and what do posting lists gain?
//!
//! `cargo bench -p laconic-tantivy --bench reorder`, with `LACONIC_BENCH_DOCS` for other sizes.
//! The synthetic documents have topics and come in random order. Prints, before and after: the
//! mean of log2(gap) over all postings, the bytes of the posting lists, and the pairs of a term
//! and a block of 64 documents with it, per posting; and the seconds of the search for the order
//! and of `optimize` in all.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, may panic, and counts below 2^53"
)]

mod common;

use std::time::Instant;

use common::{Vocabulary, collection, size};
use laconic_tantivy::{
    BulkWriter, Identity, IndexStats, LaconicField, OptimizeOptions, optimize, register,
};
use tantivy::schema::{IndexRecordOption, STORED, STRING, Schema};
use tantivy::{Index, TERMINATED, doc};

/// Documents per block of the search's bounds.
const BLOCK: u32 = 64;

fn main() {
    let n_docs = size("LACONIC_BENCH_DOCS", 100_000, 500);
    let mut builder = Schema::builder();
    let id = builder.add_text_field("id", STRING | STORED);
    let field = LaconicField::add_to(&mut builder, "laconic", Identity::default());
    let mut index = Index::create_in_ram(builder.build());
    register(&mut index).unwrap();
    let collection = collection(n_docs);
    let vocabulary = Vocabulary::new(&collection);
    let mut writer = BulkWriter::new(&index, &field, None, 400_000_000).unwrap();
    for (n, weights) in collection.docs().enumerate() {
        let document = doc!(id => n.to_string());
        writer.add(document, &vocabulary.vector(&weights)).unwrap();
    }
    writer.commit(None).unwrap();
    writer.close().unwrap();

    println!("{n_docs} documents");
    describe("before", &index, &field);
    let start = Instant::now();
    let report = optimize(&index, &field, OptimizeOptions::default(), &mut |_| {}).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    describe("after", &index, &field);
    let ordering = report.ordering_seconds;
    println!("ordering {ordering:.2} s of {seconds:.2} s");
}

fn describe(when: &str, index: &Index, field: &LaconicField) {
    let (mut bits, mut blocks, mut postings) = (0.0, 0u64, 0u64);
    for reader in index.reader().unwrap().searcher().segment_readers() {
        let inverted_index = reader.inverted_index(field.field()).unwrap();
        let mut terms = inverted_index.terms().stream().unwrap();
        while terms.advance() {
            let option = IndexRecordOption::Basic;
            let lists = inverted_index.read_block_postings_from_terminfo(terms.value(), option);
            let mut list = lists.unwrap();
            let mut last = None;
            while list.doc(0) != TERMINATED {
                for &doc in list.docs() {
                    bits += f64::from(last.map_or(doc + 1, |last| doc - last)).log2();
                    blocks += u64::from(last.is_none_or(|last| last / BLOCK != doc / BLOCK));
                    postings += 1;
                    last = Some(doc);
                }
                list.advance();
            }
        }
    }
    let stats = IndexStats::read(index).unwrap();
    println!(
        "{when:>6}: {} segments, log2(gap) {:.3}, {:.2} bytes a posting, {:.3} blocks a posting",
        stats.segments,
        bits / postings as f64,
        stats.fields[0].posting_bytes as f64 / postings as f64,
        blocks as f64 / postings as f64,
    );
}
