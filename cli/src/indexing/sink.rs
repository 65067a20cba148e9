//! [`Sink`]: where documents go, with or without a laconic field.

use anyhow::Result;
use laconic_tantivy::{BulkWriter, MIN_MEMORY_BUDGET, ModelIdentity, SparseVector};
use tantivy::{IndexWriter, TantivyDocument, Term};

use super::IndexReport;
use crate::corpus::Corpus;

/// Tantivy's writer takes less than 4 GiB a thread.
const MAX_PLAIN_MEMORY: usize = 4_000_000_000;

/// A writer that replaces documents by id.
pub(crate) enum Sink {
    /// Impacts straight into postings.
    Bulk {
        writer: Box<BulkWriter>,
        /// The index was empty and the ids of the input are unique: nothing to replace.
        is_fresh: bool,
    },
    /// Tantivy's writer, for an index without vectors.
    Plain(Box<IndexWriter>),
}

/// How segments are written.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOptions {
    /// Memory for the segments under construction, in bytes.
    pub memory_budget: usize,
    /// Threads that build segments.
    pub n_threads: usize,
    /// Bring documents with similar vectors next to each other.
    pub reorder: bool,
}

impl Sink {
    pub(crate) fn open(
        corpus: &Corpus,
        model: Option<&ModelIdentity>,
        options: SegmentOptions,
        is_resumed: bool,
    ) -> Result<Sink> {
        let Some(field) = corpus.laconic() else {
            // Without vectors there is no order to find.
            let budget = options
                .memory_budget
                .min(options.n_threads * MAX_PLAIN_MEMORY);
            let most = budget / MIN_MEMORY_BUDGET;
            let n_threads = options.n_threads.min(most).max(1);
            let opened = corpus.index().writer_with_num_threads(n_threads, budget);
            return Ok(Sink::Plain(Box::new(
                opened.map_err(laconic_tantivy::Error::from)?,
            )));
        };
        let mut writer = BulkWriter::new(corpus.index(), field, model, options.memory_budget)?
            .with_threads(options.n_threads);
        if options.reorder {
            writer = writer.with_reordering()?;
        }
        let is_fresh = !is_resumed && corpus.searcher()?.num_docs() == 0;
        Ok(Sink::Bulk {
            writer: Box::new(writer),
            is_fresh,
        })
    }

    pub(crate) fn put(
        &mut self,
        id: Term,
        document: TantivyDocument,
        vector: &SparseVector,
    ) -> Result<()> {
        match self {
            Sink::Bulk {
                writer,
                is_fresh: true,
            } => writer.add(document, vector)?,
            Sink::Bulk {
                writer,
                is_fresh: false,
            } => writer.replace(id, document, vector)?,
            Sink::Plain(writer) => {
                writer.delete_term(id);
                writer.add_document(document)?;
            }
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, payload: Option<&str>) -> Result<()> {
        match self {
            Sink::Bulk { writer, .. } => {
                writer.commit(payload)?;
            }
            Sink::Plain(writer) => {
                let mut prepared = writer.prepare_commit()?;
                if let Some(payload) = payload {
                    prepared.set_payload(payload);
                }
                prepared.commit()?;
                tantivy::Directory::sync_directory(writer.index().directory())?;
            }
        }
        Ok(())
    }

    pub(crate) fn rollback(&mut self) -> Result<()> {
        match self {
            Sink::Bulk { writer, .. } => writer.rollback()?,
            Sink::Plain(writer) => {
                writer.rollback()?;
            }
        }
        Ok(())
    }

    pub(crate) fn add_totals(&self, report: &mut IndexReport) {
        if let Sink::Bulk { writer, .. } = self {
            let totals = writer.totals();
            report.postings = totals.postings;
            report.weights = totals.loss.weights;
            report.clipped_weights = totals.loss.clipped;
            report.vanished_weights = totals.loss.vanished;
        }
    }

    pub(crate) fn close(self) -> Result<()> {
        match self {
            Sink::Bulk { writer, .. } => writer.close()?,
            Sink::Plain(writer) => writer.wait_merging_threads()?,
        }
        Ok(())
    }
}
