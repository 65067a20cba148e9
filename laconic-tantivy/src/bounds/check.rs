//! Checking bounds against the postings they were made of.

use tantivy::{InvertedIndexReader, SegmentReader};

use super::block_maxima::BlockMaxima;
use super::term_lookup::TermPlace;
use crate::LaconicField;
use crate::postings::{Cursor, FieldReader};

/// Computes the bounds of a field anew and compares: each has to be the largest impact under it,
/// no less and no more. Returns what is wrong.
pub(crate) fn check_bounds(
    reader: &SegmentReader,
    inverted_index: &InvertedIndexReader,
    field: &LaconicField,
) -> tantivy::Result<Vec<String>> {
    let mut faults = Vec::new();
    let field_reader = FieldReader::open_anew(reader, field.field())?;
    let Some(bounds) = field_reader.bounds() else {
        if field_reader.has_unreadable_bounds() {
            faults.push("its bounds cannot be read; merge or optimize to write them anew".into());
        }
        return Ok(faults);
    };
    let max_impact = field.identity().quantizer.max_impact();
    let (mut maxima, mut n_rows) = (BlockMaxima::new(reader.max_doc()), 0);
    let mut terms = inverted_index.terms().stream()?;
    while terms.advance() {
        let info = terms.value();
        let number = bounds.row_number(info.postings_range.start);
        let place = TermPlace {
            doc_freq: info.doc_freq,
            postings: info.postings_range.clone(),
            row: number,
        };
        if field_reader
            .looked_up(terms.key())
            .is_some_and(|found| found != place)
        {
            let term = String::from_utf8_lossy(terms.key());
            faults.push(format!(
                "the place of `{term}` in the lookup table is not its own"
            ));
        }
        let Some(row) = number.and_then(|number| bounds.row(number)) else {
            continue;
        };
        n_rows += 1;
        maxima.clear();
        let list = field_reader.list(info)?;
        Cursor::of_impacts(list, max_impact).for_each(|doc, impact| {
            maxima.add(doc, u8::try_from(impact).unwrap_or(u8::MAX));
        });
        let level = u8::try_from(row.level).unwrap_or(0);
        let cells = maxima.cells(level);
        let superblocks = row.superblocks.iter().copied();
        let mut stored_cells = row.cells.iter().copied();
        if !superblocks.eq(maxima.superblocks()) {
            let term = String::from_utf8_lossy(terms.key());
            faults.push(format!(
                "superblock bounds of `{term}` are not its largest impacts"
            ));
        } else if !cells
            .into_iter()
            .all(|cell| stored_cells.next() == Some(cell))
        {
            let term = String::from_utf8_lossy(terms.key());
            faults.push(format!(
                "cell bounds of `{term}` are not its largest impacts"
            ));
        }
    }
    if n_rows != bounds.n_rows() {
        let n_stored = bounds.n_rows();
        faults.push(format!(
            "it has bounds of {n_stored} terms, {n_rows} of them are its own"
        ));
    }
    Ok(faults)
}
