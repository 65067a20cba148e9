//! Queries without a network: a weight for each token, looked up (the inference-free retrievers of
//! OpenSearch, Geng et al. 2025).

use std::collections::HashMap;

use crate::config::narrow;
use crate::encoding::ranked;
use crate::error::Error;
use crate::folder::{Fingerprint, Folder};
use crate::layout::TableFile;
use crate::options::LoadOptions;
use crate::parts::TOKENIZER;
use crate::shard::{Shard, UniqueMap, is_readable};
use crate::tokenize::{Specials, TextTokenizer};

/// Longest file of weights. The largest known, of 30,522 tokens, have half a megabyte.
const MAX_TABLE: u64 = 64 << 20;

/// The tensor of a module of static weights.
const WEIGHT: &str = "weight";

/// A weight for each token of the vocabulary.
pub(crate) struct QueryTable {
    /// By token id; 0 for tokens that are no terms of queries.
    weights: Vec<f32>,
    /// Of queries, if it is not that of documents.
    tokenizer: Option<TextTokenizer>,
    /// What is looked up before and after a text.
    pub(crate) specials: Specials,
}

impl QueryTable {
    /// Reads the weights, and the tokenizer that lies with them. `documents` is the tokenizer of
    /// the network, `specials` what comes before and after its texts.
    pub(crate) fn load(
        file: &TableFile,
        network: &Folder,
        documents: &TextTokenizer,
        specials: Specials,
        options: &LoadOptions,
        fingerprint: &mut Fingerprint,
    ) -> Result<Self, Error> {
        let is_apart = file.folder.path() != network.path() && options.tokenizer_path().is_none();
        let tokenizer = match is_apart {
            true => own_tokenizer(file, documents, fingerprint)?,
            false => None,
        };
        fingerprint.part("query table", file.name.as_bytes());
        let weights = read(file, documents, fingerprint)?;
        let mut weights = checked(file, weights)?;
        weights.resize(documents.vocab_size(), 0.0);
        Ok(Self {
            weights,
            tokenizer,
            specials: if file.with_specials {
                specials
            } else {
                Specials::default()
            },
        })
    }

    /// Tokens that a query can have as terms.
    pub(crate) fn n_terms(&self) -> usize {
        self.weights.iter().filter(|weight| **weight > 0.0).count()
    }

    pub(crate) fn tokenizer<'a>(&'a self, documents: &'a TextTokenizer) -> &'a TextTokenizer {
        self.tokenizer.as_ref().unwrap_or(documents)
    }

    /// The weights of the tokens that are there, each once, however often it is there.
    pub(crate) fn look_up(&self, ids: &[u32], top_k: Option<usize>) -> Vec<(u32, f32)> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let weight = |id: u32| {
            let idx = usize::try_from(id).ok()?;
            let weight = self.weights.get(idx).copied()?;
            (weight > 0.0).then_some((id, weight))
        };
        ranked(ids.into_iter().filter_map(weight).collect(), top_k)
    }
}

/// The tokenizer beside the table. Its vocabulary has to be that of the documents: terms of both
/// meet in an index.
fn own_tokenizer(
    file: &TableFile,
    documents: &TextTokenizer,
    fingerprint: &mut Fingerprint,
) -> Result<Option<TextTokenizer>, Error> {
    let Some(bytes) = file.folder.read(TOKENIZER, crate::parts::MAX_TOKENIZER)? else {
        return Ok(None);
    };
    fingerprint.part("query tokenizer", &bytes);
    let tokenizer = TextTokenizer::parse(&bytes, documents.vocab_size())?;
    let ids = 0..u32::try_from(documents.vocab_size()).unwrap_or(u32::MAX);
    match ids
        .into_iter()
        .find(|id| tokenizer.term(*id) != documents.term(*id))
    {
        None => Ok(Some(tokenizer)),
        Some(id) => Err(Error::corrupt(format!(
            "reading {TOKENIZER} in {}: token {id} is {:?} for queries and {:?} for documents; \
             download the checkpoint again",
            file.folder.path().display(),
            tokenizer.term(id),
            documents.term(id)
        ))),
    }
}

fn read(
    file: &TableFile,
    tokenizer: &TextTokenizer,
    fingerprint: &mut Fingerprint,
) -> Result<Vec<f32>, Error> {
    let extension = file.name.rsplit_once('.').map(|(_, extension)| extension);
    if extension == Some("safetensors") {
        return read_tensor(file, tokenizer, fingerprint);
    }
    let bytes = file.folder.read(&file.name, MAX_TABLE)?.unwrap_or_default();
    fingerprint.part("query weights", &bytes);
    let pairs = match extension {
        Some("json") => of_json(file, &bytes)?,
        Some("txt") => of_lines(file, &bytes)?,
        _ => {
            return Err(Error::unsupported(format!(
                "opening the query weights {:?}: only .safetensors, .json and .txt are read; \
                 convert them",
                file.name
            )));
        }
    };
    by_id(file, &pairs, tokenizer)
}

/// A vector with a number for each entry of the vocabulary.
fn read_tensor(
    file: &TableFile,
    tokenizer: &TextTokenizer,
    fingerprint: &mut Fingerprint,
) -> Result<Vec<f32>, Error> {
    let damaged = |why: String| {
        let place = file.folder.path().join(&file.name);
        Error::corrupt(format!(
            "reading the query weights {}: {why}; download the checkpoint again",
            place.display()
        ))
    };
    let shard = Shard::open(&file.folder, &file.name)?
        .ok_or_else(|| damaged("the file is gone".to_owned()))?;
    let [(name, info)] = shard.tensors.as_slice() else {
        return Err(damaged(format!(
            "it has {} tensors, expected {WEIGHT} alone",
            shard.tensors.len()
        )));
    };
    let n_terms = tokenizer.n_terms();
    let fits = |n: &usize| (n_terms..=tokenizer.vocab_size()).contains(n);
    if name != WEIGHT || !is_readable(info.dtype) || !matches!(&*info.shape, [n] if fits(n)) {
        return Err(damaged(format!(
            "its tensor is {name} of type {:?} and shape {:?}, expected {WEIGHT} of F32, F16 or \
             BF16 with a number for each of {n_terms} tokens",
            info.dtype, info.shape
        )));
    }
    let mut weights = Vec::new();
    shard.read(fingerprint, |_| true, |_, values| weights = values)?;
    Ok(weights)
}

type Pairs = Vec<(String, f64)>;

fn of_json(file: &TableFile, bytes: &[u8]) -> Result<Pairs, Error> {
    let UniqueMap(pairs) = serde_json::from_slice(bytes).map_err(|source| {
        Error::corrupt(format!(
            "reading {}: {source}; download it again",
            file.name
        ))
        .with_source(source)
    })?;
    Ok(pairs)
}

/// A token, a tab, its weight.
fn of_lines(file: &TableFile, bytes: &[u8]) -> Result<Pairs, Error> {
    let line_error = |idx: usize| {
        Error::corrupt(format!(
            "reading {}: line {} is not a token, a tab and a number, or names a token again; \
             download it again",
            file.name,
            idx + 1
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|source| {
        Error::corrupt(format!(
            "reading {}: {source}; download it again",
            file.name
        ))
        .with_source(source)
    })?;
    let mut seen = HashMap::new();
    let mut pairs = Vec::new();
    for (idx, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let pair = line.split_once('\t');
        let pair = pair.and_then(|(token, weight)| Some((token, weight.trim().parse().ok()?)));
        let (token, weight) = pair.ok_or_else(|| line_error(idx))?;
        if seen.insert(token, idx).is_some() {
            return Err(line_error(idx));
        }
        pairs.push((token.to_owned(), weight));
    }
    Ok(pairs)
}

fn by_id(
    file: &TableFile,
    pairs: &[(String, f64)],
    tokenizer: &TextTokenizer,
) -> Result<Vec<f32>, Error> {
    let ids = tokenizer.ids_by_term();
    let mut weights = vec![0.0; tokenizer.vocab_size()];
    for (token, weight) in pairs {
        let id = ids
            .get(token.as_str())
            .and_then(|id| usize::try_from(*id).ok());
        let place = id.and_then(|id| weights.get_mut(id)).ok_or_else(|| {
            let shown: String = token.chars().take(80).collect();
            Error::corrupt(format!(
                "reading {}: the tokenizer has no token {shown:?}; name the tokenizer that the \
                 weights were made for",
                file.name
            ))
        })?;
        *place = narrow(*weight);
    }
    Ok(weights)
}

fn checked(file: &TableFile, weights: Vec<f32>) -> Result<Vec<f32>, Error> {
    match weights.iter().position(|weight| !weight.is_finite()) {
        None => Ok(weights),
        Some(id) => Err(Error::corrupt(format!(
            "reading {}: the weight of token {id} is {}, not a finite number; download it again",
            file.name, weights[id]
        ))),
    }
}
