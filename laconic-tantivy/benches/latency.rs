//! Latency of one query by k, query length, mode and threads, by criterion: for watching changes.
//!
//! `cargo bench -p laconic-tantivy --bench latency`, with `LACONIC_BENCH_DOCS` for other sizes and
//! a filter as the last argument, for example `hybrid/40`. `laconic bench` compares methods over
//! many queries and collections; this repeats single queries on one index, warm.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a bench may panic, and its numbers are small"
)]
#![allow(missing_docs, reason = "criterion's macros make functions")]

mod common;

use common::{Vocabulary, collection, size};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use laconic_tantivy::{
    Bm25Query, BulkWriter, HybridQuery, Identity, LaconicField, LaconicQuery, LaconicTopK,
    SparseVector, SumQuery, register,
};
use tantivy::collector::TopDocs;
use tantivy::query::TermQuery;
use tantivy::schema::{Field, IndexRecordOption, STRING, Schema, TEXT};
use tantivy::{Index, Searcher, TantivyDocument, Term};

struct Bench {
    searcher: Searcher,
    laconic: LaconicField,
    text: Field,
    tag: Field,
    queries: Vec<(u32, SparseVector)>,
}

/// The heaviest terms as words of a text.
fn words(vector: &SparseVector, n: usize) -> Vec<String> {
    let mut terms: Vec<(&str, f32)> = vector.iter().collect();
    terms.sort_by(|a, b| b.1.total_cmp(&a.1));
    let words = terms.iter().take(n).map(|(term, _)| (*term).to_owned());
    words.collect()
}

impl Bench {
    fn new() -> Bench {
        let mut schema = Schema::builder();
        let laconic = LaconicField::add_to(&mut schema, "laconic", Identity::default());
        let text = schema.add_text_field("text", TEXT);
        let tag = schema.add_text_field("tag", STRING);
        let mut index = Index::create_in_ram(schema.build());
        register(&mut index).unwrap();
        let collection = collection(size("LACONIC_BENCH_DOCS", 100_000, 1_000));
        let vocabulary = Vocabulary::new(&collection);
        let writer = BulkWriter::new(&index, &laconic, None, 2_000_000_000).unwrap();
        let mut writer = writer.without_merges();
        for (number, weights) in (0u32..).zip(collection.docs()) {
            let vector = vocabulary.vector(&weights);
            let mut document = TantivyDocument::default();
            document.add_text(text, words(&vector, 40).join(" "));
            document.add_text(tag, if number % 100 == 0 { "rare" } else { "common" });
            writer.add(document, &vector).unwrap();
        }
        writer.commit(None).unwrap();
        let queries = [8, 40, 200].map(|n| {
            let weights = collection.queries(1, n).next().unwrap();
            (n, vocabulary.vector(&weights))
        });
        Bench {
            searcher: index.reader().unwrap().searcher(),
            laconic,
            text,
            tag,
            queries: queries.into(),
        }
    }

    fn learned(&self, vector: &SparseVector) -> LaconicQuery {
        LaconicQuery::new(&self.laconic, vector.clone())
    }

    fn bm25(&self, vector: &SparseVector) -> Bm25Query {
        let term = |word: &String| (Term::from_field_text(self.text, &word.to_lowercase()), 1.0);
        Bm25Query::new(words(vector, 6).iter().map(term)).unwrap()
    }

    fn hybrid(&self, vector: &SparseVector) -> HybridQuery {
        let learned = HybridQuery::from(self.learned(vector));
        learned.words(self.bm25(vector), 1.0).unwrap()
    }

    fn tagged(&self, vector: &SparseVector, tag: &str) -> HybridQuery {
        let term = Term::from_field_text(self.tag, tag);
        let filter = TermQuery::new(term, IndexRecordOption::Basic);
        self.hybrid(vector).filter(Box::new(filter))
    }
}

fn latency(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("search");
    for (n_terms, vector) in &bench.queries {
        let learned = bench.learned(vector);
        let others: [(&str, Box<dyn SumQuery>); 4] = [
            ("bm25", Box::new(bench.bm25(vector))),
            ("hybrid", Box::new(bench.hybrid(vector))),
            ("hybrid, 1 % pass", Box::new(bench.tagged(vector, "rare"))),
            (
                "hybrid, 99 % pass",
                Box::new(bench.tagged(vector, "common")),
            ),
        ];
        for k in [10, 1000] {
            group.throughput(Throughput::Elements(1));
            let top_k = LaconicTopK::new(k);
            for (name, top_k) in [
                ("learned", top_k.clone()),
                ("learned, exhaustive", top_k.clone().exhaustive()),
                ("learned, 2 threads", top_k.clone().threads(2)),
            ] {
                let id = BenchmarkId::new(format!("{name}/{n_terms} terms"), k);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| top_k.search(&bench.searcher, &learned).unwrap());
                });
            }
            let id = BenchmarkId::new(format!("learned, TopDocs/{n_terms} terms"), k);
            group.bench_function(id, |bencher| {
                let collector = TopDocs::with_limit(k).order_by_score();
                bencher.iter(|| bench.searcher.search(&learned, &collector).unwrap());
            });
            for (name, query) in &others {
                let id = BenchmarkId::new(format!("{name}/{n_terms} terms"), k);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| top_k.search(&bench.searcher, query.as_ref()).unwrap());
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, latency);
criterion_main!(benches);
