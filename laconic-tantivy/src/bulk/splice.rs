//! Splicing a laconic field into the inverted index of a segment that lacks it.
//!
//! Tantivy's `.term`, `.idx` and `.pos` files are composites with one section per field. The
//! sections of the other fields are copied byte for byte; ours is written behind them.

use std::io::{self, Write};

use tantivy::directory::{CompositeFile, CompositeWrite, FileSlice};
use tantivy::index::SegmentComponent;
use tantivy::postings::FieldSerializer;
use tantivy::schema::{Field, IndexRecordOption, Schema};
use tantivy::{HasLen, Segment};

use super::impacts::PostingLists;

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// Writes the inverted index of `target`: all sections of `source`, and `lists` as `field`.
pub(crate) fn splice_field(
    source: &Segment,
    target: &Segment,
    field: Field,
    lists: &PostingLists,
) -> tantivy::Result<()> {
    let schema = target.schema();
    let mut terms = copy_sections(source, target, SegmentComponent::Terms, &schema, field)?;
    let mut postings = copy_sections(source, target, SegmentComponent::Postings, &schema, field)?;
    let mut positions = copy_sections(source, target, SegmentComponent::Positions, &schema, field)?;
    let serializer = FieldSerializer::create(
        IndexRecordOption::WithFreqs,
        lists.impacts.iter().map(|&impact| u64::from(impact)).sum(),
        terms.for_field(field),
        postings.for_field(field),
        positions.for_field(field),
        None,
    )?;
    write_lists(serializer, lists)?;
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

fn write_lists<W: Write>(
    mut serializer: FieldSerializer<'_, W>,
    lists: &PostingLists,
) -> io::Result<()> {
    for (term, range) in &lists.terms {
        let docs = &lists.docs[range.clone()];
        // A segment has fewer than 2^31 documents.
        let doc_freq = u32::try_from(docs.len()).unwrap_or(u32::MAX);
        serializer.new_term(term.as_bytes(), doc_freq, true)?;
        for (&doc, &impact) in docs.iter().zip(&lists.impacts[range.clone()]) {
            serializer.write_doc(doc, u32::from(impact), &[]);
        }
        serializer.close_term()?;
    }
    serializer.close()
}
