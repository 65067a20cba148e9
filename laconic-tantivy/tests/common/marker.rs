//! [`MarkerPlugin`]: a component of another program, which notes what its segments hold.

use std::any::Any;
use std::io::Write;
use std::sync::Arc;

use tantivy::directory::TerminatingWrite;
use tantivy::index::SegmentComponent;
use tantivy::indexer::doc_id_mapping::DocIdMapping;
use tantivy::schema::Schema;
use tantivy::schema::document::ErasedDocument;
use tantivy::{
    DocId, Index, PluginMergeContext, PluginWriter, PluginWriterContext, Segment, SegmentPlugin,
};

/// A file `.marker` for every segment, with the number of its documents.
pub(crate) struct MarkerPlugin;

impl MarkerPlugin {
    pub(crate) fn shared() -> Arc<dyn SegmentPlugin> {
        Arc::new(MarkerPlugin)
    }
}

fn component() -> SegmentComponent {
    SegmentComponent::Custom("marker".to_owned())
}

fn mark(segment: &Segment, n_docs: u64) -> tantivy::Result<()> {
    let mut write = segment.open_write(component())?;
    write.write_all(format!("a segment of {n_docs}").as_bytes())?;
    Ok(write.terminate()?)
}

/// The marks of an index's segments.
pub(crate) fn marks(index: &Index) -> Vec<String> {
    let segments = index.searchable_segments().unwrap();
    let read = |segment: &Segment| {
        let file = segment.open_read(component()).unwrap();
        let bytes = file.read_bytes().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    segments.iter().map(read).collect()
}

impl SegmentPlugin for MarkerPlugin {
    fn extensions(&self) -> &[&str] {
        &["marker"]
    }

    fn create_writer(&self, _: &PluginWriterContext<'_>) -> tantivy::Result<Box<dyn PluginWriter>> {
        Ok(Box::new(MarkerWriter { n_docs: 0 }))
    }

    fn merge(&self, context: PluginMergeContext<'_>) -> tantivy::Result<()> {
        let docs = context.readers.iter().map(|r| u64::from(r.num_docs()));
        mark(context.target_segment, docs.sum())
    }
}

struct MarkerWriter {
    n_docs: u64,
}

impl PluginWriter for MarkerWriter {
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
        mark(segment, self.n_docs)
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
