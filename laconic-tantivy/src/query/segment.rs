//! [`SegmentTerm`]: a term of a query in one segment, and the choice of how to evaluate them all.

use std::ops::Range;

use tantivy::DocId;

use super::collect::Collect;
use super::mask::Mask;
use super::pruned::{Listed, Pruned};
use super::sweep::Sweep;
use super::top_hits::SearchWork;
use crate::bounds::{Row, SUPERBLOCK_BITS};
use crate::postings::{Contribution, Cursor, PostingList};

/// Queries of fewer postings are evaluated before bounds would have been read.
const MIN_POSTINGS_TO_PRUNE: u64 = 120_000;

/// Documents per listed one from which on listed documents are evaluated alone.
const MIN_DOCS_PER_LISTED: u32 = 24;

/// Documents that are offered in ascending order for each that stays in the result, about.
const OFFERED_PER_HIT: u64 = 16;

/// Documents per wanted one from which on bounds pay.
const DOCS_PER_HIT: u64 = 8_000;

/// Postings of the query per wanted document from which on bounds pay. Short vectors have few: a
/// hundred of a million documents with 0.4 postings each are found by a sweep as fast.
const POSTINGS_PER_HIT: u64 = 6_000;

/// A term of a query, of whatever part, that occurs in a segment.
pub(crate) struct SegmentTerm<'a> {
    pub(super) list: PostingList,
    pub(super) contribution: Contribution,
    pub(super) row: Option<TermRow<'a>>,
}

impl<'a> SegmentTerm<'a> {
    /// Its bounds, if they tell parts of a superblock apart.
    pub(super) fn row_with_cells(&self) -> Option<TermRow<'a>> {
        self.row.filter(|term| term.row.level > 0)
    }

    /// No posting contributes more.
    pub(super) fn max(&self) -> u32 {
        let max = self.contribution.max();
        match self.row {
            Some(term) => max.min(term.max()),
            None => max,
        }
    }
}

/// Upper bounds of a term: a contribution is at most the code in the row times `code_weight`.
#[derive(Clone, Copy)]
pub(crate) struct TermRow<'a> {
    pub(super) row: Row<'a>,
    pub(super) code_weight: u32,
    /// No code has more bits.
    pub(super) code_bits: u32,
}

impl TermRow<'_> {
    fn max(&self) -> u32 {
        let code = self.row.superblocks.iter().copied().max().unwrap_or(0);
        u32::from(code).saturating_mul(self.code_weight)
    }
}

/// Cursors at the first posting of every term.
pub(super) fn cursors(terms: Vec<SegmentTerm<'_>>) -> Vec<Cursor> {
    let cursor = |term: SegmentTerm<'_>| Cursor::new(term.list, term.contribution);
    terms.into_iter().map(cursor).collect()
}

/// Number of postings of some terms.
pub(super) fn n_postings(terms: &[SegmentTerm<'_>]) -> u64 {
    let doc_freqs = terms.iter().map(|term| term.list.doc_freq());
    doc_freqs.map(u64::from).sum()
}

/// How much an evaluation may leave out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EvaluationMode {
    /// Nothing.
    Exhaustive,
    /// What bounds rule out, where reading them pays for a result of so many documents.
    Pruned { n_wanted: usize },
    /// What bounds rule out, wherever there are bounds.
    Bounded,
}

impl EvaluationMode {
    fn is_exhaustive(self) -> bool {
        matches!(self, EvaluationMode::Exhaustive)
    }

    /// How many documents a sweep over so many postings offers, about: each raises the threshold.
    pub(super) fn n_offered(self, n_postings: u64) -> u64 {
        match self {
            EvaluationMode::Pruned { n_wanted } => {
                n_postings.min((n_wanted as u64).saturating_mul(OFFERED_PER_HIT))
            }
            EvaluationMode::Exhaustive | EvaluationMode::Bounded => n_postings,
        }
    }

    /// Whether bounds are worth reading for a query of so many postings in a segment.
    pub(super) fn pays(self, n_postings: u64, max_doc: DocId) -> bool {
        match self {
            EvaluationMode::Exhaustive => false,
            EvaluationMode::Pruned { n_wanted } => {
                let n_wanted = n_wanted as u64;
                n_postings >= n_wanted.saturating_mul(POSTINGS_PER_HIT)
                    && n_postings >= MIN_POSTINGS_TO_PRUNE
                    && n_wanted.saturating_mul(DOCS_PER_HIT) <= max_doc.into()
            }
            EvaluationMode::Bounded => true,
        }
    }
}

/// How to evaluate a query over a range of documents of a segment.
pub(crate) enum Evaluation<'a> {
    Sweep(Sweep),
    Pruned(Box<Pruned<'a>>),
    Listed(Listed<'a>),
}

/// What an evaluation has to know of its segment.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) max_doc: DocId,
    /// Whether documents that share terms stand together.
    pub(super) is_ordered: bool,
    /// Other documents cannot be in the result.
    pub(super) mask: Option<&'a Mask>,
}

impl<'a> Evaluation<'a> {
    /// An evaluation of the documents `docs`, which begin with a superblock and end with one or
    /// with the segment.
    pub(super) fn choose(
        terms: Vec<SegmentTerm<'a>>,
        place: Place<'a>,
        docs: Range<DocId>,
        mode: EvaluationMode,
    ) -> Evaluation<'a> {
        let is_listed = |mask: &&Mask| mask.max_docs() < place.max_doc / MIN_DOCS_PER_LISTED;
        if let (Some(mask), false) = (place.mask.filter(is_listed), mode.is_exhaustive()) {
            return Evaluation::Listed(Listed::new(terms, mask, docs));
        }
        let has_bounds = terms.iter().any(|term| term.row.is_some());
        if has_bounds && mode.pays(n_postings(&terms), place.max_doc) {
            let first = (docs.start >> SUPERBLOCK_BITS) as usize;
            let end = docs.end.div_ceil(1 << SUPERBLOCK_BITS) as usize;
            Evaluation::Pruned(Box::new(Pruned::new(terms, place, first..end)))
        } else {
            Evaluation::Sweep(Sweep::new(cursors(terms), docs))
        }
    }

    /// Offers every document that can matter to `collector`.
    pub(crate) fn collect(self, collector: &mut impl Collect) -> SearchWork {
        match self {
            Evaluation::Sweep(sweep) => sweep.collect(collector),
            Evaluation::Pruned(pruned) => pruned.collect(collector),
            Evaluation::Listed(listed) => listed.collect(collector),
        }
    }

    /// No document has a larger sum, in units that are the same for all segments of a query;
    /// `u32::MAX` when nothing is known.
    pub(crate) fn max_bound(&self) -> u32 {
        match self {
            Evaluation::Sweep(_) => u32::MAX,
            Evaluation::Pruned(pruned) => pruned.max_bound(),
            Evaluation::Listed(listed) => listed.max_bound(),
        }
    }
}
