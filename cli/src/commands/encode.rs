//! `laconic encode`: texts in, vectors out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use laconic_model::{Encoder, Encoding, Text};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Global;
use super::cache_options::CacheOptions;
use super::options::ModelOptions;
use crate::collection::{self, Document, LineReader, Located};
use crate::encoding::{self, CachedEncoder};
use crate::terminal::{Ending, UsageError, note, progress};

/// Texts encoded together; the encoder sorts them by length.
const BATCH: usize = 256;

/// Turn texts into learned-sparse vectors
///
/// Reads JSON lines {"_id", "text"} (for documents also "title"), plain, gzip or zstd, and writes
/// {"_id", "vector": {term: weight}}, largest weights first: what `index --vectors` and
/// `search --query-vectors` read.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  laconic encode --model laconic-1b --kind document \
                        --input corpus.jsonl.gz --output vectors.jsonl"
)]
pub(crate) struct Encode {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    cache: CacheOptions,
    /// What the texts are: the model reads queries and documents with different prefixes
    #[arg(long, value_enum)]
    kind: Kind,
    /// Texts; - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Vectors; - for standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Print token ids instead of vocabulary strings, and the input's token ids as "input_ids"
    #[arg(long)]
    ids: bool,
    /// Print weights as integers, multiplied with this factor and rounded
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    vector_scale: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Query,
    Document,
}

impl Encode {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let encoder = self.model.load()?.ok_or_else(|| {
            UsageError("encode needs a checkpoint: name its folder with --model".to_owned())
        })?;
        let encoder = self.cache.cached(encoder, global.quiet)?;
        let mut output = open_output(&self.output)?;
        let bar = progress("texts", None, global.quiet);
        let mut truncated = 0u64;
        let mut batch = Vec::with_capacity(BATCH);
        let lines = LineReader::open(&self.input)?;
        for document in collection::documents(lines).with_unique_ids() {
            batch.push(document?);
            if batch.len() == BATCH {
                truncated += self.encode(&encoder, &mut batch, &mut output)?;
                bar.inc(BATCH as u64);
            }
        }
        truncated += self.encode(&encoder, &mut batch, &mut output)?;
        output
            .flush()
            .with_context(|| format!("cannot write {}", self.output.display()))?;
        bar.finish_and_clear();
        if truncated > 0 {
            let length = encoder.encoder.preset().max_length();
            note(
                global.quiet,
                format_args!("{truncated} texts were cut at {length} tokens"),
            );
        }
        Ok(Ending::Done)
    }

    /// Encodes and writes a batch, empties it, and returns how many texts were cut.
    fn encode(
        &self,
        encoder: &CachedEncoder,
        batch: &mut Vec<Located<Document>>,
        output: &mut impl Write,
    ) -> Result<u64> {
        let texts: Vec<_> = batch
            .iter()
            .map(|located| self.text(&located.record))
            .collect();
        let encodings = encoding::encode_located(encoder, &texts, batch)?;
        let mut truncated = 0;
        for (located, (text, encoding)) in batch.iter().zip(texts.iter().zip(&encodings)) {
            truncated += u64::from(encoding.is_truncated());
            let record = self.record(&encoder.encoder, &located.record.id, *text, encoding)?;
            // Not `to_writer`: its error would hide a broken pipe.
            writeln!(output, "{}", serde_json::to_string(&record)?)?;
        }
        batch.clear();
        Ok(truncated)
    }

    fn text<'a>(&self, document: &'a Document) -> Text<'a> {
        match self.kind {
            Kind::Query => Text::Query(&document.text),
            Kind::Document => encoding::text(document),
        }
    }

    fn record<'a>(
        &'a self,
        encoder: &'a Encoder,
        id: &'a str,
        text: Text<'_>,
        encoding: &'a Encoding,
    ) -> Result<Record<'a>> {
        let input_ids = self.ids.then(|| encoder.token_ids(text)).transpose()?;
        let weights = Weights {
            encode: self,
            encoder,
            encoding,
        };
        Ok(Record {
            id,
            vector: weights,
            input_ids,
        })
    }
}

/// One line of output.
#[derive(serde::Serialize)]
struct Record<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    vector: Weights<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_ids: Option<Vec<u32>>,
}

/// An encoding as a JSON object, in the encoder's order: largest weights first.
struct Weights<'a> {
    encode: &'a Encode,
    encoder: &'a Encoder,
    encoding: &'a Encoding,
}

impl Serialize for Weights<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.encoding.weights.len()))?;
        for &(token_id, weight) in &self.encoding.weights {
            match self.encoder.term(token_id) {
                Some(term) if !self.encode.ids => map.serialize_key(term)?,
                _ => map.serialize_key(&token_id)?,
            }
            match self.encode.vector_scale {
                Some(scale) => map.serialize_value(&scaled(weight, scale))?,
                None => map.serialize_value(&weight)?,
            }
        }
        map.end()
    }
}

/// round(weight × scale): weights are positive and below 100, scales at most 10^6.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "see above"
)]
fn scaled(weight: f32, scale: u32) -> u64 {
    (f64::from(weight) * f64::from(scale)).round() as u64
}

fn open_output(path: &Path) -> Result<Box<dyn Write>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufWriter::new(io::stdout().lock())));
    }
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}
