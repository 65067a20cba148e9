//! [`Segments`]: documents into one segment after another, each as large as the memory allows.

use tantivy::index::SegmentMeta;
use tantivy::{Index, TantivyDocument};

use super::BulkTotals;
use super::segment::SegmentBuilder;
use crate::LaconicField;
use crate::vector::VectorParts;

/// A segment whose files are written.
pub(crate) struct Finished {
    pub(crate) meta: SegmentMeta,
    pub(crate) totals: BulkTotals,
}

/// What segments to write.
#[derive(Clone)]
pub(crate) struct SegmentSettings {
    pub(crate) index: Index,
    pub(crate) field: LaconicField,
    /// Bytes that a segment under construction may take.
    pub(crate) memory_budget: usize,
    /// Bring the documents of a segment into a new order.
    pub(crate) reorder: bool,
}

/// Writes segments of one index, on whatever thread it is.
pub(crate) struct Segments {
    settings: SegmentSettings,
    segment: Option<SegmentBuilder>,
}

impl Segments {
    pub(crate) fn new(settings: SegmentSettings) -> Segments {
        Segments {
            settings,
            segment: None,
        }
    }

    /// Adds a document; returns the segment if that filled it. `taken` bytes of the budget are in
    /// use elsewhere.
    pub(crate) fn push(
        &mut self,
        document: TantivyDocument,
        vector: VectorParts<'_>,
        taken: usize,
    ) -> tantivy::Result<Option<Finished>> {
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => SegmentBuilder::new(&self.settings)?,
        };
        segment.push(document, vector)?;
        let is_full = segment.mem_usage() + taken >= self.settings.memory_budget;
        self.segment = Some(segment);
        if is_full { self.finish() } else { Ok(None) }
    }

    /// Ends the segment under construction, if there is one.
    pub(crate) fn finish(&mut self) -> tantivy::Result<Option<Finished>> {
        let segment = self.segment.take();
        segment
            .map(|segment| segment.finish(&self.settings))
            .transpose()
    }
}
