//! GGUF files: those of llama.cpp against golden outputs, our own against what they were made of.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers in tests"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use laconic_model::{
    Encoder, Encoding, Error, FileFormat, LoadOptions, Text, WeightFormat, quantize,
};
use serde::Deserialize;
use serde_json::json;
use support::{Checkpoint, Entry, Random, safetensors, write};
use tempfile::TempDir;

const FORMATS: [(FileFormat, WeightFormat, &str); 7] = [
    (FileFormat::F32, WeightFormat::F32, "f32"),
    (FileFormat::F16, WeightFormat::F32, "f16"),
    (FileFormat::Bf16, WeightFormat::Bf16, "bf16"),
    (FileFormat::Q8_0, WeightFormat::Q8_0, "q8_0"),
    (FileFormat::Q6K, WeightFormat::Q6K, "q6_k"),
    (FileFormat::Q5K, WeightFormat::Q5K, "q5_k"),
    (FileFormat::Q4K, WeightFormat::Q4K, "q4_k"),
];

const HIDDEN: usize = 256;
const HEADS: usize = 8;
const KV_HEADS: usize = 2;
const LAYERS: usize = 2;
const VOCAB: usize = 260;

/// A checkpoint whose rows are whole superblocks, but those of `down_proj` of odd layers: 320.
fn wide(folder: &Path, is_tied: bool, change: impl Fn(&str, &mut [f32])) {
    let inner = 320;
    let head_dim = HIDDEN / HEADS;
    let kv = KV_HEADS * head_dim;
    let config = json!({
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": inner, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
        "rope_theta": 500_000.7, "tie_word_embeddings": is_tied, "bos_token_id": 250,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    });
    let mut random = Random(5);
    let mut entries = Vec::new();
    let mut add = |name: &str, shape: &[usize]| {
        let scale = if shape.len() == 2 { 0.15 } else { 1.0 };
        let mut values: Vec<f32> = (0..shape.iter().product())
            .map(|_| random.float() * scale)
            .collect();
        change(name, &mut values);
        entries.push(Entry::f32(name, shape, &values));
    };
    add("model.embed_tokens.weight", &[VOCAB, HIDDEN]);
    add("model.norm.weight", &[HIDDEN]);
    if !is_tied {
        add("lm_head.weight", &[VOCAB, HIDDEN]);
    }
    for layer in 0..LAYERS {
        for (part, shape) in [
            ("input_layernorm", &[HIDDEN][..]),
            ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj", &[kv, HIDDEN]),
            ("self_attn.v_proj", &[kv, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("mlp.gate_proj", &[inner, HIDDEN]),
            ("mlp.up_proj", &[inner, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, inner]),
        ] {
            add(&format!("model.layers.{layer}.{part}.weight"), shape);
        }
    }
    write(folder, "config.json", config.to_string().as_bytes());
    write(
        folder,
        "laconic.json",
        br#"{"top_k": null, "query_prefix": "q "}"#,
    );
    write(
        folder,
        "tokenizer.json",
        support::tokenizer().to_string().as_bytes(),
    );
    write(folder, "model.safetensors", &safetensors(&entries));
}

fn source(is_tied: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    wide(folder.path(), is_tied, |_, _| {});
    folder
}

fn made(source: &Path, destination: &Path, format: FileFormat) -> PathBuf {
    quantize(source, destination, format, &LoadOptions::new(), |_, _| {}).unwrap()
}

fn load(path: &Path, format: WeightFormat) -> Encoder {
    Encoder::load(path, LoadOptions::new().weights(format)).unwrap()
}

fn encodings(encoder: &Encoder) -> Vec<Encoding> {
    let long =
        "one text of somewhat more than sixty-four bytes, where rope scaling begins to matter ";
    let texts = [
        Text::Query("copper"),
        Text::titled("a", "b c"),
        Text::document(long),
    ];
    encoder.encode_batch(&texts, |_| {}).unwrap()
}

#[test]
fn a_quantized_file_is_quantizing_on_load_bit_for_bit() {
    for is_tied in [true, false] {
        let (source, out) = (source(is_tied), tempfile::tempdir().unwrap());
        for (format, weights, name) in FORMATS {
            let path = made(source.path(), out.path(), format);
            let folder = source.path().file_name().unwrap().to_str().unwrap();
            let folder = folder.trim_start_matches('.');
            assert!(
                path.ends_with(format!("{folder}-{name}.gguf")),
                "{}",
                path.display()
            );
            let (file, folder) = (load(&path, weights), load(source.path(), weights));
            if format != FileFormat::F16 {
                assert_eq!(encodings(&file), encodings(&folder), "{name}");
            }
            assert!(
                encodings(&file)
                    .iter()
                    .all(|encoding| encoding.weights.len() > 20),
                "{name}"
            );
            // Knobs come along.
            assert_eq!(file.preset(), folder.preset());
            assert!(file.model_id().contains(name) && file.fingerprint() != folder.fingerprint());
        }
        // A folder with several files must not be guessed about.
        let error = Encoder::load(out.path(), LoadOptions::new()).unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains("gguf"),
            "{error}"
        );
        assert!(
            fs::read_dir(out.path()).unwrap().count() == FORMATS.len() + 1,
            "only whole files"
        );
    }
}

#[test]
fn stored_is_the_format_of_the_file() {
    let (source, out) = (source(true), tempfile::tempdir().unwrap());
    let path = made(source.path(), out.path(), FileFormat::Q4K);
    // The only file of its folder.
    let stored = Encoder::load(out.path(), LoadOptions::new()).unwrap();
    assert_eq!(
        encodings(&stored),
        encodings(&load(&path, WeightFormat::Q4K))
    );
    let widened = encodings(&load(&path, WeightFormat::F32));
    assert_ne!(encodings(&stored), widened);
    let cosine = cosine(&encodings(&stored)[2], &widened[2]);
    assert!(cosine > 0.999, "{cosine}: rounding of rows alone");
    assert_eq!(
        load(source.path(), WeightFormat::Stored).weight_format(),
        WeightFormat::F32
    );
    // The extension alone makes a destination a file; no tokenizer comes along.
    let alone = tempfile::tempdir().unwrap();
    let path = made(
        source.path(),
        &alone.path().join("m.gguf"),
        FileFormat::Q8_0,
    );
    assert_eq!(fs::read_dir(alone.path()).unwrap().count(), 1);
    assert!(
        Encoder::load(&path, LoadOptions::new())
            .unwrap_err()
            .is_missing()
    );
    let tokenizer = source.path().join("tokenizer.json");
    let encoder = Encoder::load(&path, LoadOptions::new().tokenizer(tokenizer)).unwrap();
    assert!(encoder.model_id().starts_with("m@"));
    // From a file as from a folder.
    let again = alone.path().join("again.gguf");
    made(&path, &again, FileFormat::Q8_0);
    let data = |path: &Path| fs::read(path).unwrap();
    let (first, second) = (data(&path), data(&again));
    assert_eq!(
        first[first.len() - 70_000..],
        second[second.len() - 70_000..]
    );
}

/// Read as blocks or as numbers, a file has one fingerprint, and another once any part differs.
#[test]
fn a_fingerprint_depends_on_the_bytes_alone() {
    let (source, out) = (source(true), tempfile::tempdir().unwrap());
    let path = made(source.path(), out.path(), FileFormat::Q4K);
    let of = |format| load(&path, format).fingerprint().to_owned();
    let expected = of(WeightFormat::Stored);
    for format in [
        WeightFormat::F32,
        WeightFormat::Q4K,
        WeightFormat::Q8_0,
        WeightFormat::Bf16,
    ] {
        assert_eq!(of(format), expected, "{format:?}");
    }
    let whole = fs::read(&path).unwrap();
    let content = Content::read(&mut fs::File::open(&path).unwrap()).unwrap();
    for tensor in content.tensor_infos.values() {
        // The last byte of a scale or of a number: still finite.
        let at = usize::try_from(content.tensor_data_offset + tensor.offset).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_ne!(of(WeightFormat::Stored), expected);
    }
}

fn cosine(a: &Encoding, b: &Encoding) -> f64 {
    let of = |encoding: &Encoding| -> BTreeMap<u32, f64> {
        encoding
            .weights
            .iter()
            .map(|(id, weight)| (*id, f64::from(*weight)))
            .collect()
    };
    let (a, b) = (of(a), of(b));
    let dot: f64 = a
        .iter()
        .filter_map(|(id, x)| b.get(id).map(|y| x * y))
        .sum();
    let norm = |v: &BTreeMap<u32, f64>| v.values().map(|x| x * x).sum::<f64>().sqrt();
    dot / (norm(&a) * norm(&b))
}

/// Another reader finds what we meant: metadata, names, shapes, and rows in llama.cpp's order.
#[test]
fn candle_reads_what_is_written() {
    let (source, out) = (source(false), tempfile::tempdir().unwrap());
    let bytes = fs::read(source.path().join("model.safetensors")).unwrap();
    let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| -> Vec<f32> {
        let data = tensors.tensor(name).unwrap();
        data.data()
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect()
    };
    for (format, tolerance) in [
        (FileFormat::F32, 0.0),
        (FileFormat::Q8_0, 0.0007),
        (FileFormat::Q4K, 0.016),
    ] {
        let path = made(source.path(), out.path(), format);
        let mut file = fs::File::open(&path).unwrap();
        let content = Content::read(&mut file).unwrap();
        let number = |key: &str| content.metadata[key].to_u32().unwrap();
        assert_eq!(
            content.metadata["general.architecture"]
                .to_string()
                .unwrap(),
            "llama"
        );
        assert_eq!(number("llama.embedding_length"), 256);
        assert_eq!(number("llama.attention.head_count_kv"), 2);
        assert_eq!(number("llama.vocab_size"), 260);
        assert!(matches!(
            content.metadata["llama.attention.causal"],
            Value::Bool(false)
        ));
        assert!(
            content.metadata["laconic.config"]
                .to_string()
                .unwrap()
                .contains("500000.7")
        );
        assert_eq!(content.tensor_infos.len(), 1 + 3 + 9 * LAYERS);
        let mut read = |name: &str| {
            let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
            let tensor = tensor.dequantize(&Device::Cpu).unwrap();
            (
                tensor.dims().to_vec(),
                tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            )
        };
        let (dims, theirs) = read("blk.1.ffn_down.weight");
        assert_eq!(dims, [256, 320]);
        let ours = numbers("model.layers.1.mlp.down_proj.weight");
        assert!(
            ours.iter()
                .zip(&theirs)
                .all(|(a, b)| (a - b).abs() <= tolerance)
        );
        // Channel 1 of head 3 of q comes third; its partner, 16 further, fourth.
        let (_, theirs) = read("blk.0.attn_q.weight");
        let ours = numbers("model.layers.0.self_attn.q_proj.weight");
        let row = |values: &[f32], row: usize| values[row * 256..(row + 1) * 256].to_vec();
        for (a, b) in [(3 * 32 + 1, 3 * 32 + 2), (3 * 32 + 17, 3 * 32 + 3)] {
            let pairs = row(&ours, a).into_iter().zip(row(&theirs, b));
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() <= tolerance));
        }
        let (dims, factors) = read("rope_freqs.weight");
        assert_eq!((dims, factors[0], factors[15]), (vec![16], 1.0, 8.0));
    }
}

/// Without our own keys, as another program would have written it, all but the last bits are there.
#[test]
fn the_standard_keys_suffice() {
    let (source, out) = (source(true), tempfile::tempdir().unwrap());
    let path = made(source.path(), out.path(), FileFormat::F32);
    let ours = encodings(&load(&path, WeightFormat::F32));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(14)
        .position(|window| window == b"laconic.config")
        .unwrap();
    bytes[at..at + 14].copy_from_slice(b"unknown.config");
    fs::write(&path, bytes).unwrap();
    let theirs = encodings(&load(&path, WeightFormat::F32));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(cosine(ours, theirs) > 1.0 - 1e-6);
    }
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    wide(folder.path(), true, |name, values| {
        if name.ends_with("layers.1.mlp.up_proj.weight") {
            values[77] = 1e6;
        }
    });
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    let run = |format| quantize(folder.path(), &path, format, &LoadOptions::new(), |_, _| {});
    for format in [FileFormat::F16, FileFormat::Q8_0, FileFormat::Q4K] {
        let error = run(format).unwrap_err();
        assert!(
            error.is_unsupported() && error.to_string().contains("layers.1.mlp.up_proj"),
            "{error}"
        );
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }
    run(FileFormat::Bf16).unwrap();
    // A destination that cannot be: a file where a folder is wanted.
    let error = quantize(
        folder.path(),
        path.join("x.gguf"),
        FileFormat::F32,
        &LoadOptions::new(),
        |_, _| {},
    );
    assert!(error.unwrap_err().is_io());
    // Progress ends at the whole.
    let mut last = (0, 0);
    quantize(
        folder.path(),
        &path,
        FileFormat::F32,
        &LoadOptions::new(),
        |done, all| {
            assert!(done > last.0);
            last = (done, all);
        },
    )
    .unwrap();
    assert!(last.0 == last.1 && last.0 > 500_000);
}

fn refusal(path: &Path) -> Error {
    Encoder::load(path, LoadOptions::new()).expect_err("it was loaded")
}

/// Every field of the metadata that sizes something, out of range or at odds with the tensors.
#[test]
fn metadata_that_do_not_fit_are_refused() {
    let (source, out) = (source(true), tempfile::tempdir().unwrap());
    let path = made(source.path(), out.path(), FileFormat::Q8_0);
    let whole = fs::read(&path).unwrap();
    let keys = [
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.rope.dimension_count",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.rope.freq_base",
        "llama.context_length",
        "tokenizer.ggml.bos_token_id",
    ];
    for key in keys {
        let at = whole
            .windows(key.len())
            .rposition(|window| window == key.as_bytes())
            .unwrap();
        let at = at + key.len() + 4;
        for value in [0_u32, 3, 0x7fff_ffff, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            fs::write(&path, bytes).unwrap();
            let error = refusal(&path);
            assert!(
                error.is_corrupt() && error.to_string().contains(".gguf"),
                "{key} {value}: {error}"
            );
        }
    }
    let mut bytes = whole.clone();
    let at = whole
        .windows(5)
        .position(|window| window == b"llama")
        .unwrap();
    bytes[at] = b'L';
    fs::write(&path, bytes).unwrap();
    assert!(refusal(&path).is_unsupported());
}

#[test]
fn a_damaged_file_is_never_loaded() {
    let (source, out) = (source(true), tempfile::tempdir().unwrap());
    let path = made(source.path(), out.path(), FileFormat::Q5K);
    fs::copy(&path, path.with_extension("whole")).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in (0..whole.len())
        .step_by(whole.len() / 97)
        .filter(|cut| whole.len() - cut > 32)
        .chain([whole.len() - 33])
    {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(refusal(&path).is_corrupt(), "cut at {cut}");
    }
    // A scale of infinity; a norm that is NaN.
    let content =
        Content::read(&mut fs::File::open(path.with_extension("whole")).unwrap()).unwrap();
    for (tensor, at, bits) in [
        ("blk.1.ffn_gate.weight", 176 * 5, &[0x00, 0x7c][..]),
        ("blk.0.ffn_norm.weight", 4 * 77, &[0, 0, 0xc0, 0x7f]),
    ] {
        let place = content.tensor_data_offset + content.tensor_infos[tensor].offset;
        let at = usize::try_from(place).unwrap() + at;
        let mut bytes = whole.clone();
        bytes[at..at + bits.len()].copy_from_slice(bits);
        fs::write(&path, bytes).unwrap();
        let error = refusal(&path);
        let message = error.to_string();
        assert!(
            error.is_corrupt() && message.contains("NaN or infinite"),
            "{error}"
        );
        assert!(message.contains(tensor), "{error}");
    }
}

#[test]
fn random_damage_never_panics_and_never_leaves_nonsense() {
    let (source, out) = (source(true), tempfile::tempdir().unwrap());
    let path = made(source.path(), out.path(), FileFormat::Q6K);
    let whole = fs::read(&path).unwrap();
    let header = whole
        .windows(17)
        .rposition(|window| window == b"token_embd.weight")
        .unwrap()
        + 1500;
    let mut random = Random(7);
    let mut n_loaded = 0;
    for round in 0..300 {
        let mut bytes = whole.clone();
        let reach = if round % 3 == 0 { bytes.len() } else { header };
        for _ in 0..1 + random.below(3) {
            bytes[random.below(reach)] = u8::try_from(random.below(256)).unwrap();
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(encoder) = Encoder::load(&path, LoadOptions::new()) {
            n_loaded += 1;
            match encoder.encode(Text::Query("abc")) {
                Ok(encoding) => {
                    assert!(
                        encoding
                            .weights
                            .iter()
                            .all(|(_, w)| w.is_finite() && *w > 0.0)
                    );
                }
                Err(error) => assert!(error.is_not_finite(), "{error}"),
            }
        }
    }
    println!("{n_loaded} of 300 damaged files still loaded");
    assert!(n_loaded < 300);
}

/// The old tiny checkpoint: 16 inputs fit no block, so all stays f32 and exact.
#[test]
fn matrices_without_whole_blocks_stay_numbers() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Checkpoint::new(3).write(folder.path());
    let path = made(folder.path(), out.path(), FileFormat::Q4K);
    let exact = Encoder::load(folder.path(), LoadOptions::new()).unwrap();
    assert_eq!(
        encodings(&load(&path, WeightFormat::Stored)),
        encodings(&exact)
    );
    assert_eq!(
        encodings(&load(folder.path(), WeightFormat::Q4K)),
        encodings(&exact)
    );
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    prefix: String,
    add_bos: bool,
    max_length: usize,
    ids: Vec<u32>,
    sparse: BTreeMap<u32, f32>,
}

/// Largest difference of a weight, over all tokens of either side.
fn gap(encoding: &Encoding, truth: &BTreeMap<u32, f32>) -> f32 {
    let ours: BTreeMap<u32, f32> = encoding.weights.iter().copied().collect();
    let of = |map: &BTreeMap<u32, f32>, id: &u32| map.get(id).copied().unwrap_or(0.0);
    let ids = ours.keys().chain(truth.keys());
    ids.map(|id| (of(&ours, id) - of(truth, id)).abs())
        .fold(0.0, f32::max)
}

/// llama.cpp's files and the outputs of transformers on their dequantized weights: f32 agrees to
/// 1e-4; rows as bytes stay within what other kernels of the kind are off (0.35, see the oracle).
#[test]
fn files_of_llama_cpp_give_the_golden_outputs() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/oracle/gguf"
    ));
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    for name in ["tied-f16", "tied-q8_0", "tied-q4_k_m", "untied-q4_k_m"] {
        let golden: Golden =
            serde_json::from_slice(&fs::read(folder.join(format!("{name}.json"))).unwrap())
                .unwrap();
        let mut worst = [0.0_f32; 2];
        for case in &golden.cases {
            for (worst, format) in worst
                .iter_mut()
                .zip([WeightFormat::F32, WeightFormat::Stored])
            {
                let options = LoadOptions::new()
                    .weights(format)
                    .set("query_prefix", &case.prefix)
                    .set("add_bos", case.add_bos.to_string())
                    .set("max_length", case.max_length.to_string())
                    .set("top_k", "none");
                let encoder = Encoder::load(folder.join(format!("{name}.gguf")), options).unwrap();
                let query = Text::Query(&case.text);
                assert_eq!(
                    encoder.token_ids(query).unwrap(),
                    case.ids,
                    "{name}/{}",
                    case.name
                );
                *worst = worst.max(gap(&encoder.encode(query).unwrap(), &case.sparse));
            }
        }
        println!(
            "{name}: f32 off by {:.2e}, as stored by {:.2e}",
            worst[0], worst[1]
        );
        assert!(worst[0] < 1e-4, "{name}: {}", worst[0]);
        assert!(worst[1] < 0.35, "{name}: {}", worst[1]);
    }
}
