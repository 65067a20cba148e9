//! `eval` of hybrid rankings, and the choice of their weights.

use serde_json::{Value, json};

use super::{assert_near, generated};

/// A query that is a document is left out of both lists before they are fused: its own score
/// would be their maximum.
#[test]
fn eval_judges_hybrid_rankings() {
    let scratch = generated();
    let qrels: String = (0..8).map(|q| format!("d{q} 0 d{} 1\n", q + 8)).collect();
    scratch.write("qrels", qrels);
    let eval = "eval --index idx --mode hybrid --queries q.jsonl --query-vectors v.jsonl \
                --qrels qrels --json --quiet -k 20 --run run.trec";
    for fusion in ["sum", "rrf", "minmax", "zscore", "tmm"] {
        let eval = format!("{eval} --fusion {fusion}");
        let figures = scratch.laconic(&eval).succeeds().silently().json();
        assert_eq!(figures["queries"], 8);
        let run = scratch.read("run.trec");
        assert_eq!(run.lines().count(), 8 * 20, "{fusion}");
        let is_itself = |line: &str| line.split(' ').next() == line.split(' ').nth(2);
        assert!(!run.lines().any(is_itself), "{fusion}");
        if fusion == "tmm" {
            // The best other document of a list has the value 1 there.
            let best = |line: &&str| line.split(' ').nth(3) == Some("1");
            for line in run.lines().filter(best) {
                let score: f64 = line.split(' ').nth(4).unwrap().parse().unwrap();
                assert!(score > 0.5, "{line}");
            }
        }
        let kept = scratch
            .laconic(&format!("{eval} --exclude-self no"))
            .succeeds()
            .json();
        assert_eq!(kept["queries"], 8);
        assert!(scratch.read("run.trec").lines().any(is_itself));
    }
}

/// The figures of tuning are those of `eval` and of arithmetic on them.
#[test]
fn tuning_tells_what_each_weight_and_each_part_is_worth() {
    let scratch = generated();
    // What is relevant shares words with the query, so that both sides find something.
    let bm25 = "search --index idx --mode bm25 --queries q.jsonl --format trec -k 6";
    let found = scratch.laconic(bm25).succeeds().hits();
    let others = found.iter().filter(|hit| hit.query != hit.doc);
    let qrels = others.map(|hit| format!("{} 0 {} 1\n", hit.query, hit.doc));
    scratch.write("qrels", qrels.collect::<String>());
    let eval = "eval --index idx --qrels qrels --json --quiet --exclude-self yes";
    let files = "--queries q.jsonl --query-vectors v.jsonl";
    let tune = format!("{eval} {files} --tune --folds 4");
    let report = scratch.laconic(&tune).succeeds().silently().json();
    let number = |value: &Value| value.as_f64().unwrap();
    let ndcg = |options: &str| {
        let figures = scratch
            .laconic(&format!("{eval} -k 100 {options}"))
            .succeeds()
            .json();
        number(&figures["nDCG@10"])
    };
    let [sparse, bm25] = ["sparse", "bm25"].map(|part| number(&report[part]["mean"]));
    assert_near(sparse, ndcg("--query-vectors v.jsonl"));
    assert_near(bm25, ndcg("--mode bm25 --queries q.jsonl"));
    assert!(bm25 > sparse && report["better_part"] == "bm25", "{report}");
    assert_eq!(
        (&report["queries"], &report["folds"]),
        (&json!(8), &json!(4))
    );

    let fusions = report["fusions"].as_array().unwrap();
    let names: Vec<_> = fusions
        .iter()
        .map(|tuned| tuned["fusion"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sum", "rrf", "minmax", "zscore", "tmm"]);
    for (name, tuned) in names.iter().zip(fusions) {
        let curve = tuned["curve"].as_array().unwrap();
        assert_eq!(curve.len(), 21);
        for point in [&curve[6], &curve[15]] {
            let w = number(&point["sparse_weight"]);
            let options = format!(
                "{files} --mode hybrid --fusion {name} --weight sparse={w},bm25={} \
                 --candidates 100 --rescore-missing",
                1.0 - w
            );
            assert_near(number(&point["ndcg_at_10"]), ndcg(&options));
        }
        let figures = curve.iter().map(|point| number(&point["ndcg_at_10"]));
        let best = figures.fold(f64::NEG_INFINITY, f64::max);
        assert_near(number(&tuned["best"]["ndcg_at_10"]), best);
        assert_eq!(tuned["chosen"].as_array().unwrap().len(), 4);
        let cross_validated = &tuned["cross_validated"];
        let mean = number(&cross_validated["mean"]);
        assert!(mean <= best + 1e-9);
        assert!(
            number(&cross_validated["low"]) <= mean && mean <= number(&cross_validated["high"])
        );
        assert_near(number(&tuned["difference"]["mean"]), mean - bm25);
    }
    // The judged documents are BM25's own first hits: nothing can be better.
    let verdict = report["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("bm25 alone"), "{verdict}");
    assert!(
        verdict.contains("at least as good as every fusion"),
        "{verdict}"
    );

    let again = scratch.laconic(&tune).succeeds().stdout;
    assert_eq!(again, scratch.laconic(&format!("{tune} --seed 0")).stdout);
    let text = scratch.laconic(&tune.replace("--json", "--fusion rrf --fusion tmm"));
    let text = text.succeeds().silently().stdout;
    for part in [
        "   w     rrf     tmm\n0.00  ",
        "\n1.00  ",
        "   rrf  ",
        "█",
        "bm25 alone, nDCG@10 ",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    assert!(!text.contains("search so:"), "{text}");
}

#[test]
fn what_cannot_be_tuned_is_a_usage_error() {
    let scratch = generated();
    scratch.write("qrels", "d0 0 d1 1\nd1 0 d2 1\n");
    let eval = "eval --index idx --qrels qrels --queries q.jsonl --query-vectors v.jsonl \
                --exclude-self yes";
    for (arguments, parts) in [
        ("--tune", &["2 judged queries", "5 folds"][..]),
        ("--tune --folds 1", &["1 folds"]),
        ("--tune --mode bm25", &["--tune", "--mode bm25"]),
        (
            "--tune --folds 2 --fusion tmm --rank-constant 1",
            &["--rank-constant", "rrf"],
        ),
        ("--mode hybrid --fusion tmm --fusion sum", &["eval --tune"]),
    ] {
        scratch
            .laconic(&format!("{eval} {arguments}"))
            .fails(2, parts);
    }
    for arguments in [
        "--folds 3",
        "--seed 1",
        "--tune --run x",
        "--tune --weight sparse=1,bm25=1",
    ] {
        scratch.laconic(&format!("{eval} {arguments}")).exits(2);
    }
    scratch
        .laconic(&format!("{eval} --tune --folds 2"))
        .succeeds();
}
