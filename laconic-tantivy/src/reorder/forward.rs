//! The [`Forward`] index of a laconic field, read back from its posting lists.

use tantivy::DocId;

use super::bisection::{Forward, MIN_DOC_FREQ};
use super::lists::{FieldLists, List};
use super::rows::Rows;

/// Bytes of a posting while documents are put in order: here, and once more when a partition is
/// cut.
const POSTING_BYTES: u64 = 2 * size_of::<u32>() as u64;

/// Bytes of a document while documents are put in order.
const DOC_BYTES: u64 = 64;

/// Reads the terms of each document of `rows`, as many as fit `memory_budget`. The most frequent
/// terms are left out first: they are the largest, and in so many documents that they tell little
/// about any. `progress(done, total)` counts bytes.
pub(crate) fn read_forward(
    lists: &FieldLists,
    rows: &Rows,
    memory_budget: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> tantivy::Result<Forward> {
    let kept = Kept::choose(lists, rows.n_docs(), memory_budget)?;
    let (mut done, total) = (0, 2 * kept.bytes);
    let mut ends = vec![0usize; rows.n_docs() as usize];
    kept.for_each_list(lists, |_, list| {
        for_each_row(lists, rows, list, |row| ends[row] += 1)?;
        done += list.1.postings_range.len() as u64;
        progress(done, total);
        Ok(())
    })?;
    let mut sum = 0;
    for end in &mut ends {
        // The start for now; filling moves it to the end.
        sum += std::mem::replace(end, sum);
    }
    let mut terms = vec![0; sum];
    kept.for_each_list(lists, |term, list| {
        for_each_row(lists, rows, list, |row| {
            terms[ends[row]] = term;
            ends[row] += 1;
        })?;
        done += list.1.postings_range.len() as u64;
        progress(done, total);
        Ok(())
    })?;
    Ok(Forward {
        ends,
        terms,
        n_terms: kept.n_terms,
    })
}

fn for_each_row(
    lists: &FieldLists,
    rows: &Rows,
    list: &List,
    mut visit: impl FnMut(usize),
) -> tantivy::Result<()> {
    lists.for_each_posting(list, |doc, _| {
        if let Some(row) = rows.new_in(&(0..rows.n_docs()), list.0, doc) {
            visit(row as usize);
        }
    })
}

/// Which terms take part: those in a range of document frequencies, deleted documents included.
struct Kept {
    doc_freqs: std::ops::RangeInclusive<u64>,
    n_terms: usize,
    /// Bytes of their posting lists.
    bytes: u64,
}

impl Kept {
    fn choose(lists: &FieldLists, n_docs: DocId, memory_budget: usize) -> tantivy::Result<Kept> {
        let mut terms = Vec::new();
        lists.for_each_term(|_, lists| {
            let doc_freq = doc_freq(lists);
            if doc_freq >= u64::from(MIN_DOC_FREQ) {
                let bytes = lists
                    .iter()
                    .map(|(_, info)| info.postings_range.len() as u64);
                terms.push((doc_freq, bytes.sum::<u64>()));
            }
            Ok(())
        })?;
        terms.sort_unstable();
        let per_doc = u64::from(n_docs) * DOC_BYTES;
        let mut room = (memory_budget as u64).saturating_sub(per_doc) / POSTING_BYTES;
        let n_fitting = terms.iter().take_while(|(doc_freq, _)| {
            let fits = *doc_freq <= room;
            room = room.saturating_sub(*doc_freq);
            fits
        });
        let n_fitting = n_fitting.count();
        let mut max = terms.last().map_or(0, |(doc_freq, _)| *doc_freq);
        if let Some((too_much, _)) = terms.get(n_fitting) {
            max = too_much - 1; // and no other term of that frequency
        }
        terms.retain(|(doc_freq, _)| *doc_freq <= max);
        Ok(Kept {
            doc_freqs: u64::from(MIN_DOC_FREQ)..=max,
            n_terms: terms.len(),
            bytes: terms.iter().map(|(_, bytes)| bytes).sum(),
        })
    }

    /// Visits the lists of the terms that take part, with the term's number.
    fn for_each_list(
        &self,
        lists: &FieldLists,
        mut visit: impl FnMut(u32, &List) -> tantivy::Result<()>,
    ) -> tantivy::Result<()> {
        let mut number = 0;
        lists.for_each_term(|_, lists| {
            if !self.doc_freqs.contains(&doc_freq(lists)) {
                return Ok(());
            }
            number += 1;
            lists.iter().try_for_each(|list| visit(number - 1, list))
        })
    }
}

fn doc_freq(lists: &[List]) -> u64 {
    lists.iter().map(|(_, info)| u64::from(info.doc_freq)).sum()
}
