//! [`Bounds`]: reading bounds in place.

use tantivy::directory::OwnedBytes;

use super::{HEADER_LEN, MAGIC, ROW_LEN, SUPERBLOCK_LEVELS, n_superblocks};

/// The bounds of one field of one segment.
pub(crate) struct Bounds {
    n_superblocks: usize,
    spread: u32,
    starts: OwnedBytes,
    cell_starts: OwnedBytes,
    levels: OwnedBytes,
    superblock_maxima: OwnedBytes,
    cells: OwnedBytes,
}

/// The bounds of one term.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Largest impact in each superblock; 0 where the term does not occur.
    pub(crate) superblocks: &'a [u8],
    /// Largest impact in each cell of the superblocks where the term occurs.
    pub(crate) cells: &'a [u8],
    /// A superblock has 2^level cells; at level 0 there are none.
    pub(crate) level: u32,
}

impl Bounds {
    /// Opens the section of a field, or `None` when it is of another version or damaged: search
    /// then does without.
    pub(crate) fn open(mut bytes: OwnedBytes, max_doc: u32) -> Option<Bounds> {
        let header: &[u8; HEADER_LEN] = bytes.as_slice().first_chunk()?;
        let ([magic, docs_and_rows, spread], _) = header.as_chunks::<8>() else {
            return None;
        };
        let [a, b, c, d, rows @ ..] = *docs_and_rows;
        if *magic != MAGIC || u32::from_le_bytes([a, b, c, d]) != max_doc {
            return None;
        }
        let n_rows = u32::from_le_bytes(rows) as usize;
        let [a, b, c, d, ..] = *spread;
        let spread = u32::from_le_bytes([a, b, c, d]);
        bytes.advance(HEADER_LEN);
        let n_superblocks = n_superblocks(max_doc);
        let fixed_len = n_rows.checked_mul(ROW_LEN.checked_add(n_superblocks)?)?;
        if fixed_len > bytes.len() {
            return None;
        }
        let (starts, bytes) = bytes.split(8 * n_rows);
        let (cell_starts, bytes) = bytes.split(8 * n_rows);
        let (levels, bytes) = bytes.split(n_rows);
        let (superblock_maxima, cells) = bytes.split(n_superblocks * n_rows);
        Some(Bounds {
            n_superblocks,
            spread,
            starts,
            cell_starts,
            levels,
            superblock_maxima,
            cells,
        })
    }

    /// Whether documents that share terms stand close together, so that terms are missing from
    /// many blocks. Other orders leave bounds little to prune.
    pub(crate) fn is_ordered(&self) -> bool {
        self.spread < 900
    }

    /// Number of terms with bounds.
    pub(crate) fn n_rows(&self) -> usize {
        self.levels.len()
    }

    /// The number of the row of the term whose posting list begins at byte `postings_start`.
    pub(crate) fn row_number(&self, postings_start: usize) -> Option<usize> {
        let wanted = postings_start as u64;
        let (starts, _) = self.starts.as_slice().as_chunks();
        let found = starts.binary_search_by_key(&wanted, |raw| u64::from_le_bytes(*raw));
        found.ok()
    }

    /// The row of that number.
    pub(crate) fn row(&self, row: usize) -> Option<Row<'_>> {
        let level = u32::from(*self.levels.as_slice().get(row)?).min(SUPERBLOCK_LEVELS);
        let (cell_starts, _) = self.cell_starts.as_slice().as_chunks();
        let begin = usize::try_from(u64::from_le_bytes(*cell_starts.get(row)?)).ok()?;
        let superblocks = self.superblock_maxima.as_slice();
        let superblocks = superblocks.get(row * self.n_superblocks..)?;
        Some(Row {
            superblocks: superblocks.get(..self.n_superblocks)?,
            cells: self.cells.as_slice().get(begin..)?,
            level,
        })
    }
}
