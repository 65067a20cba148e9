//! [`OpenSegment`]: what a query needs of a segment, held open.

use std::sync::Arc;

use tantivy::SegmentReader;
use tantivy::schema::Field;

use super::filter::SegmentFilter;
use super::segment::{EvaluationMode, Place, SegmentTerm, TermRow};
use super::weight::SumWeight;
use super::word::Word;
use super::word_row::WordRow;
use crate::postings::{Bm25Contribution, Contribution, FieldReader, PostingList, QueryTerm};

/// The fields of a segment with the terms of a query that occur there.
pub(crate) struct OpenSegment<'r> {
    pub(crate) reader: &'r SegmentReader,
    learned: Option<(Arc<FieldReader>, Vec<QueryTerm>)>,
    words: Vec<FoundWord>,
    clauses: Vec<(PostingList, Contribution)>,
    pub(super) filter: SegmentFilter<'r>,
}

struct FoundWord {
    /// Place among the words of the query.
    idx: usize,
    list: PostingList,
    contribution: Bm25Contribution,
    row: Option<WordRow>,
}

impl<'r> OpenSegment<'r> {
    pub(super) fn new(
        weight: &'r SumWeight,
        reader: &'r SegmentReader,
        mode: EvaluationMode,
    ) -> tantivy::Result<OpenSegment<'r>> {
        let mut learned = None;
        if let Some(part) = &weight.learned {
            let (field_reader, inverted_index) = FieldReader::open(reader, part.field)?;
            let found = field_reader.query_terms(&inverted_index, &part.terms)?;
            learned = Some((field_reader, found));
        }
        let one = weight.score_of.one();
        let clauses = weight.clauses.iter().map(|clause| clause.list(reader, one));
        let mut segment = OpenSegment {
            reader,
            learned,
            words: Vec::with_capacity(weight.words.len()),
            clauses: clauses.collect::<tantivy::Result<_>>()?,
            filter: SegmentFilter::None,
        };
        let is_bounded = segment.find_words(weight, mode)?;
        let n_asked = (!is_bounded).then(|| mode.n_offered(segment.n_postings()));
        segment.filter = SegmentFilter::open(weight.filter.as_ref(), reader, n_asked)?;
        Ok(segment)
    }

    /// Returns whether the segment is going to be evaluated by bounds.
    fn find_words(&mut self, weight: &SumWeight, mode: EvaluationMode) -> tantivy::Result<bool> {
        let one = weight.score_of.one();
        let mut opened: Option<(Field, _)> = None;
        let mut found = Vec::with_capacity(weight.words.len());
        for (idx, word) in weight.words.iter().enumerate() {
            let field = word.lengths.field;
            let (_, (field_reader, inverted_index)) = match opened.take() {
                Some(same) if same.0 == field => opened.insert(same),
                _ => opened.insert((field, FieldReader::open(self.reader, field)?)),
            };
            let term = word.term.serialized_value_bytes();
            if let Some(info) = inverted_index.terms().get(term)? {
                let list = field_reader.list(&info)?;
                let contribution = word.contribution(field_reader.lengths().clone(), one);
                found.push((idx, list, contribution, field_reader.average_length()));
            }
        }
        let doc_freqs = found.iter().map(|(_, list, ..)| u64::from(list.doc_freq()));
        let max_doc = self.reader.max_doc();
        let wants_rows = mode.pays(self.n_postings() + doc_freqs.sum::<u64>(), max_doc);
        for (idx, list, contribution, average) in found {
            let lengths = &weight.words[idx].lengths;
            let row = || WordRow::new(&list, &contribution, lengths, average, max_doc);
            self.words.push(FoundWord {
                idx,
                row: if wants_rows { row() } else { None },
                list,
                contribution,
            });
        }
        Ok(wants_rows)
    }

    /// Postings of the terms.
    pub(crate) fn n_postings(&self) -> u64 {
        let learned = self.learned.iter().flat_map(|(_, found)| found);
        let lists = learned.map(|term| &term.list);
        let lists = lists.chain(self.words.iter().map(|word| &word.list));
        let lists = lists.chain(self.clauses.iter().map(|(list, _)| list));
        lists.map(|list| u64::from(list.doc_freq())).sum()
    }

    /// The terms of all parts, with their bounds.
    pub(super) fn terms<'a>(&'a self, weight: &SumWeight) -> Vec<SegmentTerm<'a>> {
        let mut terms = Vec::with_capacity(self.words.len());
        if let (Some((field_reader, found)), Some(part)) = (&self.learned, &weight.learned) {
            terms.reserve(found.len());
            let max_impact = part.quantizer.max_impact();
            for term in found {
                let query_weight = part.query_weights[term.idx];
                let row = term.row.zip(field_reader.bounds());
                let row = row.and_then(|(row, bounds)| bounds.row(row));
                terms.push(SegmentTerm {
                    list: term.list.clone(),
                    contribution: Contribution::Impact {
                        query_weight,
                        max_impact,
                    },
                    row: row.map(|row| TermRow {
                        row,
                        code_weight: query_weight,
                        code_bits: u8::BITS - max_impact.leading_zeros(),
                    }),
                });
            }
        }
        terms.extend(self.words.iter().map(|word| SegmentTerm {
            list: word.list.clone(),
            contribution: Contribution::Bm25(word.contribution.clone()),
            row: word.row.as_ref().map(|row| TermRow {
                row: row.row(),
                code_weight: row.code_weight,
                code_bits: u8::BITS,
            }),
        }));
        let clauses = self.clauses.iter().cloned();
        terms.extend(clauses.map(|(list, contribution)| SegmentTerm {
            list,
            contribution,
            row: None,
        }));
        terms
    }

    /// The posting lists of the learned terms, with their places in the query.
    pub(super) fn learned_lists(&self) -> impl Iterator<Item = (usize, PostingList)> {
        let found = self.learned.iter().flat_map(|(_, found)| found);
        found.map(|term| (term.idx, term.list.clone()))
    }

    /// The words that occur in the segment, with their posting lists.
    pub(super) fn word_lists<'w>(
        &self,
        weight: &'w SumWeight,
    ) -> impl Iterator<Item = (&'w Word, PostingList, Bm25Contribution)> {
        self.words.iter().map(|found| {
            let word = &weight.words[found.idx];
            (word, found.list.clone(), found.contribution.clone())
        })
    }

    /// The matches of the clauses, in their order.
    pub(super) fn clause_lists(&self) -> impl Iterator<Item = (PostingList, Contribution)> {
        self.clauses.iter().cloned()
    }

    pub(super) fn place(&self) -> Place<'_> {
        let bounds = self
            .learned
            .as_ref()
            .and_then(|(reader, _)| reader.bounds());
        Place {
            max_doc: self.reader.max_doc(),
            is_ordered: bounds.is_some_and(crate::bounds::Bounds::is_ordered),
            mask: self.filter.mask(),
        }
    }
}
