//! Training's head never holds positions × vocabulary, forward or backward.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::measure;
use laconic_model::train::{Example, Passage, Recipe, Trainer};
use laconic_model::{Device, LoadOptions};
use support::Checkpoint;

const VOCABULARY: usize = 128_256;

/// Bytes that a step needs at most beside what is there before it, for passages of `len` bytes.
fn peak_of_a_step(model: &std::path::Path, len: usize) -> usize {
    let body = |i: usize| {
        "abcdefgh"
            .chars()
            .cycle()
            .skip(i)
            .take(len)
            .collect::<String>()
    };
    let pair = |i: usize| Example {
        query: format!("{i}"),
        positive: Passage {
            title: None,
            body: body(i),
        },
        ..Example::default()
    };
    let examples: Vec<Example> = (0..8).map(pair).collect();
    let recipe = Recipe {
        batch: 8,
        query_length: 512,
        document_length: 512,
        chunk_tokens: 1 << 16,
        ..Recipe::named("nano", 1).unwrap()
    };
    let mut trainer =
        Trainer::load(model, &LoadOptions::new(), recipe, &examples, Device::Cpu).unwrap();
    trainer.step().unwrap();
    let (_, peak) = measure(|| {
        trainer.step().unwrap();
    });
    peak
}

/// What 460 more tokens in each of 8 passages add to the peak of a step, and the peak with them.
fn growth(vocabulary: usize) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    Checkpoint::with_vocab(7, vocabulary).write(dir.path());
    let (short, long) = (
        peak_of_a_step(dir.path(), 20),
        peak_of_a_step(dir.path(), 480),
    );
    (long - short, long)
}

#[test]
fn the_heads_memory_does_not_grow_with_positions() {
    let (small, large) = (growth(260), growth(VOCABULARY));
    let logits = 8 * 460 * VOCABULARY * 4;
    println!(
        "peak of a step of 8 passages of 480 tokens: {} MB at 260 entries, {} MB at {VOCABULARY}; \
         460 tokens of each add {} MB and {} MB, their logits would be {} MB",
        small.1 >> 20,
        large.1 >> 20,
        small.0 >> 20,
        large.0 >> 20,
        logits >> 20
    );
    // A tile of 32 MB for each of the threads is what may come on top.
    assert!(large.0 < small.0 + logits / 8, "{small:?} {large:?}");
}
