//! Between the encoder and the index: loading, identity, vectors by vocabulary string.

use std::path::Path;

use anyhow::{Context, Result};
use laconic_model::{Encoder, Encoding, LoadOptions, Text};
use laconic_tantivy::{ModelIdentity, SparseVector};

use crate::collection::{Document, Located};

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The vector, by vocabulary string.
    pub vector: SparseVector,
    /// True if the text was longer than the encoder reads.
    pub is_truncated: bool,
}

/// Loads the checkpoint in `folder`, with a tokenizer from elsewhere and knobs of the preset
/// overridden if so given.
///
/// # Errors
/// When the checkpoint cannot be used.
pub fn load(
    folder: &Path,
    tokenizer: Option<&Path>,
    overrides: &[(String, String)],
) -> Result<Encoder> {
    let mut options = LoadOptions::new();
    if let Some(tokenizer) = tokenizer {
        options = options.tokenizer(tokenizer);
    }
    for (key, value) in overrides {
        options = options.set(key, value);
    }
    Ok(Encoder::load(folder, options)?)
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
    encoder: &Encoder,
    documents: &[Located<Document>],
) -> Result<Vec<Encoded>> {
    let texts: Vec<Text<'_>> = documents
        .iter()
        .map(|located| text(&located.record))
        .collect();
    encode_located(encoder, &texts, documents)?
        .iter()
        .map(|e| encoded(encoder, e))
        .collect()
}

/// Encodes texts, those of similar length together.
///
/// # Errors
/// When a logit is not finite, with the place of the text that is to blame.
pub(crate) fn encode_texts(
    encoder: &Encoder,
    texts: &[Text<'_>],
) -> Result<Vec<Encoded>, (Option<usize>, anyhow::Error)> {
    let encodings = encoder.encode_batch(texts, |_| {});
    let encodings = encodings.map_err(|error| (error.document_idx(), error.into()))?;
    let vectors = encodings.iter().map(|encoding| encoded(encoder, encoding));
    vectors
        .collect::<Result<_>>()
        .map_err(|error| (None, error))
}

/// Encodes texts that came from `documents`, in the same order.
///
/// # Errors
/// When a logit is not finite; the error names file and line.
pub fn encode_located(
    encoder: &Encoder,
    texts: &[Text<'_>],
    documents: &[Located<Document>],
) -> Result<Vec<Encoding>> {
    encoder.encode_batch(texts, |_| {}).map_err(|error| {
        match error.document_idx().and_then(|idx| documents.get(idx)) {
            Some(Located { record, place }) => {
                let (file, line) = (place.file().to_owned(), place.line());
                let context = format!(
                    "cannot encode document `{}` ({file}, line {line})",
                    record.id
                );
                anyhow::Error::new(error).context(context)
            }
            None => error.into(),
        }
    })
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
