//! [`Report`]: everything that was measured. Its fields are the keys of the JSON, which stay.

use laconic_tantivy::SearchWork;
use serde::Serialize;

use super::collection::Order;
use super::index::IndexFigures;
use super::real;

pub(crate) use super::machine::Machine;
pub(crate) use super::svg::plots;
pub(crate) use super::table::print_table;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Raised when a key changes its meaning.
    pub(crate) format: u32,
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    pub(crate) collections: Vec<CollectionReport>,
}

/// What was asked for, as far as it is not said with the figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    pub(crate) queries: u32,
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
    pub(crate) baseline: String,
    pub(crate) bits: u8,
    pub(crate) seed: u32,
    /// Whether every exact method was held to the exhaustive evaluation.
    pub(crate) verified: bool,
}

/// What was measured on one collection.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CollectionReport {
    pub(crate) collection: &'static str,
    pub(crate) key: String,
    /// `None` for files in their own order.
    pub(crate) order: Option<Order>,
    pub(crate) index: IndexFigures,
    pub(crate) results: Vec<Point>,
}

/// What was measured for one depth and one query length.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Point {
    pub(crate) k: usize,
    /// Terms asked for; `None` for queries as they are.
    pub(crate) query_terms: Option<usize>,
    pub(crate) mean_query_terms: f64,
    pub(crate) mean_query_postings: f64,
    pub(crate) methods: Vec<MethodFigures>,
}

/// The figures of one method: over queries in a round, then the median of the rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MethodFigures {
    pub(crate) method: String,
    /// Whether its scores are exact by design.
    pub(crate) exact: bool,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) queries_per_second: f64,
    pub(crate) cpu_mean_ms: Option<f64>,
    /// Mean latency by the baseline's.
    pub(crate) ratio: f64,
    /// Share of the exact best `k` that was found.
    pub(crate) recall: Option<f64>,
    pub(crate) work: Option<WorkFigures>,
}

/// What a search did, on average.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct WorkFigures {
    pub(crate) postings: f64,
    pub(crate) postings_scored: f64,
    pub(crate) blocks: f64,
    pub(crate) blocks_evaluated: f64,
}

impl WorkFigures {
    /// `None` for a method that keeps no count.
    pub(super) fn mean(work: SearchWork, n_queries: f64) -> Option<WorkFigures> {
        let mean = |count: u64| real(count) / n_queries;
        (work != SearchWork::default()).then(|| WorkFigures {
            postings: mean(work.postings),
            postings_scored: mean(work.postings_scored),
            blocks: mean(work.blocks),
            blocks_evaluated: mean(work.blocks_evaluated),
        })
    }
}
