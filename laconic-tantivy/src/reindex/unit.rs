//! [`UnitDocuments`] and [`UnitVectors`]: a unit on its way from documents to vectors.

use std::io;
use std::ops::{ControlFlow, Range};

use tantivy::store::StoreReader;
use tantivy::{DocId, SegmentReader, TantivyDocument};

use super::ReindexProgress;
use super::piece::{PieceCounts, encode};
use super::plan::ReindexUnit;
use crate::bulk::ImpactBuffer;
use crate::vector::VectorParts;
use crate::{Error, ImpactQuantizer, SparseVector};

/// Decompressed blocks of stored documents kept; they are read in order.
const CACHED_BLOCKS: usize = 2;

/// Told after so many documents.
const REPORT_EVERY: u64 = 1024;

/// Lets runs of postings have their full length.
const RUN_BUDGET: usize = 1 << 27;

/// The live documents of a unit, to make vectors of.
pub struct UnitDocuments<'a> {
    reader: &'a SegmentReader,
    store: StoreReader,
    docs: Range<DocId>,
    number: u32,
}

impl<'a> UnitDocuments<'a> {
    pub(super) fn open(reader: &'a SegmentReader, unit: &ReindexUnit) -> io::Result<Self> {
        Ok(UnitDocuments {
            reader,
            store: reader.get_store_reader(CACHED_BLOCKS)?,
            docs: unit.first_doc..unit.end_doc,
            number: unit.number,
        })
    }

    /// Number of the unit in the plan.
    pub fn unit(&self) -> u32 {
        self.number
    }

    /// The source's segment, for its fast fields.
    pub fn reader(&self) -> &'a SegmentReader {
        self.reader
    }

    /// The documents that want a vector, ascending.
    pub fn live(&self) -> impl Iterator<Item = DocId> + use<'a> {
        let reader = self.reader;
        self.docs
            .clone()
            .filter(move |doc| !reader.is_deleted(*doc))
    }

    /// The stored fields of a document.
    ///
    /// # Errors
    /// `is_corrupt` and Tantivy's for a store that cannot be read.
    pub fn stored(&self, doc: DocId) -> Result<TantivyDocument, Error> {
        let stored = self.store.get(doc);
        stored.map_err(|e| Error::during(format!("reading stored document {doc}"), e))
    }
}

/// Takes the vectors of a unit's documents.
pub struct UnitVectors<'a> {
    reader: &'a SegmentReader,
    unit: &'a ReindexUnit,
    buffer: ImpactBuffer,
    next_doc: DocId,
    counts: PieceCounts,
    progress: &'a mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
    /// How far the work was before this unit.
    before: ReindexProgress,
}

impl<'a> UnitVectors<'a> {
    pub(super) fn new(
        reader: &'a SegmentReader,
        unit: &'a ReindexUnit,
        quantizer: ImpactQuantizer,
        progress: &'a mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
        before: ReindexProgress,
    ) -> UnitVectors<'a> {
        UnitVectors {
            reader,
            unit,
            buffer: ImpactBuffer::new(quantizer, RUN_BUDGET),
            next_doc: unit.first_doc,
            counts: PieceCounts::default(),
            progress,
            before,
        }
    }

    /// Gives a document its vector. Documents come in ascending order; those left out have an
    /// empty vector.
    ///
    /// # Errors
    /// `is_invalid_input` for a document that is out of order, deleted, or not one of the unit;
    /// `is_cancelled` when the progress callback asked to stop.
    pub fn push(&mut self, doc: DocId, vector: &SparseVector) -> Result<(), Error> {
        let (first, end) = (self.next_doc, self.unit.end_doc);
        if !(first..end).contains(&doc) || self.reader.is_deleted(doc) {
            return Err(Error::invalid(format!(
                "document {doc} is out of order, deleted, or not one of unit {}",
                self.unit.number
            )));
        }
        self.pass_over(doc);
        self.push_parts(vector.parts());
        match self.counts.documents % REPORT_EVERY {
            0 => self.report(),
            _ => Ok(()),
        }
    }

    fn push_parts(&mut self, vector: VectorParts<'_>) {
        let before = self.buffer.n_postings();
        self.buffer.push(vector);
        if !self.reader.is_deleted(self.next_doc) {
            self.counts.documents += 1;
            self.counts.empty += u64::from(self.buffer.n_postings() == before);
        }
        self.next_doc += 1;
    }

    /// Documents before `doc` have empty vectors.
    fn pass_over(&mut self, doc: DocId) {
        let empty = SparseVector::default();
        while self.next_doc < doc {
            self.push_parts(empty.parts());
        }
    }

    fn report(&mut self) -> Result<(), Error> {
        let progress = ReindexProgress {
            done: self.before.done + self.counts.documents,
            ..self.before
        };
        super::report(self.progress, progress)
    }

    /// The piece's bytes.
    pub(super) fn finish(mut self, plan_hash: u128) -> (PieceCounts, Vec<u8>) {
        self.pass_over(self.unit.end_doc);
        self.counts.loss = self.buffer.loss();
        let counts = self.counts;
        let lists = self.buffer.into_posting_lists();
        (counts, encode(plan_hash, self.unit, counts, &lists))
    }
}
