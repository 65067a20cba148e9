//! [`IndexStats`]: what an index holds and where its bytes are.

use std::collections::{BTreeMap, HashSet};

use tantivy::directory::CompositeFile;
use tantivy::index::SegmentComponent;
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, SegmentReader, TERMINATED};

use crate::bounds::EXTENSION;
use crate::{Error, LaconicField};

/// Counts and sizes of an index at its last commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IndexStats {
    /// Live documents.
    pub documents: u64,
    /// Deleted documents that still take space.
    pub deleted_documents: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of each kind of file (`idx`, `term`, `store`, …; `laconic` is the upper bounds).
    pub bytes: BTreeMap<&'static str, u64>,
    /// One entry per laconic field.
    pub fields: Vec<FieldStats>,
}

/// Counts and sizes of one laconic field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldStats {
    /// Name and identity.
    pub field: LaconicField,
    /// Distinct terms.
    pub terms: u64,
    /// Postings, those of deleted documents included.
    pub postings: u64,
    /// Bytes of the posting lists.
    pub posting_bytes: u64,
    /// Bytes of the term dictionaries.
    pub dictionary_bytes: u64,
    /// Number of postings with each impact, 0 to 255.
    pub impact_histogram: Vec<u64>,
}

impl IndexStats {
    /// Reads the counts of `index`; decodes every posting of its laconic fields.
    ///
    /// # Errors
    /// Tantivy's when a file cannot be read; those of [`LaconicField::all`].
    pub fn read(index: &Index) -> Result<IndexStats, Error> {
        let mut stats = IndexStats::default();
        let segments = index
            .searchable_segments()
            .map_err(|e| Error::during("reading meta.json", e))?;
        let readers = segments
            .iter()
            .map(SegmentReader::open)
            .collect::<Result<Vec<_>, _>>();
        let readers = readers.map_err(|e| Error::during("opening a segment", e))?;
        for reader in &readers {
            stats.segments += 1;
            stats.documents += u64::from(reader.num_docs());
            stats.deleted_documents += u64::from(reader.num_deleted_docs());
            add_file_sizes(reader, &mut stats.bytes);
        }
        for field in LaconicField::all(&index.schema())? {
            stats.fields.push(FieldStats::read(field, &readers)?);
        }
        Ok(stats)
    }
}

fn add_file_sizes(reader: &SegmentReader, bytes: &mut BTreeMap<&'static str, u64>) {
    use SegmentComponent as C;
    for (name, component) in [
        ("term", C::Terms),
        ("idx", C::Postings),
        ("pos", C::Positions),
        ("fieldnorm", C::FieldNorms),
        ("fast", C::FastFields),
        ("store", C::Store),
        (EXTENSION, C::Custom(EXTENSION.to_owned())),
    ] {
        let size = reader
            .open_read(component)
            .map_or(0, |file| file.num_bytes().get_bytes());
        *bytes.entry(name).or_default() += size;
    }
}

impl FieldStats {
    fn read(field: LaconicField, readers: &[SegmentReader]) -> Result<FieldStats, Error> {
        let mut stats = FieldStats {
            field,
            terms: 0,
            postings: 0,
            posting_bytes: 0,
            dictionary_bytes: 0,
            impact_histogram: vec![0; 256],
        };
        let mut terms = HashSet::new();
        for reader in readers {
            stats
                .add_segment(reader, &mut terms)
                .map_err(|e| Error::during(format!("reading field `{}`", stats.field.name()), e))?;
        }
        stats.terms = terms.len() as u64;
        Ok(stats)
    }

    fn add_segment(
        &mut self,
        reader: &SegmentReader,
        terms: &mut HashSet<Box<[u8]>>,
    ) -> tantivy::Result<()> {
        self.posting_bytes += self.section_bytes(reader, SegmentComponent::Postings)?;
        self.dictionary_bytes += self.section_bytes(reader, SegmentComponent::Terms)?;
        let inverted_index = reader.inverted_index(self.field.field())?;
        let mut stream = inverted_index.terms().stream()?;
        while stream.advance() {
            if !terms.contains(stream.key()) {
                terms.insert(stream.key().into());
            }
            let option = IndexRecordOption::WithFreqs;
            let mut postings =
                inverted_index.read_block_postings_from_terminfo(stream.value(), option)?;
            while postings.doc(0) != TERMINATED {
                self.add_impacts(postings.freqs());
                postings.advance();
            }
        }
        Ok(())
    }

    fn add_impacts(&mut self, impacts: &[u32]) {
        self.postings += impacts.len() as u64;
        for &impact in impacts {
            self.impact_histogram[impact.min(255) as usize] += 1;
        }
    }

    fn section_bytes(
        &self,
        reader: &SegmentReader,
        component: SegmentComponent,
    ) -> tantivy::Result<u64> {
        let file = CompositeFile::open(&reader.open_read(component)?)?;
        let section = file.open_read(self.field.field());
        Ok(section.map_or(0, |section| section.num_bytes().get_bytes()))
    }
}
