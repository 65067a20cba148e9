//! Every measure agrees with trec_eval, on figures made by `data/make_trec_eval_golden.py`; and
//! runs survive the way through a file.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use laconic_cli::collection::LineReader;
use laconic_cli::eval::{Evaluation, Metrics, Qrels, Run, RunWriter, evaluate};
use proptest::prelude::*;
use serde_json::Value;

/// trec_eval sums in another order; nothing else may differ.
const TOLERANCE: f64 = 1e-12;

struct Golden {
    qrels: Qrels,
    run: Run,
    figures: BTreeMap<String, Metrics>,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "trec_eval keeps scores in 32 bits"
)]
fn load() -> Golden {
    let other = std::env::var_os("LACONIC_TREC_EVAL_GOLDEN");
    let path = other.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/trec_eval_golden.json")
            .into()
    });
    let content: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut qrels = Qrels::default();
    for (query, judged) in content["qrels"].as_object().unwrap() {
        for (doc, grade) in judged.as_object().unwrap() {
            let grade = i32::try_from(grade.as_i64().unwrap()).unwrap();
            qrels.insert(query, doc, grade).unwrap();
        }
    }
    let mut run = Run::default();
    for (query, hits) in content["run"].as_object().unwrap() {
        let hits = hits.as_object().unwrap().iter();
        let hits = hits.map(|(doc, score)| (doc.as_str(), score.as_f64().unwrap() as f32));
        run.insert(query, hits).unwrap();
    }
    let figures = content["figures"].as_object().unwrap().iter();
    let figures = figures
        .map(|(query, figures)| (query.clone(), metrics(figures)))
        .collect();
    Golden {
        qrels,
        run,
        figures,
    }
}

fn metrics(figures: &Value) -> Metrics {
    let figure = |name: &str| figures[name].as_f64().unwrap();
    Metrics {
        ndcg_at_10: figure("ndcg_cut_10"),
        mrr_at_10: figure("mrr_10"),
        recall_at_100: figure("recall_100"),
        recall_at_1000: figure("recall_1000"),
        map: figure("map"),
    }
}

/// Largest difference of any measure.
fn distance(a: &Metrics, b: &Metrics) -> f64 {
    let all = |m: &Metrics| {
        [
            m.ndcg_at_10,
            m.mrr_at_10,
            m.recall_at_100,
            m.recall_at_1000,
            m.map,
        ]
    };
    all(a)
        .iter()
        .zip(all(b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn write(run: &Run) -> Vec<u8> {
    let mut writer = RunWriter::new(Vec::new(), "test").unwrap();
    for (query, hits) in run.iter() {
        writer
            .write(query, hits.iter().map(|hit| (hit.doc.as_str(), hit.score)))
            .unwrap();
    }
    writer.finish().unwrap()
}

fn read(run: Vec<u8>) -> Run {
    Run::read(LineReader::from_reader("run", Cursor::new(run)).unwrap()).unwrap()
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "a few thousand queries at most")]
fn every_measure_agrees() {
    let golden = load();
    let Evaluation { by_query, mean } = evaluate(&golden.qrels, &golden.run);
    assert!(
        by_query.keys().eq(golden.figures.keys()),
        "the same queries count"
    );
    let distances = by_query.iter().map(|(query, found)| {
        let distance = distance(found, &golden.figures[query]);
        assert!(
            distance <= TOLERANCE,
            "{query}: {found:?} is not {:?}",
            golden.figures[query]
        );
        distance
    });
    let largest = distances.fold(0.0, f64::max);
    let n_queries = golden.figures.len() as f64;
    let mean_map = golden
        .figures
        .values()
        .map(|figures| figures.map)
        .sum::<f64>()
        / n_queries;
    assert!((mean.unwrap().map - mean_map).abs() <= TOLERANCE);
    println!("{} queries, largest difference {largest:e}", by_query.len());
}

#[test]
fn a_run_from_a_file_is_judged_the_same() {
    let golden = load();
    let run = read(write(&golden.run));
    assert_eq!(run, golden.run);
    assert_eq!(
        evaluate(&golden.qrels, &run),
        evaluate(&golden.qrels, &golden.run)
    );
}

#[test]
fn ties_are_broken_by_falling_id_and_ranks_are_ignored() {
    let run = "q Q0 a 1 2.5 t\nq Q0 b 9 2.5 t\r\nq\tQ0\tz 0 -1e0 t\nq Q0 é 3 2.50 t\n";
    let run = read(run.as_bytes().to_vec());
    let docs: Vec<_> = run
        .hits("q")
        .unwrap()
        .iter()
        .map(|hit| hit.doc.as_str())
        .collect();
    assert_eq!(docs, ["é", "b", "a", "z"]);
}

#[test]
fn broken_runs_are_refused() {
    for (run, line, reason) in [
        ("q Q0 a 1 2.5\n", 1, "5 columns where a run has 6"),
        ("q Q0 a 1 2.5 t\nq Q0 b 2 2.0 my tag\n", 2, "7 columns"),
        (
            "q Q0 a 1 2.5 t\n\nq Q0 a 2 2.0 t\n",
            3,
            "document `a` is found twice for query `q`",
        ),
        ("q Q0 a 1 NaN t\n", 1, "score `NaN` is not a finite number"),
        (
            "q Q0 a 1 1e39 t\n",
            1,
            "score `1e39` is not a finite number",
        ),
        (
            "q Q0 a 1 high t\n",
            1,
            "score `high` is not a finite number",
        ),
        ("q Q0 a\u{a0}b 1 1 t\n", 1, "U+00A0"),
    ] {
        let lines = LineReader::from_reader("run", run.as_bytes()).unwrap();
        let error = Run::read(lines).unwrap_err();
        assert_eq!(error.line(), Some(line), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let mut run = Run::default();
    assert!(run.insert("q", [("a", 1.0), ("a", 2.0)]).is_err());
    assert!(run.insert("q", [("a", f32::INFINITY)]).is_err());
    run.insert("q", [("a", 1.0)]).unwrap();
    assert!(run.insert("q", [("b", 1.0)]).is_err(), "given twice");
    for tag in ["", "two words", "t\n"] {
        assert!(RunWriter::new(Vec::new(), tag).is_err());
    }
}

proptest! {
    // Test files beside a crate have no place to keep failures; the failing input is printed.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any finite score comes back bit for bit, so order and ties do too.
    #[test]
    fn scores_survive_a_file(bits in proptest::collection::vec(any::<u32>(), 1..50)) {
        let scores = bits.into_iter().map(f32::from_bits).filter(|score| score.is_finite());
        let hits: Vec<_> = scores.enumerate().map(|(idx, s)| (format!("d{idx}"), s)).collect();
        prop_assume!(!hits.is_empty());
        let mut run = Run::default();
        run.insert("q", hits).unwrap();
        let back = read(write(&run));
        let bits = |run: &Run| -> Vec<_> {
            let hits = run.hits("q").unwrap().iter();
            hits.map(|hit| (hit.doc.clone(), hit.score.to_bits())).collect()
        };
        prop_assert_eq!(bits(&back), bits(&run));
    }
}
