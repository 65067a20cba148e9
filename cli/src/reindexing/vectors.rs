//! [`Vectors`]: vectors for the documents of a unit, by encoder or from a file.

use std::path::Path;

use anyhow::Result;
use laconic_tantivy::{LaconicField, SparseVector, UnitDocuments, UnitVectors};
use tantivy::DocId;
use tantivy::schema::{Field, FieldType, Schema};

use super::ids::Ids;
use super::impacts;
use super::lookup::{Lookup, TitleAndBody};
use super::recipe::Recipe;
use super::texts::{encode, texts};
use crate::encoding::CachedEncoder;
use crate::indexing::InputFile;
use crate::terminal::{MismatchError, MissingError, UsageError};

/// Documents encoded together; the encoder sorts them by length.
const BATCH: usize = 256;

/// Where vectors come from, opened.
pub(crate) struct Vectors {
    source: Source,
    /// What cannot be encoded gets an empty vector instead of ending the work.
    skip_invalid: bool,
    /// So does what the file lacks.
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
    Fields {
        encoder: Box<CachedEncoder>,
        title: Option<Field>,
        body: Vec<Field>,
    },
    Texts {
        encoder: Box<CachedEncoder>,
        file: Joined<TitleAndBody>,
    },
    Vectors(Joined<SparseVector>),
    Impacts(LaconicField),
}

/// A file, and the ids by which it is joined.
struct Joined<T> {
    lookup: Box<Lookup<T>>,
    ids: Ids,
    /// Of the file, and what it holds: a vector or a text.
    name: String,
    what: &'static str,
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
        encoder: Option<CachedEncoder>,
        file: Option<&Path>,
        (skip_invalid, allow_missing): (bool, bool),
    ) -> Result<Vectors> {
        let source = match recipe {
            Recipe::Text { fields } => Source::of_fields(fields, schema, encoder)?,
            Recipe::Requantize { field } => Source::Impacts(LaconicField::find(schema, field)?),
            Recipe::TextFile {
                id_field,
                file: planned,
            } => {
                let file = same_file(file, planned, ("texts", "--text-file"))?;
                Source::Texts {
                    encoder: Box::new(given(encoder)?),
                    file: Joined {
                        lookup: Box::new(Lookup::of_texts(file, skip_invalid)?),
                        ids: Ids::of_field(schema, id_field)?,
                        name: file.display().to_string(),
                        what: "text",
                    },
                }
            }
            Recipe::File {
                id_field,
                file: planned,
                scale,
            } => {
                let file = same_file(file, planned, ("vectors", "--vectors"))?;
                Source::Vectors(Joined {
                    lookup: Box::new(Lookup::of_vectors(file, *scale, skip_invalid)?),
                    ids: Ids::of_field(schema, id_field)?,
                    name: file.display().to_string(),
                    what: "vector",
                })
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
        if let Source::Impacts(field) = &self.source {
            return impacts::give(field, documents, &live, vectors);
        }
        for batch in live.chunks(BATCH) {
            let made = self.make(documents, batch)?;
            for (doc, vector) in batch.iter().zip(&made) {
                vectors.push(*doc, vector)?;
            }
        }
        Ok(())
    }

    fn make(&mut self, documents: &UnitDocuments<'_>, docs: &[DocId]) -> Result<Vec<SparseVector>> {
        let lenient = (self.skip_invalid, self.allow_missing);
        let tally = &mut self.tally;
        match &mut self.source {
            Source::Fields {
                encoder,
                title,
                body,
            } => {
                let texts = docs.iter().map(|doc| {
                    let stored = documents.stored(*doc)?;
                    Ok(texts(&stored, *title, body))
                });
                let texts = texts.collect::<Result<Vec<_>>>()?;
                encode(encoder, &texts, (docs, documents.unit()), lenient.0, tally)
            }
            Source::Texts { encoder, file } => {
                let texts = file.find(documents, docs, lenient.1, tally)?;
                let (places, texts): (Vec<_>, Vec<_>) = (0..)
                    .zip(texts)
                    .filter_map(|(place, text)| Some((place, text?)))
                    .unzip();
                let unit = documents.unit();
                let mut vectors = vec![SparseVector::default(); docs.len()];
                let found: Vec<DocId> = places.iter().map(|place: &usize| docs[*place]).collect();
                let made = encode(encoder, &texts, (&found, unit), lenient.0, tally)?;
                for (place, vector) in places.into_iter().zip(made) {
                    vectors[place] = vector;
                }
                Ok(vectors)
            }
            // They are given a unit at a time.
            Source::Impacts(_) => Ok(Vec::new()),
            Source::Vectors(file) => {
                let found = file.find(documents, docs, lenient.1, tally)?;
                Ok(found.into_iter().map(Option::unwrap_or_default).collect())
            }
        }
    }

    /// Lines of the file that could not be read.
    pub(crate) fn skipped_lines(&self) -> u64 {
        match &self.source {
            Source::Fields { .. } | Source::Impacts(_) => 0,
            Source::Texts { file, .. } => file.lookup.skipped,
            Source::Vectors(file) => file.lookup.skipped,
        }
    }
}

impl<T> Joined<T> {
    /// What the file says of each document.
    fn find(
        &mut self,
        documents: &UnitDocuments<'_>,
        docs: &[DocId],
        allow_missing: bool,
        tally: &mut Tally,
    ) -> Result<Vec<Option<T>>> {
        let ids = self.ids.of(documents, docs)?;
        let mut found = Vec::with_capacity(ids.len());
        for id in &ids {
            let entry = self.lookup.find(id)?;
            if entry.is_none() {
                tally.missing_vectors += 1;
                if !allow_missing {
                    return Err(missing(id, self.what, &self.name));
                }
            }
            found.push(entry);
        }
        Ok(found)
    }
}

/// The file of the plan.
fn same_file<'f>(
    file: Option<&'f Path>,
    planned: &InputFile,
    (what, option): (&str, &str),
) -> Result<&'f Path> {
    let file = file.ok_or_else(|| {
        usage(format!(
            "the {what} come from a file; name it with {option}"
        ))
    })?;
    if InputFile::identify(file)?.as_ref() != Some(planned) {
        let message = "the file is not the one the job was planned with; go on with that one, or \
                       begin anew";
        return Err(MismatchError(message).into());
    }
    Ok(file)
}

fn given(encoder: Option<CachedEncoder>) -> Result<CachedEncoder> {
    encoder.ok_or_else(|| usage("texts need a model; name its folder with --model"))
}

impl Source {
    fn of_fields(
        fields: &[String],
        schema: &Schema,
        encoder: Option<CachedEncoder>,
    ) -> Result<Source> {
        let encoder = given(encoder)?;
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
        Ok(Source::Fields {
            encoder: Box::new(encoder),
            title,
            body,
        })
    }
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

fn missing(id: &str, what: &str, file: &str) -> anyhow::Error {
    let error = format!(
        "document `{id}` has no {what} in {file}; add it, or leave such documents without sparse \
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
