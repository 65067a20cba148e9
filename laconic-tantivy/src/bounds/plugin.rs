//! [`BoundsPlugin`]: the component in Tantivy's life of a segment.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use tantivy::directory::{CompositeWrite, WritePtr};
use tantivy::index::SegmentComponent;
use tantivy::indexer::doc_id_mapping::DocIdMapping;
use tantivy::postings::TermInfo;
use tantivy::schema::document::ErasedDocument;
use tantivy::schema::{Field, Schema};
use tantivy::{
    DocId, Index, InvertedIndexReader, PluginMergeContext, PluginWriter, PluginWriterContext,
    Segment, SegmentPlugin, SegmentReader,
};

use super::builder::{BoundsBuilder, RowList};
use super::term_lookup::{TermLookupBuilder, TermPlace};
use crate::LaconicField;
use crate::postings::{Cursor, FieldReader};

/// The bounds are the first section of a field, and the lookup table is this one.
pub(crate) const LOOKUP_SECTION: usize = 1;

/// The lookup table takes at most one byte per so many bytes of postings.
const LOOKUP_SHARE: usize = 20;

/// Extension of the component's file.
pub(crate) const EXTENSION: &str = "laconic";

/// Keeps upper bounds of impacts beside every segment, by which search leaves out what cannot
/// be among the best.
///
/// [`create_in_dir`](crate::create_in_dir) and [`register`](crate::register) see to it. To create
/// an index by Tantivy's own `IndexBuilder`, give it
/// `register_plugin(BoundsPlugin::default().shared())`: Tantivy fixes the set of components when
/// an index is created. Options hold for the segments that this process writes.
#[derive(Debug, Clone, Copy)]
pub struct BoundsPlugin {
    share: f32,
    min_postings: u32,
}

impl Default for BoundsPlugin {
    fn default() -> BoundsPlugin {
        BoundsPlugin {
            share: 0.2,
            min_postings: 1024,
        }
    }
}

impl BoundsPlugin {
    /// Most bytes of bounds per byte of the postings they cover; 0.2 by default. More make
    /// search faster in segments whose documents are well ordered.
    #[must_use]
    pub fn share(mut self, share: f32) -> BoundsPlugin {
        self.share = share;
        self
    }

    /// Fewest postings of a term with bounds; 1024 by default. Terms of fewer are read as a whole,
    /// which gives exact bounds.
    #[must_use]
    pub fn min_postings(mut self, min_postings: u32) -> BoundsPlugin {
        self.min_postings = min_postings;
        self
    }

    /// The plugin, as Tantivy wants it.
    #[must_use]
    pub fn shared(self) -> Arc<dyn SegmentPlugin> {
        Arc::new(self)
    }
}

impl SegmentPlugin for BoundsPlugin {
    fn extensions(&self) -> &[&str] {
        &[EXTENSION]
    }

    fn create_writer(&self, _: &PluginWriterContext<'_>) -> tantivy::Result<Box<dyn PluginWriter>> {
        Ok(Box::new(BoundsWriter {
            plugin: *self,
            n_docs: 0,
        }))
    }

    fn merge(&self, context: PluginMergeContext<'_>) -> tantivy::Result<()> {
        let n_docs = context.readers.iter().map(SegmentReader::num_docs).sum();
        self.write(&context.target_segment.clone().with_max_doc(n_docs))
    }
}

/// Only counts while documents come in: the bounds are read off the finished postings.
struct BoundsWriter {
    plugin: BoundsPlugin,
    n_docs: DocId,
}

impl PluginWriter for BoundsWriter {
    fn add_document(
        &mut self,
        _: DocId,
        _: &dyn ErasedDocument,
        _: &Schema,
    ) -> tantivy::Result<()> {
        self.n_docs += 1;
        Ok(())
    }

    fn serialize(
        self: Box<Self>,
        segment: &Segment,
        _: Option<&DocIdMapping>,
    ) -> tantivy::Result<()> {
        // A segment that is just being written does not know its size yet.
        if segment.meta().max_doc() > 0 {
            return self.plugin.write(segment);
        }
        self.plugin
            .write(&segment.clone().with_max_doc(self.n_docs))
    }

    fn mem_usage(&self) -> usize {
        0
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The plugin of an index, if it has been registered.
pub(crate) fn registered_plugin(index: &Index) -> Option<&Arc<dyn SegmentPlugin>> {
    let mut plugins = index.custom_plugins().iter();
    plugins.find(|plugin| plugin.extensions().contains(&EXTENSION))
}

/// The plugin of an index, if it has been registered, with its options.
pub(crate) fn bounds_plugin(segment: &Segment) -> tantivy::Result<Option<BoundsPlugin>> {
    let Some(plugin) = registered_plugin(segment.index()) else {
        return Ok(None);
    };
    let context = PluginWriterContext {
        segment,
        memory_budget_in_bytes: 0,
    };
    let writer = plugin.create_writer(&context)?;
    Ok(writer
        .as_any()
        .downcast_ref()
        .map(|writer: &BoundsWriter| writer.plugin))
}

/// Writes the component of a segment whose other files are finished, if its index has one.
pub(crate) fn write_bounds(segment: &Segment) -> tantivy::Result<()> {
    let Some(plugin) = registered_plugin(segment.index()) else {
        return Ok(());
    };
    let context = PluginWriterContext {
        segment,
        memory_budget_in_bytes: 0,
    };
    plugin.create_writer(&context)?.serialize(segment, None)
}

/// The bounds and the lookup table of one field, collected while its posting lists are written or
/// read.
pub(crate) struct FieldBounds {
    bounds: BoundsBuilder,
    lookup: TermLookupBuilder,
    postings_len: usize,
}

impl FieldBounds {
    /// Enters the next list in byte order, which has been written to the bytes `place`.
    pub(crate) fn add(&mut self, term: &[u8], docs: &[DocId], impacts: &[u8], place: Range<usize>) {
        // A segment has fewer than 2^31 documents.
        let doc_freq = u32::try_from(docs.len()).unwrap_or(u32::MAX);
        let mut row = None;
        if self.bounds.wants(doc_freq) {
            for (&doc, &impact) in docs.iter().zip(impacts) {
                self.bounds.posting(doc, impact);
            }
            row = self.bounds.finish_row(doc_freq, &place);
        }
        self.add_place(term, doc_freq, place, row);
    }

    fn add_place(&mut self, term: &[u8], doc_freq: u32, place: Range<usize>, row: Option<usize>) {
        self.postings_len = place.end;
        let place = TermPlace {
            doc_freq,
            postings: place,
            row,
        };
        self.lookup.add(term, place);
    }

    fn write(
        self,
        field: Field,
        composite: &mut CompositeWrite<WritePtr>,
        visit_list: impl FnMut(&RowList, &mut dyn FnMut(DocId, u8)) -> tantivy::Result<()>,
    ) -> tantivy::Result<()> {
        self.bounds.write(composite.for_field(field), visit_list)?;
        let section = composite.for_field_with_idx(field, LOOKUP_SECTION);
        Ok(self
            .lookup
            .write(self.postings_len / LOOKUP_SHARE, section)?)
    }
}

impl BoundsPlugin {
    /// For a field of a segment of `max_doc` documents.
    pub(crate) fn field_bounds(self, max_doc: DocId) -> FieldBounds {
        FieldBounds {
            bounds: BoundsBuilder::new(max_doc, self.share, self.min_postings),
            lookup: TermLookupBuilder::default(),
            postings_len: 0,
        }
    }

    /// Writes the component of a segment whose other files are finished.
    fn write(self, segment: &Segment) -> tantivy::Result<()> {
        self.write_knowing(segment, Vec::new())
    }

    /// The same, with the bounds of some fields known already.
    pub(crate) fn write_knowing(
        self,
        segment: &Segment,
        mut known: Vec<(Field, FieldBounds)>,
    ) -> tantivy::Result<()> {
        let fields = LaconicField::all(&segment.schema()).map_err(into_tantivy)?;
        let is_known = |field: &LaconicField| known.iter().any(|(f, _)| *f == field.field());
        // Opened before the component is there, which they would take for a damaged one.
        let to_read = match fields.iter().all(is_known) {
            true => Vec::new(),
            false => ListReader::open_all(segment, &fields)?,
        };
        let component = SegmentComponent::Custom(EXTENSION.to_owned());
        let mut composite = CompositeWrite::wrap(segment.open_write(component)?);
        for (place, field) in fields.iter().enumerate() {
            let field = field.field();
            match known.iter().position(|(known, _)| *known == field) {
                Some(known_place) => {
                    let (_, bounds) = known.swap_remove(known_place);
                    // These are held whole.
                    bounds.write(field, &mut composite, |_, _| Ok(()))?;
                }
                None => self.copy_bounds(&to_read[place], segment, field, &mut composite)?,
            }
        }
        Ok(composite.close()?)
    }

    /// Reads the lists of a field and writes their bounds.
    fn copy_bounds(
        self,
        lists: &ListReader,
        segment: &Segment,
        field: Field,
        composite: &mut CompositeWrite<WritePtr>,
    ) -> tantivy::Result<()> {
        let mut field_bounds = self.field_bounds(segment.meta().max_doc());
        field_bounds.bounds = field_bounds.bounds.bounded();
        let mut terms = lists.inverted_index.terms().stream()?;
        while terms.advance() {
            let info = terms.value();
            let bounds = &mut field_bounds.bounds;
            let mut row = None;
            if bounds.wants(info.doc_freq) {
                lists.for_each_posting(info, |doc, impact| bounds.posting(doc, impact))?;
                row = bounds.finish_row(info.doc_freq, &info.postings_range);
            }
            let place = info.postings_range.clone();
            field_bounds.add_place(terms.key(), info.doc_freq, place, row);
        }
        field_bounds.write(field, composite, |list, visit| {
            let info = TermInfo {
                doc_freq: list.doc_freq,
                postings_range: list.postings.clone(),
                positions_range: 0..0,
            };
            lists.for_each_posting(&info, visit)
        })
    }
}

/// Reads the posting lists of one field.
struct ListReader {
    field_reader: Arc<FieldReader>,
    inverted_index: Arc<InvertedIndexReader>,
    max_impact: u8,
}

impl ListReader {
    fn open_all(segment: &Segment, fields: &[LaconicField]) -> tantivy::Result<Vec<ListReader>> {
        let reader = SegmentReader::open(segment)?;
        let open = |field: &LaconicField| {
            let (field_reader, inverted_index) = FieldReader::open(&reader, field.field())?;
            Ok(ListReader {
                field_reader,
                inverted_index,
                max_impact: field.identity().quantizer.max_impact(),
            })
        };
        fields.iter().map(open).collect()
    }

    fn for_each_posting(
        &self,
        info: &TermInfo,
        mut visit: impl FnMut(DocId, u8),
    ) -> tantivy::Result<()> {
        let list = self.field_reader.list(info)?;
        Cursor::of_impacts(list, self.max_impact).for_each(|doc, impact| {
            visit(doc, u8::try_from(impact).unwrap_or(u8::MAX));
        });
        Ok(())
    }
}

fn into_tantivy(error: crate::Error) -> tantivy::TantivyError {
    io::Error::other(error).into()
}
