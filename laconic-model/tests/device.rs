//! Encoding by the code for devices, on candle's CPU device, against encoding by the CPU's kernels
//! and against outputs of PyTorch and transformers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use laconic_model::{Device, Encoder, Encoding, FileFormat, LoadOptions, Text, WeightFormat};
use serde_json::Value;
use support::Checkpoint;

/// Of a term weight, in f32.
const TOLERANCE: f32 = 1e-4;

fn options() -> LoadOptions {
    LoadOptions::new().set("top_k", "none")
}

fn gap(a: &[(u32, f32)], b: &[(u32, f32)]) -> f32 {
    let [a, b] = [a, b].map(|weights| weights.iter().copied().collect::<BTreeMap<_, _>>());
    let of = |map: &BTreeMap<u32, f32>, id: &u32| map.get(id).copied().unwrap_or(0.0);
    let ids = a.keys().chain(b.keys());
    ids.map(|id| (of(&a, id) - of(&b, id)).abs())
        .fold(0.0, f32::max)
}

fn cosine(a: &Encoding, b: &Encoding) -> f32 {
    let other: BTreeMap<u32, f32> = b.weights.iter().copied().collect();
    let dot = |(id, x): &(u32, f32)| x * other.get(id).copied().unwrap_or(0.0);
    let norm = |e: &Encoding| e.weights.iter().map(|(_, x)| x * x).sum::<f32>().sqrt();
    a.weights.iter().map(dot).sum::<f32>() / (norm(a) * norm(b))
}

const TEXTS: [Text<'_>; 7] = [
    Text::Query("a boat"),
    Text::Query("a bell"),
    Text::Query(""),
    Text::Document {
        title: Some("Clocks"),
        body: "She repaired the clock at the end of the street, twice.",
    },
    Text::Document {
        title: None,
        body: "The boat is late.",
    },
    Text::Query("who repaired it?"),
    Text::Query("a boat"),
];

#[test]
fn every_way_to_encode_gives_the_weights_of_the_cpu() {
    for (seed, checkpoint) in [(1, Checkpoint::new(1)), (2, Checkpoint::new(2).tied())] {
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        for pooling in ["max", "sum"] {
            let options = || options().set("pooling", pooling);
            let cpu = Encoder::load(folder.path(), options()).unwrap();
            let tensors = Encoder::load(folder.path(), options().tensors_on_cpu()).unwrap();
            assert_eq!(cpu.model_id(), tensors.model_id());
            assert_eq!(tensors.weight_format(), WeightFormat::F32);
            // Sums are of dozens of positions.
            let tolerance = if pooling == "sum" { 1e-3 } else { TOLERANCE };
            let batch = tensors.encode_batch(&TEXTS, |_| {}).unwrap();
            for (text, together) in TEXTS.iter().zip(batch) {
                let truth = cpu.encode(*text).unwrap();
                let alone = tensors.encode(*text).unwrap();
                let attributed = tensors.encode_with_attribution(*text).unwrap();
                for ours in [&together, &alone, &attributed.encoding] {
                    let gap = gap(&ours.weights, &truth.weights);
                    assert!(gap <= tolerance, "{seed} {pooling} {text:?}: {gap}");
                    assert_eq!(ours.n_tokens, truth.n_tokens);
                }
                let theirs = cpu.encode_with_attribution(*text).unwrap();
                let places = |a: &laconic_model::Attribution| -> BTreeMap<u32, usize> {
                    a.terms()
                        .map(|term| (term.token_id, term.position))
                        .collect()
                };
                let (ours, theirs) = (places(&attributed), places(&theirs));
                let n_other = ours.iter().filter(|(id, at)| theirs.get(id) != Some(at));
                assert!(n_other.count() <= 1, "{seed} {pooling} {text:?}");
            }
            if pooling == "max" {
                let ids = cpu.token_ids(TEXTS[3]).unwrap();
                let [ours, truth] = [&tensors, &cpu].map(|encoder| encoder.trace(&ids).unwrap());
                for (a, b) in [
                    (ours.hidden, truth.hidden),
                    (ours.max_logits, truth.max_logits),
                ] {
                    assert_eq!(a.len(), b.len());
                    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 2e-4));
                }
            }
        }
    }
}

/// bf16 keeps 8 bits: the bound for networks of 16 channels, which average out least.
#[test]
fn bf16_is_close() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(3).write(folder.path());
    let cpu = Encoder::load(folder.path(), options()).unwrap();
    let half = options().weights(WeightFormat::Bf16).tensors_on_cpu();
    let half = Encoder::load(folder.path(), half).unwrap();
    assert_eq!(half.weight_format(), WeightFormat::Bf16);
    for text in TEXTS.iter().filter(|text| **text != Text::Query("")) {
        let [truth, close] = [&cpu, &half].map(|encoder| encoder.encode(*text).unwrap());
        let cosine = cosine(&truth, &close);
        assert!(cosine > 0.999, "{text:?}: {cosine}");
    }
}

#[test]
fn gguf_files_are_widened_and_keep_their_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(4).write(folder.path());
    let file = folder.path().join("model-q8.gguf");
    let none = LoadOptions::new();
    laconic_model::quantize(folder.path(), &file, FileFormat::Q8_0, &none, |_, _| {}).unwrap();
    let cpu = Encoder::load(&file, options().weights(WeightFormat::F32)).unwrap();
    let tensors = Encoder::load(&file, options().tensors_on_cpu()).unwrap();
    assert_eq!(cpu.fingerprint(), tensors.fingerprint());
    for text in TEXTS {
        let [truth, ours] = [&cpu, &tensors].map(|encoder| encoder.encode(text).unwrap());
        assert!(gap(&truth.weights, &ours.weights) <= TOLERANCE);
    }
}

#[test]
fn what_a_device_does_not_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(5).write(folder.path());
    let int8 = options().weights(WeightFormat::Int8).tensors_on_cpu();
    let error = Encoder::load(folder.path(), int8).unwrap_err();
    assert!(error.is_invalid_input() && error.to_string().contains("Int8"));
    for (device, has_code) in [
        (Device::Cuda(0), cfg!(feature = "cuda")),
        (Device::Metal(0), cfg!(feature = "metal")),
    ] {
        if !has_code {
            let error = Encoder::load(folder.path(), options().device(device)).unwrap_err();
            assert!(error.is_unsupported());
            assert!(error.to_string().contains(device.kind()), "{error}");
        }
    }
}

/// A device that is at hand gives what the CPU gives. Without one, this prints that it was skipped.
#[test]
fn a_device_at_hand_gives_the_weights_of_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(6).write(folder.path());
    let cpu = Encoder::load(folder.path(), options()).unwrap();
    for device in [Device::Cuda(0), Device::Metal(0)] {
        let there = match Encoder::load(folder.path(), options().device(device)) {
            Ok(encoder) => encoder,
            Err(error) => {
                assert!(error.is_unsupported(), "{error}");
                println!("skipped: {error}");
                continue;
            }
        };
        assert_eq!(there.device(), device);
        for text in TEXTS {
            let [truth, ours] = [&cpu, &there].map(|encoder| encoder.encode(text).unwrap());
            let gap = gap(&truth.weights, &ours.weights);
            assert!(gap <= TOLERANCE, "{device}, {text:?}: {gap}");
        }
    }
}

/// The golden outputs lie beside the checkout, not in it.
#[test]
fn golden_outputs() {
    let oracle = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle"));
    if !oracle.is_dir() {
        println!("skipped: {} is not there", oracle.display());
        return;
    }
    let (mut worst, mut n_cases) = (0.0_f32, 0);
    for file in std::fs::read_dir(oracle.join("golden")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let model = path.file_stem().unwrap().to_str().unwrap();
        let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let folder = oracle.join("models").join(model);
        let options = options().set("max_length", "512").tensors_on_cpu();
        let encoder = Encoder::load(folder, options).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        let ids = cases.iter().map(|case| {
            let ids = case["ids"].as_array().unwrap().iter();
            ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
                .collect::<Vec<u32>>()
        });
        let ids: Vec<Vec<u32>> = ids.collect();
        let slices: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        for (case, ours) in cases.iter().zip(encoder.encode_ids(&slices).unwrap()) {
            let sparse: BTreeMap<u32, f32> =
                serde_json::from_value(case["sparse"].clone()).unwrap();
            let truth: Vec<(u32, f32)> = sparse.into_iter().collect();
            let gap = gap(&ours.weights, &truth);
            assert!(gap <= TOLERANCE, "{model}/{}: {gap}", case["name"]);
            worst = worst.max(gap);
            n_cases += 1;
        }
    }
    println!("{n_cases} cases, largest difference of a weight {worst:e}");
    assert!(n_cases >= 7 * 15, "only {n_cases} cases");
}
