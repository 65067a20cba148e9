//! [`WordRow`]: upper bounds of a word's BM25, from what Tantivy keeps for its own pruning.
//!
//! Tantivy notes for every packed block of postings the one with the largest
//! f = tf / (tf + K(length)), where K is of its own parameters and of the segment's average length
//! when it was written. A search has another average length, that of all segments, and perhaps
//! other parameters k1 and b: the noted posting need not be the best one then, so its score is no
//! bound. But all postings of the block have K / tf ≥ r = 1 / f − 1, and all norms K' of the
//! search are at least c × K, c being the smallest ratio over the 256 lengths there are. So
//! f' = 1 / (1 + K' / tf) ≤ 1 / (1 + c × r) for all of them.

use tantivy::DocId;
use tantivy::fieldnorm::FieldNormReader;

use super::bm25_query::Bm25;
use super::word::FieldLengths;
use crate::bounds::{BLOCK_BITS, Row, SUPERBLOCK_BITS, SUPERBLOCK_LEVELS};
use crate::postings::{BestByDefault, Bm25Contribution, PostingList};

/// Words of fewer postings are summed, never bounded.
const MIN_POSTINGS: u32 = 1024;

/// Room for the rounding of what Tantivy and we compute in 24 bits.
const ROUNDING: f64 = 1e-6;

/// Bounds of a word in a segment, in the form that the rows of impacts have.
pub(super) struct WordRow {
    superblocks: Vec<u8>,
    cells: Vec<u8>,
    level: u32,
    /// A contribution is at most its cell times this.
    pub(super) code_weight: u32,
}

impl WordRow {
    /// The row of a word, if it has enough postings for one to pay.
    pub(super) fn new(
        list: &PostingList,
        contribution: &Bm25Contribution,
        lengths: &FieldLengths,
        segment_average: f32,
        max_doc: DocId,
    ) -> Option<WordRow> {
        if list.doc_freq() < MIN_POSTINGS {
            return None;
        }
        let code_weight = contribution.max().div_ceil(u32::from(u8::MAX));
        let n_superblocks = max_doc.div_ceil(1 << SUPERBLOCK_BITS) as usize;
        // Cells finer than a block of postings would repeat its bound.
        let docs_per_posting = max_doc / list.doc_freq();
        let docs = (docs_per_posting * 128).max(1 << BLOCK_BITS);
        let level = SUPERBLOCK_BITS.saturating_sub(docs.ilog2());
        let level = level.clamp(1, SUPERBLOCK_LEVELS);
        let mut row = WordRow {
            superblocks: vec![0; n_superblocks],
            cells: vec![0; n_superblocks << level],
            level,
            code_weight,
        };
        let bounds = Bounds {
            contribution,
            segment_average,
            ratio: lengths.smallest_ratio_to(segment_average),
        };
        row.fill(list, &bounds, max_doc);
        Some(row)
    }

    fn fill(&mut self, list: &PostingList, bounds: &Bounds<'_>, max_doc: DocId) {
        let cell_bits = SUPERBLOCK_BITS - self.level;
        let (mut next, mut block) = (0, 0);
        while next < max_doc {
            let skip = list.skip(block);
            if skip.is_none() && list.n_rest() == 0 {
                break;
            }
            let last = skip.map_or(max_doc - 1, |skip| skip.last_doc.min(max_doc - 1));
            let bound = match list.best_by_default(block) {
                Some(best) if skip.is_some() => bounds.of(best),
                _ => bounds.contribution.max(),
            };
            let code = bound.div_ceil(self.code_weight);
            let code = u8::try_from(code).unwrap_or(u8::MAX);
            let (first_cell, last_cell) = (next >> cell_bits, last >> cell_bits);
            for cell in first_cell..=last_cell {
                if let Some(cell) = self.cells.get_mut(cell as usize) {
                    *cell = code.max(*cell);
                }
            }
            next = last + 1;
            block += 1;
        }
        // Superblocks without the word have no cells.
        let cells = std::mem::take(&mut self.cells);
        for (superblock, cells) in self
            .superblocks
            .iter_mut()
            .zip(cells.chunks(1 << self.level))
        {
            *superblock = cells.iter().copied().max().unwrap_or(0);
            if *superblock > 0 {
                self.cells.extend_from_slice(cells);
            }
        }
    }

    pub(super) fn row(&self) -> Row<'_> {
        Row {
            superblocks: &self.superblocks,
            cells: &self.cells,
            level: self.level,
        }
    }
}

struct Bounds<'a> {
    contribution: &'a Bm25Contribution,
    segment_average: f32,
    /// c of the module's documentation.
    ratio: f64,
}

impl Bounds<'_> {
    /// A bound of the contributions of a packed block.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the largest contribution"
    )]
    fn of(&self, best: BestByDefault) -> u32 {
        let max = self.contribution.max();
        // Frequencies from 255 on are noted as 255, and 0 stands for nothing known.
        if best.freq == 0 || best.freq == u8::MAX {
            return max;
        }
        let length = FieldNormReader::id_to_fieldnorm(best.length_code);
        let norm = Bm25::default().norm(length, self.segment_average);
        let r = f64::from(norm) / f64::from(best.freq);
        let r = r - ROUNDING * (1.0 + r);
        let factor = (1.0 + ROUNDING) / (1.0 + self.ratio * r.max(0.0));
        let bound = (f64::from(max) * factor).ceil() + 1.0;
        // No number, where lengths are damaged, makes the largest.
        match bound < f64::from(max) {
            true => bound as u32,
            false => max,
        }
    }
}
