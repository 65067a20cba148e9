//! Model folders that are damaged or made to do harm: each refused, with an
//! error that names the cause, and none ever loaded in silence.

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

use laconic_model::{Encoder, Error, LoadOptions, Text};
use serde_json::{Value, json};
use support::{Checkpoint, Entry, Random, safetensors, with_header, write};
use tempfile::TempDir;

fn load(folder: &Path) -> Result<Encoder, Error> {
    Encoder::load(folder, LoadOptions::new())
}

fn refusal(folder: &Path, label: &str) -> Error {
    match load(folder) {
        Ok(_) => panic!("{label} was loaded"),
        Err(error) => error,
    }
}

fn written(checkpoint: &Checkpoint) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    checkpoint.write(folder.path());
    folder
}

/// A folder whose only weights file has these bytes.
fn with_weights(bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(1).write_json(folder.path());
    write(folder.path(), "model.safetensors", bytes);
    folder
}

const NUMBERS: [(&str, &str); 17] = [
    ("", "vocab_size"),
    ("", "hidden_size"),
    ("", "intermediate_size"),
    ("", "num_hidden_layers"),
    ("", "num_attention_heads"),
    ("", "num_key_value_heads"),
    ("", "head_dim"),
    ("", "rms_norm_eps"),
    ("", "max_position_embeddings"),
    ("", "rope_theta"),
    ("", "bos_token_id"),
    ("", "eos_token_id"),
    ("rope_scaling", "factor"),
    ("rope_scaling", "low_freq_factor"),
    ("rope_scaling", "high_freq_factor"),
    ("rope_scaling", "original_max_position_embeddings"),
    ("rope_scaling", "rope_type"),
];

/// What may stand there after all: these values mean something.
fn is_allowed(field: &str, value: Option<&Value>) -> bool {
    let allowed: &[&str] = match field {
        "bos_token_id" | "eos_token_id" => &["absent", "0", "1"],
        "factor" | "low_freq_factor" | "original_max_position_embeddings" => &["1", "1.5"],
        "high_freq_factor" => &["1.5"],
        "rope_theta" => &["1.5", "2147483648"],
        _ => &[],
    };
    let value = value.map_or("absent".to_owned(), ToString::to_string);
    allowed.contains(&value.as_str())
}

#[test]
fn every_number_of_the_config_has_a_range() {
    let folder = written(&Checkpoint::new(1));
    assert!(load(folder.path()).is_ok());
    let values = [
        Some(json!(0)),
        Some(json!(1)),
        Some(json!(1_u64 << 31)),
        Some(json!(1_u64 << 63)),
        Some(json!(u64::MAX)),
        Some(json!(-1)),
        Some(json!(i64::MIN)),
        Some(json!(1.5)),
        Some(json!(1e300)),
        Some(json!("16")),
        Some(json!([[]])),
        Some(json!(true)),
        None,
    ];
    let (mut n_refused, mut n_allowed) = (0, 0);
    for (within, field) in NUMBERS {
        for value in &values {
            let mut checkpoint = Checkpoint::new(1);
            let parent = match within {
                "" => &mut checkpoint.config,
                _ => &mut checkpoint.config[within],
            };
            match value {
                Some(value) => parent[field] = value.clone(),
                None => _ = parent.as_object_mut().unwrap().remove(field),
            }
            checkpoint.write_json(folder.path());
            let label = format!("{field} = {value:?}");
            if is_allowed(field, value.as_ref()) {
                assert!(load(folder.path()).is_ok(), "{label} was refused");
                n_allowed += 1;
                continue;
            }
            let error = refusal(folder.path(), &label);
            assert!(error.to_string().contains(field), "{label}: {error}");
            n_refused += 1;
        }
    }
    println!("{n_refused} values refused by name, {n_allowed} allowed");
    assert_eq!(n_refused + n_allowed, NUMBERS.len() * values.len());
}

#[test]
fn a_config_that_is_no_config_is_refused() {
    let folder = written(&Checkpoint::new(1));
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        &b"[".repeat(100_000),
    ] {
        write(folder.path(), "config.json", bytes);
        let error = refusal(folder.path(), "a broken config");
        assert!(
            error.is_corrupt() && error.to_string().contains("config.json"),
            "{error}"
        );
    }
    write(folder.path(), "config.json", &vec![b' '; (1 << 20) + 1]);
    assert!(
        refusal(folder.path(), "a huge config")
            .to_string()
            .contains("longer than")
    );
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(refusal(folder.path(), "no config").is_missing());
    assert!(refusal(&folder.path().join("nowhere"), "no folder").is_missing());
}

/// The checkpoint in two shards; `second` is the name the index gives the
/// other one.
fn sharded(folder: &Path, checkpoint: &Checkpoint, second: &str) {
    checkpoint.write_json(folder);
    let is_first = |name: &str| name.len().is_multiple_of(2);
    let first = safetensors(&checkpoint.entries(is_first));
    write(folder, "model-00001-of-00002.safetensors", &first);
    let places = checkpoint.tensors.keys().map(|name| {
        let file = if is_first(name) {
            "model-00001-of-00002.safetensors"
        } else {
            second
        };
        (name.clone(), json!(file))
    });
    let places: serde_json::Map<String, Value> = places.collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": places});
    write(
        folder,
        "model.safetensors.index.json",
        index.to_string().as_bytes(),
    );
}

fn second_shard(checkpoint: &Checkpoint) -> Vec<u8> {
    safetensors(&checkpoint.entries(|name| name.len() % 2 != 0))
}

#[test]
fn shard_names_do_not_leave_the_folder() {
    let checkpoint = Checkpoint::new(2);
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    let shard = second_shard(&checkpoint);
    // The file is really there, so that following the name would work.
    write(outer.path(), "b.safetensors", &shard);
    write(&folder.join("sub"), "b.safetensors", &shard);
    write(&folder, "b.safetensors", &shard);
    sharded(&folder, &checkpoint, "b.safetensors");
    assert!(load(&folder).is_ok(), "a plain name works");
    let absolute = outer.path().join("b.safetensors").display().to_string();
    let forms = [
        "../b.safetensors",
        "..//b.safetensors",
        "./../b.safetensors",
        "sub/../../b.safetensors",
        "sub/b.safetensors",
        "./b.safetensors",
        ".//b.safetensors",
        "/b.safetensors",
        "//b.safetensors",
        "..\\b.safetensors",
        ".\\b.safetensors",
        "sub\\b.safetensors",
        "\\b.safetensors",
        "\\\\host\\share\\b.safetensors",
        "C:\\b.safetensors",
        "C:b.safetensors",
        "file:///b.safetensors",
        "~/b.safetensors",
        "~root.safetensors",
        "b.safetensors/",
        "b.safetensors/../b.safetensors",
        "..\u{0}/b.safetensors",
        "b.safetensors\u{0}",
        "b.safetensors\n",
        " b.safetensors",
        "b.safetensors ",
        "b.safetensors.",
        "..",
        ".",
        "",
        ".b.safetensors",
        absolute.as_str(),
        &format!("{}.safetensors", "b".repeat(256)),
    ];
    for form in forms {
        sharded(&folder, &checkpoint, form);
        let error = refusal(&folder, form);
        assert!(
            error.is_corrupt() || error.is_unsupported(),
            "{form:?}: {error}"
        );
    }
    println!("{} forms refused", forms.len());
}

#[cfg(unix)]
#[test]
fn links_are_followed_only_inside_the_folder_and_the_hub_cache() {
    use std::os::unix::fs::symlink;
    let checkpoint = Checkpoint::new(2);
    let outer = tempfile::tempdir().unwrap();
    let model = outer.path().join("models--a--b");
    let (blobs, folder) = (model.join("blobs"), model.join("snapshots/0123"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let shard = second_shard(&checkpoint);
    write(&blobs, "blob", &shard);
    write(&folder, "inside", &shard);
    write(outer.path(), "outside", &shard);
    sharded(&folder, &checkpoint, "b.safetensors");
    let link = folder.join("b.safetensors");
    for (target, is_fine) in [
        (folder.join("inside"), true),
        (blobs.join("blob"), true),
        (Path::new("../../blobs/blob").to_path_buf(), true),
        (outer.path().join("outside"), false),
        (Path::new("../../../outside").to_path_buf(), false),
        (folder.join("nowhere"), false),
        (link.clone(), false),
        (folder.clone(), false),
        (Path::new("/dev/zero").to_path_buf(), false),
    ] {
        symlink(&target, &link).unwrap();
        assert_eq!(
            load(&folder).is_ok(),
            is_fine,
            "a link to {}",
            target.display()
        );
        std::fs::remove_file(&link).unwrap();
    }
    // The same for every other file of the folder.
    write(&folder, "b.safetensors", &shard);
    for name in ["config.json", "tokenizer.json", "laconic.json"] {
        let outside = outer.path().join(name);
        let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|_| b"{}".to_vec());
        std::fs::write(&outside, bytes).unwrap();
        let kept = folder.join("kept");
        let was_there = std::fs::rename(folder.join(name), &kept).is_ok();
        symlink(&outside, folder.join(name)).unwrap();
        assert!(
            refusal(&folder, name).to_string().contains("link out"),
            "{name}"
        );
        std::fs::remove_file(folder.join(name)).unwrap();
        if was_there {
            std::fs::rename(&kept, folder.join(name)).unwrap();
        }
    }
    assert!(load(&folder).is_ok());
}

#[test]
fn index_and_shards_must_agree() {
    let checkpoint = Checkpoint::new(3);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let name = "b.safetensors";
    sharded(folder, &checkpoint, name);
    assert!(refusal(folder, "a missing shard").is_missing());
    write(folder, name, &second_shard(&checkpoint));
    assert!(load(folder).is_ok());
    write(folder, name, &safetensors(&checkpoint.entries(|_| true)));
    assert!(
        refusal(folder, "a tensor in two shards")
            .to_string()
            .contains("again in")
    );
    let one = "model.norm.weight";
    let without = checkpoint.entries(|name| name.len() % 2 != 0 && name != one);
    write(folder, name, &safetensors(&without));
    assert!(
        refusal(folder, "a tensor in no shard")
            .to_string()
            .contains(one)
    );
    let mut more = checkpoint.entries(|name| name.len() % 2 != 0);
    more.push(Entry::f32("stowaway", &[1], &[0.0]));
    write(folder, name, &safetensors(&more));
    assert!(
        refusal(folder, "a tensor not in the index")
            .to_string()
            .contains("stowaway")
    );
    write(folder, name, &second_shard(&checkpoint));
    for index in [
        "{}",
        "[]",
        r#"{"weight_map": {"a": 1}}"#,
        r#"{"weight_map": {}}"#,
    ] {
        write(folder, "model.safetensors.index.json", index.as_bytes());
        assert!(refusal(folder, index).is_corrupt());
    }
    let twice = r#"{"weight_map": {"a": "b.safetensors", "a": "b.safetensors"}}"#;
    write(folder, "model.safetensors.index.json", twice.as_bytes());
    assert!(refusal(folder, twice).to_string().contains("appears twice"));
}

#[test]
fn names_shapes_and_types_are_those_of_the_config() {
    let good = Checkpoint::new(4);
    for name in good.tensors.keys() {
        let folder = with_weights(&safetensors(&good.entries(|other| other != name)));
        let error = refusal(folder.path(), "a missing tensor");
        assert!(error.to_string().contains(name.as_str()), "{error}");

        let mut shaped = good.clone();
        let tensor = shaped.tensors.get_mut(name).unwrap();
        tensor.shape.reverse();
        tensor.shape.push(1);
        let error = refusal(written(&shaped).path(), "a wrong shape");
        assert!(error.to_string().contains(name.as_str()), "{error}");

        for dtype in ["I32", "U32"] {
            let mut entries = good.entries(|_| true);
            entries
                .iter_mut()
                .filter(|e| e.name == *name)
                .for_each(|e| e.dtype = dtype);
            let error = refusal(with_weights(&safetensors(&entries)).path(), dtype);
            assert!(
                error.is_unsupported() && error.to_string().contains(name.as_str()),
                "{error}"
            );
        }
    }
}

#[test]
fn tensors_without_a_use_are_refused_unless_known_to_be_harmless() {
    let checkpoint = Checkpoint::new(5);
    // Not a number in it: what is not used is not read as numbers either.
    let load_with = |checkpoint: &Checkpoint, extra: &str, shape: &[usize]| {
        let mut entries = checkpoint.entries(|_| true);
        entries.push(Entry::f32(
            extra,
            shape,
            &vec![f32::NAN; shape.iter().product()],
        ));
        let folder = with_weights(&safetensors(&entries));
        write(
            folder.path(),
            "config.json",
            checkpoint.config.to_string().as_bytes(),
        );
        load(folder.path())
    };
    let inv_freq = "model.layers.0.self_attn.rotary_emb.inv_freq";
    assert!(load_with(&checkpoint, inv_freq, &[3]).is_ok());
    for extra in [
        "model.layers.2.mlp.up_proj.weight",
        "score.weight",
        "model.layers.0.x",
    ] {
        let error = load_with(&checkpoint, extra, &[3]).unwrap_err();
        assert!(
            error.is_corrupt() && error.to_string().contains(extra),
            "{error}"
        );
    }
    let tied = checkpoint.tied();
    assert!(load_with(&tied, "lm_head.weight", &[3]).is_ok());
}

#[test]
fn a_damaged_file_is_never_loaded() {
    let whole = Checkpoint::new(6).safetensors();
    assert!(load(with_weights(&whole).path()).is_ok());
    let mut n_refused = 0;
    let header = usize::try_from(u64::from_le_bytes(whole[..8].try_into().unwrap())).unwrap();
    let cuts = (0..16).chain((16..whole.len()).step_by(whole.len() / 60));
    for cut in cuts.chain([7 + header, 8 + header, whole.len() - 1]) {
        let error = refusal(with_weights(&whole[..cut]).path(), "a truncated file");
        assert!(
            error.is_corrupt() && error.to_string().contains("model.safetensors"),
            "{error}"
        );
        n_refused += 1;
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(refusal(with_weights(&longer).path(), "trailing bytes").is_corrupt());
    for len in [0, 1, (16 << 20) + 1, 1 << 31, 1 << 63, u64::MAX] {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&u64::to_le_bytes(len));
        assert!(refusal(with_weights(&bytes).path(), "a wrong header length").is_corrupt());
        n_refused += 1;
    }
    println!("{n_refused} damaged files refused");
}

#[test]
fn headers_are_checked_before_data_is_read() {
    let info = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for header in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        info("F33", "[1]", "[0,4]"),
        info("F32", "[2]", "[0,4]"),
        info("F32", "[1]", "[4,8]"),
        info("F32", "[1]", "[4,0]"),
        info("F32", "[-1]", "[0,4]"),
        info("F32", "[4294967296,4294967296]", "[0,4]"),
        info("F32", "[9223372036854775807]", "[0,4]"),
        info("F32", "[1]", "[0,18446744073709551615]"),
        info("F32", "[1]", "[18446744073709551612,18446744073709551615]"),
        info("F32", "[1]", "[0,4]").replace('}', ",\"extra\":{}}"),
        format!("{{\"a\":{}", "[".repeat(1 << 16)),
    ] {
        let folder = with_weights(&with_header(header.as_bytes(), [0; 4]));
        assert!(refusal(folder.path(), &header).is_corrupt());
    }
    let checkpoint = Checkpoint::new(7);
    let mut entries = checkpoint.entries(|_| true);
    entries.push(entries[0].clone());
    let error = refusal(
        with_weights(&safetensors(&entries)).path(),
        "a tensor twice",
    );
    assert!(error.to_string().contains("appears twice"), "{error}");
}

#[test]
fn every_poisoned_tensor_is_reported_by_name() {
    let clean = Checkpoint::new(8);
    let mut n_reported = 0;
    for name in clean.tensors.keys() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0.0, 0.5, 1.0] {
                let mut checkpoint = clean.clone();
                let values = &mut checkpoint.tensors.get_mut(name).unwrap().values;
                let idx = ((values.len() - 1) as f64 * at) as usize;
                values[idx] = poison;
                for entry in [Entry::f32, Entry::bf16] {
                    let tensors = checkpoint.tensors.iter();
                    let entries: Vec<Entry> = tensors
                        .map(|(n, t)| entry(n, &t.shape, &t.values))
                        .collect();
                    let error = refusal(with_weights(&safetensors(&entries)).path(), name);
                    let message = error.to_string();
                    assert!(
                        error.is_corrupt() && message.contains(name.as_str()),
                        "{message}"
                    );
                    assert!(message.contains(&format!("element {idx} ")), "{message}");
                    n_reported += 1;
                }
            }
        }
    }
    println!("{n_reported} of {n_reported} poisoned weights reported");
    assert_eq!(n_reported, 21 * 3 * 3 * 2);
}

#[test]
fn pickles_and_other_formats_are_refused_by_name() {
    for other in ["pytorch_model.bin", "model.pt", "model.PTH", "model.ckpt"] {
        let folder = tempfile::tempdir().unwrap();
        Checkpoint::new(9).write_json(folder.path());
        write(folder.path(), other, b"\x80\x02");
        let error = refusal(folder.path(), other);
        assert!(
            error.is_unsupported() && error.to_string().contains(other),
            "{error}"
        );
        assert!(error.to_string().contains("convert"), "{error}");
    }
    for magic in [
        &b"PK\x03\x04data.pkl"[..],
        b"\x80\x02ctorch._utils",
        b"GGUF\x03\0\0\0\0",
    ] {
        assert!(refusal(with_weights(magic).path(), "a disguise").is_unsupported());
    }
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(9).write_json(folder.path());
    assert!(refusal(folder.path(), "no weights").is_missing());
    sharded(folder.path(), &Checkpoint::new(9), "pytorch_model.bin");
    assert!(
        refusal(folder.path(), "a pickle in the index")
            .to_string()
            .contains("pickles")
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let mut checkpoint = Checkpoint::new(10);
    checkpoint.tokenizer["model"]["vocab"]["zz"] = json!(260);
    let error = refusal(written(&checkpoint).path(), "an id beyond the embedding");
    assert!(
        error.is_corrupt() && error.to_string().contains("\"zz\" has id 260"),
        "{error}"
    );
    checkpoint.tokenizer["model"]["vocab"]["zz"] = json!(255);
    assert!(refusal(written(&checkpoint).path(), "two tokens of one id").is_corrupt());
    for bytes in [&b"{}"[..], b"", b"[1]", br#"{"model": {"type": "BPE"}}"#] {
        let folder = written(&Checkpoint::new(10));
        write(folder.path(), "tokenizer.json", bytes);
        let error = refusal(folder.path(), "a broken tokenizer");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
    let folder = written(&Checkpoint::new(10));
    let options = LoadOptions::new().tokenizer(folder.path().join("none.json"));
    assert!(
        Encoder::load(folder.path(), options)
            .unwrap_err()
            .is_missing()
    );
    let options = LoadOptions::new().tokenizer(folder.path());
    assert!(
        Encoder::load(folder.path(), options)
            .unwrap_err()
            .is_invalid_input()
    );
}

#[test]
fn knobs_that_the_model_cannot_serve_are_refused() {
    let mut checkpoint = Checkpoint::new(11);
    checkpoint.config["max_position_embeddings"] = json!(300);
    checkpoint
        .config
        .as_object_mut()
        .unwrap()
        .remove("bos_token_id");
    let folder = written(&checkpoint);
    for (key, value) in [
        ("max_length", "301"),
        ("add_bos", "true"),
        ("nonsense", "1"),
    ] {
        let error = Encoder::load(folder.path(), LoadOptions::new().set(key, value)).unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains(key),
            "{error}"
        );
    }
    assert!(Encoder::load(folder.path(), LoadOptions::new().set("max_length", "300")).is_ok());
    write(folder.path(), "laconic.json", br#"{"polling": "sum"}"#);
    assert!(
        refusal(folder.path(), "an unknown knob")
            .to_string()
            .contains("laconic.json")
    );
}

/// Whatever the bytes, an answer: an error, or a model whose every output is
/// finite.
#[test]
fn random_damage_never_panics_and_never_leaves_nonsense() {
    let checkpoint = Checkpoint::new(12);
    let names = ["config.json", "tokenizer.json", "model.safetensors"];
    let files = [
        checkpoint.config.to_string().into_bytes(),
        checkpoint.tokenizer.to_string().into_bytes(),
        checkpoint.safetensors(),
    ];
    let header = 8 + usize::from(u16::from_le_bytes([files[2][0], files[2][1]]));
    let folder = written(&checkpoint);
    let mut random = Random(99);
    let mut n_loaded = 0;
    for _ in 0..600 {
        let file = random.below(3);
        let mut bytes = files[file].clone();
        let reach = if file == 2 { header } else { bytes.len() };
        for _ in 0..1 + random.below(3) {
            bytes[random.below(reach)] = u8::try_from(random.below(256)).unwrap();
        }
        write(folder.path(), names[file], &bytes);
        if let Ok(encoder) = load(folder.path()) {
            n_loaded += 1;
            let encoding = encoder.encode(Text::Query("abc")).unwrap();
            assert!(
                encoding
                    .weights
                    .iter()
                    .all(|(_, w)| w.is_finite() && *w > 0.0)
            );
        }
        write(folder.path(), names[file], &files[file]);
    }
    println!("{n_loaded} of 600 damaged folders still loaded");
    assert!(n_loaded < 600);
}
