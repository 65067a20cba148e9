//! Filters: which documents of a segment may be in a result.

use std::sync::{Arc, Mutex};

use tantivy::fastfield::AliveBitSet;
use tantivy::query::{EnableScoring, Query, Scorer, TermQuery, Weight};
use tantivy::schema::{Field, FieldType, Schema};
use tantivy::{DocId, SegmentReader, TERMINATED, TantivyError, Term};

use super::cached_filter::{CachedFilter, Masks, remembered};
use super::mask::Mask;
use crate::postings::{Cursor, FieldReader, PostingList};

/// A filter that lets fewer than one in so many documents pass is read in whole before a search by
/// bounds; others are asked about the documents that would get into the result.
const SELECTIVE: u32 = 8;

/// Asking for one document takes as long as reading so many that pass.
const DOCS_PER_ASKED: u64 = 16;

/// A filter that was begun anew so many times, since its documents do not come in order, is read
/// in whole.
const MAX_BEGUN: u32 = 16;

/// The filter of a query.
pub(super) struct Filter {
    weight: Box<dyn Weight>,
    /// If it is nothing but a term: its posting list is then read without Tantivy.
    term: Option<Term>,
    /// What is remembered of it, if it is to be.
    masks: Option<Arc<Mutex<Masks>>>,
}

impl Filter {
    pub(super) fn new(query: &dyn Query, scoring: EnableScoring<'_>) -> tantivy::Result<Filter> {
        // A filter is not asked for scores.
        let unscored = match scoring {
            EnableScoring::Enabled { searcher, .. } => {
                EnableScoring::disabled_from_searcher(searcher)
            }
            disabled @ EnableScoring::Disabled { .. } => disabled,
        };
        let cached = query.downcast_ref::<CachedFilter>();
        let query = cached.map_or(query, CachedFilter::query);
        let term = query
            .downcast_ref::<TermQuery>()
            .map(|query| query.term().clone());
        Ok(Filter {
            weight: query.weight(unscored)?,
            term: term.filter(|term| is_text(scoring.schema(), term.field())),
            masks: cached.map(|cached| Arc::clone(cached.masks())),
        })
    }

    pub(super) fn scorer(&self, reader: &SegmentReader) -> tantivy::Result<Box<dyn Scorer>> {
        self.weight.scorer(reader, 1.0)
    }

    /// All documents that pass.
    fn mask(&self, reader: &SegmentReader) -> tantivy::Result<Mask> {
        Ok(match self.list(reader)? {
            Some(list) => Mask::of_list(list, reader),
            None => Mask::of(self.scorer(reader)?, reader),
        })
    }

    /// The posting list, if the filter is a term.
    fn list(&self, reader: &SegmentReader) -> tantivy::Result<Option<PostingList>> {
        let Some(term) = &self.term else {
            return Ok(None);
        };
        let (field_reader, inverted_index) = FieldReader::open(reader, term.field())?;
        let info = inverted_index.terms().get(term.serialized_value_bytes())?;
        let list = match info {
            Some(info) => field_reader.list(&info)?,
            None => PostingList::of_docs(&[]),
        };
        Ok(Some(list))
    }
}

/// Only of text fields is it known how their posting lists look.
fn is_text(schema: &Schema, field: Field) -> bool {
    let entry = schema.get_field_entry(field);
    matches!(entry.field_type(), FieldType::Str(_)) && entry.is_indexed()
}

/// The filter of a query in one segment.
pub(super) enum SegmentFilter<'r> {
    None,
    /// All documents that pass.
    Mask(Arc<Mask>),
    /// Likewise, of a filter that is too broad to guide the evaluation by it: nearly every block
    /// has documents that pass.
    Broad(Arc<Mask>),
    /// The documents of a term.
    List(PostingList),
    /// Asked document by document.
    Lazy {
        filter: &'r Filter,
        reader: &'r SegmentReader,
        /// How many documents pass, about.
        n_docs: u32,
    },
}

impl<'r> SegmentFilter<'r> {
    /// `n_asked` documents, about, are going to be asked for in order; `None` for a few in any
    /// order.
    pub(super) fn open(
        filter: Option<&'r Filter>,
        reader: &'r SegmentReader,
        n_asked: Option<u64>,
    ) -> tantivy::Result<SegmentFilter<'r>> {
        let Some(filter) = filter else {
            return Ok(SegmentFilter::None);
        };
        if let Some(masks) = &filter.masks {
            let mask = remembered(masks, reader, || filter.mask(reader))?;
            return Ok(match is_read_in_whole(mask.max_docs(), n_asked, reader) {
                true => SegmentFilter::Mask(mask),
                false => SegmentFilter::Broad(mask),
            });
        }
        if let Some(list) = filter.list(reader)? {
            return Ok(match is_read_in_whole(list.doc_freq(), n_asked, reader) {
                true => SegmentFilter::Mask(Arc::new(Mask::of_list(list, reader))),
                false => SegmentFilter::List(list),
            });
        }
        let docs = filter.scorer(reader)?;
        let n_docs = docs.size_hint();
        Ok(match is_read_in_whole(n_docs, n_asked, reader) {
            true => SegmentFilter::Mask(Arc::new(Mask::of(docs, reader))),
            false => SegmentFilter::Lazy {
                filter,
                reader,
                n_docs,
            },
        })
    }

    /// One in how many documents passes, about.
    fn docs_per_passing(&self, max_doc: DocId) -> u32 {
        let n_docs = match self {
            SegmentFilter::None => max_doc,
            SegmentFilter::Mask(mask) | SegmentFilter::Broad(mask) => mask.max_docs(),
            SegmentFilter::List(list) => list.doc_freq(),
            SegmentFilter::Lazy { n_docs, .. } => *n_docs,
        };
        max_doc.div_ceil(n_docs.max(1)).max(1)
    }

    pub(super) fn mask(&self) -> Option<&Mask> {
        match self {
            SegmentFilter::Mask(mask) => Some(mask),
            _ => None,
        }
    }
}

/// Whether a filter that `n_docs` documents pass is read in whole.
fn is_read_in_whole(n_docs: u32, n_asked: Option<u64>, reader: &SegmentReader) -> bool {
    match n_asked {
        Some(n_asked) => u64::from(n_docs) < n_asked.saturating_mul(DOCS_PER_ASKED),
        None => n_docs < reader.max_doc() / SELECTIVE,
    }
}

/// Tells which documents of a segment may be in a result: those that are alive and pass the
/// filter.
pub(super) struct Admission<'a> {
    alive: Option<&'a AliveBitSet>,
    filter: Check<'a>,
    /// One in so many documents is admitted, about, of those that are offered.
    pub(super) docs_per_admitted: u32,
}

enum Check<'a> {
    None,
    Mask(&'a Mask),
    Broad(&'a Mask),
    /// With the document it was asked for last.
    List(Box<Cursor>, DocId),
    Lazy(LazyFilter<'a>),
}

impl Default for Admission<'_> {
    fn default() -> Self {
        Admission {
            alive: None,
            filter: Check::None,
            docs_per_admitted: 1,
        }
    }
}

impl<'a> Admission<'a> {
    pub(super) fn new(reader: &'a SegmentReader, filter: &'a SegmentFilter<'_>) -> Admission<'a> {
        Admission {
            alive: reader.alive_bitset(),
            docs_per_admitted: filter
                .docs_per_passing(reader.max_doc())
                .saturating_mul(reader.max_doc() / reader.num_docs().max(1)),
            filter: match filter {
                SegmentFilter::None => Check::None,
                SegmentFilter::Mask(mask) => Check::Mask(mask),
                SegmentFilter::Broad(mask) => Check::Broad(mask),
                SegmentFilter::List(list) => {
                    Check::List(Box::new(Cursor::of_impacts(list.clone(), u8::MAX)), 0)
                }
                SegmentFilter::Lazy { filter, reader, .. } => Check::Lazy(LazyFilter {
                    filter,
                    reader,
                    scorer: None,
                    asked: 0,
                    n_begun: 0,
                    all: None,
                    error: None,
                }),
            },
        }
    }

    /// As `new`, whether or not documents are alive.
    pub(super) fn of_all(
        reader: &'a SegmentReader,
        filter: &'a SegmentFilter<'_>,
    ) -> Admission<'a> {
        Admission {
            alive: None,
            ..Admission::new(reader, filter)
        }
    }

    #[inline]
    pub(super) fn admits(&mut self, doc: DocId) -> bool {
        self.alive.is_none_or(|alive| alive.is_alive(doc))
            && match &mut self.filter {
                Check::None => true,
                Check::Mask(mask) | Check::Broad(mask) => mask.has(doc),
                Check::List(list, asked) => {
                    let is_ahead = *asked <= doc;
                    *asked = doc;
                    match is_ahead {
                        true => list.seek(doc) == doc,
                        false => list.seek_anywhere(doc) == doc,
                    }
                }
                Check::Lazy(lazy) => lazy.has(doc),
            }
    }

    /// The documents that pass, if they are known.
    pub(super) fn mask(&self) -> Option<&'a Mask> {
        match self.filter {
            Check::Mask(mask) => Some(mask),
            _ => None,
        }
    }

    /// What went wrong while documents were looked up, in which case none were admitted since.
    pub(super) fn take_error(&mut self) -> Option<TantivyError> {
        match &mut self.filter {
            Check::Lazy(lazy) => lazy.error.take(),
            _ => None,
        }
    }
}

/// A filter that is asked document by document; ascending ones are found fast.
struct LazyFilter<'a> {
    filter: &'a Filter,
    reader: &'a SegmentReader,
    scorer: Option<Box<dyn Scorer>>,
    /// The scorer stands on the first document that passes from this one on.
    asked: DocId,
    n_begun: u32,
    /// All documents, once asking for each took too long.
    all: Option<Mask>,
    error: Option<TantivyError>,
}

impl LazyFilter<'_> {
    fn has(&mut self, doc: DocId) -> bool {
        if self.error.is_some() || doc >= TERMINATED {
            return false;
        }
        if let Some(all) = &self.all {
            return all.has(doc);
        }
        // A scorer does not go back.
        if self.scorer.is_none() || doc < self.asked {
            self.n_begun += 1;
            match self.filter.scorer(self.reader) {
                Ok(scorer) if self.n_begun > MAX_BEGUN => {
                    let all = self.all.insert(Mask::of(scorer, self.reader));
                    return all.has(doc);
                }
                Ok(scorer) => self.scorer = Some(scorer),
                Err(error) => {
                    self.error = Some(error);
                    return false;
                }
            }
        }
        let Some(scorer) = &mut self.scorer else {
            return false;
        };
        self.asked = doc;
        let at = match scorer.doc() {
            at if at < doc => scorer.seek(doc),
            at => at,
        };
        at == doc
    }
}
