use serde_json::json;

use super::*;

fn listing(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn chosen(names: &[&str], gguf: Option<&str>, files: &[(&str, Value)]) -> Result<Choice> {
    let read = |name: &str| {
        let found = files.iter().find(|(file, _)| *file == name);
        found.map(|(_, json)| json.clone())
    };
    choose(&listing(names), gguf, read)
}

#[test]
fn only_what_is_loaded_is_chosen() {
    let loaded = [
        "config.json",
        "idf.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    ];
    let others = [
        "README.md",
        "modeling.py",
        "pytorch_model.bin",
        "model.pt",
        "model-q8_0.gguf",
        "onnx/config.json",
        "onnx/model.onnx",
        "1_Pooling/config.json",
        "training.safetensors",
        "model.safetensors.index.json",
        ".gitattributes",
    ];
    let choice = chosen(&[&loaded[..], &others[..]].concat(), None, &[]).unwrap();
    assert_eq!(Vec::from_iter(&choice.names), loaded);
    assert!(choice.absent.is_empty());
}

#[test]
fn modules_and_routes_lead_to_their_folders() {
    let names = [
        "modules.json",
        "0_Router/router_config.json",
        "0_Router/doc/config.json",
        "0_Router/doc/model.safetensors",
        "0_Router/query/idf.json",
        "other/config.json",
        "0_Router/doc/pytorch_model.bin",
    ];
    let none = chosen(&names, None, &[]).unwrap();
    assert_eq!(Vec::from_iter(&none.names), ["modules.json"]);
    let modules = (
        "modules.json",
        json!([{"path": ""}, {"path": "0_Router"}, {"type": "x"}]),
    );
    let structure = json!({"structure": {"query": ["query"], "document": ["doc"]}});
    let router = ("0_Router/router_config.json", structure);
    let all = chosen(&names, None, &[modules, router]).unwrap();
    assert_eq!(all.names.len(), 5, "{all:?}");
    assert!(!all.names.contains("other/config.json"));
}

#[test]
fn shards_are_those_of_the_index() {
    let index = "model.safetensors.index.json";
    let map =
        |shards: [&str; 2]| json!({"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}});
    let names = ["config.json", index, "1.safetensors", "3.safetensors"];
    let files = [(index, map(["1.safetensors", "2.safetensors"]))];
    let choice = chosen(&names, None, &files).unwrap();
    assert_eq!(
        Vec::from_iter(&choice.names),
        ["1.safetensors", "config.json", index]
    );
    assert_eq!(Vec::from_iter(&choice.absent), ["2.safetensors"]);
    for hostile in [
        "../1.safetensors",
        "/1.safetensors",
        "a\\1.safetensors",
        "model.bin",
    ] {
        let files = [(index, map(["1.safetensors", hostile]))];
        let error = chosen(&names, None, &files).unwrap_err();
        assert!(error.to_string().contains(index), "{error}");
    }
    let modules = ("modules.json", json!([{"path": "../x"}]));
    assert!(chosen(&["modules.json"], None, &[modules]).is_err());
}

#[test]
fn a_gguf_file_takes_the_place_of_the_weights() {
    let names = [
        "config.json",
        "model.safetensors",
        "a.gguf",
        "b.gguf",
        "tokenizer.json",
    ];
    let choice = chosen(&names, Some("b.gguf"), &[]).unwrap();
    assert_eq!(
        Vec::from_iter(&choice.names),
        ["b.gguf", "config.json", "tokenizer.json"]
    );
    let choice = chosen(&names, Some("c.gguf"), &[]).unwrap();
    assert_eq!(Vec::from_iter(&choice.absent), ["c.gguf"]);
}

#[test]
fn what_is_lacking_is_said() {
    let says = |names: &[&str], part: &str| {
        let choice = chosen(names, None, &[]).unwrap();
        let error = lacking(&listing(names), &choice, "org/name");
        let error = error.map_or(String::new(), |error| error.to_string());
        assert!(
            error.contains(part) && error.is_empty() == part.is_empty(),
            "{error}"
        );
    };
    says(&["config.json", "model.safetensors"], "");
    says(
        &["config.json", "pytorch_model.bin", "x.gguf"],
        "pickles (pytorch_model.bin)",
    );
    says(&["config.json", "x.gguf"], "--file: x.gguf");
    says(&["README.md"], "no model");
    says(&["model.safetensors"], "config.json");
}
