//! [`PostingList`]: the bytes of one posting list.

use bitpacking::{BitPacker, BitPacker4x};
use tantivy::DocId;
use tantivy::directory::OwnedBytes;

/// Postings per bit-packed block.
pub(crate) const BLOCK_LEN: usize = BitPacker4x::BLOCK_LEN;

/// Bytes of one entry of the skip list: last document (4), bits per document delta, bits per
/// frequency, and two bytes of Tantivy's that are zero without field norms.
const SKIP_ENTRY: usize = 8;

/// A posting list as Tantivy's `postings/serializer.rs` writes it for a field with frequencies
/// and without positions.
#[derive(Clone)]
pub(crate) struct PostingList {
    doc_freq: u32,
    skips: OwnedBytes,
    blocks: OwnedBytes,
}

/// What the skip list says of one block.
#[derive(Clone, Copy)]
pub(crate) struct Skip {
    pub(crate) last_doc: DocId,
    doc_bits: u8,
    freq_bits: u8,
    /// Deltas and frequencies are stored minus one; false only for indexes of old versions.
    strict: bool,
}

impl Skip {
    fn read(entry: [u8; SKIP_ENTRY]) -> Skip {
        let [a, b, c, d, doc_bits, freq_bits, ..] = entry;
        Skip {
            last_doc: u32::from_le_bytes([a, b, c, d]),
            doc_bits: doc_bits & 0x1f,
            freq_bits,
            strict: doc_bits & 0x40 != 0,
        }
    }

    /// Bytes of the block.
    pub(crate) fn len(self) -> usize {
        self.doc_len() + usize::from(self.freq_bits) * BLOCK_LEN / 8
    }

    /// No frequency of the block is larger.
    pub(crate) fn max_freq(self) -> u64 {
        1 << self.freq_bits.min(32)
    }

    fn doc_len(self) -> usize {
        usize::from(self.doc_bits) * BLOCK_LEN / 8
    }
}

impl PostingList {
    /// The list of a term with `doc_freq` postings, or `None` when the bytes cannot be one.
    pub(crate) fn parse(mut bytes: OwnedBytes, doc_freq: u32) -> Option<PostingList> {
        let n_packed = doc_freq as usize / BLOCK_LEN;
        let (mut skips, mut blocks) = (OwnedBytes::empty(), bytes.clone());
        if n_packed > 0 {
            let mut rest = bytes.as_slice();
            let skip_len = take_vint(&mut rest)? as usize;
            if skip_len != n_packed * SKIP_ENTRY || skip_len > rest.len() {
                return None;
            }
            bytes.advance(bytes.len() - rest.len());
            (skips, blocks) = bytes.split(skip_len);
        }
        Some(PostingList {
            doc_freq,
            skips,
            blocks,
        })
    }

    /// Number of postings.
    pub(crate) fn doc_freq(&self) -> u32 {
        self.doc_freq
    }

    /// The skip entry of a bit-packed block.
    #[inline]
    pub(crate) fn skip(&self, block: usize) -> Option<Skip> {
        let entry = self.skips.as_slice().get(block * SKIP_ENTRY..)?;
        entry.first_chunk().map(|entry| Skip::read(*entry))
    }

    /// Where every block begins, the rest included.
    pub(crate) fn block_offsets(&self) -> Vec<u32> {
        let (entries, _) = self.skips.as_slice().as_chunks();
        // The bytes of a list are counted in 32 bits by the dictionary.
        let len = |entry: &[u8; SKIP_ENTRY]| u32::try_from(Skip::read(*entry).len()).unwrap_or(0);
        let next = |offset: &mut u32, entry| {
            *offset = offset.saturating_add(len(entry));
            Some(*offset)
        };
        let ends = entries.iter().scan(0, next);
        std::iter::once(0).chain(ends).collect()
    }

    /// A byte of the blocks, 0 behind their end.
    #[inline]
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.blocks.as_slice().get(offset).copied().unwrap_or(0)
    }

    /// The first block whose last document is not in front of `target`; the rest has none.
    pub(crate) fn first_block_reaching(&self, target: DocId) -> usize {
        let (entries, _) = self.skips.as_slice().as_chunks::<SKIP_ENTRY>();
        entries.partition_point(|entry| Skip::read(*entry).last_doc < target)
    }

    /// Number of postings in the rest, which is never empty in front of the end.
    pub(crate) fn n_rest(&self) -> usize {
        self.doc_freq as usize % BLOCK_LEN
    }

    /// Decodes the documents of a bit-packed block that begins at byte `offset`, behind document
    /// `before` (0 for the first block). False when the bytes end too early.
    pub(crate) fn decode_docs(
        &self,
        skip: Skip,
        offset: usize,
        before: DocId,
        docs: &mut [u32; BLOCK_LEN],
    ) -> bool {
        let packed = self.blocks.get(offset..).unwrap_or_default();
        if packed.len() < skip.doc_len() {
            return false;
        }
        let packer = BitPacker4x::new();
        if skip.strict {
            let before = (before != 0).then_some(before);
            packer.decompress_strictly_sorted(before, packed, docs, skip.doc_bits);
        } else {
            packer.decompress_sorted(before, packed, docs, skip.doc_bits);
        }
        true
    }

    /// Decodes the frequencies of the same block.
    pub(crate) fn decode_freqs(
        &self,
        skip: Skip,
        offset: usize,
        freqs: &mut [u32; BLOCK_LEN],
    ) -> bool {
        let packed = self.blocks.get(offset + skip.doc_len()..);
        let packed = packed.unwrap_or_default();
        if skip.freq_bits > 32 || packed.len() < skip.len() - skip.doc_len() {
            return false;
        }
        BitPacker4x::new().decompress(packed, freqs, skip.freq_bits);
        if skip.strict {
            for freq in freqs {
                *freq = freq.wrapping_add(1);
            }
        }
        true
    }

    /// Decodes the rest, which begins at byte `offset` behind document `before`. Returns how many
    /// postings there were.
    pub(crate) fn decode_rest(
        &self,
        offset: usize,
        before: DocId,
        docs: &mut [u32; BLOCK_LEN],
        freqs: &mut [u32; BLOCK_LEN],
    ) -> Option<usize> {
        let mut bytes = self.blocks.get(offset..)?;
        let mut last = before;
        let n = self.n_rest();
        for doc in docs.iter_mut().take(n) {
            last = last.wrapping_add(take_vint(&mut bytes)?);
            *doc = last;
        }
        for freq in freqs.iter_mut().take(n) {
            *freq = take_vint(&mut bytes)?;
        }
        Some(n)
    }
}

#[inline]
fn take_vint(bytes: &mut &[u8]) -> Option<u32> {
    // Nearly all numbers of a rest have one byte or two, in an order that no processor guesses.
    if let [first, second, ..] = **bytes
        && (first | second) & 0x80 != 0
    {
        let len = 2 - usize::from(first >> 7);
        let high = u32::from(second & 0x7f) << 7;
        let value = u32::from(first & 0x7f) | if len == 2 { high } else { 0 };
        *bytes = &bytes[len..];
        return Some(value);
    }
    take_long_vint(bytes)
}

#[cold]
fn take_long_vint(bytes: &mut &[u8]) -> Option<u32> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 != 0 {
        *bytes = rest;
        return Some(u32::from(first & 0x7f));
    }
    let mut value = u32::from(first);
    for (idx, &byte) in rest.iter().enumerate().take(4) {
        value |= u32::from(byte & 0x7f) << (7 * (idx + 1));
        if byte & 0x80 != 0 {
            *bytes = &rest[idx + 1..];
            return Some(value);
        }
    }
    None
}
