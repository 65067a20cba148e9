//! [`Contribution`]: what a posting adds to the sum of its document.

use std::sync::Arc;

use tantivy::DocId;
use tantivy::directory::OwnedBytes;

use super::list::BLOCK_LEN;

/// Tantivy's code of a field of one token, which it assumes where it keeps no lengths.
const LENGTH_ONE: u8 = 1;

/// What a posting adds to the sum of its document.
#[derive(Clone)]
pub(crate) enum Contribution {
    /// Its impact times the query's weight of the term. Larger frequencies than `max_impact` can
    /// only come from a field given twice in one document, which the sums have no room for.
    Impact { query_weight: u32, max_impact: u8 },
    /// BM25 of its frequency and the field's length.
    Bm25(Bm25Contribution),
    /// A number of its own, in the order of the list.
    Listed(Arc<[u32]>),
}

impl Contribution {
    /// No posting contributes more.
    pub(crate) fn max(&self) -> u32 {
        match self {
            Contribution::Impact {
                query_weight,
                max_impact,
            } => query_weight.wrapping_mul(u32::from(*max_impact)),
            Contribution::Bm25(bm25) => bm25.max(),
            Contribution::Listed(contributions) => contributions.iter().copied().max().unwrap_or(0),
        }
    }
}

/// BM25 of one term in one segment: weight × tf / (tf + K(length)), as Tantivy computes it, in
/// units of `1 / one`.
#[derive(Clone)]
pub(crate) struct Bm25Contribution {
    /// idf × (k1 + 1) × boosts.
    pub(crate) weight: f32,
    /// K = k1 × (1 − b + b × length / average length), by Tantivy's code of the length.
    pub(crate) norms: Arc<[f32; 256]>,
    /// Codes of the lengths by document; empty where the field keeps none.
    pub(crate) lengths: OwnedBytes,
    /// A power of two.
    pub(crate) one: f32,
}

impl Bm25Contribution {
    /// At least 1, so that a posting always matches.
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        reason = "Tantivy takes a frequency as `f32` too"
    )]
    pub(crate) fn of(&self, doc: DocId, freq: u32) -> u32 {
        let norm = self.norms[usize::from(self.length_code(doc))];
        let freq = freq as f32;
        in_fixed_point(self.weight * (freq / (freq + norm)) * self.one)
    }

    /// Tantivy's code of a document's length.
    #[inline]
    pub(crate) fn length_code(&self, doc: DocId) -> u8 {
        let code = self.lengths.as_slice().get(doc as usize);
        code.copied().unwrap_or(LENGTH_ONE)
    }

    /// No posting contributes more: the factor of a frequency is at most 1.
    pub(crate) fn max(&self) -> u32 {
        in_fixed_point(self.weight * self.one)
    }
}

/// A score in units of sums, as a whole number of them: at least 1, so that what matches is found.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "scores are not negative, and so small that their sum fits 32 bits"
)]
pub(crate) fn in_fixed_point(units: f32) -> u32 {
    ((units + 0.5) as u32).max(1)
}

/// Contributions that are not a multiple of the frequency: a cursor computes them a block at a
/// time and keeps them in the place of the frequencies.
#[derive(Clone)]
pub(super) enum Computed {
    Bm25(Box<Bm25Contribution>),
    Listed(Arc<[u32]>),
}

impl Computed {
    /// Replaces the frequencies of block number `block` by contributions.
    pub(super) fn replace(&self, block: usize, docs: &[DocId], freqs: &mut [u32]) {
        match self {
            Computed::Bm25(bm25) => {
                for (freq, &doc) in freqs.iter_mut().zip(docs) {
                    *freq = bm25.of(doc, *freq);
                }
            }
            Computed::Listed(contributions) => {
                let listed = contributions.get(block * BLOCK_LEN..).unwrap_or_default();
                for (freq, &contribution) in freqs.iter_mut().zip(listed) {
                    *freq = contribution;
                }
            }
        }
    }
}
