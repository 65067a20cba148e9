//! [`Piece`]: the posting lists of one unit, as a file.
//!
//! ```text
//! magic (8) │ plan's hash (16) │ unit (4) │ documents (4) │ seven counts (8 each)
//! for each term, ascending: length (1), term, documents (vint), gaps (vints), impacts (1 each)
//! xxh3 of all this (8)
//! ```
//! Numbers are little-endian. A piece is written as a whole or not at all, and read only once its
//! checksum is found right; even then every number is checked before it is used.

use std::io;
use std::path::{Path, PathBuf};

use tantivy::DocId;
use tantivy::directory::error::OpenReadError;
use tantivy::directory::{Directory, OwnedBytes};
use xxhash_rust::xxh3::xxh3_64;

use super::plan::ReindexUnit;
use crate::QuantizationLoss;
use crate::bulk::PostingLists;

const MAGIC: [u8; 8] = *b"LACUNIT\x01";
const HASH_AT: usize = MAGIC.len();
const UNIT_AT: usize = HASH_AT + 16;
const DOCS_AT: usize = UNIT_AT + 4;
const COUNTS_AT: usize = DOCS_AT + 4;
const N_COUNTS: usize = 7;
const HEADER_LEN: usize = COUNTS_AT + N_COUNTS * 8;
const CHECKSUM_LEN: usize = 8;

/// What a piece holds, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PieceCounts {
    /// Live documents.
    pub(super) documents: u64,
    /// Of these, without any posting.
    pub(super) empty: u64,
    pub(super) terms: u64,
    pub(super) impact_sum: u64,
    pub(super) loss: QuantizationLoss,
}

impl PieceCounts {
    fn to_array(self) -> [u64; N_COUNTS] {
        [
            self.documents,
            self.empty,
            self.terms,
            self.impact_sum,
            self.loss.weights,
            self.loss.clipped,
            self.loss.vanished,
        ]
    }

    fn from_array(counts: [u64; N_COUNTS]) -> PieceCounts {
        let [
            documents,
            empty,
            terms,
            impact_sum,
            weights,
            clipped,
            vanished,
        ] = counts;
        PieceCounts {
            documents,
            empty,
            terms,
            impact_sum,
            loss: QuantizationLoss {
                weights,
                clipped,
                vanished,
            },
        }
    }

    /// Postings: every weight that did not vanish.
    pub(super) fn postings(&self) -> u64 {
        self.loss.weights.saturating_sub(self.loss.vanished)
    }
}

/// The piece's file.
pub(super) fn piece_path(unit: &ReindexUnit) -> PathBuf {
    PathBuf::from(format!("unit-{:08}.piece", unit.number))
}

/// The bytes of a piece.
pub(super) fn encode(
    plan_hash: u128,
    unit: &ReindexUnit,
    mut counts: PieceCounts,
    lists: &PostingLists,
) -> Vec<u8> {
    counts.terms = lists.len() as u64;
    counts.impact_sum = lists.impact_sum();
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend(MAGIC);
    bytes.extend(plan_hash.to_le_bytes());
    bytes.extend(unit.number.to_le_bytes());
    bytes.extend((unit.end_doc - unit.first_doc).to_le_bytes());
    bytes.extend(counts.to_array().iter().flat_map(|n| n.to_le_bytes()));
    let written: Result<(), std::convert::Infallible> =
        lists.for_each(None, |term, docs, impacts| {
            // Terms have 1 to 255 bytes, and a unit has fewer than 2^32 documents.
            bytes.push(u8::try_from(term.len()).unwrap_or(u8::MAX));
            bytes.extend(term);
            push_vint(u32::try_from(docs.len()).unwrap_or(u32::MAX), &mut bytes);
            let mut next = 0;
            for &doc in docs {
                push_vint(doc - next, &mut bytes);
                next = doc + 1;
            }
            bytes.extend(impacts);
            Ok(())
        });
    let Ok(()) = written;
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// What there is in the place of a piece.
pub(super) enum Found {
    Nothing,
    /// Not a piece of this plan for this unit, or damaged; the reason.
    Refused(&'static str),
    Piece(Piece),
}

/// A piece whose checksum is right.
pub(super) struct Piece {
    bytes: OwnedBytes,
    first_doc: DocId,
    n_docs: DocId,
    counts: PieceCounts,
}

impl Piece {
    /// Looks for the piece of a unit, and reads all of it for its checksum.
    pub(super) fn find(
        directory: &dyn Directory,
        plan_hash: u128,
        unit: &ReindexUnit,
    ) -> tantivy::Result<Found> {
        let file = match directory.open_read(&piece_path(unit)) {
            Ok(file) => file,
            Err(OpenReadError::FileDoesNotExist(_)) => return Ok(Found::Nothing),
            Err(error) => return Err(error.into()),
        };
        Ok(match Piece::read(file.read_bytes()?, plan_hash, unit) {
            Ok(piece) => Found::Piece(piece),
            Err(why) => Found::Refused(why),
        })
    }

    fn read(bytes: OwnedBytes, plan_hash: u128, unit: &ReindexUnit) -> Result<Piece, &'static str> {
        if bytes.len() < HEADER_LEN + CHECKSUM_LEN {
            return Err("is cut short");
        }
        if bytes[..HASH_AT] != MAGIC {
            return Err("is not a piece of this version");
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        if xxh3_64(body).to_le_bytes() != *checksum {
            return Err("is damaged or cut short: its checksum is wrong");
        }
        if body[HASH_AT..UNIT_AT] != plan_hash.to_le_bytes() {
            return Err("belongs to another plan");
        }
        if body[UNIT_AT..DOCS_AT] != unit.number.to_le_bytes() {
            return Err("is that of another unit");
        }
        let n_docs = unit.end_doc - unit.first_doc;
        if body[DOCS_AT..COUNTS_AT] != n_docs.to_le_bytes() {
            return Err("has another number of documents");
        }
        let (counts, _) = body[COUNTS_AT..HEADER_LEN].as_chunks();
        let mut array = [0; N_COUNTS];
        for (count, bytes) in array.iter_mut().zip(counts) {
            *count = u64::from_le_bytes(*bytes);
        }
        let body_end = body.len();
        Ok(Piece {
            bytes: bytes.slice(0..body_end),
            first_doc: unit.first_doc,
            n_docs,
            counts: PieceCounts::from_array(array),
        })
    }

    pub(super) fn counts(&self) -> PieceCounts {
        self.counts
    }

    pub(super) fn lists(&self) -> PieceLists<'_> {
        PieceLists {
            rest: self.bytes.get(HEADER_LEN..).unwrap_or_default(),
            first_doc: self.first_doc,
            n_docs: self.n_docs,
            left: self.counts.terms,
        }
    }
}

/// The posting lists of a piece, one after the other.
pub(super) struct PieceLists<'a> {
    rest: &'a [u8],
    first_doc: DocId,
    n_docs: DocId,
    left: u64,
}

impl<'a> PieceLists<'a> {
    /// The next term; its list has to be read before the one after it.
    pub(super) fn next_term(&mut self) -> io::Result<Option<&'a [u8]>> {
        if self.left == 0 {
            return match self.rest {
                [] => Ok(None),
                _ => Err(damaged()),
            };
        }
        self.left -= 1;
        let len = self.take(1)?[0];
        match len {
            0 => Err(damaged()),
            len => self.take(usize::from(len)).map(Some),
        }
    }

    /// Appends the list of the term just read, with documents numbered as in the segment.
    pub(super) fn read_list(
        &mut self,
        max_impact: u8,
        docs: &mut Vec<DocId>,
        impacts: &mut Vec<u8>,
    ) -> io::Result<()> {
        let n_postings = self.vint()?;
        if n_postings == 0 || n_postings > self.n_docs {
            return Err(damaged());
        }
        let mut next = 0u32;
        for _ in 0..n_postings {
            let gap = self.vint()?;
            let doc = next.checked_add(gap).filter(|doc| *doc < self.n_docs);
            let doc = doc.ok_or_else(damaged)?;
            docs.push(self.first_doc + doc);
            next = doc + 1;
        }
        let list = self.take(n_postings as usize)?;
        if list
            .iter()
            .any(|impact| *impact == 0 || *impact > max_impact)
        {
            return Err(damaged());
        }
        impacts.extend(list);
        Ok(())
    }

    fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    fn vint(&mut self) -> io::Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = u32::from(self.take(1)?[0]);
            let low = byte & 0x7f;
            if shift == 28 && low > 0xf {
                break;
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged())
    }
}

/// Only a faulty program gives such contents a right checksum.
fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a piece of the job holds what no piece can hold; delete it and do its unit again",
    )
}

fn push_vint(mut value: u32, bytes: &mut Vec<u8>) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Where plan and pieces lie.
pub(super) fn plan_path() -> &'static Path {
    Path::new("plan.json")
}
