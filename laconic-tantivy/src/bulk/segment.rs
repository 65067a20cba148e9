//! [`SegmentBuilder`]: one segment under construction.

use std::sync::Arc;

use tantivy::directory::RamDirectory;
use tantivy::index::SegmentComponent;
use tantivy::indexer::doc_id_mapping::DocIdMapping;
use tantivy::indexer::{AddOperation, SegmentWriter};
use tantivy::{DocId, Index, IndexSettings, Opstamp, Segment, TantivyDocument};

use super::BulkTotals;
use super::impacts::ImpactBuffer;
use super::segments::{Finished, SegmentSettings};
use super::splice::{copy_component, splice_field};
use crate::bounds::{EXTENSION, bounds_plugin};
use crate::reorder::bisect;
use crate::vector::VectorParts;

/// Builds a segment in memory: Tantivy's own writer indexes every other field into a scratch
/// directory, the impacts are collected beside it, and [`finish`](SegmentBuilder::finish)
/// writes both as one segment of the real index.
pub(crate) struct SegmentBuilder {
    scratch: Index,
    directory: RamDirectory,
    scratch_segment: Segment,
    writer: SegmentWriter,
    /// What `writer` takes before the first document.
    writer_base: usize,
    impacts: ImpactBuffer,
    n_docs: u64,
    empty_documents: u64,
    reorder: bool,
}

/// Bytes by which Tantivy's writer grows at once: a page of each of its arenas.
const PAGES: usize = 2 << 20;

/// Bytes of a document in the lists of stamps and numbers that finishing a segment goes through.
const DOC_BYTES: usize = 32;

impl SegmentBuilder {
    pub(crate) fn new(settings: &SegmentSettings) -> tantivy::Result<SegmentBuilder> {
        let directory = RamDirectory::create();
        let scratch = scratch_index(settings, directory.clone())?;
        let scratch_segment = scratch.new_segment();
        // Tantivy sizes its hash table by this: up to a third of it, before the first document.
        // Our share of the segment is not in that table, and it grows when it has to.
        let table_budget = settings.memory_budget / 8;
        let writer = SegmentWriter::for_segment(table_budget, scratch_segment.clone())?;
        let quantizer = settings.field.identity().quantizer;
        let impacts = ImpactBuffer::new(quantizer, settings.memory_budget);
        Ok(SegmentBuilder {
            scratch,
            directory,
            scratch_segment,
            writer_base: writer.mem_usage(),
            writer,
            impacts,
            n_docs: 0,
            empty_documents: 0,
            reorder: settings.reorder,
        })
    }

    pub(crate) fn push(
        &mut self,
        document: TantivyDocument,
        vector: VectorParts<'_>,
    ) -> tantivy::Result<()> {
        // The stamp is the document's number; `finalize` returns the stamps in the order of
        // the segment, which an index sort may have changed.
        let opstamp: Opstamp = self.n_docs;
        self.writer
            .add_document(AddOperation { opstamp, document })?;
        let before = self.impacts.n_postings();
        self.impacts.push(vector);
        self.empty_documents += u64::from(self.impacts.n_postings() == before);
        self.n_docs += 1;
        Ok(())
    }

    /// Bytes held now and needed to finish. `tests/memory.rs` holds it to what is allocated.
    pub(crate) fn mem_usage(&self) -> usize {
        let writer = self.writer.mem_usage();
        // Tantivy makes a list of its terms to sort them, and writes them and their postings,
        // before it lets go of what it made them from.
        let finished = 2 * writer.saturating_sub(self.writer_base);
        // A file in memory doubles when it grows. Reordering stores the documents twice.
        let copies = if self.reorder { 4 } else { 2 };
        let files = copies * self.directory.total_mem_usage();
        let docs = usize::try_from(self.n_docs).unwrap_or(usize::MAX / DOC_BYTES) * DOC_BYTES;
        let impacts = self.impacts.mem_usage();
        let ordering = if self.reorder {
            self.impacts.ordering_bytes()
        } else {
            0
        };
        writer + PAGES + finished + files + docs + impacts + ordering
    }

    fn totals(&self) -> BulkTotals {
        BulkTotals {
            documents: self.n_docs,
            postings: self.impacts.n_postings() as u64,
            empty_documents: self.empty_documents,
            segments: 1,
            loss: self.impacts.loss(),
        }
    }

    /// Writes the segment. Its target exists before its files do, so that no garbage collection
    /// takes them for leftovers.
    pub(crate) fn finish(mut self, settings: &SegmentSettings) -> tantivy::Result<Finished> {
        let totals = self.totals();
        let target = settings.index.new_segment();
        let field = &settings.field;
        let old_ids = if self.reorder {
            // Tantivy carries the order to the other fields.
            let order = bisect(self.impacts.forward(), 1).map_err(std::io::Error::other)?;
            let mapping = DocIdMapping::new_permutation(order)?;
            self.writer.finalize_with_doc_id_mapping(&mapping)?
        } else {
            self.writer.finalize()?
        };
        let max_doc = u32::try_from(old_ids.len()).unwrap_or(u32::MAX);
        let new_ids = new_ids(&old_ids);
        let target = target.with_max_doc(max_doc);
        let plugin = bounds_plugin(&target)?;
        let mut bounds = plugin.map(|plugin| plugin.field_bounds(max_doc));
        let lists = self.impacts.into_posting_lists();
        let mut numbered = (&lists, new_ids.as_deref());
        splice_field(
            &self.scratch_segment,
            &target,
            field.field(),
            &mut numbered,
            &mut bounds,
        )?;
        drop(lists);
        for component in other_components(&self.scratch) {
            if self.scratch_segment.open_read(component.clone()).is_ok() {
                copy_component(&self.scratch_segment, &target, component)?;
            }
        }
        if let (Some(plugin), Some(bounds)) = (plugin, bounds) {
            plugin.write_knowing(&target, vec![(field.field(), bounds)])?;
        }
        let meta = target.meta().clone();
        meta.untrack_temp_docstore();
        Ok(Finished { meta, totals })
    }
}

/// For each document as pushed, its number in the segment; `None` when they are the same.
fn new_ids(old_ids: &[Opstamp]) -> Option<Vec<DocId>> {
    if old_ids.iter().copied().eq((0..).take(old_ids.len())) {
        return None;
    }
    let mut new_ids = vec![0; old_ids.len()];
    for (new_id, &old_id) in (0..).zip(old_ids) {
        let old_id = usize::try_from(old_id).unwrap_or(usize::MAX);
        new_ids[old_id] = new_id;
    }
    Some(new_ids)
}

/// An empty index in memory that treats documents as `index` does.
fn scratch_index(settings: &SegmentSettings, directory: RamDirectory) -> tantivy::Result<Index> {
    let index = &settings.index;
    let mut builder = Index::builder()
        .schema(index.schema())
        .settings(IndexSettings {
            manual_doc_id_mapping: settings.reorder,
            ..index.settings().clone()
        })
        .tokenizers(index.tokenizers().clone())
        .fast_field_tokenizers(index.fast_field_tokenizer().clone());
    for plugin in index.custom_plugins() {
        builder = builder.register_plugin(Arc::clone(plugin));
    }
    builder.open_or_create(directory)
}

/// Every file of a segment but the three of the inverted index and the bounds.
fn other_components(index: &Index) -> Vec<SegmentComponent> {
    let mut components = vec![
        SegmentComponent::FieldNorms,
        SegmentComponent::FastFields,
        SegmentComponent::Store,
    ];
    for plugin in index.custom_plugins() {
        let extensions = plugin.extensions().iter().filter(|ext| **ext != EXTENSION);
        components.extend(extensions.map(|ext| SegmentComponent::Custom((*ext).to_owned())));
    }
    components
}
