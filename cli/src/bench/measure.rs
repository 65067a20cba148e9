//! Taking the times: methods alternate query by query, rounds repeat all queries, and what is
//! reported is the median of the rounds.

use std::collections::HashSet;

use anyhow::{Result, bail};
use laconic_tantivy::{LaconicTopK, SearchWork, SparseVector, exhaustive_top_k};
use tantivy::Searcher;
use xxhash_rust::xxh3::xxh3_64;

use super::clock::{CpuOf, Seconds, timed};
use super::index::BuiltIndex;
use super::method::{Method, Question, Scores};
use super::real;
use super::report::{MethodFigures, Point, WorkFigures};
use super::text::TextFields;

/// What is measured on an index.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    pub(crate) methods: Vec<Method>,
    /// The one others are compared with, by its place in `methods`.
    pub(crate) baseline: usize,
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
    pub(crate) verify: bool,
}

impl Measurement {
    /// Measures all methods on all queries.
    ///
    /// # Errors
    /// When a search fails; when scores are to be verified and one is wrong.
    pub(crate) fn run(
        &self,
        built: &BuiltIndex,
        queries: &[SparseVector],
        k: usize,
        mut progress: impl FnMut(),
    ) -> Result<Point> {
        let searcher = built.index.reader()?.searcher();
        let filters = built
            .text
            .map(TextFields::cached_filters)
            .unwrap_or_default();
        let questions = (0..).zip(queries);
        let questions = questions
            .map(|(number, query)| Question::new(&built.field, built.text, &filters, query, number))
            .collect::<Result<Vec<_>>>()?;
        let judged = self.judge(&searcher, &questions, k)?;
        progress();
        let mut times = vec![Vec::with_capacity(self.rounds); self.methods.len()];
        for round in 0..self.rounds {
            let round = self.round(&searcher, &questions, k, round)?;
            for (times, time) in times.iter_mut().zip(round) {
                times.push(time);
            }
            progress();
        }
        let baseline = &times[self.baseline];
        let methods = self.methods.iter().zip(judged).zip(&times);
        let methods = methods
            .map(|((method, judged), times)| figures(*method, judged, times, baseline))
            .collect();
        Ok(Point {
            k,
            query_terms: None,
            mean_query_terms: super::collection::mean_terms(queries),
            mean_query_postings: mean_postings(&searcher, &questions)?,
            methods,
        })
    }

    /// Runs every method once, which warms up, and looks at what it returns.
    fn judge(&self, searcher: &Searcher, questions: &[Question], k: usize) -> Result<Vec<Judged>> {
        let mut judged = vec![Judged::default(); self.methods.len()];
        for (number, question) in questions.iter().enumerate() {
            for (method, judged) in self.methods.iter().zip(&mut judged) {
                let reference = method.reference(question);
                let exact = match self.verify {
                    true => exhaustive_top_k(searcher, reference, k)?,
                    false => {
                        LaconicTopK::new(k)
                            .exhaustive()
                            .search(searcher, reference)?
                            .hits
                    }
                };
                let best: HashSet<_> = exact.iter().map(|(_, address)| *address).collect();
                let found = method.run(question, searcher, k, self.threads)?;
                judged.work += found.work;
                let n_found = found.hits.iter().filter(|(_, a)| best.contains(a)).count();
                judged.recall += match best.len() {
                    0 => 1.0,
                    n_best => real(n_found as u64) / real(n_best as u64),
                };
                let scores = |hits: &[(f32, _)]| -> Vec<u32> {
                    hits.iter().map(|(score, _)| score.to_bits()).collect()
                };
                let is_wrong =
                    method.scores() == Scores::Exact && scores(&found.hits) != scores(&exact);
                if self.verify && is_wrong {
                    bail!(
                        "{method} does not return the scores of the exhaustive evaluation, query \
                         {number}, k = {k}; please report this"
                    );
                }
            }
        }
        let n_queries = real(questions.len().max(1) as u64);
        for judged in &mut judged {
            judged.recall /= n_queries;
            judged.n_queries = n_queries;
        }
        Ok(judged)
    }

    /// One time per method: all queries once, the methods in another order for each.
    fn round(
        &self,
        searcher: &Searcher,
        questions: &[Question],
        k: usize,
        round: usize,
    ) -> Result<Vec<RoundTimes>> {
        let cpu_of = match self.threads {
            1 => CpuOf::Thread,
            _ => CpuOf::Process,
        };
        let n_methods = self.methods.len();
        let mut times = vec![RoundTimes::default(); n_methods];
        for (number, question) in questions.iter().enumerate() {
            for method in turns(n_methods, number, round) {
                let run = || self.methods[method].run(question, searcher, k, self.threads);
                let (found, seconds) = timed(cpu_of, run);
                std::hint::black_box(found?);
                times[method].0.push(seconds);
            }
        }
        Ok(times)
    }
}

/// The methods in an order of its own for every query and round. Were it the same, or only
/// turned, a method would always run behind the same other one, and find in cache what that left.
fn turns(n_methods: usize, query: usize, round: usize) -> Vec<usize> {
    let place = |method: &usize| {
        let numbers = [*method, query, round].map(|number| number as u64);
        xxh3_64(&numbers.map(u64::to_le_bytes).concat())
    };
    let mut turns: Vec<usize> = (0..n_methods).collect();
    turns.sort_by_key(place);
    turns
}

/// What a method returned, over all queries.
#[derive(Debug, Clone, Copy, Default)]
struct Judged {
    recall: f64,
    work: SearchWork,
    n_queries: f64,
}

/// The times of one method in one round, a query each.
#[derive(Debug, Clone, Default)]
struct RoundTimes(Vec<Seconds>);

impl RoundTimes {
    fn mean(&self) -> f64 {
        let sum: f64 = self.0.iter().map(|seconds| seconds.wall).sum();
        sum / real(self.0.len().max(1) as u64)
    }

    fn cpu_mean(&self) -> Option<f64> {
        let sum: Option<f64> = self.0.iter().map(|seconds| seconds.cpu).sum();
        sum.map(|sum| sum / real(self.0.len().max(1) as u64))
    }

    /// The time that `percent` of the queries do not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let mut walls: Vec<f64> = self.0.iter().map(|seconds| seconds.wall).collect();
        walls.sort_by(f64::total_cmp);
        let rank = (walls.len() * percent).div_ceil(100).max(1);
        walls.get(rank - 1).copied().unwrap_or_default()
    }
}

fn figures(
    method: Method,
    judged: Judged,
    rounds: &[RoundTimes],
    baseline: &[RoundTimes],
) -> MethodFigures {
    let median_ms = |of: &dyn Fn(&RoundTimes) -> f64| 1e3 * median(rounds.iter().map(of));
    let ratios = rounds
        .iter()
        .zip(baseline)
        .map(|(a, b)| a.mean() / b.mean());
    let cpu_means: Option<Vec<f64>> = rounds.iter().map(RoundTimes::cpu_mean).collect();
    let mean_ms = median_ms(&RoundTimes::mean);
    MethodFigures {
        method: method.to_string(),
        exact: method.scores() == Scores::Exact,
        mean_ms,
        p50_ms: median_ms(&|round| round.percentile(50)),
        p95_ms: median_ms(&|round| round.percentile(95)),
        p99_ms: median_ms(&|round| round.percentile(99)),
        queries_per_second: 1e3 / mean_ms,
        cpu_mean_ms: cpu_means.map(|means| 1e3 * median(means.into_iter())),
        ratio: median(ratios),
        recall: (method.scores() != Scores::Other).then_some(judged.recall),
        work: WorkFigures::mean(judged.work, judged.n_queries),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Postings of a query's terms, on average.
fn mean_postings(searcher: &Searcher, questions: &[Question]) -> Result<f64> {
    let mut n_postings = 0;
    for question in questions {
        for term in question.terms() {
            n_postings += searcher.doc_freq(term)?;
        }
    }
    Ok(real(n_postings) / real(questions.len().max(1) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = (1..=200u32).map(|n| Seconds {
            wall: f64::from(n),
            cpu: None,
        });
        let times = RoundTimes(times.collect());
        let percentiles = [50, 95, 99, 100].map(|percent| times.percentile(percent));
        assert_eq!(percentiles, [100.0, 190.0, 198.0, 200.0]);
        assert_eq!(times.mean(), 100.5);
        assert_eq!(times.cpu_mean(), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
    }
}
