//! [`FieldReader`]: one field of one segment, opened once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, PoisonError, RwLock, Weak};

use tantivy::directory::error::OpenReadError;
use tantivy::directory::{CompositeFile, FileSlice, OwnedBytes};
use tantivy::error::DataCorruption;
use tantivy::index::{InvertedIndexReader, SegmentComponent};
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption, Term};
use tantivy::{DocId, SegmentReader, TantivyError};

use super::list::PostingList;
use crate::bounds::{Bounds, EXTENSION, LOOKUP_SECTION, TermLookup, TermPlace};

/// Tantivy puts the field's total number of tokens in front of the posting lists.
const TOTAL_TOKENS_LEN: usize = 8;

/// What a query needs of a segment beside Tantivy's term dictionary, without copies.
pub(crate) struct FieldReader {
    postings: OwnedBytes,
    option: IndexRecordOption,
    n_tokens: u64,
    /// Codes of the lengths of the documents, empty where the field keeps none.
    lengths: OwnedBytes,
    bounds: Option<Bounds>,
    lookup: Option<TermLookup>,
    has_bounds_section: bool,
    max_doc: DocId,
}

/// A term of a query that occurs in a segment.
#[derive(Clone)]
pub(crate) struct QueryTerm {
    /// Place in the query.
    pub(crate) idx: usize,
    /// Number of its row of bounds, if it has one.
    pub(crate) row: Option<usize>,
    pub(crate) list: PostingList,
}

/// Opened fields, by the address of Tantivy's reader of the same field and segment.
///
/// `SegmentReader` has no place for the state of an extension, and opening the files anew costs
/// more than a short query. An entry holds Tantivy's reader weakly: while the weak reference
/// lives its address is not used again, and once the reader is gone the entry is dropped at the
/// next opening.
type Opened = HashMap<usize, (Weak<InvertedIndexReader>, Arc<FieldReader>)>;
static OPENED: LazyLock<RwLock<Opened>> = LazyLock::new(RwLock::default);

impl FieldReader {
    /// The field of the segment, and Tantivy's reader of it.
    pub(crate) fn open(
        reader: &SegmentReader,
        field: Field,
    ) -> tantivy::Result<(Arc<FieldReader>, Arc<InvertedIndexReader>)> {
        let inverted_index = reader.inverted_index(field)?;
        let key = Arc::as_ptr(&inverted_index).addr();
        // Nothing panics while it holds the lock.
        let opened = OPENED.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((weak, field_reader)) = opened.get(&key)
            && weak.strong_count() > 0
        {
            return Ok((field_reader.clone(), inverted_index));
        }
        drop(opened);
        let field_reader = Arc::new(FieldReader::open_anew(reader, field)?);
        let mut opened = OPENED.write().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, (weak, _)| weak.strong_count() > 0);
        opened.insert(key, (Arc::downgrade(&inverted_index), field_reader.clone()));
        Ok((field_reader, inverted_index))
    }

    /// The field of the segment, opened for this caller alone.
    pub(crate) fn open_anew(reader: &SegmentReader, field: Field) -> tantivy::Result<FieldReader> {
        let file = CompositeFile::open(&reader.open_read(SegmentComponent::Postings)?)?;
        let mut postings = match file.open_read(field) {
            Some(section) => section.read_bytes()?,
            None => OwnedBytes::empty(),
        };
        let n_tokens = postings.as_slice().first_chunk::<TOTAL_TOKENS_LEN>();
        let n_tokens = n_tokens.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        postings.advance(TOTAL_TOKENS_LEN.min(postings.len()));
        let entry = reader.schema().get_field_entry(field);
        let option = entry.field_type().index_record_option();
        let lengths = reader
            .fieldnorms_readers()
            .get_inner_file()
            .open_read(field);
        let component = open_component(reader)?;
        let section = |idx| component.as_ref()?.open_read_with_idx(field, idx);
        let read = |section: FileSlice| section.read_bytes();
        let bounds = section(0).map(read).transpose()?;
        let lookup = section(LOOKUP_SECTION).map(read).transpose()?;
        Ok(FieldReader {
            postings,
            option: option.unwrap_or(IndexRecordOption::Basic),
            n_tokens,
            lengths: match lengths {
                Some(lengths) => lengths.read_bytes()?,
                None => OwnedBytes::empty(),
            },
            has_bounds_section: bounds.is_some(),
            bounds: bounds.and_then(|bytes| Bounds::open(bytes, reader.max_doc())),
            lookup: lookup.and_then(TermLookup::open),
            max_doc: reader.max_doc(),
        })
    }

    /// Codes of the lengths of the documents, by document; empty where the field keeps none.
    pub(crate) fn lengths(&self) -> &OwnedBytes {
        &self.lengths
    }

    /// The average length of a document when the segment was written.
    #[expect(clippy::cast_precision_loss, reason = "as Tantivy computes it")]
    pub(crate) fn average_length(&self) -> f32 {
        self.n_tokens as f32 / self.max_doc as f32
    }

    /// Upper bounds, where the segment has them.
    pub(crate) fn bounds(&self) -> Option<&Bounds> {
        self.bounds.as_ref()
    }

    /// Whether there are bounds of a version that this program does not read.
    pub(crate) fn has_unreadable_bounds(&self) -> bool {
        self.has_bounds_section && self.bounds.is_none()
    }

    /// The terms of the query that occur in the segment, in the order of the query.
    pub(crate) fn query_terms(
        &self,
        inverted_index: &InvertedIndexReader,
        terms: &[Term],
    ) -> tantivy::Result<Vec<QueryTerm>> {
        let mut found = Vec::with_capacity(terms.len());
        let dictionary = inverted_index.terms();
        if let Some(lookup) = &self.lookup {
            lookup.approach(terms.iter().map(Term::serialized_value_bytes));
        }
        let mut places = Vec::with_capacity(terms.len());
        for (idx, term) in terms.iter().enumerate() {
            let term = term.serialized_value_bytes();
            let place = match self.looked_up(term) {
                Some(place) => place,
                None => match dictionary.get(term)? {
                    Some(info) => self.place(info),
                    None => continue,
                },
            };
            std::hint::black_box(self.postings.as_slice().get(place.postings.start).copied());
            places.push((idx, place));
        }
        for (idx, place) in places {
            found.push(QueryTerm {
                idx,
                row: place.row,
                list: self.list_at(&place.postings, place.doc_freq)?,
            });
        }
        Ok(found)
    }

    /// The place of a term by the lookup table, if it is in there.
    pub(crate) fn looked_up(&self, term: &[u8]) -> Option<TermPlace> {
        self.lookup.as_ref()?.get(term)
    }

    fn place(&self, info: TermInfo) -> TermPlace {
        let bounds = self.bounds.as_ref();
        TermPlace {
            doc_freq: info.doc_freq,
            row: bounds.and_then(|bounds| bounds.row_number(info.postings_range.start)),
            postings: info.postings_range,
        }
    }

    /// The posting list of a term of the dictionary.
    pub(crate) fn list(&self, info: &TermInfo) -> tantivy::Result<PostingList> {
        self.list_at(&info.postings_range, info.doc_freq)
    }

    fn list_at(&self, range: &Range<usize>, doc_freq: u32) -> tantivy::Result<PostingList> {
        let fits = range.start <= range.end && range.end <= self.postings.len();
        let bytes = fits.then(|| self.postings.slice(range.clone()));
        let list = bytes.and_then(|bytes| PostingList::parse(bytes, doc_freq, self.option));
        list.ok_or_else(|| {
            let what = format!("posting list {range:?} of {doc_freq} postings does not fit");
            TantivyError::DataCorruption(DataCorruption::comment_only(what))
        })
    }
}

/// The component of the segment, if there is one.
fn open_component(reader: &SegmentReader) -> tantivy::Result<Option<CompositeFile>> {
    let component = SegmentComponent::Custom(EXTENSION.to_owned());
    match reader.open_read(component) {
        Ok(file) => Ok(Some(CompositeFile::open(&file)?)),
        Err(OpenReadError::FileDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
