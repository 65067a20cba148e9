//! The vectors that a laconic field has, read back from its posting lists.

use anyhow::Result;
use laconic_tantivy::{LaconicField, SparseVector, UnitDocuments, UnitVectors};
use tantivy::postings::Postings;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet};

/// Gives the live documents of a unit the vectors that they have in `field`, as far as its
/// quantizer kept them.
///
/// # Errors
/// What reading the lists, or taking the vectors, reports.
pub(super) fn give(
    field: &LaconicField,
    documents: &UnitDocuments<'_>,
    live: &[DocId],
    vectors: &mut UnitVectors<'_>,
) -> Result<()> {
    let (Some(&first), Some(&last)) = (live.first(), live.last()) else {
        return Ok(());
    };
    let quantizer = field.identity().quantizer;
    let index = documents.reader().inverted_index(field.field())?;
    let mut lists = vec![Vec::new(); (last - first) as usize + 1];
    let mut names = Vec::new();
    let mut terms = index.terms().stream()?;
    while terms.advance() {
        let option = IndexRecordOption::WithFreqs;
        let mut list = index.read_postings_from_terminfo(terms.value(), option)?;
        if list.doc() < first {
            list.seek(first);
        }
        if list.doc() > last {
            continue;
        }
        while list.doc() <= last {
            let impact = u8::try_from(list.term_freq()).unwrap_or(u8::MAX);
            let weight = quantizer.weight(impact);
            lists[(list.doc() - first) as usize].push((names.len(), weight));
            list.advance();
        }
        names.push(String::from_utf8_lossy(terms.key()).into_owned());
    }
    for &doc in live {
        let pairs = lists[(doc - first) as usize].iter();
        let pairs = pairs.map(|&(name, weight): &(usize, f32)| (names[name].as_str(), weight));
        vectors.push(doc, &SparseVector::from_pairs(pairs)?)?;
    }
    Ok(())
}
