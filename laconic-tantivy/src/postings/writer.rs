//! [`ListWriter`]: posting lists and their dictionary, in the bytes that Tantivy would write.

use std::io::{self, Write};
use std::ops::Range;

use bitpacking::{BitPacker, BitPacker4x};
use tantivy::DocId;
use tantivy::postings::TermInfo;
use tantivy::termdict::TermDictionaryBuilder;

use super::list::BLOCK_LEN;

/// Marks the bits of a document's distance as those of the distance minus one.
const STRICT: u8 = 0x40;

/// Writes one laconic field of a segment, list by list.
///
/// Tantivy's `FieldSerializer` takes postings one at a time and does not tell where a list ended
/// up, which the bounds need to know. This writes the same bytes a block at a time.
pub(crate) struct ListWriter<T: Write, P: Write> {
    dictionary: TermDictionaryBuilder<T>,
    postings: P,
    /// Bytes written, as the dictionary counts them.
    end: usize,
    packer: BitPacker4x,
    skips: Vec<u8>,
    blocks: Vec<u8>,
}

impl<T: Write, P: Write> ListWriter<T, P> {
    /// Begins a field. `n_tokens` is the sum of all impacts, which comes first in the file.
    pub(crate) fn new(n_tokens: u64, terms: T, mut postings: P) -> io::Result<ListWriter<T, P>> {
        postings.write_all(&n_tokens.to_le_bytes())?;
        Ok(ListWriter {
            dictionary: TermDictionaryBuilder::create(terms)?,
            postings,
            end: 0,
            packer: BitPacker4x::new(),
            skips: Vec::new(),
            blocks: Vec::new(),
        })
    }

    /// Writes the list of the next term in byte order: ascending documents, and an impact of at
    /// least 1 for each. Returns its place.
    pub(crate) fn write(
        &mut self,
        term: &[u8],
        docs: &[DocId],
        impacts: &[u8],
    ) -> io::Result<Range<usize>> {
        self.skips.clear();
        self.blocks.clear();
        let (packed_docs, rest_docs) = docs.as_chunks::<BLOCK_LEN>();
        let (packed_impacts, rest_impacts) = impacts.as_chunks::<BLOCK_LEN>();
        let mut before = 0;
        for (docs, impacts) in packed_docs.iter().zip(packed_impacts) {
            self.pack(before, docs, impacts);
            before = docs[BLOCK_LEN - 1];
        }
        for &doc in rest_docs {
            push_vint(doc - before, &mut self.blocks);
            before = doc;
        }
        for &impact in rest_impacts {
            push_vint(u32::from(impact), &mut self.blocks);
        }
        let start = self.end;
        if !packed_docs.is_empty() {
            let mut skip_len = Vec::with_capacity(5);
            push_vint(
                u32::try_from(self.skips.len()).unwrap_or(u32::MAX),
                &mut skip_len,
            );
            self.put(&skip_len)?;
            let skips = std::mem::take(&mut self.skips);
            self.put(&skips)?;
            self.skips = skips;
        }
        let blocks = std::mem::take(&mut self.blocks);
        self.put(&blocks)?;
        self.blocks = blocks;
        let place = start..self.end;
        let info = TermInfo {
            // A segment has fewer than 2^31 documents.
            doc_freq: u32::try_from(docs.len()).unwrap_or(u32::MAX),
            postings_range: place.clone(),
            positions_range: 0..0,
        };
        self.dictionary.insert(term, &info)?;
        Ok(place)
    }

    /// Ends the field.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.dictionary.finish().map(|_| ())
    }

    fn pack(&mut self, before: DocId, docs: &[u32; BLOCK_LEN], impacts: &[u8; BLOCK_LEN]) {
        // Tantivy reads a block that begins behind document 0 as one with nothing before it.
        let before = (before != 0).then_some(before);
        let doc_bits = self.packer.num_bits_strictly_sorted(before, docs);
        let doc_len = usize::from(doc_bits) * BLOCK_LEN / 8;
        let impacts = impacts.map(|impact| u32::from(impact) - 1);
        let impact_bits = self.packer.num_bits(&impacts);
        let impact_len = usize::from(impact_bits) * BLOCK_LEN / 8;
        let start = self.blocks.len();
        self.blocks.resize(start + doc_len + impact_len, 0);
        let (packed_docs, packed_impacts) = self.blocks[start..].split_at_mut(doc_len);
        self.packer
            .compress_strictly_sorted(before, docs, packed_docs, doc_bits);
        self.packer.compress(&impacts, packed_impacts, impact_bits);
        self.skips.extend(docs[BLOCK_LEN - 1].to_le_bytes());
        // The last two are for BM25, of which a field without lengths knows nothing.
        self.skips.extend([doc_bits | STRICT, impact_bits, 0, 0]);
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.end += bytes.len();
        self.postings.write_all(bytes)
    }
}

/// Seven bits a byte, the last one marked.
fn push_vint(mut value: u32, bytes: &mut Vec<u8>) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low | 0x80);
            return;
        }
        bytes.push(low);
    }
}
