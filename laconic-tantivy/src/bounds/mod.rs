//! Upper bounds of impacts over ranges of documents: the block-max component of a segment.
//!
//! Documents are taken in *blocks* of 64 and *superblocks* of 16 blocks. For every frequent term
//! of a laconic field, a *row* holds the largest impact in each superblock and, for superblocks
//! where the term occurs, in *cells* of one superblock / 2^level documents. The level is chosen
//! term by term, the finest that the budget allows. A rare term has no row: reading its whole
//! posting list costs less than bounds would save.
//!
//! The component is a file of its own ([`BoundsPlugin`]), written from the finished postings at
//! flush and at merge. Search without it is exact and slower.

mod block_maxima;
mod builder;
mod check;
mod plugin;
mod reader;
mod term_lookup;

pub(crate) use check::check_bounds;
pub use plugin::BoundsPlugin;
pub(crate) use plugin::{
    EXTENSION, FieldBounds, LOOKUP_SECTION, bounds_plugin, registered_plugin, write_bounds,
};
pub(crate) use reader::{Bounds, Row};
pub(crate) use term_lookup::{TermLookup, TermPlace};

/// Documents per block, the unit of evaluation, as a power of two.
pub(crate) const BLOCK_BITS: u32 = 6;
/// Blocks per superblock, as a power of two: also the finest level of cells.
pub(crate) const SUPERBLOCK_LEVELS: u32 = 4;
/// Documents per superblock, as a power of two.
pub(crate) const SUPERBLOCK_BITS: u32 = BLOCK_BITS + SUPERBLOCK_LEVELS;

/// Marks the section of a field, with the version of the format.
const MAGIC: [u8; 8] = *b"LACBND\0\x02";
/// Magic, documents, rows, spread (4), zeros (4).
const HEADER_LEN: usize = 24;
/// In the table of rows: where the posting list begins (8), where the cells begin (8), level (1).
const ROW_LEN: usize = 17;

fn n_superblocks(max_doc: u32) -> usize {
    max_doc.div_ceil(1 << SUPERBLOCK_BITS) as usize
}
