//! [`BoundsBuilder`]: bounds from posting lists.

use std::io::{self, Write};
use std::ops::Range;

use tantivy::DocId;

use super::block_maxima::BlockMaxima;
use super::{BLOCK_BITS, MAGIC, ROW_LEN, SUPERBLOCK_LEVELS, n_superblocks};

/// Postings per superblock, on average, that make a row worth its bytes.
const ROW_DENSITY: u32 = 4;

/// The finest level: a cell for every block.
const FINEST: u8 = 4;
const _: () = assert!(FINEST as u32 == SUPERBLOCK_LEVELS);

/// Bytes of rows that are held. What exceeds this is made a second time when it is written, from
/// the posting lists: a merge of large segments has no memory budget to obey but a reasonable one.
const MAX_HELD: usize = 64 << 20;

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
    /// Bytes of all cells, held or not.
    cells_len: u64,
    max_held: usize,
    /// `superblock_maxima` and `cells` have been dropped.
    is_too_large: bool,
    occupied_blocks: u64,
    expected_blocks: f64,
}

struct RowEntry {
    postings: Range<usize>,
    doc_freq: u32,
    cells_start: u64,
    level: u8,
}

/// Where a term's posting list is that has a row.
pub(crate) struct RowList {
    pub(crate) doc_freq: u32,
    pub(crate) postings: Range<usize>,
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
            cells_len: 0,
            max_held: usize::MAX,
            is_too_large: false,
            occupied_blocks: 0,
            expected_blocks: 0.0,
        }
    }

    /// Holds a bounded number of bytes, and asks for the lists again when they are written.
    pub(crate) fn bounded(mut self) -> BoundsBuilder {
        self.max_held = MAX_HELD;
        self
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
                postings: postings.clone(),
                doc_freq,
                cells_start: self.cells_len,
                level,
            });
            self.cells_len += self.block_maxima.cells(level).count() as u64;
            if !self.is_too_large {
                self.hold(level);
            }
            self.rows.len() - 1
        });
        self.block_maxima.clear();
        row
    }

    fn hold(&mut self, level: u8) {
        self.superblock_maxima
            .extend(self.block_maxima.superblocks());
        self.cells.extend(self.block_maxima.cells(level));
        if self.superblock_maxima.len() + self.cells.len() > self.max_held {
            self.is_too_large = true;
            self.superblock_maxima = Vec::new();
            self.cells = Vec::new();
        }
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

    /// Writes the section: header, table of rows, superblocks, cells. `visit_list` visits the
    /// postings of a list once more.
    pub(crate) fn write<E: From<io::Error>>(
        &self,
        out: &mut impl Write,
        mut visit_list: impl FnMut(&RowList, &mut dyn FnMut(DocId, u8)) -> Result<(), E>,
    ) -> Result<(), E> {
        self.write_table(out)?;
        if !self.is_too_large {
            out.write_all(&self.superblock_maxima)?;
            return Ok(out.write_all(&self.cells)?);
        }
        let mut maxima = BlockMaxima::new(self.max_doc);
        for with_cells in [false, true] {
            for row in &self.rows {
                let list = RowList {
                    doc_freq: row.doc_freq,
                    postings: row.postings.clone(),
                };
                maxima.clear();
                visit_list(&list, &mut |doc, impact| maxima.add(doc, impact))?;
                let bytes: Vec<u8> = match with_cells {
                    false => maxima.superblocks().collect(),
                    true => maxima.cells(row.level).collect(),
                };
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&MAGIC)?;
        out.write_all(&self.max_doc.to_le_bytes())?;
        let n_rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        out.write_all(&n_rows.to_le_bytes())?;
        out.write_all(&self.spread().to_le_bytes())?;
        out.write_all(&[0; 4])?;
        for row in &self.rows {
            out.write_all(&(row.postings.start as u64).to_le_bytes())?;
        }
        for row in &self.rows {
            out.write_all(&row.cells_start.to_le_bytes())?;
        }
        for row in &self.rows {
            out.write_all(&[row.level])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not held is made again, byte for byte.
    #[test]
    fn rows_beyond_the_memory_are_the_same() {
        let max_doc = 10_000;
        let lists: Vec<Vec<(DocId, u8)>> = (1..20u32)
            .map(|step| {
                let docs = (step..max_doc).step_by(step as usize);
                docs.map(|doc| (doc, doc.to_le_bytes()[0] | 1)).collect()
            })
            .collect();
        let section = |max_held: usize| {
            let mut builder = BoundsBuilder::new(max_doc, 0.5, 100);
            builder.max_held = max_held;
            for (number, list) in lists.iter().enumerate() {
                list.iter()
                    .for_each(|&(doc, impact)| builder.posting(doc, impact));
                let doc_freq = u32::try_from(list.len()).unwrap();
                // Where a list stands tells which it is.
                let place = number * 100_000..number * 100_000 + 2 * list.len();
                builder.finish_row(doc_freq, &place);
            }
            let mut bytes = Vec::new();
            let visit = |list: &RowList, visit: &mut dyn FnMut(DocId, u8)| {
                let list = &lists[list.postings.start / 100_000];
                list.iter().for_each(|&(doc, impact)| visit(doc, impact));
                io::Result::Ok(())
            };
            builder.write(&mut bytes, visit).unwrap();
            (bytes, builder.is_too_large)
        };
        let (held, is_too_large) = section(usize::MAX);
        assert!(!is_too_large && held.len() > 1000);
        for max_held in [0, 100, 1000] {
            assert_eq!(section(max_held), (held.clone(), true));
        }
    }
}
