//! Which files of a repository are pulled: those that laconic loads, never code, never pickles.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::{HubError, Result};
use super::names::is_plain_path;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const MODULES: &str = "modules.json";
/// A router's routes; the second, of when it was called Asym, is any module's settings too.
const ROUTERS: [&str; 2] = ["router_config.json", "config.json"];
/// What a folder may hold beside weights, be it the repository's or a module's.
const BESIDE_WEIGHTS: [&str; 12] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "laconic.json",
    "idf.json",
    "query_token_weights.txt",
    MODULES,
    "router_config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "sentence_distilbert_config.json",
];
const PICKLES: [&str; 5] = [".bin", ".pt", ".pth", ".pkl", ".ckpt"];
/// More modules, or shards, than any model has.
const MAX_NAMED: usize = 4096;

/// Files to pull, as far as it can be told from those that were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) names: BTreeSet<String>,
    /// What an index names and the listing lacks.
    pub(super) absent: BTreeSet<String>,
}

/// Chooses among the files of `listing`. `read` gives the JSON of a file that was pulled before;
/// to be called again, once these were pulled, until nothing new is chosen.
///
/// # Errors
/// When a file names what leads out of the repository.
pub(super) fn choose(
    listing: &BTreeSet<String>,
    gguf: Option<&str>,
    read: impl Fn(&str) -> Option<Value>,
) -> Result<Choice> {
    let mut choice = Choice::default();
    let mut folders = vec![String::new()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let mut take = |name: &str| {
            let name = join(&folder, name);
            let is_there = listing.contains(&name);
            choice.names.extend(is_there.then_some(name));
            is_there
        };
        for name in BESIDE_WEIGHTS {
            take(name);
        }
        if gguf.is_none() && !take(SINGLE) && take(INDEX) {
            let shards = read(&join(&folder, INDEX)).map_or(Ok(Vec::new()), |json| {
                named(json.get("weight_map").and_then(Value::as_object), INDEX)
            })?;
            for shard in shards.iter().map(|shard| join(&folder, shard)) {
                let set = match listing.contains(&shard) {
                    true => &mut choice.names,
                    false => &mut choice.absent,
                };
                set.insert(shard);
            }
        }
        // A GGUF file is all of a model but its tokenizer.
        if gguf.is_none() {
            for module in modules(&folder, &read)? {
                let module = join(&folder, &module);
                if !folders.contains(&module) && folders.len() < MAX_NAMED {
                    folders.push(module);
                }
            }
        }
    }
    if let Some(name) = gguf {
        let set = match listing.contains(name) {
            true => &mut choice.names,
            false => &mut choice.absent,
        };
        set.insert(name.to_owned());
    }
    Ok(choice)
}

/// What is wrong with a repository whose choice is complete and brings no weights; `None` if it
/// brings some.
pub(super) fn lacking(listing: &BTreeSet<String>, choice: &Choice, what: &str) -> Option<HubError> {
    let has = |suffix: &str| choice.names.iter().any(|name| name.ends_with(suffix));
    let error = |message: String| Some(HubError::missing(message));
    if has(".gguf") {
        return None;
    }
    if !has(".safetensors") {
        let pickle = |name: &&String| PICKLES.iter().any(|end| name.ends_with(end));
        if let Some(pickle) = listing.iter().find(pickle) {
            return error(format!(
                "{what} has no safetensors, only pickles ({pickle}), which can run code and are \
                 never pulled; look for a conversion, or convert it with save_pretrained"
            ));
        }
        let ggufs = listing.iter().filter(|name| name.ends_with(".gguf"));
        let ggufs: Vec<&str> = ggufs.take(20).map(String::as_str).collect();
        return error(match ggufs.as_slice() {
            [] => format!("{what} has no {SINGLE} and no {INDEX}: there is no model to pull"),
            names => format!(
                "{what} has no safetensors; choose a GGUF file with --file: {}",
                names.join(", ")
            ),
        });
    }
    if !has("config.json") {
        return error(format!(
            "{what} has no config.json: it is no model that laconic loads"
        ));
    }
    None
}

/// The folders of modules that a folder's own files name.
fn modules(folder: &str, read: impl Fn(&str) -> Option<Value>) -> Result<Vec<String>> {
    let mut modules = Vec::new();
    if let Some(Value::Array(list)) = read(&join(folder, MODULES)) {
        let paths = list
            .iter()
            .filter_map(|module| module.get("path")?.as_str());
        modules.extend(paths.map(|path| (path.to_owned(), MODULES)));
    }
    for router in ROUTERS {
        let Some(config) = read(&join(folder, router)) else {
            continue;
        };
        let routes = config.get("structure").and_then(Value::as_object);
        let routes = routes
            .into_iter()
            .flatten()
            .filter_map(|(_, route)| route.as_array());
        let paths = routes.flatten().filter_map(Value::as_str);
        modules.extend(paths.map(|path| (path.to_owned(), router)));
    }
    // The folder itself.
    modules.retain(|(path, _)| !matches!(path.as_str(), "" | "."));
    let paths = modules.into_iter().take(MAX_NAMED);
    paths.map(|(path, file)| plain(path, file)).collect()
}

/// The files that the values of an object name, each once.
fn named(object: Option<&serde_json::Map<String, Value>>, file: &str) -> Result<Vec<String>> {
    let names = object.into_iter().flat_map(|object| object.values());
    let names: BTreeSet<&str> = names.filter_map(Value::as_str).collect();
    let names = names.into_iter().take(MAX_NAMED);
    let names = names.map(|name| match name.ends_with(".safetensors") {
        true => plain(name.to_owned(), file),
        false => Err(refused(name, file, "which is no safetensors file")),
    });
    names.collect()
}

fn plain(name: String, file: &str) -> Result<String> {
    match is_plain_path(&name) {
        true => Ok(name),
        false => Err(refused(&name, file, "which leads out of the folder")),
    }
}

fn refused(name: &str, file: &str, why: &str) -> HubError {
    let shown: String = name.chars().take(80).collect();
    HubError::corrupt(format!("{file} names {shown:?}, {why}; nothing is pulled"))
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
