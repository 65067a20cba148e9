//! Folders of BERT and DistilBERT that were changed: what is known to be harmless is passed over,
//! all else is refused by name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "families/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use laconic_model::{Encoder, LoadOptions};
use serde_json::{Map, Value, json};
use support::{Golden, copy, edit, first_difference, folder, load};

/// Family, file, place in it, what is put there, word of the error.
const CHANGES: [(&str, &str, &str, &str, &str); 26] = [
    (
        "sparse-encoder",
        "modules.json",
        "/1/type",
        r#""sentence_transformers.sparse_encoder.models.SparseAutoEncoder""#,
        "SparseAutoEncoder",
    ),
    (
        "sparse-encoder",
        "modules.json",
        "/1/type",
        r#""evil.SpladePooling""#,
        "evil.SpladePooling",
    ),
    ("sparse-encoder", "modules.json", "/1/type", "3", "type"),
    (
        "sparse-encoder",
        "modules.json",
        "/1/kwargs",
        r#"{"a": 1}"#,
        "kwargs",
    ),
    (
        "sparse-encoder",
        "modules.json",
        "/1/path",
        r#""../1_SpladePooling""#,
        "../1_SpladePooling",
    ),
    ("sparse-encoder", "modules.json", "", "[]", "modules.json"),
    (
        "sparse-encoder",
        "modules.json",
        "",
        r#"{"a": 1}"#,
        "modules.json",
    ),
    (
        "sparse-encoder",
        "modules.json",
        "/1/type",
        r#""sentence_transformers.models.Transformer""#,
        "Network, Network",
    ),
    (
        "sparse-encoder",
        "1_SpladePooling/config.json",
        "/pooling_strategy",
        r#""mean""#,
        "mean",
    ),
    (
        "sparse-encoder",
        "1_SpladePooling/config.json",
        "/activation_function",
        r#""tanh""#,
        "tanh",
    ),
    (
        "sparse-encoder",
        "1_SpladePooling/config.json",
        "/temperature",
        "2",
        "temperature",
    ),
    (
        "sparse-encoder",
        "sentence_bert_config.json",
        "/transformer_task",
        r#""feature-extraction""#,
        "feature-extraction",
    ),
    (
        "sparse-encoder",
        "sentence_bert_config.json",
        "/query_expansion",
        r#"{"a": 1}"#,
        "query_expansion",
    ),
    (
        "sparse-encoder",
        "sentence_bert_config.json",
        "/max_seq_length",
        "-1",
        "max_seq_length",
    ),
    (
        "sparse-encoder",
        "config_sentence_transformers.json",
        "/model_type",
        r#""SentenceTransformer""#,
        "SentenceTransformer",
    ),
    (
        "sparse-encoder",
        "config_sentence_transformers.json",
        "/prompts/query",
        "3",
        "query",
    ),
    (
        "router",
        "router_config.json",
        "/parameters/route_mappings",
        r#"{"a": "b"}"#,
        "route_mappings",
    ),
    (
        "router",
        "router_config.json",
        "/structure/query",
        r#"["document_1_SpladePooling"]"#,
        "Pooling",
    ),
    (
        "router",
        "router_config.json",
        "/structure/query",
        "null",
        "query",
    ),
    (
        "router",
        "router_config.json",
        "/structure/document",
        r#"["document_1_SpladePooling"]"#,
        "Pooling",
    ),
    (
        "router",
        "router_config.json",
        "/structure/image",
        r#"["document_1_SpladePooling"]"#,
        "image",
    ),
    (
        "router",
        "router_config.json",
        "/types",
        "{}",
        "query_0_SparseStaticEmbedding",
    ),
    (
        "router",
        "query_0_SparseStaticEmbedding/config.json",
        "/path",
        r#""/idf.json""#,
        "/idf.json",
    ),
    (
        "router",
        "document_0_Transformer/tokenizer_config.json",
        "/model_max_length",
        "0",
        "model_max_length",
    ),
    (
        "bert",
        "config.json",
        "/model_type",
        r#""roberta""#,
        "roberta",
    ),
    ("bert", "config.json", "/model_type", "7", "model_type"),
];

#[test]
fn what_a_folder_says_that_is_not_known_is_refused_by_name() {
    for (family, file, place, value, word) in CHANGES {
        let dir = copy(family);
        let value = serde_json::from_str(value).unwrap();
        edit(&dir.path().join(file), |whole| {
            match place.rsplit_once('/') {
                None => *whole = value,
                Some((parent, key)) => match whole.pointer_mut(place) {
                    Some(there) => *there = value,
                    None => whole.pointer_mut(parent).unwrap()[key] = value,
                },
            }
        });
        let error = load(dir.path()).unwrap_err();
        let label = format!("{family}/{file}{place}: {error}");
        assert!(error.is_unsupported() || error.is_corrupt(), "{label}");
        assert!(error.to_string().contains(word), "{label}");
    }
}

#[test]
fn damaged_tables_are_refused() {
    let refused = |change: &dyn Fn(&Path), word: &str| {
        let dir = copy("opensearch");
        change(dir.path());
        let error = load(dir.path()).unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains(word),
            "{error}"
        );
    };
    for (text, word) in [
        ("{\"copper\": 1, \"copper\": 2}", "twice"),
        ("{\"notatoken\": 1}", "notatoken"),
        ("{\"copper\": 1e39}", "finite"),
        ("{\"copper\": \"1\"}", "idf.json"),
        ("[]", "idf.json"),
    ] {
        refused(&|dir| fs::write(dir.join("idf.json"), text).unwrap(), word);
    }
    for text in [
        "copper 1",
        "copper\tx",
        "copper\t1\ncopper\t1",
        "copper\tNaN",
    ] {
        let change = |dir: &Path| {
            fs::remove_file(dir.join("idf.json")).unwrap();
            fs::write(dir.join("query_token_weights.txt"), text).unwrap();
        };
        refused(&change, "query_token_weights.txt");
    }
    // A table with fewer weights than tokens, and a tokenizer of other tokens.
    let dir = copy("router");
    let module = dir.path().join("query_0_SparseStaticEmbedding");
    let sound = fs::read(module.join("model.safetensors")).unwrap();
    let header = br#"{"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let len = u64::try_from(header.len()).unwrap().to_le_bytes();
    let short = [&len[..], header, &[0; 8]].concat();
    fs::write(module.join("model.safetensors"), short).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("shape [2]"),
        "{error}"
    );
    fs::write(module.join("model.safetensors"), sound).unwrap();
    edit(&module.join("tokenizer.json"), |tokenizer| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove("copper").unwrap();
        vocab.insert("brass".to_owned(), id);
    });
    let error = load(dir.path()).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("brass"),
        "{error}"
    );
}

#[test]
fn special_tokens_come_from_the_tokenizer_or_not_at_all() {
    let template = |change: fn(&mut Value)| {
        let dir = copy("bert");
        edit(&dir.path().join("tokenizer.json"), change);
        dir
    };
    let pair = template(|t| {
        t["post_processor"] =
            json!({"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]});
    });
    let encoder = load(pair.path()).unwrap();
    assert_eq!(first_difference(&encoder, &Golden::of("bert")), None);
    for change in [
        (|t| t["post_processor"] = Value::Null) as fn(&mut Value),
        |t| drop(t["post_processor"]["single"].as_array_mut().unwrap().pop()),
        |t| t["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([7]),
        |t| t["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([2, 2]),
        |t| t["post_processor"]["single"][1] = t["post_processor"]["single"][0].clone(),
    ] {
        let dir = template(change);
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("post-processor"), "{error}");
        let options = LoadOptions::new()
            .set("add_bos", "false")
            .set("add_eos", "false");
        assert!(Encoder::load(dir.path(), options).is_ok());
    }
    let slow = template(|t| t["model"]["max_input_chars_per_word"] = json!(100_000));
    assert!(load(slow.path()).unwrap_err().is_unsupported());
}

type Change<'a> = &'a dyn Fn(&mut Map<String, Value>, &mut Vec<u8>);

#[test]
fn harmless_tensors_are_passed_over_and_missing_ones_named() {
    let sound = fs::read(folder("bert").join("model.safetensors")).unwrap();
    let with = |change: Change<'_>| {
        let len = usize::try_from(u64::from_le_bytes(sound[..8].try_into().unwrap())).unwrap();
        let mut header: Value = serde_json::from_slice(&sound[8..8 + len]).unwrap();
        let mut data = sound[8 + len..].to_vec();
        change(header.as_object_mut().unwrap(), &mut data);
        let header = header.to_string().into_bytes();
        let dir = copy("bert");
        let len = u64::try_from(header.len()).unwrap().to_le_bytes();
        let file = [&len[..], &header, &data].concat();
        fs::write(dir.path().join("model.safetensors"), file).unwrap();
        load(dir.path())
    };
    let push = |name: &str, dtype: &str, shape: &[usize], bytes: &[u8]| {
        with(&|header, data| {
            let offsets = [data.len(), data.len() + bytes.len()];
            data.extend(bytes);
            let info = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
            header.insert(name.to_owned(), info);
        })
    };
    let golden = Golden::of("bert");
    for (name, dtype, shape, n_bytes) in [
        ("bert.embeddings.position_ids", "I64", &[1, 64][..], 512),
        ("bert.pooler.dense.bias", "F16", &[32], 64),
        ("cls.seq_relationship.bias", "F16", &[2], 4),
    ] {
        let encoder = push(name, dtype, shape, &vec![1; n_bytes]).unwrap();
        assert_eq!(first_difference(&encoder, &golden), None, "{name}");
    }
    let error = push("bert.extra", "F16", &[2], &[0; 4]).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("bert.extra"),
        "{error}"
    );
    let rename = |from: &'static str, to: &'static str| {
        with(&move |header, _| {
            let info = header.remove(from).unwrap();
            header.insert(to.to_owned(), info);
        })
    };
    let old = with(&|header, _| {
        let sound = std::mem::take(header);
        for (name, info) in sound {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            header.insert(name.replace("LayerNorm.bias", "LayerNorm.beta"), info);
        }
    });
    assert_eq!(first_difference(&old.unwrap(), &golden), None);
    let name = "bert.embeddings.LayerNorm.gamma";
    let error = push(name, "F16", &[32], &[0; 64]).unwrap_err();
    assert!(error.to_string().contains("LayerNorm.weight"), "{error}");
    // The output's bias has two names, and a tied output matrix may be written out again.
    let encoder = rename("cls.predictions.bias", "cls.predictions.decoder.bias").unwrap();
    assert_eq!(first_difference(&encoder, &golden), None);
    let error = rename("cls.predictions.bias", "cls.seq_relationship.bias").unwrap_err();
    assert!(
        error.to_string().contains("cls.predictions.bias"),
        "{error}"
    );
    let error = push("cls.predictions.decoder.bias", "F16", &[200], &[0; 400]).unwrap_err();
    assert!(
        error.to_string().contains("cls.predictions.decoder.bias"),
        "{error}"
    );
    let decoder = "cls.predictions.decoder.weight";
    let other = push(decoder, "F16", &[200, 32], &[0; 200 * 64]).unwrap();
    assert!(first_difference(&other, &golden).is_some());
    let error = push(decoder, "F16", &[200, 31], &[0; 200 * 62]).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains(decoder),
        "{error}"
    );
}

/// The hub's cache links every file of a snapshot to its blobs, those of modules too; out of the
/// model a link must not lead, nor may a module's folder be one.
#[cfg(unix)]
#[test]
fn links_lead_to_the_blobs_of_the_hub_and_nowhere_else() {
    use std::os::unix::fs::symlink;

    fn link_all(from: &Path, to: &Path, blobs: &Path, n: &mut usize) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                link_all(&entry.path(), &to, blobs, n);
            } else {
                *n += 1;
                let blob = blobs.join(n.to_string());
                fs::copy(entry.path(), &blob).unwrap();
                symlink(blob, to).unwrap();
            }
        }
    }
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--a--router");
    let (blobs, snapshot) = (model.join("blobs"), model.join("snapshots/0123"));
    fs::create_dir_all(&blobs).unwrap();
    link_all(&folder("router"), &snapshot, &blobs, &mut 0);
    let encoder = load(&snapshot).unwrap();
    assert_eq!(first_difference(&encoder, &Golden::of("router")), None);

    let dir = copy("router");
    let module = dir.path().join("document_1_SpladePooling");
    let apart = tempfile::tempdir().unwrap();
    let moved = apart.path().join("pooling");
    fs::rename(&module, &moved).unwrap();
    symlink(&moved, &module).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(
        error.is_corrupt() && error.to_string().contains("SpladePooling"),
        "{error}"
    );
}

/// Every file of every layout, cut off or with bytes changed: it loads or is refused, and what
/// loads encodes or is refused. Nothing panics.
#[test]
fn damaged_files_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    // Each round loads every file's model anew: a million would take days.
    let n_rounds = std::env::var("LACONIC_CASES").map_or(6, |n| n.parse().unwrap());
    let n_rounds = 1000.min(n_rounds);
    let (mut n_loaded, mut n_refused) = (0, 0);
    for family in ["bert", "opensearch", "sparse-encoder", "legacy", "router"] {
        let dir = copy(family);
        for file in files(dir.path()) {
            let sound = fs::read(&file).unwrap();
            for round in 0..n_rounds {
                let mut bytes = sound.clone();
                match round % 3 {
                    0 => bytes.truncate(next(sound.len())),
                    _ => {
                        let at = next(sound.len());
                        bytes[at] = b"\"{}[]0918,:-\\ax\xff"[next(16)];
                    }
                }
                fs::write(&file, bytes).unwrap();
                match load(dir.path()) {
                    Ok(encoder) => {
                        n_loaded += 1;
                        for text in ["", "copper [SEP] jumping 東京 \u{1}"] {
                            let _ = encoder.encode_query(text);
                            let _ = encoder.encode_document(Some("title"), text);
                        }
                    }
                    Err(_) => n_refused += 1,
                }
            }
            fs::write(&file, sound).unwrap();
        }
        load(dir.path()).unwrap();
    }
    assert!(n_loaded > 20 && n_refused > 20, "{n_loaded}, {n_refused}");
}

/// All files below a folder but the goldens, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.ends_with("golden.json") => {}
            false => found.push(path),
        }
    }
    found.sort();
    found
}
