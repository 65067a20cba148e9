//! The code for devices never holds positions × vocabulary, nor all scores of a long text.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

#[path = "support/counting.rs"]
mod counting;
mod support;

use counting::measure;
use laconic_model::{Encoder, LoadOptions};
use support::Checkpoint;

#[test]
fn logits_and_scores_exist_only_in_pieces() {
    let vocab = 128_256;
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::with_vocab(1, vocab).write(folder.path());
    let options = LoadOptions::new()
        .set("max_length", "3072")
        .tensors_on_cpu();
    let encoder = Encoder::load(folder.path(), options).unwrap();
    // Threads and their buffers come into being on the first call.
    encoder.encode_query("warm up").unwrap();

    let text = "She repaired the clock. ".repeat(150);
    let (largest, peak) = measure(|| {
        assert_eq!(encoder.encode_query(&text).unwrap().n_tokens, 3072);
    });
    let (all_logits, all_scores) = (3072 * vocab * 4, support::HEADS * 3072 * 3072 * 4);
    println!("one long text: largest allocation {largest} bytes, peak {peak} bytes");
    println!("against {all_logits} of all logits, {all_scores} of one layer's scores");
    // A tile of logits is 128 MiB at most; a piece of scores 64 MiB, and the exponentials come on top.
    assert!(largest <= 132 << 20, "{largest} bytes at once");
    assert!(peak <= 256 << 20, "{peak} bytes in all");
}
