//! Neither positions × vocabulary nor positions × positions is ever in memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::measure;
use laconic_model::{Encoder, LoadOptions, Text};
use support::Checkpoint;

#[test]
fn logits_and_scores_exist_only_as_tiles() {
    rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build_global()
        .unwrap();
    let vocab = 30_000;
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::with_vocab(1, vocab).write(folder.path());
    let options = LoadOptions::new().set("max_length", "1024");
    let encoder = Encoder::load(folder.path(), options).unwrap();
    // Threads and their buffers come into being on the first call.
    encoder.encode_query("warm up").unwrap();

    let text = "She repaired the clock. ".repeat(50);
    let (largest, peak) = measure(|| {
        assert_eq!(encoder.encode_query(&text).unwrap().n_tokens, 1024);
    });
    let (all_logits, all_scores) = (1024 * vocab * 4, 2 * 1024 * 1024 * 4);
    println!("one long text: largest allocation {largest} bytes, peak {peak} bytes");
    println!("against {all_logits} of all logits, {all_scores} of one head group's scores");
    assert!(largest <= 2 << 20, "{largest} bytes at once");
    assert!(peak <= 16 << 20, "{peak} bytes in all");

    let texts = vec![Text::Query("a boat"); 600];
    let (largest, peak) = measure(|| {
        encoder.encode_batch(&texts, |_| {}).unwrap();
    });
    println!("600 short texts: largest allocation {largest} bytes, peak {peak} bytes");
    // Pooled logits of a batch are at most 32 MiB; results are 4 KiB a text.
    assert!(
        peak <= 48 << 20,
        "{peak} bytes in all, {} if all were pooled",
        600 * vocab * 4
    );
}
