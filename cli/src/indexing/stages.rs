//! The first two stages: reading documents, and giving them vectors.

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender};
use laconic_tantivy::SparseVector;

use super::VectorSource;
use super::vectors::VectorJoin;
use crate::collection::{Document, InputError, Located, Records};
use crate::encoding::{self, CachedEncoder};

/// Documents that travel together; also what the encoder may sort by length.
const BATCH: usize = 256;

/// A batch between two stages.
pub(super) struct Batch<T> {
    pub(super) items: Vec<T>,
    /// Ids of documents that an earlier run has committed: their vectors are passed over.
    pub(super) committed: Vec<String>,
    /// Line of the input that ends the batch.
    pub(super) last_line: u64,
    pub(super) skipped: u64,
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
pub(super) struct Vectorised {
    pub(super) document: Document,
    pub(super) vector: SparseVector,
    pub(super) is_truncated: bool,
}

/// First stage. Documents that an earlier run committed are read, for their ids, and left out.
pub(super) fn read_documents(
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

pub(super) type Outcome = Result<StageEnd>;

/// What the vector stage sends: batches, then what was left over.
pub(super) enum StageEnd {
    Batch(Batch<Vectorised>),
    Unused { vectors: u64, skipped: u64 },
}

/// Second stage.
pub(super) fn vectorise(
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
    Model(Box<CachedEncoder>),
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

fn encoded(encoder: &CachedEncoder, documents: Vec<Located<Document>>) -> Result<Vec<Vectorised>> {
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
