//! The encoder against the definition, on a checkpoint made here: runs
//! wherever the crate builds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers in tests"
)]

mod support;

use std::path::Path;

use laconic_model::{Encoder, Encoding, LoadOptions, Text, WeightFormat};
use support::{Checkpoint, Entry, Random, VOCAB, reference, safetensors, write};

fn load(folder: &Path, knobs: &[(&str, &str)]) -> Encoder {
    let options = knobs
        .iter()
        .fold(LoadOptions::new(), |options, (k, v)| options.set(*k, *v));
    Encoder::load(folder, options).unwrap()
}

fn gap(encoding: &Encoding, truth: &[f64]) -> f64 {
    let mut ours = vec![0.0; truth.len()];
    for (id, weight) in &encoding.weights {
        assert!(weight.is_finite() && *weight > 0.0);
        ours[usize::try_from(*id).unwrap()] = f64::from(*weight);
    }
    ours.iter()
        .zip(truth)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// Weights by the definition, with the rows that have no token left out.
fn truth(checkpoint: &Checkpoint, encoder: &Encoder, text: Text<'_>) -> Vec<f64> {
    let mut weights = reference(checkpoint, &encoder.token_ids(text).unwrap());
    weights[256..].fill(0.0);
    weights
}

const TEXTS: [&str; 5] = [
    "a",
    "Copper conducts electricity better than iron.",
    "Grüße, 東京! 🚀",
    "   ",
    "She repaired the clock with a borrowed screwdriver, two springs and a good deal of patience; \
     then she wound it, set it by the church bell, and went out to count the boats before the fog.",
];

#[test]
fn weights_are_those_of_the_definition() {
    for (seed, is_tied) in [(1, false), (2, true), (3, false)] {
        let mut checkpoint = Checkpoint::new(seed);
        if is_tied {
            checkpoint = checkpoint.tied();
        }
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        let encoder = load(folder.path(), &[("top_k", "none")]);
        for text in TEXTS
            .map(Text::Query)
            .into_iter()
            .chain(TEXTS.map(|t| Text::titled(t, t)))
        {
            let gap = gap(
                &encoder.encode(text).unwrap(),
                &truth(&checkpoint, &encoder, text),
            );
            assert!(gap < 1e-4, "seed {seed}, {text:?}: {gap}");
        }
    }
}

#[test]
fn rows_without_a_token_are_never_in_an_encoding() {
    let mut checkpoint = Checkpoint::new(4);
    let head = checkpoint.tensors.get_mut("lm_head.weight").unwrap();
    for value in &mut head.values[256 * support::HIDDEN..] {
        *value *= 100.0;
    }
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    let encoder = load(folder.path(), &[("top_k", "5")]);
    assert_eq!(encoder.vocab_size(), VOCAB);
    let encoding = encoder.encode_query(TEXTS[1]).unwrap();
    assert_eq!(encoding.weights.len(), 5);
    for (id, _) in &encoding.weights {
        assert!(*id < 256 && encoder.term(*id).is_some(), "{id}");
    }
    assert!(encoder.term(256).is_none() && encoder.term(u32::MAX).is_none());
}

#[test]
fn a_batch_of_many_is_each_alone_in_the_order_given() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(5).write(folder.path());
    let encoder = load(folder.path(), &[]);
    let mut random = Random(7);
    let strings: Vec<String> = (0..1100)
        .map(|_| {
            (0..random.below(40))
                .map(|_| char::from(b'a' + random.below(26) as u8))
                .collect()
        })
        .collect();
    let texts: Vec<Text<'_>> = strings
        .iter()
        .enumerate()
        .map(|(i, s)| {
            if i % 3 == 0 {
                Text::Query(s)
            } else {
                Text::document(s)
            }
        })
        .collect();
    let mut calls = Vec::new();
    let together = encoder
        .encode_batch(&texts, |n_done| calls.push(n_done))
        .unwrap();
    assert_eq!(together.len(), texts.len());
    assert!(
        calls.is_sorted() && calls.last() == Some(&1100),
        "{calls:?}"
    );
    for (text, together) in texts.iter().zip(&together).step_by(17) {
        assert_eq!(&encoder.encode(*text).unwrap(), together, "{text:?}");
    }
}

/// Bit for bit, in every format.
#[test]
fn the_token_budget_changes_speed_only() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(6).write(folder.path());
    let texts = TEXTS.map(Text::document);
    for format in [WeightFormat::F32, WeightFormat::Int8] {
        let encode = |n_tokens: usize| {
            let options = LoadOptions::new()
                .batch_tokens(n_tokens)
                .weights(format)
                .set("top_k", "none");
            Encoder::load(folder.path(), options)
                .unwrap()
                .encode_batch(&texts, |_| {})
                .unwrap()
        };
        let all = encode(usize::MAX);
        for n_tokens in [0, 1, 60] {
            assert_eq!(encode(n_tokens), all);
        }
    }
}

/// The network of the other tests is a few numbers wide, so every rounding shows.
#[test]
fn int8_weights_are_near_the_definition_tied_or_not() {
    for (seed, is_tied) in [(1, false), (2, true), (3, false)] {
        let mut checkpoint = Checkpoint::new(seed);
        if is_tied {
            checkpoint = checkpoint.tied();
        }
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        let options = LoadOptions::new().set("top_k", "none");
        let encoder = Encoder::load(folder.path(), options.weights(WeightFormat::Int8)).unwrap();
        for text in TEXTS.map(Text::Query) {
            let truth = truth(&checkpoint, &encoder, text);
            let ours = encoder.encode(text).unwrap();
            let dot = |(id, w): &(u32, f32)| f64::from(*w) * truth[*id as usize];
            let squares =
                |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
            let norms = squares(&mut truth.iter().copied())
                * squares(&mut ours.weights.iter().map(|(_, w)| f64::from(*w)));
            let cosine = ours.weights.iter().map(dot).sum::<f64>() / norms.sqrt();
            assert!(cosine > 0.999, "seed {seed}, {text:?}: {cosine}");
        }
    }
}

#[test]
fn an_overflow_is_reported_from_int8_weights_too() {
    let mut checkpoint = Checkpoint::new(14);
    let folder = tempfile::tempdir().unwrap();
    let embedding = checkpoint.tensors.get_mut("model.embed_tokens.weight");
    embedding
        .unwrap()
        .values
        .iter_mut()
        .for_each(|x| *x *= 1e30);
    checkpoint.write(folder.path());
    let options = LoadOptions::new().weights(WeightFormat::Int8);
    let encoder = Encoder::load(folder.path(), options).unwrap();
    let error = encoder
        .encode_batch(&[Text::Query("a")], |_| {})
        .unwrap_err();
    assert!(
        error.is_not_finite() && error.document_idx() == Some(0),
        "{error}"
    );
}

#[test]
fn empty_texts_have_the_empty_vector() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(8).write(folder.path());
    let encoder = load(
        folder.path(),
        &[("query_prefix", ""), ("document_prefix", "")],
    );
    let mut calls = Vec::new();
    let encodings = encoder
        .encode_batch(&[Text::Query(""), Text::document("")], |n| calls.push(n))
        .unwrap();
    assert!(
        encodings
            .iter()
            .all(|e| e.weights.is_empty() && e.n_tokens == 0)
    );
    assert_eq!(calls, [2]);
    let mixed = encoder
        .encode_batch(&[Text::Query(""), Text::Query("a")], |_| {})
        .unwrap();
    assert!(mixed[0].weights.is_empty() && !mixed[1].weights.is_empty());
    assert!(encoder.encode_batch(&[], |_| {}).unwrap().is_empty());
    // With its prefix, an empty text is the prefix's own tokens.
    let encoder = load(folder.path(), &[]);
    assert_eq!(encoder.encode_query("").unwrap().n_tokens, "query: ".len());
}

#[test]
fn bos_and_eos_are_the_configs_and_count_towards_the_length() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(9).write(folder.path());
    let knobs = [
        ("add_bos", "true"),
        ("add_eos", "true"),
        ("max_length", "8"),
    ];
    let encoder = load(folder.path(), &knobs);
    let ids = encoder.token_ids(Text::Query("abc")).unwrap();
    assert_eq!((ids.len(), ids[0], ids[7]), (8, 250, 251));
    let encoding = encoder.encode_query("abc").unwrap();
    assert_eq!((encoding.n_tokens, encoding.n_dropped_tokens), (8, 4));
}

#[test]
fn bf16_weights_are_computed_in_f32() {
    let mut checkpoint = Checkpoint::new(10);
    for tensor in checkpoint.tensors.values_mut() {
        tensor
            .values
            .iter_mut()
            .for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
    }
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write_json(folder.path());
    let entries: Vec<Entry> = checkpoint
        .tensors
        .iter()
        .map(|(n, t)| Entry::bf16(n, &t.shape, &t.values))
        .collect();
    write(folder.path(), "model.safetensors", &safetensors(&entries));
    let encoder = load(folder.path(), &[("top_k", "none")]);
    for text in TEXTS.map(Text::Query) {
        assert!(
            gap(
                &encoder.encode(text).unwrap(),
                &truth(&checkpoint, &encoder, text)
            ) < 1e-4
        );
    }
}

#[test]
fn a_side_file_overrides_the_preset_and_the_caller_overrides_both() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(11).write(folder.path());
    write(
        folder.path(),
        "laconic.json",
        br#"{"max_length": 8, "query_prefix": "Q"}"#,
    );
    let encoder = load(folder.path(), &[]);
    assert_eq!(
        (
            encoder.preset().max_length(),
            encoder.preset().query_prefix()
        ),
        (8, "Q")
    );
    let encoder = load(folder.path(), &[("max_length", "9")]);
    assert_eq!(
        (
            encoder.preset().max_length(),
            encoder.preset().query_prefix()
        ),
        (9, "Q")
    );
}

#[test]
fn the_fingerprint_covers_config_tokenizer_and_weights_but_not_the_place() {
    let base = Checkpoint::new(12);
    let mut config = base.clone();
    config.config["rms_norm_eps"] = serde_json::json!(1.1e-5);
    let mut weights = base.clone();
    weights.tensors.get_mut("model.norm.weight").unwrap().values[0] += 1e-6;
    let print = |checkpoint: &Checkpoint| {
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        load(folder.path(), &[]).fingerprint().to_owned()
    };
    let first = print(&base);
    assert_eq!(print(&base), first);
    for changed in [&config, &weights] {
        assert_ne!(print(changed), first);
    }
    // The tokenizer may lie apart; its bytes count, its place does not.
    let folder = tempfile::tempdir().unwrap();
    base.write(folder.path());
    let apart = folder.path().join("apart.json");
    std::fs::rename(folder.path().join("tokenizer.json"), &apart).unwrap();
    let missing = Encoder::load(folder.path(), LoadOptions::new()).unwrap_err();
    assert!(
        missing.is_missing() && missing.to_string().contains("ship no tokenizer"),
        "{missing}"
    );
    let options = LoadOptions::new().tokenizer(&apart);
    assert_eq!(
        Encoder::load(folder.path(), options).unwrap().fingerprint(),
        first
    );
    let other = base.tokenizer.to_string().replace("\"1.0\"", " \"1.0\"");
    std::fs::write(&apart, other).unwrap();
    let options = LoadOptions::new().tokenizer(&apart);
    assert_ne!(
        Encoder::load(folder.path(), options).unwrap().fingerprint(),
        first
    );
}

#[test]
fn encoders_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Encoder>();
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(13).write(folder.path());
    let encoder = load(folder.path(), &[]);
    let expected = encoder.encode_query(TEXTS[1]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(encoder.encode_query(TEXTS[1]).unwrap(), expected));
        }
    });
}

#[test]
fn an_overflow_names_its_text_across_windows() {
    let mut checkpoint = Checkpoint::new(14);
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    let z = load(folder.path(), &[("query_prefix", "")])
        .token_ids(Text::Query("z"))
        .unwrap()[0];
    let row = usize::try_from(z).unwrap() * support::HIDDEN;
    // Finite, so it loads; its square is not.
    checkpoint
        .tensors
        .get_mut("model.embed_tokens.weight")
        .unwrap()
        .values[row] = 1e30;
    checkpoint.write(folder.path());
    let encoder = load(folder.path(), &[]);
    let mut texts = vec![Text::Query("a"); 1050];
    assert!(encoder.encode_batch(&texts, |_| {}).is_ok());
    for idx in [0, 500, 1023, 1024, 1049] {
        texts[idx] = Text::Query("az");
        let error = encoder.encode_batch(&texts, |_| {}).unwrap_err();
        assert!(error.is_not_finite());
        assert_eq!(error.document_idx(), Some(idx));
        assert!(
            error
                .to_string()
                .contains(&format!("text {idx} of the batch")),
            "{error}"
        );
        assert!(error.to_string().contains("position"), "{error}");
        texts[idx] = Text::Query("a");
    }
}

#[test]
fn ids_are_checked_before_they_are_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(15).write(folder.path());
    let encoder = load(folder.path(), &[("max_length", "4")]);
    let error = encoder.encode_ids(&[&[1], &[260]]).unwrap_err();
    assert!(
        error.is_invalid_input() && error.document_idx() == Some(1),
        "{error}"
    );
    assert!(
        encoder
            .encode_ids(&[&[1; 5]])
            .unwrap_err()
            .is_invalid_input()
    );
    assert!(encoder.trace(&[]).unwrap_err().is_invalid_input());
    assert!(encoder.encode_ids(&[&[1; 4], &[]]).is_ok());
}
