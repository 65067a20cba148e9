//! The last stage: documents with their vectors into segments and commits.

use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::Receiver;

use super::IndexReport;
use super::resume::{InputFile, Progress};
use super::sink::Sink;
use super::stages::{Batch, Outcome, StageEnd, Vectorised};
use crate::corpus::Corpus;

/// Last stage.
pub(super) struct Writer<'a> {
    pub(super) sink: Sink,
    pub(super) corpus: &'a Corpus,
    pub(super) input: Option<InputFile>,
    pub(super) commit_every: Duration,
    pub(super) progress: &'a mut dyn FnMut(u64),
    pub(super) report: IndexReport,
    pub(super) last_line: u64,
}

impl Writer<'_> {
    pub(super) fn write_all(&mut self, batches: &Receiver<Outcome>) -> Result<()> {
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

    pub(super) fn finish(mut self, outcome: Result<()>, started: Instant) -> Result<IndexReport> {
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
