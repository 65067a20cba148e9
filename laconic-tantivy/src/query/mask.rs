//! [`Mask`]: the documents of a segment that pass a filter, as bits.

use std::ops::Range;

use tantivy::query::Scorer;
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, SegmentReader};

use crate::postings::{Cursor, PostingList};

/// With one in so many documents, a block has many.
const DENSE: u32 = 4;

/// The live documents that pass a filter, a word of bits for every block of 64 documents.
pub(super) struct Mask {
    blocks: Vec<u64>,
    /// Not fewer than there are.
    max_docs: u32,
}

impl Mask {
    pub(super) fn of(mut docs: Box<dyn Scorer>, reader: &SegmentReader) -> Mask {
        let mut blocks = no_blocks(reader);
        let mut buffer = [0; COLLECT_BLOCK_BUFFER_LEN];
        let mut n_docs = 0;
        loop {
            let n = docs.fill_buffer(&mut buffer);
            for &doc in &buffer[..n] {
                set(&mut blocks, doc);
                n_docs += 1;
            }
            if n < buffer.len() {
                return Mask::of_blocks(blocks, n_docs, reader);
            }
        }
    }

    pub(super) fn of_list(list: PostingList, reader: &SegmentReader) -> Mask {
        let mut blocks = no_blocks(reader);
        let n_docs = list.doc_freq();
        let mut list = Cursor::of_impacts(list, u8::MAX);
        if n_docs < reader.max_doc() / DENSE {
            list.for_each_doc(|doc| set(&mut blocks, doc));
            return Mask::of_blocks(blocks, n_docs, reader);
        }
        // A block's bits are put together before they are stored: storing each would wait for the
        // one before.
        let (mut current, mut bits) = (0, 0);
        list.for_each_doc(|doc| {
            let block = (doc / u64::BITS) as usize;
            if block != current {
                if let Some(stored) = blocks.get_mut(current) {
                    *stored |= bits;
                }
                (current, bits) = (block, 0);
            }
            bits |= 1 << (doc % u64::BITS);
        });
        if let Some(stored) = blocks.get_mut(current) {
            *stored |= bits;
        }
        Mask::of_blocks(blocks, n_docs, reader)
    }

    fn of_blocks(mut blocks: Vec<u64>, max_docs: u32, reader: &SegmentReader) -> Mask {
        if reader.has_deletes() {
            for (first, block) in (0..).step_by(u64::BITS as usize).zip(&mut blocks) {
                for offset in bits(*block) {
                    if reader.is_deleted(first + offset) {
                        *block &= !(1 << offset);
                    }
                }
            }
        }
        Mask { blocks, max_docs }
    }

    pub(super) fn n_bytes(&self) -> usize {
        size_of_val(self.blocks.as_slice())
    }

    /// No more documents pass.
    pub(super) fn max_docs(&self) -> u32 {
        self.max_docs
    }

    /// Those of a block, the lowest bit for its first document.
    #[inline]
    pub(super) fn block(&self, block: usize) -> u64 {
        self.blocks.get(block).copied().unwrap_or(0)
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none of some blocks has a document that passes.
    pub(super) fn is_empty(&self, blocks: Range<usize>) -> bool {
        let end = blocks.end.min(self.blocks.len());
        let blocks = self.blocks.get(blocks.start..end).unwrap_or_default();
        blocks.iter().all(|block| *block == 0)
    }

    #[inline]
    pub(super) fn has(&self, doc: DocId) -> bool {
        self.block((doc / u64::BITS) as usize) >> (doc % u64::BITS) & 1 != 0
    }

    /// Those of a range, ascending.
    pub(super) fn docs(&self, range: Range<DocId>) -> impl Iterator<Item = DocId> {
        let blocks = range.start / u64::BITS..range.end.div_ceil(u64::BITS);
        let in_block = |block: u32| {
            let offsets = bits(self.block(block as usize));
            offsets.map(move |offset| block * u64::BITS + offset)
        };
        blocks
            .flat_map(in_block)
            .filter(move |doc| range.contains(doc))
    }
}

fn no_blocks(reader: &SegmentReader) -> Vec<u64> {
    vec![0; reader.max_doc().div_ceil(u64::BITS) as usize]
}

#[inline]
fn set(blocks: &mut [u64], doc: DocId) {
    if let Some(block) = blocks.get_mut((doc / u64::BITS) as usize) {
        *block |= 1 << (doc % u64::BITS);
    }
}

/// The places of the bits that are set, ascending.
fn bits(mut block: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let offset = (block != 0).then(|| block.trailing_zeros())?;
        block &= block - 1;
        Some(offset)
    })
}
