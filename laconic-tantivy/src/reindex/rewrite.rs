//! Segments through stored documents: for who wants an old index in today's format, or its
//! deleted documents gone.
//!
//! Tantivy's own writer indexes the live documents of whole units into a scratch directory in
//! memory, and the pieces of these units are spliced in. A new segment ends with the unit in
//! which the memory budget is reached, so a repeated run makes the same segments.

use std::sync::Arc;

use tantivy::directory::RamDirectory;
use tantivy::index::SegmentMeta;
use tantivy::indexer::{AddOperation, SegmentWriter};
use tantivy::store::StoreReader;
use tantivy::{DocId, Index, IndexSettings, Segment, SegmentReader, TantivyDocument};

use super::piece::Piece;
use super::plan::ReindexUnit;
use super::segment::{Assembly, derived_id};

/// Decompressed blocks of stored documents kept; they are read in order.
const CACHED_BLOCKS: usize = 2;

/// With less, Tantivy refuses.
const LEAST_TABLE: usize = 1 << 20;

/// Told after so many documents.
const REPORT_EVERY: DocId = 1024;

impl Assembly<'_> {
    /// Writes the live documents of `source` as segments.
    pub(super) fn rewritten(
        &mut self,
        source: &Segment,
        pieces: &[Piece],
        memory_budget: usize,
    ) -> tantivy::Result<Vec<SegmentMeta>> {
        let units = self.job.plan.units_of(source);
        let reader = SegmentReader::open(source)?;
        let store = reader.get_store_reader(CACHED_BLOCKS)?;
        let mut metas = Vec::new();
        let mut part: Option<Part> = None;
        let mut first = 0;
        for (number, unit) in units.iter().enumerate() {
            let writing = match &mut part {
                Some(part) => part,
                None => part.insert(Part::new(source, memory_budget, unit.first_doc)?),
            };
            writing.add(&reader, &store, unit, &mut |_| self.advance(0))?;
            let is_last = number + 1 == units.len();
            if !is_last && writing.writer.mem_usage() < memory_budget {
                continue;
            }
            if let Some(part) = part.take().filter(|part| part.n_docs > 0) {
                let name = format!("part {}", metas.len());
                let id = derived_id(source.id(), &name);
                let target = self.index.new_segment_meta(id, part.n_docs);
                let target = self.index.segment(target);
                part.finish(self, &target, &pieces[first..=number])?;
                metas.push(target.meta().clone());
            }
            first = number + 1;
        }
        Ok(metas)
    }
}

/// A segment under construction.
struct Part {
    scratch: Segment,
    writer: SegmentWriter,
    n_docs: DocId,
    /// The source's document that `new_ids` begins with.
    first_doc: DocId,
    /// For each document of the source its new number; for deleted ones, which have no
    /// postings, any.
    new_ids: Vec<DocId>,
}

impl Part {
    fn new(source: &Segment, memory_budget: usize, first_doc: DocId) -> tantivy::Result<Part> {
        let scratch = scratch_index(source.index())?.new_segment();
        // Tantivy sizes its hash table by this; it grows when it has to.
        let table_budget = (memory_budget / 8).max(LEAST_TABLE);
        let writer = SegmentWriter::for_segment(table_budget, scratch.clone())?;
        Ok(Part {
            scratch,
            writer,
            n_docs: 0,
            first_doc,
            new_ids: Vec::new(),
        })
    }

    fn add(
        &mut self,
        reader: &SegmentReader,
        store: &StoreReader,
        unit: &ReindexUnit,
        progress: &mut dyn FnMut(DocId) -> std::io::Result<()>,
    ) -> tantivy::Result<()> {
        for doc in unit.first_doc..unit.end_doc {
            self.new_ids.push(self.n_docs);
            if reader.is_deleted(doc) {
                continue;
            }
            let document: TantivyDocument = store.get(doc)?;
            let opstamp = u64::from(self.n_docs);
            self.writer
                .add_document(AddOperation { opstamp, document })?;
            self.n_docs += 1;
            if doc % REPORT_EVERY == 0 {
                progress(doc)?;
            }
        }
        Ok(())
    }

    fn finish(
        self,
        assembly: &mut Assembly<'_>,
        target: &Segment,
        pieces: &[Piece],
    ) -> tantivy::Result<()> {
        self.writer.finalize()?;
        let scratch = self.scratch.with_max_doc(self.n_docs);
        let renumbered = Some((self.first_doc, self.new_ids.as_slice()));
        assembly.write(&scratch, target, pieces, renumbered)
    }
}

/// An empty index in memory that treats documents as `index` does. Their order is that of the
/// source, sorted if that was.
fn scratch_index(index: &Index) -> tantivy::Result<Index> {
    let settings = IndexSettings {
        sort_by_field: None,
        ..index.settings().clone()
    };
    let mut builder = Index::builder()
        .schema(index.schema())
        .settings(settings)
        .tokenizers(index.tokenizers().clone())
        .fast_field_tokenizers(index.fast_field_tokenizer().clone());
    for plugin in index.custom_plugins() {
        builder = builder.register_plugin(Arc::clone(plugin));
    }
    builder.open_or_create(RamDirectory::create())
}
