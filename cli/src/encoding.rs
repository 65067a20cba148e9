//! Between the encoder and the index: loading, identity, vectors by vocabulary string.

use std::path::Path;

use anyhow::{Context, Result};
use laconic_model::{Encoder, Encoding, LoadOptions, Preset, Text, WeightFormat};
use laconic_tantivy::{ModelIdentity, SparseVector};

use crate::collection::{Document, Located};
use crate::encoding_cache::EncodingCache;

/// An encoder, and perhaps what it has encoded before.
pub struct CachedEncoder {
    /// The encoder.
    pub encoder: Encoder,
    /// Its cache.
    pub cache: Option<EncodingCache>,
}

impl CachedEncoder {
    /// An encoder that encodes everything.
    pub fn without_cache(encoder: Encoder) -> CachedEncoder {
        CachedEncoder {
            encoder,
            cache: None,
        }
    }
}

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The vector, by vocabulary string.
    pub vector: SparseVector,
    /// True if the text was longer than the encoder reads.
    pub is_truncated: bool,
}

/// Loads the checkpoint in `folder`, with a tokenizer from elsewhere and knobs of the preset
/// overridden if so given, its weights held in a format.
///
/// # Errors
/// When the checkpoint cannot be used.
pub fn load(
    folder: &Path,
    tokenizer: Option<&Path>,
    overrides: &[(String, String)],
    weights: WeightFormat,
) -> Result<Encoder> {
    let options = load_options(tokenizer, None, overrides)?;
    Ok(Encoder::load(folder, options.weights(weights))?)
}

/// How to load a checkpoint: with a tokenizer from elsewhere, a preset other than the one that
/// fits the folder, and knobs overridden, if so given.
///
/// # Errors
/// When there is no preset of that name.
pub fn load_options(
    tokenizer: Option<&Path>,
    preset: Option<&str>,
    overrides: &[(String, String)],
) -> Result<LoadOptions> {
    let mut options = LoadOptions::new();
    if let Some(tokenizer) = tokenizer {
        options = options.tokenizer(tokenizer);
    }
    if let Some(preset) = preset {
        options = options.preset(Preset::named(preset)?);
    }
    for (key, value) in overrides {
        options = options.set(key, value);
    }
    Ok(options)
}

/// What an index built with this encoder remembers of it: checkpoint with fingerprint, preset
/// with hash.
///
/// # Errors
/// When the folder's name is too long to be remembered.
pub fn identity(encoder: &Encoder) -> Result<ModelIdentity> {
    let preset = encoder.preset();
    let name = format!("{}@{}", preset.name(), preset.hash());
    Ok(ModelIdentity::new(encoder.model_id(), name)?)
}

/// Encodes a query.
///
/// # Errors
/// When a logit is not finite.
pub fn encode_query(encoder: &Encoder, text: &str) -> Result<SparseVector> {
    vector(encoder, &encoder.encode_query(text)?)
}

/// Encodes documents, those of similar length together.
///
/// # Errors
/// When a logit is not finite; the error names file and line.
pub fn encode_documents(
    encoder: &CachedEncoder,
    documents: &[Located<Document>],
) -> Result<Vec<Encoded>> {
    let texts: Vec<Text<'_>> = documents
        .iter()
        .map(|located| text(&located.record))
        .collect();
    encode_located(encoder, &texts, documents)?
        .iter()
        .map(|encoding| encoded(&encoder.encoder, encoding))
        .collect()
}

/// Encodes texts, those of similar length together; takes those from the cache that are there.
///
/// # Errors
/// When a logit is not finite, with the place of the text that is to blame.
pub(crate) fn encode_texts(
    encoder: &CachedEncoder,
    texts: &[Text<'_>],
) -> Result<Vec<Encoded>, Blamed> {
    let encodings = encode(encoder, texts)?;
    let vectors = encodings
        .iter()
        .map(|encoding| encoded(&encoder.encoder, encoding));
    vectors
        .collect::<Result<_>>()
        .map_err(|error| (None, error))
}

/// Encodes texts that came from `documents`, in the same order; takes those from the cache that
/// are there.
///
/// # Errors
/// When a logit is not finite; the error names file and line.
pub fn encode_located(
    encoder: &CachedEncoder,
    texts: &[Text<'_>],
    documents: &[Located<Document>],
) -> Result<Vec<Encoding>> {
    encode(encoder, texts).map_err(|(place, error)| {
        match place.and_then(|place| documents.get(place)) {
            Some(Located { record, place }) => {
                let (file, line) = (place.file().to_owned(), place.line());
                error.context(format!(
                    "cannot encode document `{}` ({file}, line {line})",
                    record.id
                ))
            }
            None => error,
        }
    })
}

/// An error, with the place of the text that is to blame if one is.
type Blamed = (Option<usize>, anyhow::Error);

fn encode(encoder: &CachedEncoder, texts: &[Text<'_>]) -> Result<Vec<Encoding>, Blamed> {
    let Some(cache) = &encoder.cache else {
        let encodings = encoder.encoder.encode_batch(texts, |_| {});
        return encodings.map_err(|error| (error.document_idx(), error.into()));
    };
    let mut encodings = cache.get(texts).map_err(|error| (None, error))?;
    let missing = (0..texts.len()).filter(|&place| encodings[place].is_none());
    let missing: Vec<usize> = missing.collect();
    let texts_missing: Vec<Text<'_>> = missing.iter().map(|&place| texts[place]).collect();
    let new = encoder.encoder.encode_batch(&texts_missing, |_| {});
    let new = new.map_err(|error| {
        let place = error.document_idx().and_then(|idx| missing.get(idx));
        (place.copied(), error.into())
    })?;
    if !new.is_empty() {
        let put = cache.put(texts_missing.iter().zip(&new));
        put.map_err(|error| (None, error))?;
    }
    for (place, encoding) in missing.into_iter().zip(new) {
        encodings[place] = Some(encoding);
    }
    Ok(encodings.into_iter().flatten().collect())
}

/// A document's title and body.
pub fn text(document: &Document) -> Text<'_> {
    Text::Document {
        title: document.title.as_deref(),
        body: &document.text,
    }
}

fn encoded(encoder: &Encoder, encoding: &Encoding) -> Result<Encoded> {
    Ok(Encoded {
        vector: vector(encoder, encoding)?,
        is_truncated: encoding.is_truncated(),
    })
}

fn vector(encoder: &Encoder, encoding: &Encoding) -> Result<SparseVector> {
    let pairs = encoding.weights.iter().map(|&(token_id, weight)| {
        let term = encoder.term(token_id);
        term.map(|term| (term, weight))
            .with_context(|| format!("the model weighs token {token_id}, which has no string"))
    });
    Ok(SparseVector::from_pairs(
        pairs.collect::<Result<Vec<_>>>()?,
    )?)
}
