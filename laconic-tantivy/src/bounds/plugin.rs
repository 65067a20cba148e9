//! [`BoundsPlugin`]: the component in Tantivy's life of a segment.

use std::any::Any;
use std::io;
use std::sync::Arc;

use tantivy::directory::CompositeWrite;
use tantivy::index::SegmentComponent;
use tantivy::indexer::doc_id_mapping::DocIdMapping;
use tantivy::schema::Schema;
use tantivy::schema::document::ErasedDocument;
use tantivy::{
    DocId, Index, PluginMergeContext, PluginWriter, PluginWriterContext, Segment, SegmentPlugin,
    SegmentReader,
};

use super::BoundsBuilder;
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
            share: 0.25,
            min_postings: 1024,
        }
    }
}

impl BoundsPlugin {
    /// Most bytes of bounds per byte of the postings they cover; 0.25 by default. More make
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

impl BoundsPlugin {
    /// Writes the component of a segment whose other files are finished.
    fn write(self, segment: &Segment) -> tantivy::Result<()> {
        let fields = LaconicField::all(&segment.schema()).map_err(into_tantivy)?;
        let reader = SegmentReader::open(segment)?;
        let bounds = fields.iter().map(|field| self.bounds_of(&reader, field));
        let bounds = bounds.collect::<tantivy::Result<Vec<_>>>()?;
        let component = SegmentComponent::Custom(EXTENSION.to_owned());
        let mut composite = CompositeWrite::wrap(segment.open_write(component)?);
        for (field, (bounds, lookup, postings_len)) in fields.iter().zip(bounds) {
            bounds.write(composite.for_field(field.field()))?;
            let section = composite.for_field_with_idx(field.field(), LOOKUP_SECTION);
            lookup.write(postings_len / LOOKUP_SHARE, section)?;
        }
        Ok(composite.close()?)
    }

    fn bounds_of(
        self,
        reader: &SegmentReader,
        field: &LaconicField,
    ) -> tantivy::Result<(BoundsBuilder, TermLookupBuilder, usize)> {
        let (field_reader, inverted_index) = FieldReader::open(reader, field.field())?;
        let mut bounds = BoundsBuilder::new(reader.max_doc(), self.share, self.min_postings);
        let mut terms = inverted_index.terms().stream()?;
        let (mut lookup, mut postings_len) = (TermLookupBuilder::default(), 0);
        while terms.advance() {
            let info = terms.value();
            let mut row = None;
            if bounds.wants(info.doc_freq) {
                let list = field_reader.list(info)?;
                let max_impact = field.identity().quantizer.max_impact();
                Cursor::new(list, 1, max_impact).for_each(|doc, impact| {
                    bounds.posting(doc, u8::try_from(impact).unwrap_or(u8::MAX));
                });
                row = bounds.finish_row(info.doc_freq, &info.postings_range);
            }
            postings_len = info.postings_range.end;
            let place = TermPlace {
                doc_freq: info.doc_freq,
                postings: info.postings_range.clone(),
                row,
            };
            lookup.add(terms.key(), place);
        }
        Ok((bounds, lookup, postings_len))
    }
}

fn into_tantivy(error: crate::Error) -> tantivy::TantivyError {
    io::Error::other(error).into()
}
