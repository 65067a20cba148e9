//! How many bits does an impact need, and would a code that is not linear need fewer?
//!
//! `cargo bench -p laconic-tantivy --bench codes`, with `LACONIC_BENCH_QUERIES` for another number
//! of MS MARCO dev queries. Reads real vectors from `../shared/data` (not shipped) and stops with a
//! line where that folder is absent.
//!
//! Documents are given the weights their codes stand for, queries keep theirs, and search is exact.
//! The linear codes are searched in an index with [`exhaustive_top_k`]. Square-root, geometric and
//! Lloyd-Max codes are no codes of the library: plain code adds up what they stand for, and only
//! their size is an index's, of the code numbers as impacts. Every weight gets the nearest level;
//! Lloyd-Max levels are fitted to the very weights they are tested on, a bound on what a code can
//! do. Most vectors come as integers of about 7.5 bits, so that Lloyd-Max levels of 8 bits lose
//! nothing; the last collection, small as it is, has weights as the encoder made them.
//!
//! Columns: nDCG@10 (mean; change from the weights as they are, half the width of its 95 %
//! interval, and queries that changed), R@100, share of the exact top 10 kept, exact scores of the
//! top 10 found relative to those of the exact top 10, bytes of posting lists per posting (and per
//! posting that the uncoded vectors have), milliseconds per query.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a bench prints, may panic, and counts below 2^53"
)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Instant;

use common::{is_test, median, size};
use flate2::read::GzDecoder;
use laconic_tantivy::{
    BulkWriter, FieldStats, Identity, ImpactQuantizer, IndexStats, LaconicField, LaconicQuery,
    LaconicTopK, SparseVector, exhaustive_top_k, register,
};
use serde::Deserialize;
use tantivy::schema::Schema;
use tantivy::{Index, Searcher, TantivyDocument};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
/// Name of the library's own code.
const LINEAR: &str = "linear";
/// Largest level of the codes that are not fitted: the linear codes' range.
const MAX_WEIGHT: f32 = 4.0;
/// Smallest level of the geometric codes.
const MIN_WEIGHT: f32 = 1.0 / 32.0;
/// Enough for R@100 without the query itself.
const DEPTH: usize = 101;

// ---------------------------------------------------------------------------- collections

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "_id")]
    id: String,
    #[serde(alias = "splade")]
    vector: BTreeMap<String, f64>,
}

fn read(path: &str, scale: f64, most: usize) -> Vec<(String, SparseVector)> {
    let file = File::open(format!("{DATA}/{path}")).unwrap();
    let lines = BufReader::new(GzDecoder::new(file)).lines().take(most);
    let vector = |line: std::io::Result<String>| {
        let record: Record = serde_json::from_str(&line.unwrap()).unwrap();
        let weights = record.vector.iter();
        let pairs = weights.map(|(term, n)| (term, (n / scale) as f32));
        (record.id, SparseVector::from_pairs(pairs).unwrap())
    };
    lines.map(vector).collect()
}

struct Question {
    vector: SparseVector,
    /// The document that is the query itself.
    itself: Option<u32>,
    relevant: HashSet<u32>,
}

struct Collection {
    name: &'static str,
    documents: Vec<SparseVector>,
    questions: Vec<Question>,
    /// Whether to time searching.
    timed: bool,
}

impl Collection {
    /// `query_terms` terms of each document as queries.
    fn arguana(name: &'static str, file: &str, scale: f64, query_terms: usize) -> Collection {
        let most = if is_test() { 200 } else { usize::MAX };
        let mut documents = read(&format!("arguana-debates/{file}"), scale, most);
        // Of equal scores trec_eval takes the largest id first.
        documents.sort_by(|a, b| b.0.cmp(&a.0));
        let number: HashMap<&str, u32> = documents
            .iter()
            .map(|(id, _)| id.as_str())
            .zip(0..)
            .collect();
        let mut qrels = String::new();
        let mut file = File::open(format!("{DATA}/arguana-debates/qrels/test.tsv")).unwrap();
        file.read_to_string(&mut qrels).unwrap();
        let mut relevant: BTreeMap<u32, HashSet<u32>> = BTreeMap::new();
        for line in qrels.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            assert_eq!(columns[2], "1", "the judgements are not graded");
            if let (Some(&query), Some(&doc)) = (number.get(columns[0]), number.get(columns[1])) {
                relevant.entry(query).or_default().insert(doc);
            }
        }
        let question = |(query, relevant): (u32, HashSet<u32>)| Question {
            vector: documents[query as usize].1.top_terms(query_terms),
            itself: Some(query),
            relevant,
        };
        Collection {
            name,
            questions: relevant.into_iter().map(question).collect(),
            documents: documents.into_iter().map(|(_, vector)| vector).collect(),
            timed: false,
        }
    }

    /// The queries of 29 BEIR sets, whole arguments among them, as documents in the order of the
    /// file, and queries of MS MARCO.
    fn beir() -> Collection {
        let most = if is_test() { 1_000 } else { usize::MAX };
        let n_queries = size("LACONIC_BENCH_QUERIES", 300, 10) as usize;
        let documents = read("sparse/beir-queries.splade-v3.jsonl.gz", 51.2, most);
        let queries = read(
            "sparse/msmarco-dev-queries.splade-v3.jsonl.gz",
            51.2,
            n_queries,
        );
        let question = |(_, vector)| Question {
            vector,
            itself: None,
            relevant: HashSet::new(),
        };
        Collection {
            name: "BEIR queries, SPLADE-v3; MS MARCO dev queries",
            documents: documents.into_iter().map(|(_, vector)| vector).collect(),
            questions: queries.into_iter().map(question).collect(),
            timed: true,
        }
    }

    /// Queries of MS MARCO, each searched among the others.
    fn unquantized() -> Collection {
        let most = if is_test() { 100 } else { usize::MAX };
        let documents = read("sparse/msmarco-queries.float.jsonl.gz", 1.0, most);
        let documents: Vec<_> = documents.into_iter().map(|(_, vector)| vector).collect();
        let question = |(itself, vector): (u32, &SparseVector)| Question {
            vector: vector.clone(),
            itself: Some(itself),
            relevant: HashSet::new(),
        };
        Collection {
            name: "MS MARCO queries, SPLADE++, unquantized",
            questions: (0..).zip(&documents).map(question).collect(),
            documents,
            timed: false,
        }
    }

    /// Sorted distinct weights, with how often they occur.
    fn histogram(&self) -> Vec<(f32, f64)> {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        for (_, weight) in self.documents.iter().flat_map(SparseVector::iter) {
            *counts.entry(weight.to_bits()).or_default() += 1.0;
        }
        // Positive floats are ordered like their bits.
        counts
            .into_iter()
            .map(|(bits, n)| (f32::from_bits(bits), n))
            .collect()
    }
}

// ---------------------------------------------------------------------------------- codes

struct Code {
    name: &'static str,
    quantizer: ImpactQuantizer,
    /// What each code number stands for, rising; 0 for 0, which is not stored.
    levels: Vec<f32>,
}

impl Code {
    fn all(bits: u8, histogram: &[(f32, f64)]) -> [Code; 4] {
        let quantizer = ImpactQuantizer::with_bits(bits).unwrap();
        let max = f32::from(quantizer.max_impact());
        let code = |name, level: &dyn Fn(f32) -> f32| Code {
            name,
            quantizer,
            levels: (0..=quantizer.max_impact())
                .map(|n| level(f32::from(n)))
                .collect(),
        };
        let ratio = MAX_WEIGHT / MIN_WEIGHT;
        let mut geometric = code("geometric", &|n| {
            MIN_WEIGHT * ratio.powf((n - 1.0) / (max - 1.0))
        });
        geometric.levels[0] = 0.0;
        [
            code(LINEAR, &|n| n / quantizer.scale()),
            code("square root", &|n| MAX_WEIGHT * (n / max).powi(2)),
            geometric,
            Code {
                name: "Lloyd-Max",
                quantizer,
                levels: lloyd_max(histogram, usize::from(quantizer.max_impact())),
            },
        ]
    }

    /// The number of the nearest level, the larger one of two.
    fn number(&self, weight: f32) -> usize {
        let above = self.levels.partition_point(|level| *level < weight);
        let below = above.saturating_sub(1);
        match self.levels.get(above) {
            Some(level) if level - weight <= weight - self.levels[below] => above,
            _ => below,
        }
    }

    /// Vectors that an index with this code's bits stores as the code numbers.
    fn numbers(&self, vector: &SparseVector) -> SparseVector {
        let weight = |weight| self.number(weight) as f32 / self.quantizer.scale();
        SparseVector::from_pairs(vector.iter().map(|(term, w)| (term, weight(w)))).unwrap()
    }
}

/// 0 and `n_levels` levels of least squared error, or of a local optimum of it.
fn lloyd_max(histogram: &[(f32, f64)], n_levels: usize) -> Vec<f32> {
    let (min, max) = (histogram[0].0, histogram[histogram.len() - 1].0);
    let first = |n: usize| min + (max - min) * n as f32 / (n_levels - 1) as f32;
    let mut levels: Vec<f32> = std::iter::once(0.0)
        .chain((0..n_levels).map(first))
        .collect();
    for _ in 0..300 {
        let mut sums = vec![(0.0, 0.0); levels.len()];
        let mut nearest = 0;
        for &(weight, count) in histogram {
            while let Some(next) = levels.get(nearest + 1)
                && next - weight <= weight - levels[nearest]
            {
                nearest += 1;
            }
            sums[nearest].0 += f64::from(weight) * count;
            sums[nearest].1 += count;
        }
        for (level, (sum, count)) in levels.iter_mut().zip(sums).skip(1) {
            if count > 0.0 {
                *level = (sum / count) as f32;
            }
        }
    }
    levels
}

// --------------------------------------------------------------------------------- search

/// Posting lists with the weights as they are, or as a code has them.
struct Plain<'a> {
    n_docs: usize,
    lists: HashMap<&'a str, Vec<(u32, f32)>>,
}

impl<'a> Plain<'a> {
    fn new(documents: &'a [SparseVector]) -> Plain<'a> {
        let mut lists: HashMap<_, Vec<_>> = HashMap::new();
        for (doc, vector) in (0u32..).zip(documents) {
            for (term, weight) in vector.iter() {
                lists.entry(term).or_default().push((doc, weight));
            }
        }
        Plain {
            n_docs: documents.len(),
            lists,
        }
    }

    fn coded(&self, code: &Code) -> Plain<'a> {
        let coded = |&(doc, weight): &(u32, f32)| (doc, code.levels[code.number(weight)]);
        let lists = self.lists.iter();
        Plain {
            n_docs: self.n_docs,
            lists: lists
                .map(|(term, list)| (*term, list.iter().map(coded).collect()))
                .collect(),
        }
    }

    /// Score descending, then number ascending.
    fn top(&self, query: &SparseVector) -> Vec<u32> {
        let mut scores = vec![0.0; self.n_docs];
        for (term, query_weight) in query.iter() {
            for &(doc, weight) in self.lists.get(term).into_iter().flatten() {
                scores[doc as usize] += f64::from(query_weight) * f64::from(weight);
            }
        }
        let mut hits: Vec<(f64, u32)> = scores
            .into_iter()
            .zip(0..)
            .filter(|(s, _)| *s > 0.0)
            .collect();
        let best_first = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if hits.len() > DEPTH {
            hits.select_nth_unstable_by(DEPTH, best_first);
            hits.truncate(DEPTH);
        }
        hits.sort_by(best_first);
        hits.into_iter().map(|(_, doc)| doc).collect()
    }
}

struct Indexed {
    field: LaconicField,
    searcher: Searcher,
    stats: FieldStats,
}

impl Indexed {
    fn new(quantizer: ImpactQuantizer, documents: impl Iterator<Item = SparseVector>) -> Indexed {
        let identity = Identity {
            quantizer,
            model: None,
        };
        let mut builder = Schema::builder();
        let field = LaconicField::add_to(&mut builder, "laconic", identity);
        let mut index = Index::create_in_ram(builder.build());
        register(&mut index).unwrap();
        let mut writer = BulkWriter::new(&index, &field, None, 1_000_000_000).unwrap();
        for vector in documents {
            writer.add(TantivyDocument::default(), &vector).unwrap();
        }
        writer.commit(None).unwrap();
        let mut stats = IndexStats::read(&index).unwrap();
        assert_eq!(stats.segments, 1, "the memory budget is too small");
        Indexed {
            field,
            searcher: index.reader().unwrap().searcher(),
            stats: stats.fields.swap_remove(0),
        }
    }

    fn query(&self, vector: &SparseVector) -> LaconicQuery {
        LaconicQuery::new(&self.field, vector.clone())
    }

    fn top(&self, query: &SparseVector) -> Vec<u32> {
        let hits = exhaustive_top_k(&self.searcher, &self.query(query), DEPTH).unwrap();
        hits.into_iter()
            .map(|(_, address)| address.doc_id)
            .collect()
    }

    /// Milliseconds per query.
    fn time(&self, questions: &[Question], k: usize) -> f64 {
        let search = LaconicTopK::new(k);
        let queries: Vec<_> = questions.iter().map(|q| self.query(&q.vector)).collect();
        let start = Instant::now();
        for query in &queries {
            black_box(search.search(&self.searcher, query).unwrap());
        }
        start.elapsed().as_secs_f64() * 1e3 / queries.len() as f64
    }
}

/// Medians of rounds in which every index has its turn, for 10 and for 1000 documents.
fn milliseconds(indexes: &[Indexed], questions: &[Question]) -> Vec<[f64; 2]> {
    let n_rounds = if is_test() { 1 } else { 5 };
    let mut rounds = vec![[Vec::new(), Vec::new()]; indexes.len()];
    for round in 0..=n_rounds {
        for (k, which) in [(10, 0), (1000, 1)] {
            for (index, times) in indexes.iter().zip(&mut rounds) {
                let time = index.time(questions, k);
                // The first round warms up.
                if round > 0 {
                    times[which].push(time);
                }
            }
        }
    }
    rounds.into_iter().map(|times| times.map(median)).collect()
}

// ------------------------------------------------------------------------------- measures

/// Measures of one query.
#[derive(Clone, Copy, Default)]
struct Quality {
    /// As trec_eval's `ndcg_cut_10` and `recall_100`.
    ndcg: f64,
    recall: f64,
    overlap: f64,
    score_kept: f64,
}

/// The ranking without the query itself.
fn hits<'a>(question: &Question, ranking: &'a [u32]) -> impl Iterator<Item = u32> + Clone + 'a {
    let itself = question.itself;
    ranking
        .iter()
        .copied()
        .filter(move |doc| Some(*doc) != itself)
        .take(100)
}

fn quality(
    collection: &Collection,
    question: &Question,
    ranking: &[u32],
    exact: &[u32],
) -> Quality {
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let found = hits(question, ranking).enumerate();
    let found = found.filter(|(_, doc)| question.relevant.contains(doc));
    let gain: f64 = found
        .clone()
        .map(|(rank, _)| rank)
        .filter(|r| *r < 10)
        .map(discount)
        .sum();
    let n_relevant = question.relevant.len();
    let ideal: f64 = (0..n_relevant.min(10)).map(discount).sum();
    let (top, exact_top) = (
        hits(question, ranking).take(10),
        hits(question, exact).take(10),
    );
    let kept = exact_top
        .clone()
        .filter(|doc| top.clone().any(|found| found == *doc))
        .count();
    let score = |doc: u32| -> f64 {
        let document = &collection.documents[doc as usize];
        let product = |(term, weight)| {
            document
                .weight(term)
                .map(|w| f64::from(w) * f64::from(weight))
        };
        question.vector.iter().filter_map(product).sum()
    };
    Quality {
        ndcg: gain / ideal.max(f64::MIN_POSITIVE),
        recall: found.count() as f64 / n_relevant.max(1) as f64,
        overlap: kept as f64 / exact_top.clone().count().max(1) as f64,
        score_kept: top.map(score).sum::<f64>() / exact_top.map(score).sum::<f64>(),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

#[derive(Default)]
struct Row {
    code: String,
    quality: Vec<Quality>,
    /// Of postings stored, and of postings before coding.
    bytes: Option<[f64; 2]>,
    milliseconds: Option<[f64; 2]>,
}

impl Row {
    fn print(&self, exact: &Row, is_judged: bool) {
        let change = self
            .quality
            .iter()
            .zip(&exact.quality)
            .map(|(a, b)| a.ndcg - b.ndcg);
        let n_changed = change.clone().filter(|change| *change != 0.0).count();
        let mean_change = mean(change.clone());
        let variance = mean(change.map(|change| (change - mean_change).powi(2)));
        let half_width = 1.96 * (variance / self.quality.len() as f64).sqrt();
        let of = |part: fn(&Quality) -> f64| mean(self.quality.iter().map(part));
        let judged = match is_judged {
            true => format!(
                "{:>7.4} {mean_change:>+8.4} {half_width:>7.4} {n_changed:>7} {:>7.4}",
                of(|q| q.ndcg),
                of(|q| q.recall)
            ),
            false => format!("{:>7} {:>8} {:>7} {:>7} {:>7}", "-", "-", "-", "-", "-"),
        };
        let pair = |pair: Option<[f64; 2]>| match pair {
            Some([a, b]) => format!("{a:>7.3} {b:>8.3}"),
            None => format!("{:>7} {:>8}", "-", "-"),
        };
        println!(
            "{:<18} {judged} {:>8.4} {:>8.5} {} {}",
            self.code,
            of(|q| q.overlap),
            of(|q| q.score_kept),
            pair(self.bytes),
            pair(self.milliseconds),
        );
    }
}

fn print_heading() {
    println!(
        "{:<18} {:>7} {:>8} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7} {:>8} {:>7} {:>8}",
        "code",
        "nDCG@10",
        "change",
        "± 95 %",
        "changed",
        "R@100",
        "top 10",
        "score",
        "B/post.",
        "B/uncod.",
        "ms k=10",
        "ms k=1000"
    );
}

fn measure(collection: &Collection) {
    let questions = &collection.questions;
    let plain = Plain::new(&collection.documents);
    let n_postings: usize = plain.lists.values().map(Vec::len).sum();
    let exact: Vec<_> = questions.iter().map(|q| plain.top(&q.vector)).collect();
    let judge = |rankings: &[Vec<u32>]| -> Vec<Quality> {
        let triples = questions.iter().zip(rankings).zip(&exact);
        triples
            .map(|((q, ranking), exact)| quality(collection, q, ranking, exact))
            .collect()
    };
    let mut rows = vec![Row {
        code: "exact".to_owned(),
        quality: judge(&exact),
        ..Row::default()
    }];
    let histogram = collection.histogram();
    let (mut indexes, mut rows_timed, mut n_equal, mut n_compared) = (Vec::new(), Vec::new(), 0, 0);
    for code in (4..=8).rev().flat_map(|bits| Code::all(bits, &histogram)) {
        // The index quantizes by itself where it has the code.
        let stored = |vector: &SparseVector| match code.name {
            LINEAR => vector.clone(),
            _ => code.numbers(vector),
        };
        let index = Indexed::new(code.quantizer, collection.documents.iter().map(stored));
        let bytes = index.stats.posting_bytes as f64;
        let coded = plain.coded(&code);
        let mut rankings: Vec<_> = questions.iter().map(|q| coded.top(&q.vector)).collect();
        if code.name == LINEAR {
            let by_plain = std::mem::take(&mut rankings);
            rankings = questions.iter().map(|q| index.top(&q.vector)).collect();
            n_compared += rankings.len();
            n_equal += by_plain
                .iter()
                .zip(&rankings)
                .filter(|(a, b)| a[..10.min(a.len())] == b[..10.min(b.len())])
                .count();
            rows_timed.push(rows.len());
        }
        rows.push(Row {
            code: format!("{} bits {}", code.quantizer.bits(), code.name),
            quality: judge(&rankings),
            bytes: Some([
                bytes / index.stats.postings as f64,
                bytes / n_postings as f64,
            ]),
            milliseconds: None,
        });
        if collection.timed && code.name == LINEAR {
            indexes.push(index);
        }
    }
    for (row, times) in rows_timed
        .into_iter()
        .zip(milliseconds(&indexes, questions))
    {
        rows[row].milliseconds = Some(times);
    }
    println!(
        "{}: {} documents, {n_postings} postings, {} queries (index and plain code agree on {n_equal} of {n_compared} linear top 10s)",
        collection.name,
        collection.documents.len(),
        questions.len(),
    );
    for row in &rows {
        row.print(&rows[0], !questions[0].relevant.is_empty());
    }
}

fn main() {
    if !Path::new(DATA).exists() {
        println!("skipped: no {DATA}");
        return;
    }
    print_heading();
    let (v3, pp) = (
        "vectors.splade-v3.jsonl.gz",
        "vectors.splade-pp-ed.jsonl.gz",
    );
    let all = usize::MAX;
    measure(&Collection::arguana(
        "ArguAna debates, SPLADE-v3",
        v3,
        51.2,
        all,
    ));
    measure(&Collection::arguana(
        "ArguAna debates, SPLADE-v3, queries of 32 terms",
        v3,
        51.2,
        32,
    ));
    measure(&Collection::arguana(
        "ArguAna debates, SPLADE++",
        pp,
        100.0,
        all,
    ));
    measure(&Collection::beir());
    measure(&Collection::unquantized());
}
