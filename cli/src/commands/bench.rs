//! `laconic bench`: the command by which anyone reproduces our figures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::Global;
use super::bench_encode::BenchEncode;
use super::bench_load::BenchLoad;
use super::options::vector_scale;
use crate::bench::collection::{Collection, Order, Synthetic};
use crate::bench::files::FileCollection;
use crate::bench::index::{BuiltIndex, IndexPlan};
use crate::bench::measure::Measurement;
use crate::bench::method::Method;
use crate::bench::report::{
    CollectionReport, Machine, Point, Report, Settings, plots, print_table,
};
use crate::collection::VectorScale;
use crate::retrieval::MAX_K;
use crate::terminal::{Ending, UsageError, note, print_json, progress};

/// Measure search and indexing, against what else Tantivy can do
///
/// Builds an index, asks it the same queries by every method, and prints latencies, ratios to a
/// baseline, the work of a search and bytes a posting. The methods alternate query by query in
/// one process; figures are taken over the queries of a round, and the median of the rounds is
/// reported. Whatever is given several values (--docs, --k, --query-terms) is swept over.
///
/// Without --vectors the collection is generated: seeded, the same on every machine, with the
/// statistics of learned-sparse vectors. It is no measure of effectiveness.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Methods:
  laconic        LaconicTopK: what laconic does
  exhaustive     LaconicTopK without looking at any bound
  topdocs        LaconicQuery with Tantivy's TopDocs
  plain          the floor: a plain loop over Tantivy's posting lists into dense accumulators
  custom-scorer  the dot product by a scorer of one's own: a heap, one document at a time
  boolean        BooleanQuery of boosted TermQuerys: Tantivy without us. Its scores are BM25's
  query-terms=N, overestimate=F, max-documents=N, joined by +: LaconicTopK, approximate

Methods that give documents and queries words, made from their vectors:
  bm25, tantivy-bm25            Bm25Query with LaconicTopK; BooleanQuery with TopDocs
  hybrid, hybrid-exhaustive     HybridQuery: vectors and words in one pass
  hybrid-parts                  its two parts searched one after the other, each pruned
  hybrid-rrf                    both searched for ten times as many hits, and fused by rank
  hybrid-boolean                both in a BooleanQuery with TopDocs
  filter=50, =10, =1, =0.1      laconic among so many percent of the documents
  hybrid-filter=50, …           hybrid likewise
  cached-filter=50, …           laconic, the filter's documents remembered (CachedFilter)

Examples:
  laconic bench                                   100,000 generated documents, about a minute
  laconic bench --verify --rounds 1               is every exact method exact?
  laconic bench --docs 100000,1000000 --svg plots --dir indexes
  laconic bench --query-terms 5,24,40 --k 10,100,1000 --svg plots
  laconic bench --methods laconic,query-terms=8,overestimate=1.2 --baseline laconic
  laconic bench --vectors vectors.jsonl.gz --vector-scale 51.2 --resample --docs 1000000 \\
                --query-vectors queries.jsonl.gz
  laconic bench --docs 200000 --k 10 --methods hybrid-parts,hybrid,laconic,bm25,tantivy-bm25
  laconic bench --docs 200000 --methods laconic,filter=50,filter=10,filter=1,filter=0.1 \\
                --baseline laconic
  laconic bench --json > figures.json"
)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    /// Documents; several numbers for several collections [default: 100000, or all of --vectors]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    docs: Vec<u32>,
    /// Terms of an average generated document
    #[arg(long, value_name = "N", default_value_t = 200, conflicts_with = "vectors",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    doc_terms: u32,
    /// Real vectors as documents: JSON lines {"_id", "vector": {term: weight}}, plain, gzip or
    /// zstd
    #[arg(long, value_name = "FILE", num_args = 1..)]
    vectors: Vec<PathBuf>,
    /// Queries: vectors as JSON lines, or lines `id<TAB>term:weight term:weight …`
    /// [default: drawn from the documents]
    #[arg(long, value_name = "FILE", requires = "vectors")]
    query_vectors: Option<PathBuf>,
    /// Factor the weights of the files were multiplied with; 64 indexes integers as they are
    #[arg(long, value_name = "S", default_value = "1", value_parser = vector_scale,
          requires = "vectors")]
    vector_scale: VectorScale,
    /// Draw --docs documents from the real vectors: terms dropped, jittered and borrowed
    #[arg(long, requires = "vectors", requires = "docs")]
    resample: bool,
    /// Order of the documents [default: random if they are generated, else as they come]
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Seed of what is generated
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Queries of a round
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    queries: u32,
    /// Terms of a query: the heaviest of a query file's [default: 40, or as the file has them]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = parse_terms)]
    query_terms: Vec<usize>,
    /// Hits asked for
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "10,1000",
          value_parser = parse_k)]
    k: Vec<usize>,
    /// What to compare
    #[arg(
        long,
        value_name = "METHOD,…",
        value_delimiter = ',',
        default_value = "laconic,exhaustive,topdocs,plain,custom-scorer,boolean"
    )]
    methods: Vec<Method>,
    /// The method that ratios are to [default: exhaustive, or else the first]
    #[arg(long, value_name = "METHOD")]
    baseline: Option<Method>,
    /// Rounds, after one that warms up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_count)]
    rounds: usize,
    /// Threads of a search, for methods that can use several; CPU times are the process's then
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_count)]
    threads: usize,
    /// Segments of the index; several need --docs if there are files
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    segments: u32,
    /// Bits of an impact, 4 to 8. Indexes have 5 by default; peers are compared at 8
    #[arg(long, value_name = "BITS", default_value_t = 8, value_parser = clap::value_parser!(u8).range(4..=8))]
    bits: u8,
    /// Keep indexes in this folder, and take those that are there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write plots into this folder, of latency by what was given several values
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Stop with exit code 7 if an exact method does not return the exhaustive scores
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    Encode(BenchEncode),
    Load(BenchLoad),
}

fn parse_terms(text: &str) -> Result<usize, String> {
    parse_within(text, laconic_tantivy::MAX_TERMS)
}

fn parse_k(text: &str) -> Result<usize, String> {
    parse_within(text, MAX_K)
}

fn parse_count(text: &str) -> Result<usize, String> {
    parse_within(text, 1024)
}

pub(super) fn parse_within(text: &str, max: usize) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|n| (1..=max).contains(n));
    number.ok_or_else(|| format!("a whole number from 1 to {max} is needed"))
}

/// Documents of a generated collection unless asked for otherwise.
const DEFAULT_DOCS: u32 = 100_000;

impl Bench {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        match self.what {
            Some(What::Encode(encode)) => encode.run(global),
            Some(What::Load(load)) => load.run(global),
            None => self.search(global),
        }
    }

    fn search(self, global: &Global) -> Result<Ending> {
        let measurement = self.measurement()?;
        let mut report = Report {
            format: 1,
            machine: Machine::this(),
            settings: self.settings(&measurement),
            collections: Vec::new(),
        };
        for collection in self.collections()? {
            let collection = self.measure(&collection, &measurement, global.quiet)?;
            report.collections.push(collection);
        }
        if let Some(folder) = &self.svg {
            write_plots(&report, folder, global.quiet)?;
        }
        match global.json {
            true => print_json(&report)?,
            false => print_table(&report)?,
        }
        Ok(Ending::Done)
    }

    fn measurement(&self) -> Result<Measurement> {
        let place = |wanted: Method| self.methods.iter().position(|method| *method == wanted);
        let baseline = match self.baseline {
            None => place(Method::Exhaustive).unwrap_or(0),
            Some(method) => place(method).ok_or_else(|| {
                UsageError(format!("the baseline {method} is not among the --methods"))
            })?,
        };
        Ok(Measurement {
            methods: self.methods.clone(),
            baseline,
            rounds: self.rounds,
            threads: self.threads,
            verify: self.verify,
        })
    }

    fn settings(&self, measurement: &Measurement) -> Settings {
        Settings {
            queries: self.queries,
            rounds: self.rounds,
            threads: self.threads,
            baseline: measurement.methods[measurement.baseline].to_string(),
            bits: self.bits,
            seed: self.seed,
            verified: self.verify,
        }
    }

    fn collections(&self) -> Result<Vec<Collection>> {
        if self.vectors.is_empty() {
            let docs = match self.docs.as_slice() {
                [] => &[DEFAULT_DOCS],
                docs => docs,
            };
            let is_by_topic = self.order == Some(Order::Topic);
            let synthetic = |&n| Synthetic::new(n, self.doc_terms, self.seed, is_by_topic);
            return Ok(docs
                .iter()
                .map(|n| Collection::Synthetic(synthetic(n)))
                .collect());
        }
        if self.order == Some(Order::Topic) {
            let message = "the topics of real vectors are not known; use --order bisected";
            return Err(UsageError(message.to_owned()).into());
        }
        if self.segments > 1 && self.docs.is_empty() {
            let message = "how many documents a segment gets has to be known: add --docs";
            return Err(UsageError(message.to_owned()).into());
        }
        let files = |n_docs| {
            Collection::Files(FileCollection {
                documents: self.vectors.clone(),
                queries: self.query_vectors.clone(),
                scale: self.vector_scale,
                n_docs,
                is_resampled: self.resample,
                is_shuffled: self.order == Some(Order::Random),
                seed: self.seed,
            })
        };
        Ok(match self.docs.as_slice() {
            [] => vec![files(None)],
            docs => docs.iter().map(|&n_docs| files(Some(n_docs))).collect(),
        })
    }

    fn measure(
        &self,
        collection: &Collection,
        measurement: &Measurement,
        quiet: bool,
    ) -> Result<CollectionReport> {
        let plan = IndexPlan {
            bits: self.bits,
            segments: self.segments,
            is_bisected: self.order == Some(Order::Bisected),
            has_text: measurement.methods.iter().any(|method| method.needs_text()),
        };
        let built = plan.open_or_build(collection, self.dir.as_deref(), quiet)?;
        let lengths: Vec<Option<usize>> = match self.query_terms.as_slice() {
            [] => vec![None],
            lengths => lengths.iter().copied().map(Some).collect(),
        };
        let n_steps = lengths.len() * self.k.len() * (self.rounds + 1);
        let bar = progress("rounds", Some(n_steps as u64), quiet);
        let mut results = Vec::new();
        for n_terms in lengths {
            results.extend(self.points(collection, measurement, &built, n_terms, &|| bar.inc(1))?);
        }
        bar.finish_and_clear();
        let default_order = match collection {
            Collection::Synthetic(_) => Some(Order::Random),
            Collection::Files(files) => files.is_resampled.then_some(Order::Random),
        };
        Ok(CollectionReport {
            collection: collection.name(),
            key: collection.key(),
            order: self.order.or(default_order),
            index: built.figures,
            results,
        })
    }

    /// Measures queries of one length at each depth.
    fn points(
        &self,
        collection: &Collection,
        measurement: &Measurement,
        built: &BuiltIndex,
        n_terms: Option<usize>,
        tick: &dyn Fn(),
    ) -> Result<Vec<Point>> {
        let queries = collection.queries(self.queries, n_terms)?;
        let points = self.k.iter().map(|&k| {
            Ok(Point {
                query_terms: n_terms,
                ..measurement.run(built, &queries, k, tick)?
            })
        });
        points.collect()
    }
}

fn write_plots(report: &Report, folder: &Path, quiet: bool) -> Result<()> {
    let attempt = || format!("cannot write plots to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(attempt)?;
    let plots = plots(report);
    for plot in &plots {
        std::fs::write(folder.join(&plot.file), &plot.svg).with_context(attempt)?;
    }
    match plots.len() {
        0 => note(
            quiet,
            "nothing to plot: give --docs, --k or --query-terms several values",
        ),
        n_plots => note(
            quiet,
            format_args!("{n_plots} plots are in {}", folder.display()),
        ),
    }
    Ok(())
}
