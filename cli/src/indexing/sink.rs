//! [`Sink`]: where documents go, with or without a laconic field.

use anyhow::Result;
use laconic_tantivy::{BulkWriter, ModelIdentity, SparseVector};
use tantivy::{IndexWriter, TantivyDocument, Term};

use super::IndexReport;
use crate::corpus::Corpus;

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

impl Sink {
    pub(crate) fn open(
        corpus: &Corpus,
        model: Option<&ModelIdentity>,
        memory_budget: usize,
        is_resumed: bool,
    ) -> Result<Sink> {
        let Some(field) = corpus.laconic() else {
            let opened = corpus.index().writer_with_num_threads(1, memory_budget);
            return Ok(Sink::Plain(Box::new(
                opened.map_err(laconic_tantivy::Error::from)?,
            )));
        };
        let writer = BulkWriter::new(corpus.index(), field, model, memory_budget)?;
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
