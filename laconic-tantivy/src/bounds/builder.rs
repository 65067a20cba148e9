//! [`BoundsBuilder`]: bounds from posting lists.

use std::io::{self, Write};
use std::ops::Range;

use tantivy::DocId;

use super::block_maxima::BlockMaxima;
use super::{BLOCK_BITS, MAGIC, ROW_LEN, SUPERBLOCK_LEVELS, n_superblocks};

/// Postings per superblock, on average, that make a row worth its bytes.
const ROW_DENSITY: u32 = 4;

/// The finest level: a cell for every block.
const FINEST: u8 = SUPERBLOCK_LEVELS as u8;

/// Collects the rows of one field of one segment, terms in the order of their posting lists.
pub(crate) struct BoundsBuilder {
    max_doc: DocId,
    /// Most bytes of a row per byte of its posting list.
    share: f32,
    min_postings: u32,
    /// Of the current term.
    block_maxima: BlockMaxima,
    rows: Vec<RowEntry>,
    superblock_maxima: Vec<u8>,
    cells: Vec<u8>,
    occupied_blocks: u64,
    expected_blocks: f64,
}

struct RowEntry {
    postings_start: u64,
    cells_start: u64,
    level: u8,
}

impl BoundsBuilder {
    /// No bounds yet, of a segment of `max_doc` documents. A row takes at most `share` of the
    /// bytes of its posting list, which has at least `min_postings`.
    pub(crate) fn new(max_doc: DocId, share: f32, min_postings: u32) -> BoundsBuilder {
        BoundsBuilder {
            max_doc,
            share,
            min_postings,
            block_maxima: BlockMaxima::new(max_doc),
            rows: Vec::new(),
            superblock_maxima: Vec::new(),
            cells: Vec::new(),
            occupied_blocks: 0,
            expected_blocks: 0.0,
        }
    }

    /// Whether a term of so many postings gets a row.
    pub(crate) fn wants(&self, doc_freq: u32) -> bool {
        let n_superblocks = u32::try_from(n_superblocks(self.max_doc)).unwrap_or(u32::MAX);
        doc_freq
            >= self
                .min_postings
                .max(n_superblocks.saturating_mul(ROW_DENSITY))
    }

    /// A posting of the current term.
    #[inline]
    pub(crate) fn posting(&mut self, doc: DocId, impact: u8) {
        self.block_maxima.add(doc, impact);
    }

    /// Ends the current term, whose posting list takes the bytes `postings`.
    ///
    /// Returns the number of its row, if it got one.
    pub(crate) fn finish_row(&mut self, doc_freq: u32, postings: &Range<usize>) -> Option<usize> {
        let present = self.block_maxima.superblocks().filter(|max| *max > 0);
        let level = self.level(present.count(), postings.len());
        let row = level.map(|level| {
            self.note_spread(doc_freq);
            self.rows.push(RowEntry {
                postings_start: postings.start as u64,
                cells_start: self.cells.len() as u64,
                level,
            });
            let superblocks = self.block_maxima.superblocks();
            self.superblock_maxima.extend(superblocks);
            self.cells.extend(self.block_maxima.cells(level));
            self.rows.len() - 1
        });
        self.block_maxima.clear();
        row
    }

    /// Counts the blocks in which the term occurs, and in how many it would if documents came in
    /// an order that knows nothing of it.
    fn note_spread(&mut self, doc_freq: u32) {
        let n_blocks = f64::from(self.max_doc.div_ceil(1 << BLOCK_BITS));
        let elsewhere = 1.0 - f64::from(doc_freq) / f64::from(self.max_doc);
        self.expected_blocks += n_blocks * (1.0 - elsewhere.max(0.0).powi(1 << BLOCK_BITS));
        self.occupied_blocks += self.block_maxima.n_occupied() as u64;
    }

    /// Occupied blocks per thousand expected ones.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rough positive figure; casts saturate"
    )]
    fn spread(&self) -> u32 {
        (1000.0 * self.occupied_blocks as f64 / self.expected_blocks.max(1.0)) as u32
    }

    /// The finest level that keeps to the share; 0 for a row without cells, `None` for no row.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more precision"
    )]
    fn level(&self, n_present: usize, list_len: usize) -> Option<u8> {
        let budget = self.share * list_len as f32;
        let superblocks = n_superblocks(self.max_doc) + ROW_LEN;
        let cells = |level: u8| if level > 0 { n_present << level } else { 0 };
        let fits = |level: &u8| (superblocks + cells(*level)) as f32 <= budget;
        (0..=FINEST).rev().find(fits)
    }

    /// Bytes of the section: header, table of rows, superblocks, cells.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&MAGIC)?;
        out.write_all(&self.max_doc.to_le_bytes())?;
        let n_rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        out.write_all(&n_rows.to_le_bytes())?;
        out.write_all(&self.spread().to_le_bytes())?;
        out.write_all(&[0; 4])?;
        for row in &self.rows {
            out.write_all(&row.postings_start.to_le_bytes())?;
        }
        for row in &self.rows {
            out.write_all(&row.cells_start.to_le_bytes())?;
        }
        for row in &self.rows {
            out.write_all(&[row.level])?;
        }
        out.write_all(&self.superblock_maxima)?;
        out.write_all(&self.cells)
    }
}
