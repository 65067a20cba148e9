//! Training from outside: it learns, it can be broken off, and what it writes is what it trained.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod support;

use std::path::Path;

use laconic_model::train::{Example, Lora, NewModel, Passage, Recipe, StoredAs, Trainer};
use laconic_model::{Device, Encoder, LoadOptions};
use support::Checkpoint;

/// A hundred pairs whose queries share no letter with their passages.
fn pairs() -> Vec<Example> {
    let mut random = support::Random(9);
    let mut word = |alphabet: &str| -> String {
        let letters = alphabet.as_bytes();
        let drawn = (0..5).map(|_| char::from(letters[random.below(letters.len())]));
        drawn.collect()
    };
    let mut pair = |i: usize| Example {
        query: format!("{} {}", word("abcdefghijklm"), word("abcdefghijklm")),
        positive: Passage {
            title: i.is_multiple_of(3).then(|| word("nopqrstuvwxyz")),
            body: format!("{} {}", word("nopqrstuvwxyz"), word("nopqrstuvwxyz")),
        },
        ..Example::default()
    };
    (0..100).map(&mut pair).collect()
}

fn new_model(dir: &Path) {
    let pairs = pairs();
    let passages = pairs.iter().map(|pair| pair.positive.body.clone());
    let texts: Vec<String> = pairs
        .iter()
        .map(|pair| pair.query.clone())
        .chain(passages)
        .collect();
    let shape = NewModel {
        vocab_size: 900,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 1,
        heads: 2,
        max_length: 32,
        seed: 3,
    };
    shape.write(dir, &texts).unwrap();
}

fn recipe(steps: usize) -> Recipe {
    Recipe {
        steps,
        batch: 50,
        learning_rate: 3e-3,
        query_length: 40,
        document_length: 40,
        query_flops: 0.0,
        document_flops: 0.0,
        weight_decay: 0.0,
        embedding_rate: 1.0,
        norm_rate: 1.0,
        warmup: 0.05,
        beta2: 0.999,
        epsilon: 1e-8,
        flops_ramp: 0.33,
        ..Recipe::named("nano", 1).unwrap()
    }
}

fn lora(rank: usize, dropout: f64) -> Option<Lora> {
    let alpha = 16.0;
    Some(Lora {
        rank,
        alpha,
        dropout,
    })
}

fn start<'a>(model: &Path, recipe: Recipe, examples: &'a [Example]) -> Trainer<'a> {
    Trainer::load(model, &LoadOptions::new(), recipe, examples, Device::Cpu).unwrap()
}

#[test]
fn a_hundred_pairs_are_learnt_by_heart_and_flops_cost_terms() {
    let dir = tempfile::tempdir().unwrap();
    Checkpoint::new(7).write(dir.path());
    let pairs = pairs();
    let train = |flops: f64| {
        let recipe = Recipe {
            query_flops: flops,
            document_flops: flops,
            learning_rate: 6e-3,
            ..recipe(400)
        };
        let mut trainer = start(dir.path(), recipe, &pairs);
        let before = trainer.validate(&pairs).unwrap();
        assert!(
            before.recall_at_1 < 0.1,
            "nothing is known before: {before:?}"
        );
        let mut last = None;
        while let Some(report) = trainer.step().unwrap() {
            last = Some(report);
        }
        (last.unwrap(), trainer.validate(&pairs).unwrap())
    };
    let (free, found) = train(0.0);
    assert!(free.loss < 0.02, "{free:?}");
    assert_eq!((found.recall_at_1, found.ndcg_at_10), (1.0, 1.0));
    let (_, sparse) = train(0.3);
    assert!(
        sparse.document_terms < 0.7 * found.document_terms,
        "{} terms, {} without",
        sparse.document_terms,
        found.document_terms
    );
}

/// The file of a model after training broken off after `stops` steps, each time from what was
/// saved.
fn train_in_parts(model: &Path, recipe: &Recipe, stops: &[usize]) -> Vec<u8> {
    let (states, pairs) = (tempfile::tempdir().unwrap(), pairs());
    for stop in stops.iter().chain([&usize::MAX]) {
        let mut trainer = start(model, recipe.clone(), &pairs);
        assert_eq!(
            trainer.restore_state(states.path()).unwrap(),
            *stop != stops[0]
        );
        while trainer.n_done() < *stop && trainer.step().unwrap().is_some() {}
        if *stop == usize::MAX {
            let out = states.path().join("model");
            trainer.write_model(&out, StoredAs::F32).unwrap();
            return std::fs::read(out.join("model.safetensors")).unwrap();
        }
        trainer.save_state(states.path()).unwrap();
        // Steps after the state are lost with the process, and leave no trace.
        trainer.step().unwrap();
    }
    panic!("the last part writes the model");
}

#[test]
fn a_run_in_parts_ends_with_the_bits_of_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    Checkpoint::new(7).write(dir.path());
    for lora in [None, lora(2, 0.3)] {
        let recipe = Recipe {
            lora,
            accumulate: 2,
            batch: 20,
            chunk_tokens: if lora.is_some() { 64 } else { 1 << 20 },
            ..recipe(9)
        };
        let unbroken = train_in_parts(dir.path(), &recipe, &[0]);
        assert!(train_in_parts(dir.path(), &recipe, &[1, 4, 5, 8]) == unbroken);
        let other = Recipe { seed: 1, ..recipe };
        assert!(train_in_parts(dir.path(), &other, &[0]) != unbroken);
    }
}

#[test]
fn a_state_of_something_else_is_refused() {
    let (dir, states) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    new_model(dir.path());
    let pairs = pairs();
    let mut trainer = start(dir.path(), recipe(3), &pairs);
    trainer.step().unwrap();
    trainer.save_state(states.path()).unwrap();
    let refused = |recipe: Recipe, examples: &[Example], why: &str| {
        let error = start(dir.path(), recipe, examples)
            .restore_state(states.path())
            .unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(why),
            "{error}"
        );
    };
    refused(recipe(4), &pairs, "the recipe");
    refused(recipe(3), &pairs[1..], "the examples");
    let weights = states.path().join("step-00000001/weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let error = start(dir.path(), recipe(3), &pairs)
        .restore_state(states.path())
        .unwrap_err();
    assert!(error.is_corrupt(), "{error}");
    let partial = states.path().join("empty");
    assert!(
        !start(dir.path(), recipe(3), &pairs)
            .restore_state(&partial)
            .unwrap()
    );
}

/// Llama-3 rotary scaling, grouped keys, padding rows, a separate head, adapters: the encoder's
/// term weights of the written checkpoint are those the trainer validated with.
#[test]
fn the_encoder_makes_of_the_checkpoint_what_was_trained() {
    let pairs = pairs();
    for lora in [None, lora(4, 0.0)] {
        let (base, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Checkpoint::new(7).write(base.path());
        let recipe = Recipe { lora, ..recipe(3) };
        let mut trainer = start(base.path(), recipe, &pairs);
        while trainer.step().unwrap().is_some() {}
        let validated = trainer.validate(&pairs).unwrap();
        trainer.write_model(out.path(), StoredAs::F32).unwrap();
        let encoder = Encoder::load(out.path(), LoadOptions::new().set("top_k", "none")).unwrap();
        let before = Encoder::load(base.path(), LoadOptions::new().set("top_k", "none")).unwrap();
        let count = |encoder: &Encoder| -> (usize, usize) {
            let of = |pair: &Example| {
                let title = pair.positive.title.as_deref();
                let document = encoder.encode_document(title, &pair.positive.body).unwrap();
                let query = encoder.encode_query(&pair.query).unwrap();
                (query.weights.len(), document.weights.len())
            };
            let counts = pairs.iter().map(of);
            counts.fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1))
        };
        let (queries, documents) = count(&encoder);
        assert_ne!(
            (queries, documents),
            count(&before),
            "training changed nothing"
        );
        // One of the 26,000 terms may lie on either side of 0.
        let close = |terms: usize, mean: f64| {
            (f64::from(u32::try_from(terms).unwrap()) - mean * 100.0).abs() <= 1.0
        };
        assert!(
            close(queries, validated.query_terms) && close(documents, validated.document_terms),
            "{queries} and {documents} terms, {validated:?}"
        );
    }
}

#[test]
fn a_model_made_from_nothing_weighs_its_own_tokens() {
    let dir = tempfile::tempdir().unwrap();
    new_model(dir.path());
    let encoder = Encoder::load(dir.path(), LoadOptions::new()).unwrap();
    for pair in pairs().iter().take(20) {
        let encoding = encoder.encode_query(&pair.query).unwrap();
        let mut own: Vec<u32> = encoder
            .token_ids(laconic_model::Text::Query(&pair.query))
            .unwrap();
        own.sort_unstable();
        own.dedup();
        let heaviest: Vec<u32> = encoding.weights.iter().map(|(id, _)| *id).collect();
        assert!(
            own.iter().all(|id| heaviest.contains(id)),
            "{own:?} {heaviest:?}"
        );
        assert!(own.contains(&heaviest[0]));
    }
}

#[test]
fn a_checkpoint_of_another_family_is_refused_by_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families/bert");
    let pairs = pairs();
    let options = LoadOptions::new();
    let loaded = Trainer::load(&folder, &options, recipe(1), &pairs, Device::Cpu);
    let error = loaded.err().unwrap().to_string();
    assert!(
        error.contains("`bert`") && error.contains("llama"),
        "{error}"
    );
}
