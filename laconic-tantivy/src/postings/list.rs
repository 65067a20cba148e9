//! [`PostingList`]: the bytes of one posting list.

use bitpacking::{BitPacker, BitPacker4x};
use tantivy::DocId;
use tantivy::directory::OwnedBytes;
use tantivy::schema::IndexRecordOption;

/// Postings per bit-packed block.
pub(crate) const BLOCK_LEN: usize = BitPacker4x::BLOCK_LEN;

/// A posting list as Tantivy's `postings/serializer.rs` writes it.
#[derive(Clone)]
pub(crate) struct PostingList {
    doc_freq: u32,
    option: IndexRecordOption,
    skips: OwnedBytes,
    blocks: OwnedBytes,
}

/// Bytes of one entry of the skip list: last document (4), bits per document delta; with
/// frequencies, bits per frequency and a [`BestByDefault`]; with positions, the sum of the
/// frequencies (4) between these two.
fn entry_len(option: IndexRecordOption) -> usize {
    match option {
        IndexRecordOption::Basic => 5,
        IndexRecordOption::WithFreqs => 8,
        IndexRecordOption::WithFreqsAndPositions => 12,
    }
}

/// The posting of a packed block with the largest BM25 at Tantivy's own parameters and at the
/// segment's average length when it was written. Both 0 where nothing is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BestByDefault {
    pub(crate) length_code: u8,
    /// Of 255 and more, 255.
    pub(crate) freq: u8,
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
    #[inline]
    fn read(entry: &[u8]) -> Option<Skip> {
        let (&[a, b, c, d, doc_bits], rest) = entry.split_first_chunk()?;
        Some(Skip {
            last_doc: u32::from_le_bytes([a, b, c, d]),
            doc_bits: doc_bits & 0x1f,
            freq_bits: rest.first().copied().unwrap_or(0),
            strict: doc_bits & 0x40 != 0,
        })
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
    /// The list of a term with `doc_freq` postings in a field indexed with `option`, or `None`
    /// when the bytes cannot be one.
    pub(crate) fn parse(
        mut bytes: OwnedBytes,
        doc_freq: u32,
        option: IndexRecordOption,
    ) -> Option<PostingList> {
        let n_packed = doc_freq as usize / BLOCK_LEN;
        let (mut skips, mut blocks) = (OwnedBytes::empty(), bytes.clone());
        if n_packed > 0 {
            let mut rest = bytes.as_slice();
            let skip_len = take_vint(&mut rest)? as usize;
            if skip_len != n_packed * entry_len(option) || skip_len > rest.len() {
                return None;
            }
            bytes.advance(bytes.len() - rest.len());
            (skips, blocks) = bytes.split(skip_len);
        }
        Some(PostingList {
            doc_freq,
            option,
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
        Skip::read(self.entry(block)?)
    }

    #[inline]
    fn entry(&self, block: usize) -> Option<&[u8]> {
        let len = entry_len(self.option);
        self.skips.as_slice().get(block * len..(block + 1) * len)
    }

    fn n_packed(&self) -> usize {
        self.skips.len() / entry_len(self.option)
    }

    /// What Tantivy noted of a bit-packed block for its own pruning; never for a field without
    /// frequencies.
    pub(crate) fn best_by_default(&self, block: usize) -> Option<BestByDefault> {
        match *self.entry(block)? {
            [.., length_code, freq] if self.option.has_freq() => {
                Some(BestByDefault { length_code, freq })
            }
            _ => None,
        }
    }

    /// Where every block begins, the rest included.
    pub(crate) fn block_offsets(&self) -> Vec<u32> {
        let skips = (0..self.n_packed()).map_while(|block| self.skip(block));
        // The bytes of a list are counted in 32 bits by the dictionary.
        let len = |skip: Skip| u32::try_from(skip.len()).unwrap_or(0);
        let next = |offset: &mut u32, skip| {
            *offset = offset.saturating_add(len(skip));
            Some(*offset)
        };
        std::iter::once(0).chain(skips.scan(0, next)).collect()
    }

    /// A byte of the blocks, 0 behind their end.
    #[inline]
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.blocks.as_slice().get(offset).copied().unwrap_or(0)
    }

    /// The first block whose last document is not in front of `target`; the rest has none.
    pub(crate) fn first_block_reaching(&self, target: DocId) -> usize {
        let (mut low, mut high) = (0, self.n_packed());
        while low < high {
            let middle = low.midpoint(high);
            match self.skip(middle).is_some_and(|skip| skip.last_doc < target) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
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
        if !self.option.has_freq() {
            freqs.fill(1);
            return true;
        }
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
            *freq = match self.option.has_freq() {
                true => take_vint(&mut bytes)?,
                false => 1,
            };
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
