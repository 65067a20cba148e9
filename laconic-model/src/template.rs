//! What a `tokenizer.json` says about the special tokens around a text, for families whose
//! `config.json` does not say it.

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::tokenize::{Specials, TextTokenizer};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    normalizer: Value,
}

/// The special tokens before and after a text: `[CLS]` and `[SEP]` of BERT.
///
/// # Errors
/// If the file's post-processor is missing or of another kind than one token before and one after
/// a text, or disagrees with the vocabulary.
pub(crate) fn specials(bytes: &[u8], tokenizer: &TextTokenizer) -> Result<Specials, Error> {
    let file: File = parse(bytes)?;
    let processor = &file.post_processor;
    let pair = match processor.get("type").and_then(Value::as_str) {
        Some("BertProcessing") => of_pair(processor),
        Some("TemplateProcessing") => of_template(processor),
        _ => None,
    };
    let [(before, bos), (after, eos)] = pair.ok_or_else(unknown)?;
    for (token, id) in [(before, bos), (after, eos)] {
        if tokenizer.term(id) != Some(token) {
            return Err(Error::corrupt(format!(
                "reading tokenizer.json: its post-processor gives {token:?} the id {id}, its \
                 vocabulary does not; download it again"
            )));
        }
    }
    Ok(Specials {
        bos: Some(bos),
        eos: Some(eos),
    })
}

/// Whether the normalizer turns letters into small ones.
pub(crate) fn is_lower_casing(bytes: &[u8]) -> Result<bool, Error> {
    let file: File = parse(bytes)?;
    Ok(lowers(&file.normalizer))
}

fn lowers(normalizer: &Value) -> bool {
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Lowercase") => true,
        Some("BertNormalizer") => normalizer.get("lowercase") == Some(&Value::Bool(true)),
        Some("Sequence") => normalizer
            .get("normalizers")
            .and_then(Value::as_array)
            .is_some_and(|parts| parts.iter().any(lowers)),
        _ => false,
    }
}

fn parse(bytes: &[u8]) -> Result<File, Error> {
    serde_json::from_slice(bytes).map_err(|source| {
        Error::corrupt(format!(
            "reading tokenizer.json: {source}; download it again"
        ))
        .with_source(source)
    })
}

type Pair<'a> = [(&'a str, u32); 2];

/// `"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]`.
fn of_pair(processor: &Value) -> Option<Pair<'_>> {
    let token = |key: &str| Some((processor[key][0].as_str()?, id(&processor[key][1])?));
    Some([token("cls")?, token("sep")?])
}

/// `"single"` lists special tokens and the sequence A, `"special_tokens"` their ids.
fn of_template<'a>(processor: &'a Value) -> Option<Pair<'a>> {
    let single = processor.get("single")?.as_array()?;
    let [before, text, after] = single.as_slice() else {
        return None;
    };
    if text["Sequence"]["id"] != "A" {
        return None;
    }
    let ids = processor.get("special_tokens")?;
    let token = |piece: &'a Value| {
        let name = piece["SpecialToken"]["id"].as_str()?;
        match ids.get(name)?["ids"].as_array()?.as_slice() {
            [only] => Some((name, id(only)?)),
            _ => None,
        }
    };
    Some([token(before)?, token(after)?])
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn unknown() -> Error {
    Error::unsupported(
        "reading tokenizer.json: its post-processor does not say which special token comes before \
         a text and which after it (BertProcessing, or TemplateProcessing of one each); use the \
         tokenizer.json that the model's authors publish, or set add_bos and add_eos to false if \
         there are none",
    )
}
