//! The encoder against outputs of PyTorch and transformers.
//!
//! The reference lies beside the checkout, not in it; without it these tests
//! print that they were skipped, and `forward.rs` alone holds the network to
//! its definition.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use laconic_model::{Encoder, Encoding, LoadOptions, Text, WeightFormat};
use safetensors::SafeTensors;
use serde::Deserialize;

const MODELS: [&str; 7] = [
    "tied",
    "tied-norope-scaling",
    "tied-v5config",
    "untied",
    "untied-bf16",
    "untied-headdim",
    "untied-sharded",
];

/// Of a term weight. The reference's own ways of computing differ by 1e-5.
/// It holds for bf16 storage too: both sides widen the weights to f32 exactly.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    batches: Vec<Batch>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    prefix: String,
    add_bos: bool,
    max_length: usize,
    ids: Vec<u32>,
    hidden_checksum: Option<Checksum>,
    sparse: BTreeMap<u32, f32>,
    n_active: usize,
}

#[derive(Deserialize)]
struct Checksum {
    sum: f64,
    abs_sum: f64,
    l2: f64,
    first_token_first8: Vec<f32>,
    last_token_first8: Vec<f32>,
}

#[derive(Deserialize)]
struct Batch {
    name: String,
    cases: Vec<String>,
}

fn oracle() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle"));
    if folder.is_dir() {
        return Some(folder.to_path_buf());
    }
    println!("skipped: {} is not there", folder.display());
    None
}

fn golden(oracle: &Path, model: &str) -> Golden {
    let path = oracle.join("golden").join(format!("{model}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(oracle: &Path, model: &str, knobs: &[(&str, String)]) -> Encoder {
    let mut options = LoadOptions::new();
    for (key, value) in knobs {
        options = options.set(*key, value);
    }
    Encoder::load(oracle.join("models").join(model), options).unwrap()
}

fn encoder_for(oracle: &Path, model: &str, case: &Case) -> Encoder {
    let knobs = [
        ("query_prefix", case.prefix.clone()),
        ("add_bos", case.add_bos.to_string()),
        ("max_length", case.max_length.to_string()),
        ("top_k", "none".to_owned()),
    ];
    load(oracle, model, &knobs)
}

/// Largest difference of a weight, over all tokens of either side.
fn weight_gap(encoding: &Encoding, truth: &BTreeMap<u32, f32>) -> f32 {
    let ours: BTreeMap<u32, f32> = encoding.weights.iter().copied().collect();
    assert_eq!(ours.len(), encoding.weights.len(), "a token id came twice");
    let ids = ours.keys().chain(truth.keys());
    let of = |map: &BTreeMap<u32, f32>, id: &u32| map.get(id).copied().unwrap_or(0.0);
    ids.map(|id| (of(&ours, id) - of(truth, id)).abs())
        .fold(0.0, f32::max)
}

fn largest_gap(ours: &[f32], truth: &[f32]) -> f32 {
    assert_eq!(ours.len(), truth.len());
    ours.iter()
        .zip(truth)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let data = tensors.tensor(name).ok()?.data().to_vec();
    Some(
        data.chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    )
}

#[test]
fn every_case_of_every_model() {
    let Some(oracle) = oracle() else { return };
    let mut worst = 0.0_f32;
    let mut n_cases = 0;
    for model in MODELS {
        for case in &golden(&oracle, model).cases {
            let encoder = encoder_for(&oracle, model, case);
            let label = format!("{model}/{}", case.name);
            assert_eq!(
                encoder.token_ids(Text::Query(&case.text)).unwrap(),
                case.ids,
                "{label}"
            );
            let encoding = encoder.encode_query(&case.text).unwrap();
            let gap = weight_gap(&encoding, &case.sparse);
            assert!(gap <= TOLERANCE, "{label}: weights differ by {gap}");
            assert!(
                encoding.weights.len().abs_diff(case.n_active) <= 1,
                "{label}"
            );
            assert_eq!(encoding.n_tokens, case.ids.len(), "{label}");
            worst = worst.max(gap);
            n_cases += 1;
        }
    }
    println!("{n_cases} cases, largest difference of a weight {worst:e}");
    assert!(n_cases >= 7 * 15, "only {n_cases} cases");
}

#[test]
fn hidden_states_and_logits_before_pooling() {
    let Some(oracle) = oracle() else { return };
    let (mut worst_logit, mut worst_hidden) = (0.0_f32, 0.0_f32);
    for model in MODELS {
        // The sharded model holds the numbers of the untied one.
        let file = if model == "untied-sharded" {
            "untied"
        } else {
            model
        };
        let path = oracle.join("golden").join(format!("{file}.safetensors"));
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let encoder = load(&oracle, model, &[("max_length", "512".to_owned())]);
        for case in golden(&oracle, model)
            .cases
            .iter()
            .filter(|case| !case.ids.is_empty())
        {
            let label = format!("{model}/{}", case.name);
            let trace = encoder.trace(&case.ids).unwrap();
            let truth = floats(&tensors, &format!("{}.max_logits", case.name)).unwrap();
            worst_logit = worst_logit.max(largest_gap(&trace.max_logits, &truth));
            if let Some(truth) = floats(&tensors, &format!("{}.hidden", case.name)) {
                worst_hidden = worst_hidden.max(largest_gap(&trace.hidden, &truth));
            }
            check_hidden(&label, &trace.hidden, case);
        }
    }
    println!("largest difference of a logit {worst_logit:e}, of a hidden value {worst_hidden:e}");
    // log1p halves differences at logits of 1 and more; weights get 1e-4.
    assert!(worst_logit <= 2e-4 && worst_hidden <= 2e-4);
}

fn check_hidden(label: &str, hidden: &[f32], case: &Case) {
    let truth = case.hidden_checksum.as_ref().unwrap();
    let width = hidden.len() / case.ids.len();
    let values = || hidden.iter().map(|x| f64::from(*x));
    let abs_sum = values().map(f64::abs).sum::<f64>();
    assert!(
        (values().sum::<f64>() - truth.sum).abs() < 1e-5 * truth.abs_sum,
        "{label}: sum"
    );
    assert!(
        (abs_sum - truth.abs_sum).abs() < 1e-5 * truth.abs_sum,
        "{label}: absolute sum"
    );
    let l2 = values().map(|x| x * x).sum::<f64>().sqrt();
    assert!((l2 - truth.l2).abs() < 1e-5 * truth.l2, "{label}: l2");
    let last = &hidden[hidden.len() - width..];
    assert!(
        largest_gap(&hidden[..8], &truth.first_token_first8) < 2e-4,
        "{label}: first token"
    );
    assert!(
        largest_gap(&last[..8], &truth.last_token_first8) < 2e-4,
        "{label}: last token"
    );
}

#[test]
fn a_batch_is_its_texts_one_by_one() {
    let Some(oracle) = oracle() else { return };
    let knobs = [
        ("max_length", "512".to_owned()),
        ("top_k", "none".to_owned()),
    ];
    let mut worst_alone = 0.0_f32;
    for model in MODELS {
        let encoder = load(&oracle, model, &knobs);
        let golden = golden(&oracle, model);
        for batch in &golden.batches {
            let find = |name: &String| golden.cases.iter().find(|case| case.name == *name).unwrap();
            let cases: Vec<&Case> = batch.cases.iter().map(find).collect();
            let ids: Vec<&[u32]> = cases.iter().map(|case| case.ids.as_slice()).collect();
            for (case, together) in cases.iter().zip(encoder.encode_ids(&ids).unwrap()) {
                let label = format!("{model}/{}/{}", batch.name, case.name);
                let gap = weight_gap(&together, &case.sparse);
                assert!(gap <= TOLERANCE, "{label}: {gap} from the reference");
                let alone = encoder.encode_ids(&[case.ids.as_slice()]).unwrap();
                let alone: BTreeMap<u32, f32> = alone[0].weights.iter().copied().collect();
                worst_alone = worst_alone.max(weight_gap(&together, &alone));
            }
        }
    }
    println!("batch against alone: largest difference of a weight {worst_alone:e}");
    assert!(worst_alone <= 1e-5);
}

#[test]
fn the_documents_of_a_preset_are_prefix_title_and_body() {
    let Some(oracle) = oracle() else { return };
    let encoder = load(&oracle, "tied", &[]);
    let golden = golden(&oracle, "tied");
    let case = golden
        .cases
        .iter()
        .find(|case| case.name == "passage_1")
        .unwrap();
    let (title, body) = case.text.split_once(' ').unwrap();
    assert_eq!(
        encoder.token_ids(Text::titled(title, body)).unwrap(),
        case.ids
    );
    assert_eq!(
        encoder.token_ids(Text::document(&case.text)).unwrap(),
        case.ids
    );
    let encoding = encoder.encode_document(Some(title), body).unwrap();
    assert!(
        weight_gap(&encoding, &case.sparse) <= TOLERANCE,
        "top 512 of 512 is all"
    );
}

#[test]
fn terms_are_the_raw_vocabulary_strings() {
    let Some(oracle) = oracle() else { return };
    let encoder = load(&oracle, "tied", &[]);
    let file = std::fs::read(oracle.join("models/tied/tokenizer.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let vocab = file["model"]["vocab"].as_object().unwrap();
    for (term, id) in vocab {
        let id = u32::try_from(id.as_u64().unwrap()).unwrap();
        assert_eq!(encoder.term(id), Some(term.as_str()));
    }
    assert_eq!(encoder.term(509), Some("<|begin_of_text|>"));
    assert_eq!(encoder.term(512), None);
    assert!(vocab.keys().any(|term| term.starts_with('Ġ')));
}

#[test]
fn truncation_is_reported_and_top_k_keeps_the_largest() {
    let Some(oracle) = oracle() else { return };
    let golden = golden(&oracle, "untied");
    let case = golden
        .cases
        .iter()
        .find(|case| case.name == "truncate_32")
        .unwrap();
    let all = encoder_for(&oracle, "untied", case)
        .encode_query(&case.text)
        .unwrap();
    assert!(all.is_truncated() && all.n_dropped_tokens > 0 && all.n_tokens == 32);
    let mut knobs = vec![
        ("query_prefix", case.prefix.clone()),
        ("max_length", "32".to_owned()),
    ];
    for top_k in [1, 7, all.weights.len() - 1, all.weights.len(), 512] {
        knobs.push(("top_k", top_k.to_string()));
        let cut = load(&oracle, "untied", &knobs)
            .encode_query(&case.text)
            .unwrap();
        assert_eq!(cut.weights, all.weights[..top_k.min(all.weights.len())]);
    }
    assert!(
        all.weights.is_sorted_by(|a, b| (b.1, a.0) <= (a.1, b.0)),
        "largest first, then id"
    );
}

#[test]
fn the_same_numbers_in_other_files_are_another_model() {
    let Some(oracle) = oracle() else { return };
    let prints: Vec<String> = MODELS
        .iter()
        .map(|model| load(&oracle, model, &[]).fingerprint().to_owned())
        .collect();
    for (idx, print) in prints.iter().enumerate() {
        assert_eq!(print.len(), 32);
        assert!(!prints[..idx].contains(print), "{} repeats", MODELS[idx]);
    }
    assert_eq!(
        load(&oracle, "tied", &[]).model_id(),
        format!("tied@{}", prints[0])
    );
}

#[test]
fn cutting_bytes_early_changes_no_token_that_is_kept() {
    let Some(oracle) = oracle() else { return };
    let library =
        tokenizers::Tokenizer::from_file(oracle.join("models/tied/tokenizer.json")).unwrap();
    let cases = golden(&oracle, "tied").cases;
    for max_length in [4, 32, 256, 512] {
        let length = max_length.to_string();
        let encoder = load(
            &oracle,
            "tied",
            &[("max_length", length), ("query_prefix", "".into())],
        );
        for case in cases.iter().filter(|case| case.text.len() > 3) {
            let text = format!("{} ", case.text).repeat(100_000 / case.text.len());
            let all = library.encode_fast(text.as_str(), false).unwrap();
            let kept = encoder.encode_query(&text).unwrap();
            let ids = encoder.token_ids(Text::Query(&text)).unwrap();
            assert_eq!(
                ids,
                all.get_ids()[..max_length],
                "{} at {max_length}",
                case.name
            );
            assert!(kept.n_dropped_bytes > 0 && kept.n_tokens == max_length);
        }
    }
}

#[test]
fn a_megabyte_in_one_run_is_merged_in_under_a_second() {
    let Some(oracle) = oracle() else { return };
    let encoder = load(&oracle, "tied", &[]);
    for unit in [
        "a",
        "e",
        " ",
        "\u{301}",
        "th",
        "東",
        "\t",
        "<|end_of_text|>",
    ] {
        let text = unit.repeat((1 << 20) / unit.len());
        let start = std::time::Instant::now();
        assert_eq!(encoder.token_ids(Text::Query(&text)).unwrap().len(), 256);
        assert!(
            start.elapsed().as_secs_f32() < 1.0,
            "{unit:?} took {:?}",
            start.elapsed()
        );
    }
}

/// Cosine of two encodings.
fn cosine(a: &Encoding, b: &Encoding) -> f64 {
    let ours: BTreeMap<u32, f32> = b.weights.iter().copied().collect();
    let dot =
        |(id, x): &(u32, f32)| f64::from(*x) * f64::from(ours.get(id).copied().unwrap_or(0.0));
    let norm = |encoding: &Encoding| -> f64 {
        let squares = encoding.weights.iter().map(|(_, x)| f64::from(*x).powi(2));
        squares.sum::<f64>().sqrt()
    };
    a.weights.iter().map(dot).sum::<f64>() / (norm(a) * norm(b))
}

/// What int8 costs on networks of a few dozen channels, where roundings average out least: the
/// figures that the documentation of `WeightFormat` states.
#[test]
fn int8_is_close_to_f32() {
    let Some(oracle) = oracle() else { return };
    let (mut worst, mut sum, mut n_cases) = (1.0_f64, 0.0, 0.0);
    for model in MODELS {
        let options = || LoadOptions::new().set("top_k", "none");
        let folder = oracle.join("models").join(model);
        let exact = Encoder::load(&folder, options()).unwrap();
        let close = Encoder::load(&folder, options().weights(WeightFormat::Int8)).unwrap();
        assert_eq!(exact.fingerprint(), close.fingerprint());
        for case in &golden(&oracle, model).cases {
            let [exact, close] = [&exact, &close].map(|e| e.encode_query(&case.text).unwrap());
            let cosine = cosine(&exact, &close);
            worst = worst.min(cosine);
            sum += cosine;
            n_cases += 1.0;
        }
    }
    println!(
        "{n_cases} texts: mean cosine {:.6}, worst {worst:.6}",
        sum / n_cases
    );
    assert!(worst > 0.989 && sum / n_cases > 0.995);
}
