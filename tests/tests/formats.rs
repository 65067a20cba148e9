//! A checkpoint in fewer bits: written as GGUF, told about, encoded with.

#![allow(clippy::unwrap_used, reason = "test code")]

use laconic_fixtures::nano;
use laconic_tests::{Scratch, scratch};

const DOCS: &str = r#"{"_id": "a", "title": "Bones", "text": "bone density in women"}
{"_id": "b", "text": "vitamin D and the skin"}
"#;

fn with_nano() -> Scratch {
    let scratch = scratch!();
    nano::write_to(&scratch.path("nano")).unwrap();
    scratch.write("docs.jsonl", DOCS);
    scratch
}

fn encode(scratch: &Scratch, options: &str) -> String {
    let command = format!("encode --no-cache --kind document --input docs.jsonl {options}");
    scratch.laconic(&command).succeeds().stdout
}

#[test]
fn a_quantized_file_encodes_as_quantizing_on_load_does() {
    let scratch = with_nano();
    let exact = encode(&scratch, "--model nano");
    for format in ["q8_0", "bf16"] {
        let quantize = format!("--quiet model quantize nano {format}.gguf --format {format}");
        scratch.laconic(&quantize).succeeds();
        let on_load = encode(&scratch, &format!("--model nano --weights {format}"));
        let options = format!(
            "--model {format}.gguf --tokenizer nano/tokenizer.json --weights {}",
            if format == "bf16" { "bf16" } else { "stored" }
        );
        assert_eq!(encode(&scratch, &options), on_load, "{format}");
        assert_ne!(on_load, exact, "{format}");
    }
    // Into a folder, the tokenizer goes along.
    scratch
        .laconic("--quiet model quantize nano small --format q8_0")
        .succeeds();
    let small = encode(&scratch, "--model small");
    assert_eq!(small, encode(&scratch, "--model nano --weights q8_0"));
    let info = scratch.laconic("model info small --json").succeeds().json();
    assert_eq!(info["family"], "llama");
    assert_eq!(info["stored_as"]["F32"], 640);
    assert_eq!(info["stored_as"]["Q8_0"], 3_498_624 - 640);
    let mut formats: Vec<&String> = info["memory"].as_object().unwrap().keys().collect();
    formats.sort();
    assert_eq!(
        formats,
        [
            "bf16", "f32", "int8", "q4_k", "q5_k", "q6_k", "q8_0", "q8_0-f32"
        ]
    );
    // What names memory are the names that `--weights` takes.
    for format in formats {
        encode(&scratch, &format!("--model nano --weights {format}"));
    }
}

#[test]
fn a_device_that_was_not_built_in_is_refused_by_its_feature() {
    let scratch = with_nano();
    let encode = "--quiet encode --kind document --input docs.jsonl --model nano --device";
    let cpu = scratch.laconic(&format!("{encode} cpu")).succeeds().stdout;
    assert!(cpu.contains("bone"), "{cpu}");
    scratch.laconic(&format!("{encode} tpu")).exits(2);
    if cfg!(not(target_os = "macos")) {
        let refused = scratch.laconic(&format!("{encode} metal"));
        refused.fails(3, &["metal", "feature"]);
    }
}
