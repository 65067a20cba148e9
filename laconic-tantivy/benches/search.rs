//! What does windowed term-at-a-time search cost per posting, against Tantivy's heap union and
//! against `exhaustive_top_k`? And which window is best?
//!
//! `cargo bench -p laconic-tantivy --bench search`, with `LACONIC_BENCH_DOCS` for other sizes.
//! Tantivy's rows are a `BooleanQuery` of `TermQuery`s in `BoostQuery`s: its heap union when a
//! `Count` beside `TopDocs` wants every document, its block-max WAND when `TopDocs` is alone. The
//! scores of both mean nothing here, and the second loses documents (see `text_options`). Times
//! are medians over queries, one thread, index in memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, may panic, and counts below 2^53"
)]

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{Vocabulary, collection, is_test, median, size};
use laconic_tantivy::{
    BulkWriter, Identity, LaconicField, LaconicQuery, SparseVector, exhaustive_top_k, register,
};
use tantivy::collector::{Count, TopDocs};
use tantivy::postings::BlockSegmentPostings;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery,
};
use tantivy::schema::{IndexRecordOption, Schema};
use tantivy::{Index, Searcher, TantivyDocument, Term};

struct Bench {
    searcher: Searcher,
    laconic: LaconicField,
}

impl Bench {
    fn new(n_docs: u32) -> Bench {
        let mut builder = Schema::builder();
        let laconic = LaconicField::add_to(&mut builder, "laconic", Identity::default());
        let mut index = Index::create_in_ram(builder.build());
        register(&mut index).unwrap();
        let collection = collection(n_docs);
        let vocabulary = Vocabulary::new(&collection);
        let writer = BulkWriter::new(&index, &laconic, None, 2_000_000_000).unwrap();
        let mut writer = writer.without_merges();
        for weights in collection.docs() {
            writer
                .add(TantivyDocument::default(), &vocabulary.vector(&weights))
                .unwrap();
        }
        writer.commit(None).unwrap();
        Bench {
            searcher: index.reader().unwrap().searcher(),
            laconic,
        }
    }

    fn term(&self, term: &str) -> Term {
        Term::from_field_text(self.laconic.field(), term)
    }

    fn n_postings(&self, query: &SparseVector) -> f64 {
        let count = |(term, _)| self.searcher.doc_freq(&self.term(term)).unwrap();
        query.iter().map(count).sum::<u64>() as f64
    }

    fn union(&self, query: &SparseVector) -> BooleanQuery {
        let clause = |(term, weight)| {
            let term = TermQuery::new(self.term(term), IndexRecordOption::WithFreqs);
            let boosted: Box<dyn Query> = Box::new(BoostQuery::new(Box::new(term), weight));
            (Occur::Should, boosted)
        };
        BooleanQuery::new(query.iter().map(clause).collect())
    }

    fn top(&self, query: &dyn Query, k: usize) -> usize {
        self.searcher
            .search(query, &TopDocs::with_limit(k).order_by_score())
            .unwrap()
            .len()
    }

    fn all_and_top(&self, query: &dyn Query, k: usize) -> usize {
        let collectors = (Count, TopDocs::with_limit(k).order_by_score());
        self.searcher.search(query, &collectors).unwrap().0
    }

    fn postings(&self, query: &SparseVector) -> Vec<BlockSegmentPostings> {
        let reader = self.searcher.segment_reader(0);
        let inverted_index = reader.inverted_index(self.laconic.field()).unwrap();
        let option = IndexRecordOption::WithFreqs;
        let read = |(term, _)| {
            inverted_index
                .read_block_postings(&self.term(term), option)
                .unwrap()
        };
        query.iter().filter_map(read).collect()
    }

    /// Median nanoseconds per posting over `queries`, and median milliseconds per query.
    fn measure(
        &self,
        queries: &[SparseVector],
        mut run: impl FnMut(&SparseVector) -> usize,
    ) -> (f64, f64) {
        let mut timed = |query: &SparseVector| {
            let start = Instant::now();
            black_box(run(query));
            start.elapsed().as_secs_f64()
        };
        if let Some(first) = queries.first() {
            timed(first);
        }
        let seconds: Vec<f64> = queries.iter().map(&mut timed).collect();
        let per_posting = seconds
            .iter()
            .zip(queries)
            .map(|(s, query)| s * 1e9 / self.n_postings(query));
        (
            median(per_posting.collect()),
            median(seconds.iter().map(|s| s * 1e3).collect()),
        )
    }
}

/// The sweep of `src/query/sweep.rs` by itself, with any window, without the search for the best.
fn accumulate(mut lists: Vec<BlockSegmentPostings>, max_doc: u32, window: u32) -> usize {
    let mut sums = vec![0u32; window as usize];
    let mut positions = vec![0usize; lists.len()];
    let mut n_matches = 0;
    for start in (0..max_doc).step_by(window as usize) {
        for (postings, position) in lists.iter_mut().zip(&mut positions) {
            *position = accumulate_list(postings, *position, start, &mut sums);
        }
        n_matches += sums.iter().filter(|&&sum| sum > 0).count();
        sums.fill(0);
    }
    n_matches
}

fn accumulate_list(
    postings: &mut BlockSegmentPostings,
    mut position: usize,
    start: u32,
    sums: &mut [u32],
) -> usize {
    let end = start.saturating_add(u32::try_from(sums.len()).unwrap());
    while let Some(docs) = postings
        .docs()
        .get(position..)
        .filter(|docs| !docs.is_empty())
    {
        let n = docs.partition_point(|&doc| doc < end);
        for (&doc, &freq) in docs[..n].iter().zip(&postings.freqs()[position..]) {
            if let Some(sum) = sums.get_mut(doc.wrapping_sub(start) as usize) {
                *sum = sum.wrapping_add(freq.wrapping_mul(1000));
            }
        }
        if n < docs.len() {
            return position + n;
        }
        postings.advance();
        position = 0;
    }
    0
}

fn print_methods(bench: &Bench, queries: &[SparseVector], k: usize) {
    let laconic = |vector: &SparseVector| LaconicQuery::new(&bench.laconic, vector.clone());
    // A constant clause that matches everything makes Tantivy drive the scorer document by
    // document.
    let led = |vector: &SparseVector| {
        let all: Box<dyn Query> = Box::new(ConstScoreQuery::new(Box::new(AllQuery), 0.0));
        BooleanQuery::new(vec![
            (Occur::Must, Box::new(laconic(vector)) as _),
            (Occur::Should, all),
        ])
    };
    let few = &queries[..queries.len().div_ceil(4)];
    let n_terms = queries[0].len();
    let rows = [
        (
            "windowed sweep",
            bench.measure(queries, |q| bench.top(&laconic(q), k)),
        ),
        ("scorer", bench.measure(queries, |q| bench.top(&led(q), k))),
        (
            "Tantivy's union",
            bench.measure(few, |q| bench.all_and_top(&bench.union(q), k)),
        ),
        (
            "Tantivy's WAND",
            bench.measure(few, |q| bench.top(&bench.union(q), k)),
        ),
        (
            "exhaustive_top_k",
            bench.measure(few, |q| {
                exhaustive_top_k(&bench.searcher, &laconic(q), k)
                    .unwrap()
                    .len()
            }),
        ),
    ];
    let base = rows[0].1.0;
    for (name, (per_posting, millis)) in rows {
        let ratio = per_posting / base;
        println!(
            "{n_terms:>5} terms  k {k:>5}  {name:<18} {per_posting:>8.2} ns/posting {millis:>9.3} ms {ratio:>7.1} ×"
        );
    }
}

fn print_windows(bench: &Bench, queries: &[SparseVector]) {
    let max_doc = bench.searcher.segment_reader(0).max_doc();
    for bits in (10..=20).step_by(1) {
        let run = |query: &SparseVector| accumulate(bench.postings(query), max_doc, 1 << bits);
        let (per_posting, millis) = bench.measure(queries, run);
        println!(
            "window {:>8}  {per_posting:>8.2} ns/posting {millis:>9.3} ms",
            1u32 << bits
        );
    }
}

fn main() {
    let n_docs = size("LACONIC_BENCH_DOCS", 200_000, 1_000);
    let n_queries = size("LACONIC_BENCH_QUERIES", 100, 5);
    let bench = Bench::new(n_docs);
    assert_eq!(
        bench.searcher.segment_readers().len(),
        1,
        "the memory budget is too small"
    );
    let collection = collection(n_docs);
    let vocabulary = Vocabulary::new(&collection);
    let queries = |n_terms| -> Vec<SparseVector> {
        let weights = collection.queries(n_queries, n_terms);
        weights.map(|weights| vocabulary.vector(&weights)).collect()
    };
    println!("{n_docs} documents");
    let lengths = if is_test() {
        vec![8, 40]
    } else {
        vec![8, 40, 200]
    };
    for n_terms in lengths {
        let queries = queries(n_terms);
        for k in [10, 1000] {
            print_methods(&bench, &queries, k);
        }
    }
    print_windows(&bench, &queries(40));
}
