//! Texts of documents, and their vectors by an encoder.

use anyhow::Result;
use laconic_model::Text;
use laconic_tantivy::SparseVector;
use tantivy::schema::{Field, Value};
use tantivy::{DocId, TantivyDocument};

use super::lookup::TitleAndBody;
use super::vectors::Tally;
use crate::encoding::{self, CachedEncoder, Encoded};

/// Title and body; several values, or fields, are put together with spaces.
pub(super) fn texts(
    document: &TantivyDocument,
    title: Option<Field>,
    body: &[Field],
) -> TitleAndBody {
    let all = |fields: &[Field]| {
        let values = fields.iter().flat_map(|field| document.get_all(*field));
        let texts: Vec<&str> = values.filter_map(|value| value.as_str()).collect();
        texts.join(" ")
    };
    (title.map(|title| all(&[title])), all(body))
}

pub(super) fn encode(
    encoder: &CachedEncoder,
    texts: &[TitleAndBody],
    (docs, unit): (&[DocId], u32),
    skip_invalid: bool,
    tally: &mut Tally,
) -> Result<Vec<SparseVector>> {
    let inputs: Vec<Text<'_>> = texts
        .iter()
        .map(|(title, body)| Text::Document {
            title: title.as_deref(),
            body,
        })
        .collect();
    let encodings = match encoding::encode_texts(encoder, &inputs) {
        Ok(encodings) => encodings.into_iter().map(Some).collect(),
        Err((Some(_), _)) if skip_invalid => one_by_one(encoder, &inputs, tally)?,
        Err((place, error)) => {
            let doc = place.and_then(|place| docs.get(place));
            let doc = doc.map_or_else(String::new, |doc| format!("document {doc} of "));
            return Err(error.context(format!("cannot encode {doc}unit {unit}")));
        }
    };
    let vectors = encodings.into_iter().map(|encoded: Option<Encoded>| {
        tally.truncated_texts += u64::from(encoded.as_ref().is_some_and(|e| e.is_truncated));
        encoded.map(|encoded| encoded.vector).unwrap_or_default()
    });
    Ok(vectors.collect())
}

/// After one text of a batch could not be encoded: all of them alone, and those without.
fn one_by_one(
    encoder: &CachedEncoder,
    inputs: &[Text<'_>],
    tally: &mut Tally,
) -> Result<Vec<Option<Encoded>>> {
    let mut encodings = Vec::with_capacity(inputs.len());
    for input in inputs {
        encodings.push(match encoding::encode_texts(encoder, &[*input]) {
            Ok(mut encoded) => encoded.pop(),
            Err((Some(_), error)) => {
                log::warn!("skipped: {error:#}");
                tally.skipped_texts += 1;
                None
            }
            Err((None, error)) => return Err(error),
        });
    }
    Ok(encodings)
}
