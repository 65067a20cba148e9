//! Splicing a laconic field into the inverted index of a segment that lacks it.
//!
//! Tantivy's `.term`, `.idx` and `.pos` files are composites with one section per field. The
//! sections of the other fields are copied byte for byte; ours is written behind them.

use std::io::{self, Write};

use tantivy::directory::{CompositeFile, CompositeWrite, FileSlice};
use tantivy::index::SegmentComponent;
use tantivy::schema::{Field, Schema};
use tantivy::{DocId, HasLen, Segment};

use super::impacts::PostingLists;
use crate::bounds::FieldBounds;
use crate::postings::ListWriter;

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// Takes a term, its documents in ascending order, and their impacts.
pub(crate) type VisitList<'a> = dyn FnMut(&[u8], &[DocId], &[u8]) -> io::Result<()> + 'a;

/// Where the posting lists of the spliced field come from.
pub(crate) trait ListSource {
    /// The sum of all impacts.
    fn impact_sum(&self) -> u64;

    /// Visits the lists in byte order of their terms.
    fn for_each_list(&mut self, visit: &mut VisitList<'_>) -> io::Result<()>;
}

/// Lists in memory, with documents renumbered if they are to be.
impl ListSource for (&PostingLists, Option<&[DocId]>) {
    fn impact_sum(&self) -> u64 {
        self.0.impact_sum()
    }

    fn for_each_list(&mut self, visit: &mut VisitList<'_>) -> io::Result<()> {
        let (lists, new_ids) = *self;
        lists.for_each(new_ids, visit)
    }
}

/// Writes the inverted index of `target`: all sections of `source` but that of `field`, and
/// `lists` as `field`. Enters the lists into `bounds` as they are written.
pub(crate) fn splice_field(
    source: &Segment,
    target: &Segment,
    field: Field,
    lists: &mut dyn ListSource,
    bounds: &mut Option<FieldBounds>,
) -> tantivy::Result<()> {
    let schema = target.schema();
    let mut terms = copy_sections(source, target, SegmentComponent::Terms, &schema, field)?;
    let mut postings = copy_sections(source, target, SegmentComponent::Postings, &schema, field)?;
    let mut positions = copy_sections(source, target, SegmentComponent::Positions, &schema, field)?;
    let mut writer = ListWriter::new(
        lists.impact_sum(),
        terms.for_field(field),
        postings.for_field(field),
    )?;
    // An empty section, as Tantivy writes for a field without positions.
    positions.for_field(field);
    lists.for_each_list(&mut |term, docs, impacts| {
        let place = writer.write(term, docs, impacts)?;
        if let Some(bounds) = bounds {
            bounds.add(term, docs, impacts, place);
        }
        Ok(())
    })?;
    writer.finish()?;
    for composite in [terms, postings, positions] {
        composite.close()?;
    }
    Ok(())
}

fn copy_sections(
    source: &Segment,
    target: &Segment,
    component: SegmentComponent,
    schema: &Schema,
    field: Field,
) -> tantivy::Result<CompositeWrite> {
    let sections = CompositeFile::open(&source.open_read(component.clone())?)?;
    let mut composite = CompositeWrite::wrap(target.open_write(component)?);
    for (other, _) in schema.fields().filter(|(other, _)| *other != field) {
        if let Some(section) = sections.open_read(other) {
            copy_slice(&section, composite.for_field(other))?;
        }
    }
    Ok(composite)
}

/// Copies a whole file of the segment.
pub(crate) fn copy_component(
    source: &Segment,
    target: &Segment,
    component: SegmentComponent,
) -> tantivy::Result<()> {
    let slice = source.open_read(component.clone())?;
    let mut write = target.open_write(component)?;
    copy_slice(&slice, &mut write)?;
    Ok(tantivy::directory::TerminatingWrite::terminate(write)?)
}

fn copy_slice(slice: &FileSlice, write: &mut impl Write) -> io::Result<()> {
    for start in (0..slice.len()).step_by(CHUNK) {
        let end = (start + CHUNK).min(slice.len());
        write.write_all(&slice.read_bytes_slice(start..end)?)?;
    }
    Ok(())
}
