//! Posting lists, read straight from the bytes of Tantivy's `.idx` file, and those of a laconic
//! field written to them.
//!
//! Tantivy's own `BlockSegmentPostings` gives no way to skip without decoding and copies two
//! reference counts per list; pruned search spends its time exactly there. This module reads the
//! same bytes (blocks of 128 bit-packed postings behind a skip list, then a rest in variable
//! bytes) with the same decoder, and checks every length, so that a damaged file gives an error
//! or wrong numbers but never a panic.

mod contribution;
mod cursor;
mod field_reader;
mod list;
mod writer;

pub(crate) use contribution::{Bm25Contribution, Contribution, in_fixed_point};
pub(crate) use cursor::Cursor;
pub(crate) use field_reader::{FieldReader, QueryTerm};
pub(crate) use list::{BestByDefault, PostingList};
pub(crate) use writer::ListWriter;
