//! Filters: which documents of a segment may be in a result.

use std::ops::Range;

use tantivy::fastfield::AliveBitSet;
use tantivy::query::{Scorer, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, SegmentReader, TERMINATED, TantivyError};

/// A filter that lets fewer than one in so many documents pass is read in whole before the
/// search; others are asked about the documents that would get into the result.
const SELECTIVE: u32 = 8;

/// The filter of a query in one segment.
pub(super) enum SegmentFilter<'r> {
    None,
    /// All documents that pass.
    Mask(Mask),
    /// Asked document by document.
    Lazy {
        weight: &'r dyn Weight,
        reader: &'r SegmentReader,
        /// How many documents pass, about.
        n_docs: u32,
    },
}

impl<'r> SegmentFilter<'r> {
    pub(super) fn open(
        weight: Option<&'r dyn Weight>,
        reader: &'r SegmentReader,
    ) -> tantivy::Result<SegmentFilter<'r>> {
        let Some(weight) = weight else {
            return Ok(SegmentFilter::None);
        };
        let scorer = weight.scorer(reader, 1.0)?;
        let n_docs = scorer.size_hint();
        if n_docs < reader.max_doc() / SELECTIVE {
            return Ok(SegmentFilter::Mask(Mask::of(scorer, reader)));
        }
        Ok(SegmentFilter::Lazy {
            weight,
            reader,
            n_docs,
        })
    }

    /// One in how many documents passes, about, among those that are not masked.
    pub(super) fn docs_per_passing(&self, max_doc: DocId) -> u32 {
        match self {
            SegmentFilter::Lazy { n_docs, .. } => max_doc.div_ceil((*n_docs).max(1)).max(1),
            _ => 1,
        }
    }

    pub(super) fn mask(&self) -> Option<&Mask> {
        match self {
            SegmentFilter::Mask(mask) => Some(mask),
            _ => None,
        }
    }
}

/// The live documents that pass a filter, a word of bits for every block of 64 documents.
pub(super) struct Mask {
    blocks: Vec<u64>,
    /// How many there are in front of each block.
    ranks: Vec<u32>,
    n_docs: u32,
}

impl Mask {
    fn of(mut docs: Box<dyn Scorer>, reader: &SegmentReader) -> Mask {
        let mut blocks = vec![0u64; reader.max_doc().div_ceil(u64::BITS) as usize];
        let alive = reader.alive_bitset();
        let mut buffer = [0; COLLECT_BLOCK_BUFFER_LEN];
        loop {
            let n = docs.fill_buffer(&mut buffer);
            for &doc in &buffer[..n] {
                let is_alive = alive.is_none_or(|alive| alive.is_alive(doc));
                if let Some(block) = blocks.get_mut((doc / u64::BITS) as usize) {
                    *block |= u64::from(is_alive) << (doc % u64::BITS);
                }
            }
            if n < buffer.len() {
                break;
            }
        }
        let mut n_docs = 0;
        let ranks = blocks.iter().map(|block| {
            let rank = n_docs;
            n_docs += block.count_ones();
            rank
        });
        let ranks = ranks.collect();
        Mask {
            blocks,
            ranks,
            n_docs,
        }
    }

    /// Documents that pass.
    pub(super) fn n_docs(&self) -> u32 {
        self.n_docs
    }

    /// Those of a block, the lowest bit for its first document.
    #[inline]
    pub(super) fn block(&self, block: usize) -> u64 {
        self.blocks.get(block).copied().unwrap_or(0)
    }

    /// Whether none of some blocks has a document that passes.
    pub(super) fn is_empty(&self, blocks: Range<usize>) -> bool {
        let end = blocks.end.min(self.blocks.len());
        let blocks = self.blocks.get(blocks.start..end).unwrap_or_default();
        blocks.iter().all(|block| *block == 0)
    }

    #[inline]
    pub(super) fn has(&self, doc: DocId) -> bool {
        self.block((doc / u64::BITS) as usize) >> (doc % u64::BITS) & 1 != 0
    }

    /// How many documents that pass there are in front of this one.
    #[inline]
    pub(super) fn place(&self, doc: DocId) -> usize {
        let block = (doc / u64::BITS) as usize;
        let before = self.block(block) & !(u64::MAX << (doc % u64::BITS));
        let rank = self.ranks.get(block).copied().unwrap_or(self.n_docs);
        (rank + before.count_ones()) as usize
    }

    /// Those of a range, ascending.
    pub(super) fn docs(&self, range: Range<DocId>) -> impl Iterator<Item = DocId> {
        let blocks = range.start / u64::BITS..range.end.div_ceil(u64::BITS);
        let in_block = |block: u32| {
            let mut bits = self.block(block as usize);
            std::iter::from_fn(move || {
                let offset = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(block * u64::BITS + offset)
            })
        };
        blocks
            .flat_map(in_block)
            .filter(move |doc| range.contains(doc))
    }
}

/// Tells which documents of a segment may be in a result: those that are alive and pass the
/// filter.
pub(super) struct Admission<'a> {
    alive: Option<&'a AliveBitSet>,
    filter: Filter<'a>,
    /// One in so many documents is admitted, about, of those that are offered.
    pub(super) docs_per_admitted: u32,
}

enum Filter<'a> {
    None,
    Mask(&'a Mask),
    Lazy(LazyFilter<'a>),
}

impl Default for Admission<'_> {
    fn default() -> Self {
        Admission {
            alive: None,
            filter: Filter::None,
            docs_per_admitted: 1,
        }
    }
}

impl<'a> Admission<'a> {
    pub(super) fn new(reader: &'a SegmentReader, filter: &'a SegmentFilter<'_>) -> Admission<'a> {
        Admission {
            alive: reader.alive_bitset(),
            docs_per_admitted: filter.docs_per_passing(reader.max_doc()),
            filter: match filter {
                SegmentFilter::None => Filter::None,
                SegmentFilter::Mask(mask) => Filter::Mask(mask),
                SegmentFilter::Lazy { weight, reader, .. } => Filter::Lazy(LazyFilter {
                    weight: *weight,
                    reader,
                    scorer: None,
                    asked: 0,
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
                Filter::None => true,
                Filter::Mask(mask) => mask.has(doc),
                Filter::Lazy(lazy) => lazy.has(doc),
            }
    }

    /// What went wrong while documents were looked up, in which case none were admitted since.
    pub(super) fn take_error(&mut self) -> Option<TantivyError> {
        match &mut self.filter {
            Filter::Lazy(lazy) => lazy.error.take(),
            _ => None,
        }
    }
}

/// A filter that is asked document by document; ascending ones are found fast.
struct LazyFilter<'a> {
    weight: &'a dyn Weight,
    reader: &'a SegmentReader,
    scorer: Option<Box<dyn Scorer>>,
    /// The scorer stands on the first document that passes from this one on.
    asked: DocId,
    error: Option<TantivyError>,
}

impl LazyFilter<'_> {
    fn has(&mut self, doc: DocId) -> bool {
        if self.error.is_some() || doc >= TERMINATED {
            return false;
        }
        // A scorer does not go back.
        let scorer = match &mut self.scorer {
            Some(scorer) if self.asked <= doc => scorer,
            scorer => match self.weight.scorer(self.reader, 1.0) {
                Ok(new) => scorer.insert(new),
                Err(error) => {
                    self.error = Some(error);
                    return false;
                }
            },
        };
        self.asked = doc;
        let at = match scorer.doc() {
            at if at < doc => scorer.seek(doc),
            at => at,
        };
        at == doc
    }
}
