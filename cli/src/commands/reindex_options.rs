//! What `reindex`, `plan` and `work` share: where vectors come from, and how lenient to be.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use laconic_model::Encoder;
use laconic_tantivy::{
    Identity, ImpactQuantizer, LaconicField, ReindexJob, ReindexMode, ReindexReport, Reindexer,
    WorkReport,
};
use serde_json::{Value, json};
use tantivy::Index;

use super::options::{ModelOptions, given_model, vector_scale};
use crate::collection::VectorScale;
use crate::corpus::LACONIC_FIELD;
use crate::encoding;
use crate::indexing::InputFile;
use crate::reindexing::{Recipe, Tally};
use crate::terminal::{UsageError, note};

/// Documents of a unit when they are encoded: a minute or so on a graphics card, an hour on a
/// small processor.
const ENCODED_UNIT: u32 = 4096;
/// And when vectors are only read.
const READ_UNIT: u32 = 65_536;

/// When they are read back from posting lists, all of a unit's vectors are held.
const REQUANTIZED_UNIT: u32 = 16_384;

/// A segment that is written through stored documents ends when it takes so much memory.
const REWRITE_MEMORY: usize = 256 << 20;

/// The field to be, and its vectors.
#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    /// Stored fields to encode with --model, comma-separated; of several, the first is the title
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', requires = "model")]
    text: Option<Vec<String>>,
    /// Vectors that exist, as JSON lines {"_id", "vector": {term: weight}}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "model"])]
    pub(crate) vectors: Option<PathBuf>,
    /// Texts to encode with --model, as JSON lines {"_id", "title", "text"}, where the index does
    /// not store them
    #[arg(
        long,
        value_name = "FILE",
        requires = "model",
        conflicts_with_all = ["text", "vectors"]
    )]
    text_file: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    /// Field of the index that holds the `_id` of the file, stored, fast, or indexed as a whole
    #[arg(long, value_name = "NAME", default_value = "_id")]
    id_field: String,
    /// Factor the weights of the vector file were multiplied with
    #[arg(long, value_name = "S", default_value = "1", value_parser = vector_scale)]
    vector_scale: VectorScale,
    /// Name of the model that made the vectors, recorded with the index
    #[arg(long, value_name = "NAME", requires = "vectors")]
    vectors_model: Option<String>,
    /// Name of the new field
    #[arg(long, value_name = "NAME", default_value = LACONIC_FIELD)]
    field: String,
    /// Give the field's own vectors other --bits, in place of new ones: fewer make a smaller index
    #[arg(long, requires = "bits", conflicts_with_all = ["text", "text_file", "vectors", "model"])]
    requantize: bool,
    /// Put the new vectors in the place of those that the field has
    #[arg(long)]
    replace: bool,
    /// Leave deleted documents out, writing segments that have some anew from their own files
    #[arg(long, conflicts_with = "rewrite")]
    purge: bool,
    /// Do not copy but index the stored documents again, deleted ones left out: an old index in
    /// today's format; refused if an indexed or fast field is not stored
    #[arg(long)]
    rewrite: bool,
    /// Bits of an impact, 4 to 8 [default: 5, or with --replace what the field has]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(4..=8))]
    bits: Option<u8>,
    /// Documents of a unit of work, which is lost when a run is interrupted within it
    /// [default: 4096 to encode, 65536 to read vectors, 16384 to requantize]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    unit_docs: Option<u32>,
}

/// What to do about documents without a vector.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Leniency {
    /// Pass over lines that cannot be read and texts that cannot be encoded, instead of stopping
    /// at the first; such documents get no sparse terms if their vectors may be missing
    #[arg(long)]
    pub(crate) skip_invalid: bool,
    /// Leave documents that the vector file lacks without sparse terms, instead of stopping
    #[arg(long)]
    pub(crate) allow_missing_vectors: bool,
}

impl Leniency {
    pub(crate) fn both(self) -> (bool, bool) {
        (self.skip_invalid, self.allow_missing_vectors)
    }
}

impl PlanOptions {
    /// The job's settings, how its vectors are made, and the encoder if there is one.
    pub(crate) fn reindexer(
        &self,
        source: &Index,
        location: &Path,
    ) -> Result<(Reindexer, Recipe, Option<Encoder>)> {
        let encoder = self.model.load()?;
        let recipe = self.recipe()?;
        let model = match (&encoder, &self.vectors_model) {
            _ if self.requantize => {
                let field = LaconicField::find(&source.schema(), &self.field)?;
                field.identity().model.clone()
            }
            (Some(encoder), _) => Some(encoding::identity(encoder)?),
            (None, Some(name)) => Some(given_model(name)?),
            (None, None) => None,
        };
        let quantizer = match self.bits {
            Some(bits) => ImpactQuantizer::with_bits(bits)?,
            None if self.replace => {
                LaconicField::find(&source.schema(), &self.field)?
                    .identity()
                    .quantizer
            }
            None => ImpactQuantizer::default(),
        };
        let unit_docs = match recipe {
            Recipe::Text { .. } | Recipe::TextFile { .. } => ENCODED_UNIT,
            Recipe::Requantize { .. } => REQUANTIZED_UNIT,
            Recipe::File { .. } => READ_UNIT,
        };
        let location = location
            .canonicalize()
            .unwrap_or_else(|_| location.to_owned());
        let reindexer = Reindexer::new(source, &self.field, Identity { quantizer, model })
            .replace(self.replace || self.requantize)
            .mode(self.mode())
            .recipe(recipe.to_json()?)
            .unit_docs(self.unit_docs.unwrap_or(unit_docs))
            .location(location.display().to_string());
        Ok((reindexer, recipe, encoder))
    }

    fn mode(&self) -> ReindexMode {
        match (self.purge, self.rewrite) {
            (true, _) => ReindexMode::Purge,
            (false, true) => ReindexMode::Rewrite {
                memory_budget: REWRITE_MEMORY,
            },
            (false, false) => ReindexMode::Copy,
        }
    }

    fn recipe(&self) -> Result<Recipe> {
        let usage = |message: &str| anyhow::Error::from(UsageError(message.to_owned()));
        let file = |path| {
            InputFile::identify(path)?.ok_or_else(|| {
                usage("ids are looked up in the file, so it has to be one that exists")
            })
        };
        match (&self.text, &self.vectors) {
            _ if self.requantize => Ok(Recipe::Requantize {
                field: self.field.clone(),
            }),
            (Some(fields), _) => Ok(Recipe::Text {
                fields: fields.clone(),
            }),
            (None, Some(path)) => Ok(Recipe::File {
                id_field: self.id_field.clone(),
                file: file(path)?,
                scale: self.vector_scale,
            }),
            (None, None) => match &self.text_file {
                Some(path) => Ok(Recipe::TextFile {
                    id_field: self.id_field.clone(),
                    file: file(path)?,
                }),
                None => Err(usage(
                    "say where the vectors come from: --text FIELDS --model DIR, --text-file FILE \
                     --model DIR, --vectors FILE, or --requantize",
                )),
            },
        }
    }

    /// The file that the vectors or texts come from.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.vectors.as_deref().or(self.text_file.as_deref())
    }

    /// Documents of a unit small enough for a sample.
    pub(crate) fn is_encoded(&self) -> bool {
        self.text.is_some() || self.text_file.is_some()
    }
}

/// Says which files are taken along without being understood.
pub(crate) fn note_plugins(job: &ReindexJob, quiet: bool) -> Result<()> {
    let plugins = job.copied_plugins()?;
    if !plugins.is_empty() {
        let names = plugins.join("`, `.");
        note(
            quiet,
            format_args!(
                "note: `.{names}` files are those of a plugin that this program does not know; \
                 they are copied as they are"
            ),
        );
    }
    Ok(())
}

/// What was done, for machines.
pub(crate) fn to_json(
    work: &WorkReport,
    assembled: Option<&ReindexReport>,
    tally: Tally,
    skipped_lines: u64,
    seconds: f64,
) -> Value {
    let mut report = json!({
        "units": work.units,
        "resumed_units": work.resumed_units,
        "redone_units": work.redone_units,
        "documents": work.documents,
        "resumed_documents": work.resumed_documents,
        "empty_vectors": work.empty_documents,
        "postings": work.postings,
        "weights": work.loss.weights,
        "clipped_weights": work.loss.clipped,
        "vanished_weights": work.loss.vanished,
        "truncated_texts": tally.truncated_texts,
        "missing_vectors": tally.missing_vectors,
        "skipped_texts": tally.skipped_texts,
        "skipped_lines": skipped_lines,
        "seconds": seconds,
    });
    if let Some(assembled) = assembled {
        report["segments"] = assembled.segments.into();
        report["bytes_before"] = assembled.bytes_before.into();
        report["bytes_after"] = assembled.bytes_after.into();
    }
    report
}

/// What a person should know of the vectors.
pub(crate) fn remarks(work: &WorkReport, tally: Tally, skipped_lines: u64) -> String {
    let counts = [
        (
            work.resumed_documents,
            "documents were done by an earlier run",
        ),
        (
            work.redone_units,
            "units were damaged or of another plan, and done again",
        ),
        (work.empty_documents, "documents have no sparse term"),
        (
            tally.truncated_texts,
            "texts were cut at the model's maximum length",
        ),
        (tally.missing_vectors, "documents have nothing in the file"),
        (
            tally.skipped_texts,
            "texts could not be encoded and were skipped",
        ),
        (skipped_lines, "lines could not be read and were skipped"),
        (
            work.loss.clipped,
            "weights were above the range and clipped",
        ),
        (work.loss.vanished, "weights were too small and dropped"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts
        .map(|(count, what)| format!("\n{count} {what}"))
        .collect()
}
