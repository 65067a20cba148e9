//! Choosing the weight of a fusion, and saying honestly what it is worth.
//!
//! The two lists of each query are retrieved once and fused anew for every weight of a grid. The
//! figure reported for a fusion is cross-validated: the queries of a fold are judged with the
//! weight that was best for the *other* folds, so that no query helped to choose its own weight.
//! Intervals are bootstrap percentiles over queries (Efron and Tibshirani, "An Introduction to the
//! Bootstrap", 1993, ch. 13; over queries: Sakai, SIGIR 2006).

mod candidates;
mod resampling;

use std::collections::BTreeMap;

use anyhow::Result;
use laconic_tantivy::Fusion;
use serde::Serialize;

pub use candidates::JudgedCandidates;
pub use resampling::Estimate;
use resampling::{Random, Resamples};

/// The grid: sparse weights 0, 1/20, … 1, that of BM25 being what is left to 1.
const STEPS: u16 = 20;

/// How to tune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneSettings {
    /// Parts into which the queries are dealt.
    pub n_folds: usize,
    /// Of the shuffle and the resamples.
    pub seed: u64,
    /// Bootstrap resamples.
    pub n_resamples: usize,
}

/// What tuning found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuneReport {
    /// Queries judged.
    pub queries: usize,
    /// nDCG@10 of the learned-sparse list alone.
    pub sparse: Estimate,
    /// nDCG@10 of the BM25 list alone.
    pub bm25: Estimate,
    /// The better of the two.
    pub better_part: &'static str,
    /// The fusions, as they were asked for.
    pub fusions: Vec<TunedFusion>,
    /// What follows, in words.
    pub verdict: String,
}

impl TuneReport {
    /// The best fusion, if it is better than the better part alone.
    pub fn worth_using(&self) -> Option<&TunedFusion> {
        best(&self.fusions).filter(|best| best.difference.mean > 0.0)
    }
}

/// What tuning found about one fusion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TunedFusion {
    /// Its name.
    pub fusion: String,
    /// Sparse weight and mean nDCG@10 over all queries.
    pub curve: Vec<CurvePoint>,
    /// The best point of the curve. Its figure flatters: it was chosen by what it is judged by.
    pub best: CurvePoint,
    /// The sparse weight chosen for each fold by the others.
    pub chosen: Vec<f64>,
    /// nDCG@10 of all queries, each with its fold's weight.
    pub cross_validated: Estimate,
    /// The same minus that of the better part, query by query.
    pub difference: Estimate,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Weight of the learned-sparse list.
    pub sparse_weight: f64,
    /// Mean nDCG@10 over all queries.
    pub ndcg_at_10: f64,
}

/// nDCG@10 of every query for every weight of the grid, in this order.
type Grid = Vec<Vec<f64>>;

/// Judges the fusions, by name, over `queries`.
///
/// # Errors
/// When a list cannot be fused.
pub fn tune(
    queries: &[JudgedCandidates],
    fusions: &[(String, Fusion)],
    settings: TuneSettings,
) -> Result<TuneReport> {
    let mut random = Random::new(settings.seed);
    let fold_of = folds(queries.len(), settings.n_folds, &mut random);
    let resamples = Resamples::draw(queries.len(), settings.n_resamples, &mut random);
    let alone = |weights| -> Result<Vec<f64>> {
        let ndcg = |query: &JudgedCandidates| query.ndcg_at_10(Fusion::WeightedSum, weights);
        queries.iter().map(ndcg).collect()
    };
    let [sparse, bm25] = [alone([1.0, 0.0])?, alone([0.0, 1.0])?];
    let (better_part, better) = match mean(&sparse) >= mean(&bm25) {
        true => ("sparse", &sparse),
        false => ("bm25", &bm25),
    };
    let tuned = fusions.iter().map(|(name, fusion)| {
        let grid = grid(queries, *fusion)?;
        Ok(tuned(name, &grid, &fold_of, better, &resamples))
    });
    let fusions = tuned.collect::<Result<Vec<_>>>()?;
    let verdict = verdict(&fusions, better_part, mean(better));
    Ok(TuneReport {
        queries: queries.len(),
        sparse: resamples.estimate(&sparse),
        bm25: resamples.estimate(&bm25),
        better_part,
        fusions,
        verdict,
    })
}

/// The fold of each query: dealt out in random order, so that sizes differ by one at most.
fn folds(n_queries: usize, n_folds: usize, random: &mut Random) -> Vec<usize> {
    let mut fold_of: Vec<usize> = (0..n_queries).map(|idx| idx % n_folds.max(1)).collect();
    random.shuffle(&mut fold_of);
    fold_of
}

fn grid(queries: &[JudgedCandidates], fusion: Fusion) -> Result<Grid> {
    let of_weight = |step: u16| -> Result<Vec<f64>> {
        let sparse = weight(step);
        let ndcg = |query: &JudgedCandidates| query.ndcg_at_10(fusion, [sparse, 1.0 - sparse]);
        queries.iter().map(ndcg).collect()
    };
    (0..=STEPS).map(of_weight).collect()
}

fn weight(step: u16) -> f64 {
    f64::from(step) / f64::from(STEPS)
}

fn tuned(
    name: &str,
    grid: &Grid,
    fold_of: &[usize],
    better: &[f64],
    resamples: &Resamples,
) -> TunedFusion {
    let n_folds = fold_of.iter().max().map_or(0, |last| last + 1);
    let chosen: Vec<u16> = (0..n_folds)
        .map(|fold| best_step(grid, |query| fold_of[query] != fold))
        .collect();
    let held_out = fold_of.iter().enumerate();
    let held_out: Vec<f64> = held_out
        .map(|(query, fold)| grid[usize::from(chosen[*fold])][query])
        .collect();
    let differences: Vec<f64> = held_out.iter().zip(better).map(|(a, b)| a - b).collect();
    let point = |step: u16| CurvePoint {
        sparse_weight: weight(step),
        ndcg_at_10: mean(&grid[usize::from(step)]),
    };
    TunedFusion {
        fusion: name.to_owned(),
        curve: (0..=STEPS).map(point).collect(),
        best: point(best_step(grid, |_| true)),
        chosen: chosen.into_iter().map(weight).collect(),
        cross_validated: resamples.estimate(&held_out),
        difference: resamples.estimate(&differences),
    }
}

/// The step with the largest sum over some queries; of equal ones that nearest to the middle,
/// since nothing speaks for an extreme, then the smaller.
fn best_step(grid: &Grid, is_of_training: impl Fn(usize) -> bool) -> u16 {
    let sum = |values: &Vec<f64>| -> f64 {
        let values = values.iter().enumerate();
        let training = values.filter(|(query, _)| is_of_training(*query));
        training.map(|(_, ndcg)| ndcg).sum()
    };
    let steps = (0..).zip(grid.iter().map(sum));
    let best = steps.max_by(|(a, sum_of_a): &(u16, f64), (b, sum_of_b)| {
        let nearer = |step: u16| std::cmp::Reverse(step.abs_diff(STEPS / 2));
        let by_place =
            || (nearer(*a), std::cmp::Reverse(a)).cmp(&(nearer(*b), std::cmp::Reverse(b)));
        sum_of_a.total_cmp(sum_of_b).then_with(by_place)
    });
    best.map_or(0, |(step, _)| step)
}

/// The fusion of the largest cross-validated mean; of equal ones the first.
fn best(fusions: &[TunedFusion]) -> Option<&TunedFusion> {
    let mean = |fusion: &TunedFusion| fusion.cross_validated.mean;
    let better = |best, next| match mean(next) > mean(best) {
        true => next,
        false => best,
    };
    fusions.iter().reduce(better)
}

fn verdict(fusions: &[TunedFusion], better_part: &str, alone: f64) -> String {
    let Some(best) = best(fusions) else {
        return String::new();
    };
    let Estimate { mean, low, high } = best.difference;
    let name = &best.fusion;
    let figure = best.cross_validated.mean;
    let interval = format!("95 % interval {low:+.4} to {high:+.4}");
    if mean <= 0.0 {
        format!(
            "{better_part} alone, nDCG@10 {alone:.4}, is at least as good as every fusion tried; \
             the best, {name}, has {figure:.4} ({mean:+.4}, {interval})"
        )
    } else if low <= 0.0 {
        format!(
            "{name}, nDCG@10 {figure:.4}, is not reliably better than {better_part} alone, \
             {alone:.4}: {mean:+.4}, which may be chance ({interval})"
        )
    } else {
        format!(
            "{name}, nDCG@10 {figure:.4}, is better than {better_part} alone, {alone:.4}: \
             {mean:+.4} ({interval})"
        )
    }
}

fn mean(values: &[f64]) -> f64 {
    resampling::mean(values.iter().copied(), values.len())
}

/// Judgments of a query's documents.
pub type Judgments = BTreeMap<String, i32>;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TuneSettings {
        TuneSettings {
            n_folds: 3,
            seed: 1,
            n_resamples: 500,
        }
    }

    /// A query with the relevant document `r`, which the lists hold as given, best first.
    fn query(sparse: &[&str], bm25: &[&str]) -> JudgedCandidates {
        let list = |ids: &[&str]| -> Vec<(String, f32)> {
            let scores = (1..=10u8).rev().map(f32::from);
            ids.iter().map(|id| (*id).to_owned()).zip(scores).collect()
        };
        let judgments = BTreeMap::from([("r".to_owned(), 1)]);
        JudgedCandidates::new([list(sparse), list(bm25)], judgments).unwrap()
    }

    fn all_fusions() -> Vec<(String, Fusion)> {
        [
            ("rrf", Fusion::RECIPROCAL_RANK),
            ("tmm", Fusion::TheoreticalMinMax),
            ("sum", Fusion::WeightedSum),
        ]
        .map(|(name, fusion)| (name.to_owned(), fusion))
        .to_vec()
    }

    #[test]
    fn the_better_part_alone_is_said_to_be_as_good() {
        let queries: Vec<_> = (0..12)
            .map(|_| query(&["r", "a", "b"], &["a", "b", "c", "r"]))
            .collect();
        let report = tune(&queries, &all_fusions(), settings()).unwrap();
        assert_eq!((report.sparse.mean, report.better_part), (1.0, "sparse"));
        assert!(report.bm25.mean < 0.5);
        for fusion in &report.fusions {
            assert_eq!(fusion.curve.len(), 21);
            assert_eq!(fusion.curve[20].ndcg_at_10, report.sparse.mean);
            assert_eq!(fusion.curve[0].ndcg_at_10, report.bm25.mean);
            assert_eq!(fusion.cross_validated.mean, 1.0);
            assert_eq!(fusion.difference, Estimate::default());
            assert_eq!(fusion.chosen.len(), 3);
        }
        let said = "sparse alone, nDCG@10 1.0000, is at least as good as every fusion tried";
        assert!(report.verdict.starts_with(said), "{}", report.verdict);
    }

    /// Either list finds the document for half of the queries, and each ranks another one first.
    #[test]
    fn a_fusion_that_helps_is_said_to_help() {
        let queries: Vec<_> = (0..20)
            .map(|idx| match idx % 2 {
                0 => query(&["x", "r", "a"], &["y", "r", "b"]),
                _ => query(&["x", "r", "c"], &["z", "r"]),
            })
            .collect();
        let report = tune(&queries, &all_fusions(), settings()).unwrap();
        let rrf = &report.fusions[0];
        assert_eq!(rrf.cross_validated.mean, 1.0);
        assert!(rrf.difference.low > 0.3);
        assert_eq!(rrf.best.sparse_weight, 0.5);
        assert!(
            report.verdict.contains("is better than"),
            "{}",
            report.verdict
        );
    }

    /// One fold's queries want BM25, all others the learned list: their own weight would be 0,
    /// but they are judged by that of the others.
    #[test]
    fn a_fold_does_not_choose_its_own_weight() {
        let fold_of = [0, 1, 2, 0, 1, 2];
        let grid: Grid = (0..=STEPS)
            .map(|step| {
                let of_query = |fold: &usize| match fold {
                    0 => 1.0 - weight(step),
                    _ => weight(step),
                };
                fold_of.iter().map(of_query).collect()
            })
            .collect();
        let resamples = Resamples::draw(6, 100, &mut Random::new(3));
        let tuned = tuned("rrf", &grid, &fold_of, &[0.0; 6], &resamples);
        // Two folds of three disagree for the other two: the middle.
        assert_eq!(tuned.chosen, [1.0, 0.5, 0.5]);
        assert_eq!(tuned.cross_validated.mean, (0.0 + 0.5 + 0.5) / 3.0);
        assert_eq!(tuned.best.sparse_weight, 1.0);
    }

    #[test]
    fn folds_are_even_and_follow_from_the_seed() {
        for n_queries in [5, 23, 300] {
            let deal = |seed| folds(n_queries, 5, &mut Random::new(seed));
            let dealt = deal(1);
            assert_eq!(dealt, deal(1));
            let size = |fold| dealt.iter().filter(|of_query| **of_query == fold).count();
            let sizes: Vec<usize> = (0..5).map(size).collect();
            assert_eq!(sizes.iter().sum::<usize>(), n_queries);
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
        let deal = |seed| folds(300, 5, &mut Random::new(seed));
        assert_ne!(deal(1), deal(2));
    }
}
