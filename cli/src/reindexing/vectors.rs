//! [`Vectors`]: vectors for the documents of a unit, by encoder or from a file.

use std::path::Path;

use anyhow::Result;
use laconic_model::{Encoder, Text};
use laconic_tantivy::{SparseVector, UnitDocuments, UnitVectors};
use tantivy::schema::{Field, FieldType, Schema, Value};
use tantivy::{DocId, TantivyDocument};

use super::lookup::VectorLookup;
use super::recipe::Recipe;
use crate::encoding::{self, Encoded};
use crate::indexing::InputFile;
use crate::terminal::{MismatchError, MissingError, UsageError};

/// Documents encoded together; the encoder sorts them by length.
const BATCH: usize = 256;

/// Where vectors come from, opened.
pub(crate) struct Vectors {
    source: Source,
    /// What cannot be encoded gets an empty vector instead of ending the work.
    skip_invalid: bool,
    /// So does what the vector file lacks.
    allow_missing: bool,
    pub(crate) tally: Tally,
}

/// What was done by the way, in documents of this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) truncated_texts: u64,
    pub(crate) missing_vectors: u64,
    pub(crate) skipped_texts: u64,
}

enum Source {
    Encoder {
        encoder: Box<Encoder>,
        title: Option<Field>,
        body: Vec<Field>,
    },
    File {
        lookup: Box<VectorLookup>,
        id: Field,
        name: String,
    },
}

impl Vectors {
    /// Opens what `recipe` asks for in an index of this schema.
    ///
    /// # Errors
    /// When a field is not what it has to be, when encoder or file are missing, or when the file
    /// is another one.
    pub(crate) fn open(
        recipe: &Recipe,
        schema: &Schema,
        encoder: Option<Encoder>,
        file: Option<&Path>,
        (skip_invalid, allow_missing): (bool, bool),
    ) -> Result<Vectors> {
        let source = match recipe {
            Recipe::Text { fields } => Source::of_texts(fields, schema, encoder)?,
            Recipe::File {
                id_field,
                file: planned,
                scale,
            } => {
                let file = file
                    .ok_or_else(|| usage("the vectors come from a file; name it with --vectors"))?;
                if InputFile::identify(file)?.as_ref() != Some(planned) {
                    let message = "the vector file is not the one the job was planned with; go on \
                                   with that one, or begin anew";
                    return Err(MismatchError(message).into());
                }
                Source::File {
                    lookup: Box::new(VectorLookup::open(file, *scale, skip_invalid)?),
                    id: stored(schema, id_field)?,
                    name: file.display().to_string(),
                }
            }
        };
        Ok(Vectors {
            source,
            skip_invalid,
            allow_missing,
            tally: Tally::default(),
        })
    }

    /// Gives every live document of a unit its vector.
    ///
    /// # Errors
    /// On the first document that has none.
    pub(crate) fn give(
        &mut self,
        documents: &UnitDocuments<'_>,
        vectors: &mut UnitVectors<'_>,
    ) -> Result<()> {
        let live: Vec<DocId> = documents.live().collect();
        for batch in live.chunks(BATCH) {
            let stored = batch.iter().map(|doc| documents.stored(*doc));
            let stored: Vec<TantivyDocument> = stored.collect::<Result<_, _>>()?;
            let made = match &mut self.source {
                Source::Encoder {
                    encoder,
                    title,
                    body,
                } => {
                    let texts: Vec<_> = stored.iter().map(|doc| texts(doc, *title, body)).collect();
                    encode(
                        encoder,
                        &texts,
                        (batch, documents.unit()),
                        self.skip_invalid,
                        &mut self.tally,
                    )?
                }
                Source::File { lookup, id, name } => {
                    let mut found = Vec::with_capacity(batch.len());
                    for (document, doc) in stored.iter().zip(batch) {
                        let id = value(document, *id).ok_or_else(|| {
                            let unit = documents.unit();
                            MissingError(format!("document {doc} of unit {unit} has no id"))
                        })?;
                        let vector = lookup.find(&id)?;
                        self.tally.missing_vectors += u64::from(vector.is_none());
                        found.push(match vector {
                            None if !self.allow_missing => return Err(missing(&id, name)),
                            vector => vector.unwrap_or_default(),
                        });
                    }
                    found
                }
            };
            for (doc, vector) in batch.iter().zip(&made) {
                vectors.push(*doc, vector)?;
            }
        }
        Ok(())
    }

    /// Lines of the vector file that could not be read.
    pub(crate) fn skipped_lines(&self) -> u64 {
        match &self.source {
            Source::Encoder { .. } => 0,
            Source::File { lookup, .. } => lookup.skipped,
        }
    }
}

impl Source {
    fn of_texts(fields: &[String], schema: &Schema, encoder: Option<Encoder>) -> Result<Source> {
        let encoder =
            encoder.ok_or_else(|| usage("texts need a model; name its folder with --model"))?;
        let mut body = Vec::new();
        for name in fields {
            let field = stored(schema, name)?;
            if !matches!(
                schema.get_field_entry(field).field_type(),
                FieldType::Str(_)
            ) {
                return Err(usage(format!("field `{name}` holds no text")));
            }
            body.push(field);
        }
        let title = (body.len() > 1).then(|| body.remove(0));
        Ok(Source::Encoder {
            encoder: Box::new(encoder),
            title,
            body,
        })
    }
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

fn missing(id: &str, file: &str) -> anyhow::Error {
    let error = format!(
        "document `{id}` has no vector in {file}; add it, or leave such documents without sparse \
         terms by --allow-missing-vectors"
    );
    MissingError(error).into()
}

fn stored(schema: &Schema, name: &str) -> Result<Field> {
    let field = schema.get_field(name).ok();
    let field = field.filter(|field| schema.get_field_entry(*field).is_stored());
    field.ok_or_else(|| {
        let stored = schema.fields().filter(|(_, entry)| entry.is_stored());
        let names: Vec<_> = stored.map(|(_, entry)| entry.name()).collect();
        usage(format!(
            "the index has no stored field `{name}`; it stores: {}",
            names.join(", ")
        ))
    })
}

/// The first value of a field, in its decimal form if it is a whole number.
fn value(document: &TantivyDocument, field: Field) -> Option<String> {
    let value = document.get_first(field)?;
    let number = || value.as_u64().map(|n| n.to_string());
    let signed = || value.as_i64().map(|n| n.to_string());
    value
        .as_str()
        .map(str::to_owned)
        .or_else(number)
        .or_else(signed)
}

/// Title and body; several values, or fields, are put together with spaces.
fn texts(
    document: &TantivyDocument,
    title: Option<Field>,
    body: &[Field],
) -> (Option<String>, String) {
    let all = |fields: &[Field]| {
        let values = fields.iter().flat_map(|field| document.get_all(*field));
        let texts: Vec<&str> = values.filter_map(|value| value.as_str()).collect();
        texts.join(" ")
    };
    (title.map(|title| all(&[title])), all(body))
}

fn encode(
    encoder: &Encoder,
    texts: &[(Option<String>, String)],
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
    encoder: &Encoder,
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
