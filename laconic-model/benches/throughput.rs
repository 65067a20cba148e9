//! How many texts a second does a small model encode, and where would more
//! tokens in a batch help?
//!
//! `cargo bench -p laconic-model` makes a checkpoint of random weights (hidden
//! 64, 2 layers, 2,048 tokens) and encodes texts of three lengths with several
//! token budgets. Compiled and run once, briefly, as a test.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers in tests"
)]
#![allow(clippy::print_stdout, reason = "a bench reports by printing")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use laconic_model::{Encoder, LoadOptions};
use serde_json::json;
use support::{Entry, Random, safetensors, tokenizer, write};

fn main() {
    let folder = std::env::temp_dir().join(format!("laconic-throughput-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    checkpoint(&folder);
    // Cargo passes --bench when it benches and nothing when it tests.
    let n_texts = if std::env::args().any(|arg| arg == "--bench") {
        1000
    } else {
        10
    };
    for n_tokens in [16, 64, 256] {
        for batch_tokens in [256, 1024, 4096, 16_384] {
            let rate = texts_per_second(&folder, n_texts, n_tokens, batch_tokens);
            println!("{n_tokens:>4} tokens a text, budget {batch_tokens:>6}: {rate:>8.0} texts/s");
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn texts_per_second(folder: &Path, n_texts: usize, n_tokens: usize, batch_tokens: usize) -> f64 {
    let options = LoadOptions::new().batch_tokens(batch_tokens);
    let encoder = Encoder::load(folder, options).expect("the checkpoint is sound");
    let mut random = Random(1);
    let mut text = || -> Vec<u32> {
        (0..n_tokens)
            .map(|_| u32::try_from(random.below(256)).expect("below 256"))
            .collect()
    };
    let texts: Vec<Vec<u32>> = (0..n_texts).map(|_| text()).collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let start = Instant::now();
    let encodings = encoder.encode_ids(&texts).expect("every logit is finite");
    encodings.len() as f64 / start.elapsed().as_secs_f64()
}

fn checkpoint(folder: &Path) {
    let (vocab, hidden, inner, heads, kv_heads) = (2048, 64, 176, 4, 2);
    let kv = hidden * kv_heads / heads;
    let config = json!({
        "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": 2, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
        "rope_theta": 500000.0, "tie_word_embeddings": true
    });
    let mut random = Random(3);
    let mut entry = |name: &str, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| random.float() * 0.2)
            .collect();
        Entry::f32(name, shape, &values)
    };
    let mut entries = vec![
        entry("model.embed_tokens.weight", &[vocab, hidden]),
        entry("model.norm.weight", &[hidden]),
    ];
    for layer in 0..2 {
        for (part, shape) in [
            ("input_layernorm", &[hidden][..]),
            ("self_attn.q_proj", &[hidden, hidden]),
            ("self_attn.k_proj", &[kv, hidden]),
            ("self_attn.v_proj", &[kv, hidden]),
            ("self_attn.o_proj", &[hidden, hidden]),
            ("post_attention_layernorm", &[hidden]),
            ("mlp.gate_proj", &[inner, hidden]),
            ("mlp.up_proj", &[inner, hidden]),
            ("mlp.down_proj", &[hidden, inner]),
        ] {
            entries.push(entry(&format!("model.layers.{layer}.{part}.weight"), shape));
        }
    }
    write(folder, "config.json", config.to_string().as_bytes());
    write(folder, "tokenizer.json", tokenizer().to_string().as_bytes());
    write(folder, "model.safetensors", &safetensors(&entries));
}
