//! [`ListWriter`]: posting lists and their dictionary, in the bytes that Tantivy would write.

use std::io::{self, Write};
use std::ops::Range;

use bitpacking::{BitPacker, BitPacker4x};
use tantivy::DocId;
use tantivy::directory::OwnedBytes;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tantivy::termdict::TermDictionaryBuilder;

use super::list::{BLOCK_LEN, PostingList};

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
    list: Packed,
}

/// The bytes of one posting list.
struct Packed {
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
            list: Packed::new(),
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
        self.list.pack(docs, impacts);
        let start = self.end;
        for part in [&*self.list.skip_len(), &self.list.skips, &self.list.blocks] {
            self.end += part.len();
            self.postings.write_all(part)?;
        }
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
}

impl Packed {
    fn new() -> Packed {
        Packed {
            packer: BitPacker4x::new(),
            skips: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Makes the bytes of a list.
    fn pack(&mut self, docs: &[DocId], impacts: &[u8]) {
        self.skips.clear();
        self.blocks.clear();
        let (packed_docs, rest_docs) = docs.as_chunks::<BLOCK_LEN>();
        let (packed_impacts, rest_impacts) = impacts.as_chunks::<BLOCK_LEN>();
        let mut before = 0;
        for (docs, impacts) in packed_docs.iter().zip(packed_impacts) {
            self.pack_block(before, docs, impacts);
            before = docs[BLOCK_LEN - 1];
        }
        for &doc in rest_docs {
            push_vint(doc - before, &mut self.blocks);
            before = doc;
        }
        for &impact in rest_impacts {
            push_vint(u32::from(impact), &mut self.blocks);
        }
    }

    /// The number of bytes of the skip list, which comes first if there is one.
    fn skip_len(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if !self.skips.is_empty() {
            let len = u32::try_from(self.skips.len()).unwrap_or(u32::MAX);
            push_vint(len, &mut bytes);
        }
        bytes
    }

    fn pack_block(&mut self, before: DocId, docs: &[u32; BLOCK_LEN], impacts: &[u8; BLOCK_LEN]) {
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
}

impl PostingList {
    /// A list in memory, of ascending documents, each with frequency 1.
    pub(crate) fn of_docs(docs: &[DocId]) -> PostingList {
        let mut list = Packed::new();
        list.pack(docs, &vec![1; docs.len()]);
        let bytes = [&*list.skip_len(), &list.skips, &list.blocks].concat();
        // A segment has fewer than 2^31 documents.
        let doc_freq = u32::try_from(docs.len()).unwrap_or(u32::MAX);
        let option = IndexRecordOption::WithFreqs;
        let list = PostingList::parse(OwnedBytes::new(bytes), doc_freq, option);
        list.expect("what was packed here is a list")
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
