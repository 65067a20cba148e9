//! [`CachedFilter`]: a filter whose documents are remembered from query to query.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::index::SegmentId;
use tantivy::query::{EnableScoring, Query, Weight};
use tantivy::{SegmentReader, Term};

use super::mask::Mask;

/// A filter that many queries share: which documents of a segment pass is found out once.
///
/// Reading a filter's postings takes longer than looking up the answer in them, if the filter is
/// broad; engines that serve queries keep the documents of frequent filters as bits, and so does
/// this: an eighth of a byte a document. Clones share what they remember. Segments are remembered
/// as they are: after a commit only new ones, and those with new deletes, are read.
///
/// It is remembered where it is the only filter of a query; elsewhere it is the query it was made
/// from.
///
/// ```
/// use laconic_tantivy::{CachedFilter, HybridQuery};
/// use tantivy::query::TermQuery;
/// use tantivy::schema::{IndexRecordOption, STRING, Schema};
/// use tantivy::Term;
///
/// let mut schema = Schema::builder();
/// let language = schema.add_text_field("language", STRING);
/// let english = Term::from_field_text(language, "en");
/// let english = CachedFilter::new(Box::new(TermQuery::new(english, IndexRecordOption::Basic)));
/// // Once for the program, then for every query:
/// let query = HybridQuery::new().filter(Box::new(english.clone()));
/// # let _ = query;
/// ```
#[derive(Clone)]
pub struct CachedFilter {
    query: Arc<dyn Query>,
    masks: Arc<Mutex<Masks>>,
}

impl CachedFilter {
    /// Bytes that a filter remembers at most: those of 500 million documents.
    pub const MAX_BYTES: usize = 64 << 20;

    /// Remembers the documents that match `query`, in up to [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new(query: Box<dyn Query>) -> CachedFilter {
        CachedFilter {
            query: Arc::from(query),
            masks: Arc::default(),
        }
    }

    /// The query it was made from.
    pub(super) fn query(&self) -> &dyn Query {
        self.query.as_ref()
    }

    pub(super) fn masks(&self) -> &Arc<Mutex<Masks>> {
        &self.masks
    }
}

impl fmt::Debug for CachedFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedFilter").field(&self.query).finish()
    }
}

impl Query for CachedFilter {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        self.query.weight(scoring)
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        self.query.query_terms(visitor);
    }
}

/// What is remembered, the segment asked for last at the end.
#[derive(Default)]
pub(super) struct Masks(Vec<(Snapshot, Arc<Mask>)>);

/// A segment with its deletes: they only become more.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Snapshot {
    segment: SegmentId,
    n_alive: u32,
}

/// The mask of a segment, from memory or made and kept.
pub(super) fn remembered(
    masks: &Mutex<Masks>,
    reader: &SegmentReader,
    make: impl FnOnce() -> tantivy::Result<Mask>,
) -> tantivy::Result<Arc<Mask>> {
    let snapshot = Snapshot {
        segment: reader.segment_id(),
        n_alive: reader.num_docs(),
    };
    // Whatever panicked while it was locked left whole entries.
    let lock = || masks.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(mask) = lock().get(snapshot) {
        return Ok(mask);
    }
    // Made without the lock: others need not wait, and at worst it is made twice.
    let mask = Arc::new(make()?);
    lock().put(snapshot, &mask);
    Ok(mask)
}

impl Masks {
    fn get(&mut self, snapshot: Snapshot) -> Option<Arc<Mask>> {
        let idx = self.0.iter().position(|(known, _)| *known == snapshot)?;
        self.0[idx..].rotate_left(1);
        self.0.last().map(|(_, mask)| Arc::clone(mask))
    }

    fn put(&mut self, snapshot: Snapshot, mask: &Arc<Mask>) {
        // Of one segment, only its newest deletes are asked for.
        self.0
            .retain(|(known, _)| known.segment != snapshot.segment);
        self.0.push((snapshot, Arc::clone(mask)));
        let mut n_bytes: usize = self.0.iter().map(|(_, mask)| mask.n_bytes()).sum();
        let mut n_gone = 0;
        while n_bytes > CachedFilter::MAX_BYTES && n_gone + 1 < self.0.len() {
            n_bytes -= self.0[n_gone].1.n_bytes();
            n_gone += 1;
        }
        self.0.drain(..n_gone);
    }
}
