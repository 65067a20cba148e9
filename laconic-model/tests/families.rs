//! BERT and DistilBERT in every layout, against transformers and sentence-transformers: the
//! checkpoints and outputs of `families/make.py`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "families/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;

use laconic_model::{Encoder, Encoding, LoadOptions, Preset, Source, Text, WeightFormat};
use serde_json::{Value, json};
use support::{Golden, copy, edit, first_difference, folder, load};

const FAMILIES: [&str; 5] = ["bert", "opensearch", "sparse-encoder", "legacy", "router"];

#[test]
fn every_text_of_every_family_has_the_tokens_and_weights_of_the_reference() {
    for family in FAMILIES {
        let (encoder, golden) = (load(folder(family)).unwrap(), Golden::of(family));
        let (mut n_cases, mut n_terms) = (0, 0);
        for (text, case) in golden.cases() {
            let label = format!("{family}, {text:?}");
            assert_eq!(encoder.token_ids(text).unwrap(), case.tokens, "{label}");
            let encoding = encoder.encode(text).unwrap();
            assert_eq!(case.difference(&encoding), None, "{label}");
            assert_eq!(encoding.n_tokens, case.tokens.len());
            (n_cases, n_terms) = (n_cases + 1, n_terms + case.ids.len());
        }
        assert!(n_cases >= 50 && n_terms > 500, "{family}: {n_terms} terms");
    }
}

#[test]
fn a_text_has_the_same_bits_in_any_batch() {
    for family in FAMILIES {
        let (encoder, golden) = (load(folder(family)).unwrap(), Golden::of(family));
        let texts: Vec<Text<'_>> = golden.cases().map(|(text, _)| text).collect();
        let mut n_done = 0;
        let together = encoder.encode_batch(&texts, |n| n_done = n).unwrap();
        assert_eq!(n_done, texts.len());
        for (text, encoding) in texts.iter().zip(&together) {
            let alone = encoder.encode(*text).unwrap();
            assert_eq!(bits(&alone), bits(encoding), "{family}, {text:?}");
        }
    }
}

fn bits(encoding: &Encoding) -> Vec<(u32, u32)> {
    let weights = encoding.weights.iter();
    weights
        .map(|(id, weight)| (*id, weight.to_bits()))
        .collect()
}

#[test]
fn attribution_names_a_position_for_every_weight() {
    for family in FAMILIES {
        let (encoder, golden) = (load(folder(family)).unwrap(), Golden::of(family));
        for (text, _) in golden.cases() {
            let attribution = encoder.encode_with_attribution(text).unwrap();
            let plain = encoder.encode(text).unwrap();
            assert_eq!(
                bits(&attribution.encoding),
                bits(&plain),
                "{family}, {text:?}"
            );
            assert_eq!(attribution.terms().count(), plain.weights.len());
            let n_tokens = attribution.tokens().count();
            assert!(attribution.terms().all(|term| term.position < n_tokens));
        }
    }
    let router = load(folder("router")).unwrap();
    let query = "what copper conducts";
    let attribution = router.encode_with_attribution(Text::Query(query)).unwrap();
    for term in attribution.terms() {
        let Source::Text(span) = term.source else {
            panic!("a query without prefix comes from its text: {term:?}");
        };
        let piece = router.term(term.token_id).unwrap().trim_start_matches("##");
        assert_eq!(&query[span.bytes.clone()], piece);
    }
}

#[test]
fn weights_in_bytes_are_close() {
    for family in FAMILIES {
        let golden = Golden::of(family);
        let options = LoadOptions::new().weights(WeightFormat::Int8);
        let encoder = Encoder::load(folder(family), options).unwrap();
        for (text, case) in golden.cases() {
            let ours = encoder.encode(text).unwrap().weights;
            let ours: BTreeMap<u32, f64> =
                ours.iter().map(|(id, w)| (*id, f64::from(*w))).collect();
            let truth = case
                .ids
                .iter()
                .zip(case.weights.iter().map(|w| f64::from(*w)));
            let dot: f64 = truth
                .clone()
                .map(|(id, w)| w * ours.get(id).unwrap_or(&0.0))
                .sum();
            let square = |sum: f64, w: f64| sum + w * w;
            let norms =
                truth.map(|(_, w)| w).fold(0.0, square) * ours.values().copied().fold(0.0, square);
            if norms > 0.0 {
                let cosine = dot / norms.sqrt();
                assert!(cosine > 0.97, "{family}, {text:?}: cosine {cosine}");
            }
        }
    }
}

/// What the goldens are for: each of these changes must be seen.
#[test]
fn a_wrong_knob_is_seen() {
    for (family, key, value) in [
        ("bert", "add_bos", "false"),
        ("bert", "add_eos", "false"),
        ("bert", "drop_specials", "true"),
        ("bert", "saturations", "2"),
        ("bert", "pooling", "sum"),
        ("bert", "query_prefix", "query: "),
        ("bert", "max_length", "63"),
        ("bert", "top_k", "20"),
        ("opensearch", "drop_specials", "false"),
        ("opensearch", "saturations", "2"),
        ("sparse-encoder", "query_prefix", ""),
        ("sparse-encoder", "document_prefix", ""),
        ("sparse-encoder", "max_length", "64"),
        ("legacy", "pooling", "max"),
        ("legacy", "saturations", "2"),
        ("router", "saturations", "1"),
        ("router", "query_max_length", "32"),
    ] {
        let options = LoadOptions::new().set(key, value);
        let encoder = Encoder::load(folder(family), options).unwrap();
        let difference = first_difference(&encoder, &Golden::of(family));
        assert!(difference.is_some(), "{family} with {key}={value}");
    }
    let options = LoadOptions::new()
        .preset(Preset::laconic())
        .set("max_length", "64");
    let encoder = Encoder::load(folder("bert"), options).unwrap();
    assert!(first_difference(&encoder, &Golden::of("bert")).is_some());
}

#[test]
fn the_presets_are_those_of_the_folders() {
    let knob = |family: &str, key: &str| {
        let encoder = load(folder(family)).unwrap();
        let mut values = encoder.preset().values();
        values.find(|(name, _)| *name == key).unwrap().1
    };
    for (family, key, value) in [
        ("bert", "max_length", "64"),
        ("bert", "top_k", "none"),
        ("opensearch", "max_length", "48"),
        ("opensearch", "drop_specials", "true"),
        ("sparse-encoder", "query_prefix", "find: "),
        ("sparse-encoder", "max_length", "40"),
        ("legacy", "pooling", "sum"),
        ("legacy", "max_length", "32"),
        ("legacy", "document_prefix", ""),
        ("router", "saturations", "2"),
        ("router", "max_length", "48"),
        ("router", "query_max_length", "512"),
    ] {
        assert_eq!(knob(family, key), value, "{family}, {key}");
    }
    let names = FAMILIES.map(|family| load(folder(family)).unwrap().preset().name().to_owned());
    assert_eq!(
        names,
        [
            "splade",
            "opensearch",
            "sparse-encoder",
            "sparse-encoder",
            "sparse-encoder"
        ]
    );
}

/// OpenSearch publishes the table in two forms, sentence-transformers in two more places.
#[test]
fn a_table_may_have_any_of_its_forms() {
    let idf: BTreeMap<String, f64> =
        serde_json::from_slice(&fs::read(folder("opensearch").join("idf.json")).unwrap()).unwrap();
    let lines = copy("opensearch");
    fs::remove_file(lines.path().join("idf.json")).unwrap();
    let text: String = idf
        .iter()
        .map(|(token, w)| format!("{token}\t{w}\n"))
        .collect();
    fs::write(lines.path().join("query_token_weights.txt"), text).unwrap();
    let encoder = load(lines.path()).unwrap();
    assert_eq!(first_difference(&encoder, &Golden::of("opensearch")), None);

    let json = copy("router");
    let module = json.path().join("query_0_SparseStaticEmbedding");
    fs::remove_file(module.join("model.safetensors")).unwrap();
    let mut table = idf;
    table.insert("[SEP]".to_owned(), 0.25);
    fs::write(module.join("idf.json"), json!(table).to_string()).unwrap();
    let encoder = load(json.path()).unwrap();
    assert_eq!(first_difference(&encoder, &Golden::of("router")), None);
    assert_ne!(
        encoder.fingerprint(),
        load(folder("router")).unwrap().fingerprint()
    );
}

/// The network's module may lie in the root, as hubs like it.
#[test]
fn a_router_may_have_its_network_in_the_root() {
    let dir = copy("router");
    let network = dir.path().join("document_0_Transformer");
    for entry in fs::read_dir(&network).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    edit(&dir.path().join("router_config.json"), |config| {
        config["structure"]["document"][0] = json!("");
        let types = config["types"].as_object_mut().unwrap();
        let kind = types.remove("document_0_Transformer").unwrap();
        types.insert(String::new(), kind);
    });
    let encoder = load(dir.path()).unwrap();
    assert_eq!(first_difference(&encoder, &Golden::of("router")), None);
    assert_eq!(
        encoder.fingerprint(),
        load(folder("router")).unwrap().fingerprint()
    );
}

/// One unknown word may be as long as a book, and white space too: the tokens behind it count.
#[test]
fn long_words_do_not_hide_the_rest_of_a_text() {
    let encoder = load(folder("bert")).unwrap();
    let long = format!("{} {} copper", "x".repeat(20_000), " ".repeat(60_000));
    let ids = encoder.token_ids(Text::document(&long)).unwrap();
    let short = encoder.token_ids(Text::document("東京 copper")).unwrap();
    assert_eq!((ids.len(), ids.last()), (4, short.last()));
    let many = "copper ".repeat(20_000);
    let encoding = encoder.encode_document(None, &many).unwrap();
    assert_eq!(encoding.n_tokens, 64);
    assert!(encoding.is_truncated());
}

/// Folders older than `tokenizer.json` list their vocabulary, a line an entry.
#[test]
fn a_vocabulary_will_do_for_a_tokenizer() {
    for family in ["bert", "opensearch"] {
        let dir = copy(family);
        let tokenizer = dir.path().join("tokenizer.json");
        let file: Value = serde_json::from_slice(&fs::read(&tokenizer).unwrap()).unwrap();
        let vocabulary = file["model"]["vocab"].as_object().unwrap();
        let mut entries: Vec<(u64, &String)> = vocabulary
            .iter()
            .map(|(entry, id)| (id.as_u64().unwrap(), entry))
            .collect();
        entries.sort();
        let lines: String = entries
            .iter()
            .map(|(_, entry)| format!("{entry}\n"))
            .collect();
        fs::write(dir.path().join("vocab.txt"), &lines).unwrap();
        let lines_file = dir.path().join("vocab.txt");
        fs::remove_file(&tokenizer).unwrap();
        fs::remove_file(&lines_file).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(
            error.is_missing() && error.to_string().contains("vocab.txt"),
            "{error}"
        );
        fs::write(&lines_file, &lines).unwrap();
        let encoder = load(dir.path()).unwrap();
        assert_eq!(first_difference(&encoder, &Golden::of(family)), None);
        edit(&dir.path().join("tokenizer_config.json"), |config| {
            config["do_lower_case"] = json!(false);
        });
        let encoder = load(dir.path()).unwrap();
        assert!(first_difference(&encoder, &Golden::of(family)).is_some());
        for (lines, word) in [
            (lines.replace("[SEP]\n", "sep\n"), "[SEP]"),
            (lines.replace("copper\n", "silver\n"), "repeats"),
            ("[UNK]\n[CLS]\n[SEP]\nx\n".repeat(2), "repeats"),
        ] {
            fs::write(dir.path().join("vocab.txt"), lines).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(
                error.is_corrupt() && error.to_string().contains(word),
                "{error}"
            );
        }
    }
}
