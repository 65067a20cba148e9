//! A model made from documents alone, trained, mined with and trained again, as a user would; and
//! a run that is killed at random moments and gone on with, which ends as an unbroken one.
//!
//! `LACONIC_KILLS` sets the number of kills (3 by default), `LACONIC_SEED` where they fall.
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::fs;
use std::time::Duration;

use laconic_tests::{Scratch, scifact_docs, scratch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

const SMALL: &str = "--vocabulary 600 --hidden 32 --intermediate 48 --layers 1 --heads 2";
const SHORT: &str = "--set batch=8 --set query_length=24 --set document_length=48";

/// 60 documents of SciFact, pairs made of them, and a model to train.
fn prepared() -> Scratch {
    let scratch = scratch!();
    scratch.write("docs.jsonl", scifact_docs(60));
    let pairs = "pairs docs.jsonl --output pairs.jsonl --held-out 10 --held-out-to held.jsonl";
    let made = scratch.laconic(pairs).succeeds();
    assert!(made.stderr.contains("of 10 documents held out"), "{made}");
    let new = format!("model new docs.jsonl --output start {SMALL}");
    scratch.laconic(&new).succeeds();
    scratch
}

fn lines(scratch: &Scratch, file: &str) -> Vec<Value> {
    let text = scratch.read(file);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn from_documents_alone_to_a_model_that_searches() {
    let scratch = prepared();
    let held: Vec<Value> = lines(&scratch, "held.jsonl");
    let groups: Vec<&str> = held
        .iter()
        .map(|pair| pair["group"].as_str().unwrap())
        .collect();
    let pairs = lines(&scratch, "pairs.jsonl");
    assert!(
        pairs
            .iter()
            .all(|pair| !groups.contains(&pair["group"].as_str().unwrap()))
    );
    let train = format!(
        "train start --pairs pairs.jsonl --output one --validation held.jsonl {SHORT} \
         --set steps=12 --validate-every 6"
    );
    let trained = scratch.laconic(&train).succeeds();
    assert!(trained.stdout.contains("held out: "), "{trained}");
    let figures = lines(&scratch, "one/metrics.jsonl");
    let steps = figures
        .iter()
        .filter(|line| line.get("loss").is_some())
        .count();
    let validations = figures
        .iter()
        .filter(|line| line.get("validation").is_some())
        .count();
    assert_eq!((steps, validations), (12, 3));
    assert!(scratch.read("one/training.svg").contains("held out"));
    assert!(scratch.read("one/recipe.json").contains("\"steps\": 12"));
    // Once more into the same folder only when asked to go on, and then nothing is left to do.
    let again = scratch.laconic(&train);
    again.fails(2, &["--resume"]);
    let model = fs::read(scratch.path("one/model/model.safetensors")).unwrap();
    scratch.laconic(&format!("{train} --resume")).succeeds();
    assert!(model == fs::read(scratch.path("one/model/model.safetensors")).unwrap());

    scratch
        .laconic("index --docs docs.jsonl --model one/model --index idx")
        .succeeds();
    let mine = "mine --index idx --model one/model --pairs pairs.jsonl --output triplets.jsonl \
                --negatives 3 --margin 0.9";
    scratch.laconic(mine).succeeds();
    for triplet in lines(&scratch, "triplets.jsonl") {
        let negatives = triplet["negatives"].as_array().unwrap();
        assert_eq!(negatives.len(), 3);
        // Titles tell SciFact's documents apart; a title pair's positive has none.
        if let Some(title) = triplet["positive"].get("title") {
            assert!(negatives.iter().all(|negative| negative["title"] != *title));
        }
    }
    let train = format!(
        "train one/model --phase 2 --pairs triplets.jsonl --output two {SHORT} --set steps=4 \
         --set negatives=2"
    );
    scratch.laconic(&train).succeeds();
    let search = "search --index idx --model two/model cells --format trec";
    scratch.laconic(search).fails(5, &["model"]);
    let found = scratch.laconic("search --index idx --model one/model cells --format trec");
    assert!(!found.succeeds().hits().is_empty());
}

#[test]
fn a_killed_run_goes_on_to_the_weights_of_an_unbroken_one() {
    let kills: usize = number("LACONIC_KILLS").unwrap_or(3);
    let mut random = StdRng::seed_from_u64(number("LACONIC_SEED").unwrap_or(0) as u64);
    let scratch = prepared();
    let train = |output: &str| {
        format!(
            "train start --pairs pairs.jsonl --output {output} {SHORT} --set steps=30 \
             --set lora_rank=2 --save-every 2 --store f32"
        )
    };
    let start = std::time::Instant::now();
    scratch.laconic(&train("unbroken")).succeeds();
    let whole = start.elapsed();
    for _ in 0..kills {
        let mut child = scratch.start(&format!("{} --resume", train("broken")));
        std::thread::sleep(whole.mul_f64(random.random_range(0.05..0.6)));
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    scratch
        .laconic(&format!("{} --resume", train("broken")))
        .succeeds();
    for file in [
        "model/model.safetensors",
        "model/config.json",
        "model/laconic.json",
    ] {
        let of = |run: &str| fs::read(scratch.path(format!("{run}/{file}"))).unwrap();
        assert!(of("broken") == of("unbroken"), "{file}");
    }
    let steps = |run: &str| -> Vec<(Value, Value)> {
        let lines = lines(&scratch, &format!("{run}/metrics.jsonl"));
        lines
            .iter()
            .map(|line| (line["step"].clone(), line["loss"].clone()))
            .collect()
    };
    assert_eq!(
        steps("broken"),
        steps("unbroken"),
        "each step is in the journal once"
    );
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_cannot_be_trained_is_refused_with_a_reason() {
    let scratch = prepared();
    for (arguments, code, why) in [
        (
            "train start --pairs pairs.jsonl --output x --set steps=many",
            3,
            "`steps`",
        ),
        (
            "train start --pairs pairs.jsonl --output x --recipe laconic-2b",
            3,
            "laconic-3b",
        ),
        (
            "train start --pairs pairs.jsonl --output x --phase 2",
            3,
            "mine more",
        ),
        ("train nowhere --pairs pairs.jsonl --output x", 3, "nowhere"),
        ("train start --pairs docs.jsonl --output x", 3, "line 1"),
        (
            "train start --pairs pairs.jsonl --output x --device cuda",
            3,
            "feature",
        ),
        (
            "mine --index nowhere --mode bm25 --pairs pairs.jsonl --output t",
            3,
            "nowhere",
        ),
        (
            "pairs docs.jsonl --shortest-span 9 --longest-span 3",
            2,
            "--longest-span",
        ),
        (
            "pairs docs.jsonl --held-out 60 --held-out-to x",
            2,
            "--held-out 60",
        ),
        (
            "model new docs.jsonl --output x --hidden 31 --quiet",
            3,
            "hidden_size",
        ),
    ] {
        scratch.laconic(arguments).fails(code, &[why]);
        assert!(!scratch.path("x/model").exists(), "{arguments}");
    }
}
