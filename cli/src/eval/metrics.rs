//! The measures, defined as trec_eval defines them.

use std::collections::BTreeMap;

use super::qrels::Qrels;
use super::run::{Hit, Run};

/// The measures of one query, or their mean. trec_eval's name of each in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// Normalized discounted cumulative gain of the first 10 hits (`ndcg_cut_10`).
    pub ndcg_at_10: f64,
    /// Reciprocal rank of the first relevant hit among the first 10, or 0 (`recip_rank` of a
    /// run cut at 10).
    pub mrr_at_10: f64,
    /// Share of the relevant documents among the first 100 hits (`recall_100`).
    pub recall_at_100: f64,
    /// Share of the relevant documents among the first 1000 hits (`recall_1000`).
    pub recall_at_1000: f64,
    /// Average precision over the whole list (`map`).
    pub map: f64,
}

impl Metrics {
    fn of(ranking: &JudgedRanking) -> Metrics {
        Metrics {
            ndcg_at_10: ranking.ndcg(10),
            mrr_at_10: ranking.reciprocal_rank(10),
            recall_at_100: ranking.recall(100),
            recall_at_1000: ranking.recall(1000),
            map: ranking.average_precision(),
        }
    }

    /// The mean over queries; `None` for no query.
    fn mean<'a>(queries: impl ExactSizeIterator<Item = &'a Metrics>) -> Option<Metrics> {
        let n_queries = queries.len();
        let sum = queries.fold(Metrics::default(), |sum, metrics| sum.plus(metrics));
        (n_queries > 0).then(|| sum.times(1.0 / to_f64(n_queries)))
    }

    fn plus(self, other: &Metrics) -> Metrics {
        Metrics {
            ndcg_at_10: self.ndcg_at_10 + other.ndcg_at_10,
            mrr_at_10: self.mrr_at_10 + other.mrr_at_10,
            recall_at_100: self.recall_at_100 + other.recall_at_100,
            recall_at_1000: self.recall_at_1000 + other.recall_at_1000,
            map: self.map + other.map,
        }
    }

    fn times(self, factor: f64) -> Metrics {
        Metrics {
            ndcg_at_10: self.ndcg_at_10 * factor,
            mrr_at_10: self.mrr_at_10 * factor,
            recall_at_100: self.recall_at_100 * factor,
            recall_at_1000: self.recall_at_1000 * factor,
            map: self.map * factor,
        }
    }
}

/// A run judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The measures of each query that was both judged and asked.
    pub by_query: BTreeMap<String, Metrics>,
    /// Their mean; `None` if there is no such query.
    pub mean: Option<Metrics>,
}

/// Judges a run.
///
/// A query counts if it was asked (is in the run, be it without hits) and is judged (is in the
/// qrels, be it without a relevant document); without hits or without relevant documents all its
/// measures are 0. So a run that holds every query of the qrels has the mean of `trec_eval -c`;
/// queries of the qrels that were never asked are left out of the mean, and so are queries that
/// nobody judged.
pub fn evaluate(qrels: &Qrels, run: &Run) -> Evaluation {
    let by_query: BTreeMap<_, _> = run
        .iter()
        .filter_map(|(query, hits)| {
            let ranking = JudgedRanking::new(qrels.judgments(query)?, hits);
            Some((query.to_owned(), Metrics::of(&ranking)))
        })
        .collect();
    let mean = Metrics::mean(by_query.values());
    Evaluation { by_query, mean }
}

/// The grades of one query's hits, for measures at any cutoff.
///
/// A document without judgment has grade 0, and a negative grade counts as 0: no gain, not
/// relevant. Without relevant documents every measure is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedRanking {
    /// In order of rank.
    grades: Vec<u32>,
    /// All grades above 0 that were judged, largest first.
    ideal: Vec<u32>,
}

impl JudgedRanking {
    /// Looks up the grades of `hits`, which are in order of rank, as [`Run::hits`] has them.
    pub fn new(judgments: &BTreeMap<String, i32>, hits: &[Hit]) -> JudgedRanking {
        let gain = |grade: &i32| u32::try_from(*grade).unwrap_or(0);
        let mut ideal: Vec<_> = judgments
            .values()
            .map(gain)
            .filter(|grade| *grade > 0)
            .collect();
        ideal.sort_unstable_by(|a, b| b.cmp(a));
        let grades = hits
            .iter()
            .map(|hit| judgments.get(&hit.doc).map_or(0, gain))
            .collect();
        JudgedRanking { grades, ideal }
    }

    /// Normalized discounted cumulative gain of the first `k` hits. The gain is the grade, the
    /// discount log2(rank + 1), and the ideal ranking is made of all judged documents.
    pub fn ndcg(&self, k: usize) -> f64 {
        ratio(
            discounted_gain(&self.grades, k),
            discounted_gain(&self.ideal, k),
        )
    }

    /// Share of the relevant documents that are among the first `k` hits.
    pub fn recall(&self, k: usize) -> f64 {
        let found = self
            .grades
            .iter()
            .take(k)
            .filter(|grade| **grade > 0)
            .count();
        ratio(to_f64(found), to_f64(self.ideal.len()))
    }

    /// Share of the first `k` ranks that hold a relevant document; ranks without hit count.
    pub fn precision(&self, k: usize) -> f64 {
        let found = self
            .grades
            .iter()
            .take(k)
            .filter(|grade| **grade > 0)
            .count();
        ratio(to_f64(found), to_f64(k))
    }

    /// 1 / rank of the first relevant hit if it is among the first `k`, otherwise 0.
    pub fn reciprocal_rank(&self, k: usize) -> f64 {
        let first = self.grades.iter().take(k).position(|grade| *grade > 0);
        first.map_or(0.0, |idx| 1.0 / to_f64(idx + 1))
    }

    /// The precisions at the ranks of relevant hits, summed and divided by the number of
    /// relevant documents, found or not.
    pub fn average_precision(&self) -> f64 {
        let ranks = self
            .grades
            .iter()
            .enumerate()
            .filter(|(_, grade)| **grade > 0);
        let precisions = ranks
            .zip(1..)
            .map(|((idx, _), n_found)| to_f64(n_found) / to_f64(idx + 1));
        ratio(precisions.sum(), to_f64(self.ideal.len()))
    }
}

fn discounted_gain(grades: &[u32], k: usize) -> f64 {
    let gains = grades.iter().take(k).enumerate();
    gains
        .map(|(idx, grade)| f64::from(*grade) / to_f64(idx + 2).log2())
        .sum()
}

/// A share of nothing is 0.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ranks and counts stay far below 2^53"
)]
fn to_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(grades: &[i32], unfound: &[i32]) -> JudgedRanking {
        let mut judgments = BTreeMap::new();
        let mut hits = Vec::new();
        for (idx, grade) in grades.iter().enumerate() {
            judgments.insert(format!("d{idx}"), *grade);
            hits.push(Hit {
                doc: format!("d{idx}"),
                score: 0.0,
            });
        }
        let unfound = unfound.iter().enumerate();
        judgments.extend(unfound.map(|(idx, grade)| (format!("u{idx}"), *grade)));
        JudgedRanking::new(&judgments, &hits)
    }

    fn assert_near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn measures_by_hand() {
        let ranking = ranking(&[0, 3, -2, 1], &[2, -1]);
        let dcg = 3.0 / 3f64.log2() + 1.0 / 5f64.log2();
        let ideal = 3.0 + 2.0 / 3f64.log2() + 1.0 / 2.0;
        assert_near(ranking.ndcg(10), dcg / ideal);
        assert_near(
            ranking.ndcg(2),
            (3.0 / 3f64.log2()) / (3.0 + 2.0 / 3f64.log2()),
        );
        assert_near(ranking.recall(2), 1.0 / 3.0);
        assert_near(ranking.recall(100), 2.0 / 3.0);
        assert_near(ranking.precision(5), 2.0 / 5.0);
        assert_near(ranking.reciprocal_rank(2), 0.5);
        assert_near(ranking.reciprocal_rank(1), 0.0);
        assert_near(ranking.average_precision(), (1.0 / 2.0 + 2.0 / 4.0) / 3.0);
    }

    #[test]
    fn nothing_relevant_or_nothing_found_is_zero() {
        for ranking in [
            ranking(&[0, -1], &[]),
            ranking(&[], &[1, 2]),
            ranking(&[], &[]),
        ] {
            assert_eq!(Metrics::of(&ranking), Metrics::default());
        }
    }

    #[test]
    fn queries_asked_and_judged_count() {
        let mut qrels = Qrels::default();
        for query in ["found", "empty", "unasked"] {
            qrels.insert(query, "d", 1).unwrap();
        }
        let mut run = Run::default();
        run.insert("found", [("d", 1.0)]).unwrap();
        run.insert::<&str>("empty", []).unwrap();
        run.insert("unjudged", [("d", 1.0)]).unwrap();
        let evaluation = evaluate(&qrels, &run);
        assert_eq!(
            evaluation.by_query.keys().collect::<Vec<_>>(),
            ["empty", "found"]
        );
        assert_near(evaluation.mean.unwrap().map, 0.5);
        assert_eq!(evaluate(&Qrels::default(), &run).mean, None);
    }
}
