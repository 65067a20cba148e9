//! Indexing a collection: read, vectorise and write at the same time.
//!
//! ```text
//! reader thread ──batches──▶ vector thread ──batches──▶ this thread: segments, commits
//!     documents of the file      encoder, or join with a vector file
//! ```
//! The channels are bounded, so a slow stage holds the others back and memory stays flat.

mod resume;
mod sink;
mod stages;
mod vectors;
mod writer;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::bounded;
use laconic_tantivy::{Identity, ModelIdentity};
use serde::Serialize;

use crate::collection::{self, LineReader, Records, VectorRecord};
use crate::corpus::Corpus;
use crate::encoding::{self, CachedEncoder};
use crate::terminal::MismatchError;
pub(crate) use resume::InputFile;
use resume::Progress;
pub use sink::SegmentOptions;
use sink::Sink;
use stages::{read_documents, vectorise};
pub(crate) use vectors::to_vector;
use writer::Writer;

/// Batches that may wait between two stages.
const WAITING_BATCHES: usize = 4;

/// Where the vectors of the documents come from.
pub enum VectorSource {
    /// No vectors: BM25 only.
    None,
    /// A file, joined by id.
    File {
        /// Its records.
        records: Box<Records<VectorRecord>>,
        /// The model that made them, if the user said so.
        model: Option<ModelIdentity>,
        /// A document without a vector gets an empty one instead of stopping the job.
        allow_missing: bool,
    },
    /// An encoder.
    Model(Box<CachedEncoder>),
}

/// Settings of an indexing job.
pub struct IndexJob<'a> {
    /// The document file, `-` for standard input.
    pub docs: &'a Path,
    /// Where vectors come from.
    pub vectors: VectorSource,
    /// Count and leave out lines that cannot be read.
    pub skip_invalid: bool,
    /// Longest line accepted, in bytes.
    pub line_limit: usize,
    /// How segments are written.
    pub segments: SegmentOptions,
    /// Time between commits.
    pub commit_every: Duration,
    /// Go on behind the last committed line of an earlier, unfinished run.
    pub resume: bool,
    /// Called with the number of documents written so far.
    pub progress: &'a mut dyn FnMut(u64),
}

/// What an indexing job did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IndexReport {
    /// Documents written.
    pub documents: u64,
    /// Documents an earlier, unfinished run had committed.
    pub resumed_documents: u64,
    /// Documents without any sparse term.
    pub empty_vectors: u64,
    /// Texts cut at the encoder's maximum length.
    pub truncated_texts: u64,
    /// Lines left out because they could not be read.
    pub skipped_lines: u64,
    /// Vectors of the file that belong to no document.
    pub unused_vectors: u64,
    /// Postings of the laconic field.
    pub postings: u64,
    /// Term weights quantised.
    pub weights: u64,
    /// Of these, above the range and clipped.
    pub clipped_weights: u64,
    /// Of these, rounded to nothing.
    pub vanished_weights: u64,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Opens the index in `dir`, or creates it as `identity` says (`None`: no vectors).
///
/// # Errors
/// When an index is there that was built with something else.
pub fn open_or_create(dir: &Path, identity: Option<Identity>) -> Result<Corpus> {
    if !Corpus::exists(dir) {
        return Corpus::create(dir, identity);
    }
    let corpus = Corpus::open(dir)?;
    match check_identity(&corpus, identity.as_ref()) {
        Ok(()) => Ok(corpus),
        Err(_) if corpus.discard_if_unused(dir)? => Corpus::create(dir, identity),
        Err(mismatch) => Err(mismatch),
    }
}

fn check_identity(corpus: &Corpus, identity: Option<&Identity>) -> Result<()> {
    let mismatch = match (corpus.laconic(), identity) {
        (Some(field), Some(identity)) => return Ok(field.identity().check_same(identity)?),
        (None, None) => return Ok(()),
        (Some(_), None) => {
            "the index holds vectors; give some for the new documents with `--model` or `--vectors`"
        }
        (None, Some(_)) => {
            "the index was made without vectors; make a new one to add documents with vectors"
        }
    };
    Err(MismatchError(mismatch).into())
}

impl IndexJob<'_> {
    /// Runs the job.
    ///
    /// # Errors
    /// On the first line that cannot be read (unless such lines are skipped), the first text
    /// that cannot be encoded, and when the index cannot be written. What was committed stays.
    pub fn run(self, corpus: &Corpus) -> Result<IndexReport> {
        let started = Instant::now();
        let input = InputFile::identify(self.docs)?;
        let committed = match &input {
            Some(input) if self.resume => committed_lines(corpus, input)?,
            _ => 0,
        };
        let lines = LineReader::open(self.docs)?.with_line_limit(self.line_limit);
        let documents = collection::documents(lines).with_unique_ids();
        let model = self.vectors.model();
        let mut writer = Writer {
            sink: Sink::open(corpus, model.as_ref(), self.segments, committed > 0)?,
            corpus,
            input,
            commit_every: self.commit_every,
            progress: self.progress,
            report: IndexReport::default(),
            last_line: committed,
        };
        let (skip_invalid, vectors) = (self.skip_invalid, self.vectors);
        let outcome = thread::scope(|scope| {
            let (read_tx, read_rx) = bounded(WAITING_BATCHES);
            let (vector_tx, vector_rx) = bounded(WAITING_BATCHES);
            scope.spawn(move || read_documents(documents, committed, skip_invalid, &read_tx));
            scope.spawn(move || vectorise(vectors, skip_invalid, &read_rx, &vector_tx));
            writer.write_all(&vector_rx)
        });
        writer.finish(outcome, started)
    }
}

fn committed_lines(corpus: &Corpus, input: &InputFile) -> Result<u64> {
    let metas = corpus.index().load_metas()?;
    Ok(Progress::committed_lines(metas.payload.as_deref(), input))
}

impl VectorSource {
    /// The model behind the vectors, as far as it is known.
    pub fn model(&self) -> Option<ModelIdentity> {
        match self {
            VectorSource::None => None,
            VectorSource::File { model, .. } => model.clone(),
            VectorSource::Model(encoder) => encoding::identity(&encoder.encoder).ok(),
        }
    }
}
