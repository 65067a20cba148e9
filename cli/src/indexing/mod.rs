//! Indexing a collection: read, vectorise and write at the same time.
//!
//! ```text
//! reader thread ──batches──▶ vector thread ──batches──▶ this thread: segments, commits
//!     documents of the file      encoder, or join with a vector file
//! ```
//! The channels are bounded, so a slow stage holds the others back and memory stays flat.

mod resume;
mod sink;
mod vectors;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded};
use laconic_model::Encoder;
use laconic_tantivy::{Identity, ModelIdentity, SparseVector};
use serde::Serialize;

use crate::collection::{self, Document, InputError, LineReader, Located, Records, VectorRecord};
use crate::corpus::Corpus;
use crate::encoding;
use crate::terminal::MismatchError;
use resume::{InputFile, Progress};
use sink::Sink;
use vectors::VectorJoin;
pub(crate) use vectors::to_vector;

/// Documents that travel together; also what the encoder may sort by length.
const BATCH: usize = 256;
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
    Model(Box<Encoder>),
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
    /// Memory for the segment under construction, in bytes.
    pub memory_budget: usize,
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

/// A batch between two stages.
struct Batch<T> {
    items: Vec<T>,
    /// Ids of documents that an earlier run has committed: their vectors are passed over.
    committed: Vec<String>,
    /// Line of the input that ends the batch.
    last_line: u64,
    skipped: u64,
}

impl<T> Batch<T> {
    fn new(last_line: u64) -> Batch<T> {
        Batch {
            items: Vec::new(),
            committed: Vec::new(),
            last_line,
            skipped: 0,
        }
    }
}

/// A document with its vector.
struct Vectorised {
    document: Document,
    vector: SparseVector,
    is_truncated: bool,
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
            sink: Sink::open(corpus, model.as_ref(), self.memory_budget, committed > 0)?,
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
            VectorSource::Model(encoder) => encoding::identity(encoder).ok(),
        }
    }
}

/// First stage. Documents that an earlier run committed are read, for their ids, and left out.
fn read_documents(
    documents: Records<Document>,
    committed: u64,
    skip_invalid: bool,
    batches: &Sender<Result<Batch<Located<Document>>>>,
) {
    let mut batch = Batch::new(committed);
    for document in documents {
        match document {
            Ok(located) if located.place.line() <= committed => {
                batch.committed.push(located.record.id);
            }
            Ok(located) => {
                batch.last_line = located.place.line();
                batch.items.push(located);
            }
            Err(error) if skip_invalid && error.is_skippable() => {
                log::warn!("skipped: {error}");
                batch.skipped += 1;
            }
            Err(error) => {
                let _ = batches.send(Err(error.into()));
                return;
            }
        }
        if batch.items.len() + batch.committed.len() == BATCH {
            let next = Batch::new(batch.last_line);
            // A closed channel means that a later stage failed and has said why.
            if batches
                .send(Ok(std::mem::replace(&mut batch, next)))
                .is_err()
            {
                return;
            }
        }
    }
    let _ = batches.send(Ok(batch));
}

type Outcome = Result<StageEnd>;

/// What the vector stage sends: batches, then what was left over.
enum StageEnd {
    Batch(Batch<Vectorised>),
    Unused { vectors: u64, skipped: u64 },
}

/// Second stage.
fn vectorise(
    source: VectorSource,
    skip_invalid: bool,
    batches: &Receiver<Result<Batch<Located<Document>>>>,
    vectorised: &Sender<Outcome>,
) {
    let mut stage = Stage::new(source, skip_invalid);
    for batch in batches {
        let outcome = batch
            .and_then(|batch| stage.vectorise(batch))
            .map(StageEnd::Batch);
        let failed = outcome.is_err();
        if vectorised.send(outcome).is_err() || failed {
            return;
        }
    }
    let _ = vectorised.send(stage.finish());
}

enum Stage {
    None,
    File {
        join: Box<VectorJoin>,
        allow_missing: bool,
    },
    Model(Box<Encoder>),
}

impl Stage {
    fn new(source: VectorSource, skip_invalid: bool) -> Stage {
        match source {
            VectorSource::None => Stage::None,
            VectorSource::File {
                records,
                allow_missing,
                ..
            } => Stage::File {
                join: Box::new(VectorJoin::new(*records, skip_invalid)),
                allow_missing,
            },
            VectorSource::Model(encoder) => Stage::Model(encoder),
        }
    }

    fn vectorise(&mut self, batch: Batch<Located<Document>>) -> Result<Batch<Vectorised>> {
        let Batch {
            items,
            committed,
            last_line,
            skipped,
        } = batch;
        let items = match self {
            Stage::None => items.into_iter().map(without_vector).collect(),
            Stage::File {
                join,
                allow_missing,
            } => {
                committed
                    .iter()
                    .try_for_each(|id| join.take(id).map(drop))?;
                joined(join, *allow_missing, items)?
            }
            Stage::Model(encoder) => encoded(encoder, items)?,
        };
        Ok(Batch {
            items,
            committed,
            last_line,
            skipped,
        })
    }

    fn finish(self) -> Outcome {
        let Stage::File { mut join, .. } = self else {
            return Ok(StageEnd::Unused {
                vectors: 0,
                skipped: 0,
            });
        };
        let unused = join.finish()?;
        Ok(StageEnd::Unused {
            vectors: unused as u64,
            skipped: join.skipped,
        })
    }
}

fn without_vector(located: Located<Document>) -> Vectorised {
    Vectorised {
        document: located.record,
        vector: SparseVector::default(),
        is_truncated: false,
    }
}

fn joined(
    join: &mut VectorJoin,
    allow_missing: bool,
    documents: Vec<Located<Document>>,
) -> Result<Vec<Vectorised>> {
    let one = |located: Located<Document>| -> Result<Vectorised> {
        let vector = match join.take(&located.record.id)? {
            Some(vector) => vector,
            None if allow_missing => SparseVector::default(),
            None => return Err(missing_vector(&located).into()),
        };
        Ok(Vectorised {
            document: located.record,
            vector,
            is_truncated: false,
        })
    };
    documents.into_iter().map(one).collect()
}

fn missing_vector(located: &Located<Document>) -> InputError {
    located.place.refuse(format!(
        "document `{}` has no vector in the vector file; add it, or index such documents without \
         sparse terms by `--allow-missing-vectors`",
        located.record.id
    ))
}

fn encoded(encoder: &Encoder, documents: Vec<Located<Document>>) -> Result<Vec<Vectorised>> {
    let vectors = encoding::encode_documents(encoder, &documents)?;
    let pairs = documents.into_iter().zip(vectors);
    Ok(pairs
        .map(|(located, encoded)| Vectorised {
            document: located.record,
            vector: encoded.vector,
            is_truncated: encoded.is_truncated,
        })
        .collect())
}

/// Last stage.
struct Writer<'a> {
    sink: Sink,
    corpus: &'a Corpus,
    input: Option<InputFile>,
    commit_every: Duration,
    progress: &'a mut dyn FnMut(u64),
    report: IndexReport,
    last_line: u64,
}

impl Writer<'_> {
    fn write_all(&mut self, batches: &Receiver<Outcome>) -> Result<()> {
        let mut last_commit = Instant::now();
        for outcome in batches {
            match outcome? {
                StageEnd::Batch(batch) => self.write(batch)?,
                StageEnd::Unused { vectors, skipped } => {
                    self.report.unused_vectors = vectors;
                    self.report.skipped_lines += skipped;
                }
            }
            if last_commit.elapsed() >= self.commit_every {
                self.commit(false)?;
                last_commit = Instant::now();
            }
        }
        self.commit(true)
    }

    fn write(&mut self, batch: Batch<Vectorised>) -> Result<()> {
        for item in batch.items {
            let id = self.corpus.id_term(&item.document.id);
            let document = self.corpus.to_tantivy(&item.document);
            self.sink.put(id, document, &item.vector)?;
            self.report.documents += 1;
            let is_empty = self.corpus.laconic().is_some() && item.vector.is_empty();
            self.report.empty_vectors += u64::from(is_empty);
            self.report.truncated_texts += u64::from(item.is_truncated);
        }
        self.report.resumed_documents += batch.committed.len() as u64;
        self.report.skipped_lines += batch.skipped;
        self.last_line = batch.last_line;
        (self.progress)(self.report.documents);
        Ok(())
    }

    fn commit(&mut self, complete: bool) -> Result<()> {
        let input = self.input.clone();
        let progress = input.map(|input| Progress::new(input, self.last_line, complete));
        let payload = progress.map(|progress| progress.to_payload()).transpose()?;
        self.sink.commit(payload.as_deref())
    }

    fn finish(mut self, outcome: Result<()>, started: Instant) -> Result<IndexReport> {
        if let Err(error) = outcome {
            // The error at hand is the one to report; rolling back is a courtesy to the lock.
            let _ = self.sink.rollback();
            return Err(error);
        }
        self.sink.add_totals(&mut self.report);
        self.sink.close()?;
        self.report.seconds = started.elapsed().as_secs_f64();
        Ok(self.report)
    }
}
