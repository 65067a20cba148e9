//! [`SegmentTerms`]: the terms of a query in one segment, and the choice of how to evaluate them.

use std::ops::Range;

use tantivy::DocId;

use super::collect::Collect;
use super::pruned::Pruned;
use super::sweep::Sweep;
use super::top_k::SearchWork;
use crate::bounds::SUPERBLOCK_BITS;
use crate::postings::{Cursor, FieldReader, QueryTerm};

/// Queries of fewer postings are evaluated before bounds would have been read.
const MIN_POSTINGS_TO_PRUNE: u64 = 120_000;

/// Documents per wanted one from which on bounds pay.
const DOCS_PER_HIT: u64 = 8_000;

/// The terms of a query that occur in a segment.
pub(crate) struct SegmentTerms<'q> {
    pub(super) found: Vec<QueryTerm>,
    pub(super) query_weights: &'q [u32],
    pub(super) max_impact: u8,
}

impl SegmentTerms<'_> {
    pub(super) fn n_postings(&self) -> u64 {
        n_postings(&self.found)
    }

    /// Cursors at the first posting of every term.
    pub(super) fn into_cursors(self) -> Vec<Cursor> {
        let (weights, max_impact) = (self.query_weights, self.max_impact);
        let cursor = |term: QueryTerm| Cursor::new(term.list, weights[term.idx], max_impact);
        self.found.into_iter().map(cursor).collect()
    }
}

/// Number of postings of some terms.
pub(super) fn n_postings(terms: &[QueryTerm]) -> u64 {
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

/// How to evaluate a query over a range of documents of a segment.
pub(crate) enum Evaluation<'a> {
    Sweep(Sweep),
    Pruned(Box<Pruned<'a>>),
}

impl<'a> Evaluation<'a> {
    /// An evaluation of the documents `docs`, which begin with a superblock and end with one or
    /// with the segment.
    pub(crate) fn choose(
        terms: SegmentTerms<'_>,
        field_reader: &'a FieldReader,
        docs: Range<DocId>,
        mode: EvaluationMode,
    ) -> Evaluation<'a> {
        let max_doc = field_reader.max_doc();
        let pays = match mode {
            EvaluationMode::Exhaustive => false,
            EvaluationMode::Pruned { n_wanted } => pays(&terms, max_doc, n_wanted),
            EvaluationMode::Bounded => true,
        };
        match field_reader.bounds().filter(|_| pays) {
            Some(bounds) => {
                let first = (docs.start >> SUPERBLOCK_BITS) as usize;
                let end = docs.end.div_ceil(1 << SUPERBLOCK_BITS) as usize;
                let pruned = Pruned::new(terms, bounds, max_doc, first..end);
                Evaluation::Pruned(Box::new(pruned))
            }
            None => Evaluation::Sweep(Sweep::new(terms.into_cursors(), docs)),
        }
    }

    /// Offers every document that can matter to `collector`.
    pub(crate) fn collect(self, collector: &mut impl Collect) -> SearchWork {
        match self {
            Evaluation::Sweep(sweep) => sweep.collect(collector),
            Evaluation::Pruned(pruned) => pruned.collect(collector),
        }
    }

    /// No document has a larger sum, in units that are the same for all segments of a query;
    /// `u32::MAX` when nothing is known.
    pub(crate) fn max_bound(&self) -> u32 {
        match self {
            Evaluation::Sweep(_) => u32::MAX,
            Evaluation::Pruned(pruned) => pruned.max_bound(),
        }
    }
}

/// Whether bounds are worth reading.
fn pays(terms: &SegmentTerms<'_>, max_doc: DocId, n_wanted: usize) -> bool {
    terms.n_postings() >= MIN_POSTINGS_TO_PRUNE
        && (n_wanted as u64).saturating_mul(DOCS_PER_HIT) <= max_doc.into()
}
