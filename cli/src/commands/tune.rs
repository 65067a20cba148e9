//! `laconic eval --tune`: which weight, and is fusing worth it?

use anyhow::Result;
use clap::Args;
use laconic_tantivy::Fusion;
use serde_json::json;

use super::Global;
use super::hybrid_options::FusionName;
use crate::eval::Qrels;
use crate::hybrid::AskedSides;
use crate::retrieval::{Question, Retriever};
use crate::terminal::{UsageError, print, print_json, progress};
use crate::tuning::{Estimate, JudgedCandidates, TuneReport, TuneSettings, TunedFusion, tune};

/// How to choose weights.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tuning")]
pub(crate) struct TuneOptions {
    /// Choose the weights of hybrid search by cross-validation, and say whether fusing pays
    ///
    /// For every --fusion (all, unless some are named) nDCG@10 is measured for sparse weights
    /// 0, 0.05, … 1, BM25 having the rest. The candidates of both sides are retrieved once, with
    /// the scores of those that only the other side found (--rescore-missing). Printed are the
    /// curve over all queries; the weight that each fold's complement chooses and nDCG@10 of the
    /// folds held out; the same for either side alone; and the difference to the better one,
    /// with 95 % bootstrap intervals over queries. The number of hits (-k) does not matter.
    #[arg(long, conflicts_with_all = ["run", "weight"])]
    pub(crate) tune: bool,
    /// Folds of the cross-validation
    #[arg(long, value_name = "N", default_value_t = 5, requires = "tune")]
    folds: usize,
    /// Seed of folds and resamples
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "tune")]
    seed: u64,
    /// Resamples of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 2000, requires = "tune",
          value_parser = clap::value_parser!(u32).range(100..=100_000))]
    resamples: u32,
}

impl TuneOptions {
    /// Tunes and prints what was found.
    pub(crate) fn run(
        &self,
        retriever: &Retriever<'_>,
        questions: &[Question],
        qrels: &Qrels,
        exclude_self: bool,
        fusions: &[(FusionName, Fusion)],
        global: &Global,
    ) -> Result<()> {
        let n_queries = questions.len();
        if !(2..=n_queries).contains(&self.folds) {
            let folds = self.folds;
            let message = format!(
                "{n_queries} judged queries cannot be dealt into {folds} folds; --folds takes 2 \
                 to the number of queries"
            );
            return Err(UsageError(message).into());
        }
        let bar = progress("queries", Some(n_queries as u64), global.quiet);
        let queries = questions.iter().map(|question| {
            let judged = candidates(retriever, question, qrels, exclude_self);
            bar.inc(1);
            judged
        });
        let queries = queries.collect::<Result<Vec<_>>>()?;
        bar.finish_and_clear();
        let settings = TuneSettings {
            n_folds: self.folds,
            seed: self.seed,
            n_resamples: usize::try_from(self.resamples)?,
        };
        let named: Vec<_> = fusions
            .iter()
            .map(|(name, fusion)| (name.name().to_owned(), *fusion))
            .collect();
        let report = tune(&queries, &named, settings)?;
        match global.json {
            true => self.print_json(&report, retriever),
            false => self.print_text(&report, retriever),
        }
    }

    fn print_json(&self, report: &TuneReport, retriever: &Retriever<'_>) -> Result<()> {
        let mut value = json!(report);
        value["folds"] = json!(self.folds);
        value["seed"] = json!(self.seed);
        value["resamples"] = json!(self.resamples);
        value["candidates"] = json!(n_candidates(retriever));
        print_json(&value)
    }

    fn print_text(&self, report: &TuneReport, retriever: &Retriever<'_>) -> Result<()> {
        print(format_args!(
            "{} queries, {} candidates a side, {} folds, seed {}",
            report.queries,
            n_candidates(retriever),
            self.folds,
            self.seed
        ))?;
        print_curves(&report.fusions)?;
        print_figures(report)?;
        print(format_args!("\n{}", report.verdict))?;
        if let Some(tuned) = report.worth_using() {
            print(format_args!("search so: {}", options_for(tuned)))?;
        }
        Ok(())
    }
}

/// The options of a search that fuses like this, with the weight that all queries choose.
fn options_for(tuned: &TunedFusion) -> String {
    let sparse = tuned.best.sparse_weight;
    let bm25 = 1.0 - sparse;
    let rescore = match tuned.fusion.as_str() {
        "sum" => "",
        _ => " --rescore-missing",
    };
    let name = &tuned.fusion;
    format!("--mode hybrid --fusion {name} --weight sparse={sparse:.2},bm25={bm25:.2}{rescore}")
}

/// nDCG@10 looks at 10 hits, and a search for 10 is what weights are chosen for.
fn n_candidates(retriever: &Retriever<'_>) -> usize {
    retriever.hybrid.candidates(10)
}

fn candidates(
    retriever: &Retriever<'_>,
    question: &Question,
    qrels: &Qrels,
    exclude_self: bool,
) -> Result<JudgedCandidates> {
    let excluded = exclude_self.then_some(question.id.as_str());
    let sides = AskedSides::of(retriever, question)?;
    let mut lists = sides.retrieve(retriever, n_candidates(retriever), excluded)?;
    sides.complete(&retriever.searcher, &mut lists)?;
    let judgments = qrels.judgments(&question.id).cloned().unwrap_or_default();
    JudgedCandidates::of_lists(&lists, |(id, _)| id.clone(), judgments)
}

/// A row for each weight, a column for each fusion, and each column once more as a line.
fn print_curves(fusions: &[TunedFusion]) -> Result<()> {
    let cells = |cells: Vec<String>| cells.join("  ");
    let names = fusions.iter().map(|tuned| format!("{:>6}", tuned.fusion));
    print(format_args!(
        "\nnDCG@10 over all queries, by the sparse weight w (BM25 has 1 - w)\n"
    ))?;
    print(format_args!("   w  {}", cells(names.collect())))?;
    let n_points = fusions.first().map_or(0, |tuned| tuned.curve.len());
    for idx in 0..n_points {
        let row = fusions
            .iter()
            .map(|tuned| format!("{:.4}", tuned.curve[idx].ndcg_at_10));
        let weight = fusions[0].curve[idx].sparse_weight;
        print(format_args!("{weight:.2}  {}", cells(row.collect())))?;
    }
    print("")?;
    for tuned in fusions {
        let (low, high) = range(tuned);
        let line = sparkline(tuned, low, high);
        let name = &tuned.fusion;
        print(format_args!("{name:>6}  {line}  {low:.4} to {high:.4}"))?;
    }
    Ok(())
}

fn range(tuned: &TunedFusion) -> (f64, f64) {
    let figures = || tuned.curve.iter().map(|point| point.ndcg_at_10);
    let low = figures().fold(f64::INFINITY, f64::min);
    (low, figures().fold(f64::NEG_INFINITY, f64::max))
}

/// The curve in eighths of its own range, a character a weight, w = 0 at the left.
fn sparkline(tuned: &TunedFusion, low: f64, high: f64) -> String {
    let bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |figure: f64| {
        let share = (figure - low) / (high - low).max(f64::MIN_POSITIVE);
        let is_reached = |eighth: &f64| share >= eighth / 8.0;
        let n_reached = (1..8u8).map(f64::from).filter(is_reached).count();
        bars[n_reached]
    };
    tuned
        .curve
        .iter()
        .map(|point| bar(point.ndcg_at_10))
        .collect()
}

fn print_figures(report: &TuneReport) -> Result<()> {
    print(format_args!(
        "\n        nDCG@10  95 % interval     minus {:<6}  95 % interval       best w  w by fold",
        report.better_part
    ))?;
    for (name, estimate) in [("bm25", report.bm25), ("sparse", report.sparse)] {
        let Estimate { mean, low, high } = estimate;
        print(format_args!("{name:>6}  {mean:.4}   {low:.4} to {high:.4}"))?;
    }
    for tuned in &report.fusions {
        let Estimate { mean, low, high } = tuned.cross_validated;
        let difference = tuned.difference;
        let chosen = tuned.chosen.iter().map(|weight| format!("{weight:.2}"));
        print(format_args!(
            "{:>6}  {mean:.4}   {low:.4} to {high:.4}  {:+.4}       {:+.4} to {:+.4}  {:.2}    {}",
            tuned.fusion,
            difference.mean,
            difference.low,
            difference.high,
            tuned.best.sparse_weight,
            chosen.collect::<Vec<_>>().join(" ")
        ))?;
    }
    Ok(())
}
