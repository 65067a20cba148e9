//! Rankings are as good as they are known to be: judged figures of real collections, through the
//! command line.

use laconic_cli::collection::LineReader;
use laconic_cli::eval::{Qrels, Run, evaluate};
use laconic_fixtures::scifact;
use laconic_tests::{Scratch, scratch, shared_data};
use serde_json::Value;

/// Runs `eval`, judges the run file it wrote anew, and returns the figures printed.
fn eval(scratch: &Scratch, qrels: &str, arguments: &str) -> Value {
    let eval = format!("eval --qrels '{qrels}' --run run.trec --json --quiet {arguments}");
    let printed = scratch.laconic(&eval).succeeds().silently().json();
    let open = |name: &str| LineReader::open(&scratch.path(name)).expect("a file just used");
    let qrels = Qrels::read(open(qrels)).expect("judgments just read");
    let run = Run::read(open("run.trec")).expect("a run file");
    let judged = evaluate(&qrels, &run);
    let mean = judged.mean.expect("some query is judged");
    for (name, figure) in [
        ("nDCG@10", mean.ndcg_at_10),
        ("MRR@10", mean.mrr_at_10),
        ("Recall@100", mean.recall_at_100),
        ("Recall@1000", mean.recall_at_1000),
        ("MAP", mean.map),
    ] {
        // Queries without hits are in no run file, so its mean is over fewer of them.
        #[expect(clippy::cast_precision_loss, reason = "a few hundred queries")]
        let n_found = judged.by_query.len() as f64;
        let n_asked = printed["queries"].as_f64().expect("a number");
        assert_figure(&printed, name, figure * n_found / n_asked, 1e-9);
    }
    printed
}

#[track_caller]
fn assert_figure(figures: &Value, name: &str, expected: f64, tolerance: f64) {
    let figure = figures[name].as_f64().expect("a number");
    assert!(
        (figure - expected).abs() <= tolerance,
        "{name} is {figure}, not {expected}"
    );
}

/// Real SPLADE vectors, by exact search outside of this project (README of arguana-debates):
/// nDCG@10 0.7594 and 0.7327, Recall@100 0.9710 and 0.9495. Impacts of 5 bits, the
/// default, cost nothing that matters.
#[test]
fn arguana_debates_with_real_splade_vectors() {
    let Some(data) = shared_data("arguana-debates") else {
        return;
    };
    let data = data.display();
    for (model, scale, ndcg, recall) in [
        ("splade-v3", 51.2, 0.7594, 0.9710),
        ("splade-pp-ed", 100.0, 0.7327, 0.9495),
    ] {
        let scratch = scratch!();
        let vectors = format!("'{data}/vectors.{model}.jsonl.gz' --vector-scale {scale}");
        let index =
            format!("index --index idx --docs '{data}/corpus.jsonl.gz' --vectors {vectors}");
        for (name, bits) in [("default", ""), ("fine", "--bits 8")] {
            let index = index.replace("idx", name);
            scratch.laconic(&format!("{index} {bits}")).succeeds();
            let arguments = format!("--index {name} --query-vectors {vectors}");
            let figures = eval(&scratch, &format!("{data}/qrels/test.tsv"), &arguments);
            assert_eq!(figures["queries"], 1298);
            assert_figure(&figures, "nDCG@10", ndcg, 0.001);
            assert_figure(&figures, "Recall@100", recall, 0.001);
        }
    }
}

/// The figures of `tests/reference/bm25_scifact.py`, a plain implementation of BM25 in numpy
/// over the same tokens with lengths in one byte, judged by trec_eval. With exact lengths it and
/// the library bm25s agree on 0.663448.
#[test]
fn bm25_on_scifact_as_an_independent_implementation_has_it() {
    let scratch = scratch!();
    let files = scifact::write_to(&scratch.path("scifact")).expect("a temporary folder");
    scratch
        .laconic("index --index idx --docs scifact/corpus.jsonl.gz")
        .succeeds()
        .silently();
    let arguments = "--index idx --mode bm25 --queries scifact/queries.jsonl.gz";
    let figures = eval(&scratch, &files.qrels.display().to_string(), arguments);
    assert_eq!(figures["queries"], 300);
    for (name, expected) in [
        ("nDCG@10", 0.661_873),
        ("Recall@100", 0.885_889),
        ("Recall@1000", 0.963_889),
        ("MAP", 0.622_777),
    ] {
        assert_figure(&figures, name, expected, 0.000_05);
    }
}
