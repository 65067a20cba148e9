//! A tokenizer out of `vocab.txt`, for folders of BERT that are older than `tokenizer.json`.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::folder::Folder;

const VOCABULARY: &str = "vocab.txt";
const SETTINGS: &str = "tokenizer_config.json";
const MAX_SETTINGS: u64 = 1 << 20;
const SPECIALS: [(&str, &str); 5] = [
    ("pad_token", "[PAD]"),
    ("unk_token", "[UNK]"),
    ("cls_token", "[CLS]"),
    ("sep_token", "[SEP]"),
    ("mask_token", "[MASK]"),
];

/// The bytes of the `tokenizer.json` that transformers would make of the folder's `vocab.txt` and
/// the settings beside it; `None` if there is no `vocab.txt`.
///
/// # Errors
/// If a file is damaged, or the vocabulary lacks `[UNK]`, `[CLS]` or `[SEP]`.
pub(crate) fn tokenizer_json(folder: &Folder, max_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(bytes) = folder.read(VOCABULARY, max_bytes)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|source| {
        Error::corrupt(format!("reading {VOCABULARY}: {source}; download it again"))
            .with_source(source)
    })?;
    let vocabulary = entries(&text)?;
    let settings = settings(folder)?;
    let flag = |key: &str, otherwise: bool| match settings.get(key) {
        None | Some(Value::Null) => Ok(otherwise),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(value) => Err(refuse(key, value, "true or false")),
    };
    let mut ids = Map::new();
    for (key, name) in SPECIALS {
        if let Some(value) = settings.get(key).filter(|value| is_other(value, name)) {
            return Err(refuse(key, value, name));
        }
        ids.extend(vocabulary.get(name).map(|id| (name.to_owned(), id.clone())));
    }
    for name in ["[UNK]", "[CLS]", "[SEP]"] {
        if !ids.contains_key(name) {
            return Err(Error::corrupt(format!(
                "reading {VOCABULARY}: it has no entry {name}; download it again"
            )));
        }
    }
    let strip_accents = settings.get("strip_accents").cloned();
    let normalizer = json!({
        "type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": flag("tokenize_chinese_chars", true)?,
        "strip_accents": strip_accents.unwrap_or_default(),
        "lowercase": flag("do_lower_case", true)?,
    });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added(&ids), "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing", "cls": ["[CLS]", ids["[CLS]"]], "sep": ["[SEP]", ids["[SEP]"]]
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary
        },
    });
    Ok(Some(file.to_string().into_bytes()))
}

/// A line an entry; its id is the number of the line, from 0.
fn entries(text: &str) -> Result<Map<String, Value>, Error> {
    let mut vocabulary = Map::new();
    for (id, line) in text.lines().enumerate() {
        if vocabulary
            .insert(line.to_owned(), Value::from(id))
            .is_some()
        {
            return Err(Error::corrupt(format!(
                "reading {VOCABULARY}: line {} repeats an entry; download it again",
                id + 1
            )));
        }
    }
    Ok(vocabulary)
}

fn settings(folder: &Folder) -> Result<Map<String, Value>, Error> {
    let Some(bytes) = folder.read(SETTINGS, MAX_SETTINGS)? else {
        return Ok(Map::new());
    };
    serde_json::from_slice(&bytes).map_err(|source| {
        Error::corrupt(format!("reading {SETTINGS}: {source}; download it again"))
            .with_source(source)
    })
}

/// Whether a setting names another token; it may be an object whose `content` is the name.
fn is_other(value: &Value, name: &str) -> bool {
    let value = value.get("content").unwrap_or(value);
    !value.is_null() && value != name
}

fn added(ids: &Map<String, Value>) -> Vec<Value> {
    let tokens = ids.iter().map(|(name, id)| {
        json!({
            "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        })
    });
    tokens.collect()
}

fn refuse(key: &str, value: &Value, expected: &str) -> Error {
    let shown: String = value.to_string().chars().take(80).collect();
    Error::unsupported(format!(
        "reading {SETTINGS}: `{key}` is {shown}, and beside {VOCABULARY} this encoder knows only \
         {expected}; add the tokenizer.json of the model"
    ))
}
