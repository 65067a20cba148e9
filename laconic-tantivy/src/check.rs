//! [`check`]: reads an index whole and reports what is wrong with it.
//!
//! Tantivy's own check skips files that its list of managed files has lost and looks at checksums
//! only. This one takes the list of files from the segments themselves, verifies every checksum,
//! then decodes every posting and every stored document.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::Value;
use tantivy::directory::Directory;
use tantivy::index::{IndexMeta, SegmentComponent, SegmentMeta};
use tantivy::postings::BlockSegmentPostings;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Index, InvertedIndexReader, SegmentReader, TERMINATED, TantivyDocument};

use crate::bounds::check_bounds;
use crate::vector::MAX_TERM_BYTES;
use crate::{Error, LaconicField};

/// Problems of one kind reported per place; a damaged file breaks thousands of postings.
const MAX_PROBLEMS_PER_PLACE: usize = 10;

/// What [`check`] read and what it found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Segments of the last commit.
    pub segments: u64,
    /// Files whose checksum was computed.
    pub files: u64,
    /// Stored documents decoded, deleted ones included.
    pub documents: u64,
    /// Postings decoded, over all fields.
    pub postings: u64,
    /// What is wrong; empty for a sound index.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, segment or field.
    pub place: String,
    /// What is wrong there.
    pub fault: String,
}

/// Verifies every file's checksum, decodes every posting of every field and every stored
/// document, and checks the invariants of the laconic fields: terms in order, valid and unique;
/// documents ascending and inside the segment; impacts between 1 and the quantizer's largest;
/// counts as recorded; upper bounds equal to the largest impacts under them. `progress(done, total)` is called after each segment.
///
/// The contents of a segment are only read when all of its files are sound. A panic that they
/// provoke inside Tantivy nevertheless is caught and reported as a problem.
///
/// A writer may commit and merge at the same time: when a segment goes away under the check, it
/// starts anew with the segments that there are then.
///
/// # Errors
/// `is_corrupt` when the list of segments itself cannot be read; everything else is a problem in
/// the report.
pub fn check(index: &Index, progress: &mut dyn FnMut(usize, usize)) -> Result<CheckReport, Error> {
    loop {
        if let Some(report) = check_commit(index, progress)? {
            return Ok(report);
        }
    }
}

/// Checks the segments of the last commit; `None` when one of them went away meanwhile.
fn check_commit(
    index: &Index,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Option<CheckReport>, Error> {
    let (raw, metas) = read_meta(index)?;
    let mut report = CheckReport::default();
    check_meta(&raw, &metas, &mut report);
    check_fields(index, &mut report);
    for (done, meta) in metas.segments.iter().enumerate() {
        let before = report.problems.len();
        let extensions = &metas.persisted_custom_extensions;
        check_segment(index, meta, extensions, &mut report);
        if report.problems.len() > before && !is_current(index, meta)? {
            return Ok(None);
        }
        progress(done + 1, metas.segments.len());
    }
    Ok(Some(report))
}

/// Whether the last commit has the segment, with these deletes. If not, its files may be gone.
fn is_current(index: &Index, meta: &SegmentMeta) -> Result<bool, Error> {
    let (_, metas) = read_meta(index)?;
    let mut segments = metas.segments.iter();
    Ok(segments.any(|s| s.id() == meta.id() && s.delete_opstamp() == meta.delete_opstamp()))
}

impl CheckReport {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, place: impl Into<String>, fault: impl Into<String>) {
        let place = place.into();
        let earlier = self
            .problems
            .iter()
            .rev()
            .take_while(|problem| problem.place == place);
        if earlier.count() < MAX_PROBLEMS_PER_PLACE {
            self.problems.push(Problem {
                place,
                fault: fault.into(),
            });
        }
    }
}

/// The bytes of `meta.json` and what Tantivy reads in them, at one moment.
fn read_meta(index: &Index) -> Result<(Vec<u8>, IndexMeta), Error> {
    let raw = || {
        let bytes = index.directory().atomic_read(Path::new("meta.json"));
        bytes.map_err(|e| Error::during("reading meta.json", e))
    };
    let mut before = raw()?;
    loop {
        let metas = index
            .load_metas()
            .map_err(|e| Error::during("reading meta.json", e))?;
        let after = raw()?;
        if before == after {
            return Ok((after, metas));
        }
        before = after; // a commit or a merge came in between
    }
}

/// `meta.json` has no checksum, and Tantivy passes over entries it does not know: one flipped bit
/// in the word `deletes` brings deleted documents back. So every entry has to be one that was
/// read.
fn check_meta(raw: &[u8], metas: &IndexMeta, report: &mut CheckReport) {
    let stored: Option<Value> = serde_json::from_slice(raw).ok();
    let read = serde_json::to_value(metas).ok();
    let was_read = |stored: &Value| read.as_ref().is_some_and(|read| is_part_of(stored, read));
    if !stored.as_ref().is_some_and(was_read) {
        report.problem("meta.json", "it has entries that Tantivy does not know");
    }
}

fn is_part_of(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|other| is_part_of(value, other))),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(a, b)| is_part_of(a, b))
        }
        _ => part == whole,
    }
}

fn check_fields(index: &Index, report: &mut CheckReport) {
    if let Err(error) = LaconicField::all(&index.schema()) {
        report.problem("schema in meta.json", error.to_string());
    }
}

fn check_segment(
    index: &Index,
    meta: &SegmentMeta,
    extensions: &[String],
    report: &mut CheckReport,
) {
    report.segments += 1;
    let place = format!("segment {}", meta.id().short_uuid_string());
    let before = report.problems.len();
    check_checksums(index, meta, extensions, report);
    if report.problems.len() > before {
        // Damaged lengths are allocated by Tantivy before anyone can see that they are wrong,
        // and an allocation that fails takes the process down.
        return;
    }
    let contents = AssertUnwindSafe(|| check_contents(index, meta, &place, report));
    match catch_unwind(contents) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => report.problem(&place, error.to_string()),
        // With sound checksums this is a fault of a program, not of the disk.
        Err(_) => report.problem(&place, "reading it panicked"),
    }
}

fn check_checksums(
    index: &Index,
    meta: &SegmentMeta,
    extensions: &[String],
    report: &mut CheckReport,
) {
    for component in components(meta, extensions) {
        let path = meta.relative_path(component);
        let place = path.display().to_string();
        let validated = catch_unwind(AssertUnwindSafe(|| {
            index.directory().validate_checksum(&path)
        }));
        report.files += 1;
        match validated {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => report.problem(place, "its contents do not match its checksum"),
            Ok(Err(error)) => report.problem(place, format!("it cannot be read: {error}")),
            Err(_) => report.problem(place, "its footer is damaged"),
        }
    }
}

fn components(meta: &SegmentMeta, extensions: &[String]) -> Vec<SegmentComponent> {
    use SegmentComponent as C;
    let mut components = vec![
        C::Terms,
        C::Postings,
        C::Positions,
        C::FieldNorms,
        C::FastFields,
        C::Store,
    ];
    components.extend(meta.has_deletes().then_some(C::Delete));
    components.extend(extensions.iter().cloned().map(C::Custom));
    components
}

fn check_contents(
    index: &Index,
    meta: &SegmentMeta,
    place: &str,
    report: &mut CheckReport,
) -> tantivy::Result<()> {
    let reader = SegmentReader::open(&index.segment(meta.clone()))?;
    check_counts(&reader, meta, place, report);
    check_store(&reader, place, report)?;
    let schema = index.schema();
    for (field, entry) in schema.fields().filter(|(_, entry)| entry.is_indexed()) {
        let max_freq = max_frequency(&schema, field);
        let place = format!("{place}, field `{}`", entry.name());
        let inverted_index = reader.inverted_index(field)?;
        check_postings(&inverted_index, max_freq, &reader, &place, report)?;
        if let Ok(laconic) = LaconicField::of(&schema, field) {
            for fault in check_bounds(&reader, &inverted_index, &laconic)? {
                report.problem(&place, fault);
            }
        }
    }
    Ok(())
}

fn check_counts(reader: &SegmentReader, meta: &SegmentMeta, place: &str, report: &mut CheckReport) {
    let alive = reader.alive_bitset().map_or(meta.max_doc(), |bits| {
        u32::try_from(
            bits.iter_alive()
                .take_while(|doc| *doc < meta.max_doc())
                .count(),
        )
        .unwrap_or(u32::MAX)
    });
    if alive != meta.num_docs() {
        let recorded = meta.num_docs();
        report.problem(
            place,
            format!("{alive} documents are alive, meta.json says {recorded}"),
        );
    }
}

fn check_store(
    reader: &SegmentReader,
    place: &str,
    report: &mut CheckReport,
) -> tantivy::Result<()> {
    let store = reader.get_store_reader(1)?;
    for doc in 0..reader.max_doc() {
        report.documents += 1;
        if let Err(error) = store.get::<TantivyDocument>(doc) {
            report.problem(
                place,
                format!("stored document {doc} cannot be decoded: {error}"),
            );
        }
    }
    Ok(())
}

/// The largest impact of a laconic field; `None` for any other, whose terms need not be text.
fn max_frequency(schema: &tantivy::schema::Schema, field: Field) -> Option<u32> {
    let laconic = LaconicField::of(schema, field).ok()?;
    Some(u32::from(laconic.identity().quantizer.max_impact()))
}

fn check_postings(
    inverted_index: &InvertedIndexReader,
    max_freq: Option<u32>,
    reader: &SegmentReader,
    place: &str,
    report: &mut CheckReport,
) -> tantivy::Result<()> {
    let mut terms = inverted_index.terms().stream()?;
    let mut previous: Option<Vec<u8>> = None;
    while terms.advance() {
        check_term(
            terms.key(),
            previous.as_deref(),
            max_freq.is_some(),
            place,
            report,
        );
        let option = IndexRecordOption::WithFreqs;
        let info = terms.value();
        let postings = inverted_index.read_block_postings_from_terminfo(info, option)?;
        let list = PostingList {
            postings,
            max_doc: reader.max_doc(),
            max_freq,
        };
        if let Err(fault) = list.check() {
            let term = String::from_utf8_lossy(terms.key());
            report.problem(place, format!("posting list of `{term}`: {fault}"));
        }
        report.postings += u64::from(info.doc_freq);
        previous = Some(terms.key().to_vec());
    }
    Ok(())
}

fn check_term(
    term: &[u8],
    previous: Option<&[u8]>,
    is_laconic: bool,
    place: &str,
    report: &mut CheckReport,
) {
    let shown = String::from_utf8_lossy(term);
    if previous.is_some_and(|previous| previous >= term) {
        report.problem(place, format!("term `{shown}` is out of order"));
    }
    let bad = term.is_empty() || term.len() > MAX_TERM_BYTES || std::str::from_utf8(term).is_err();
    if is_laconic && bad {
        report.problem(
            place,
            format!("term `{shown}` is not 1 to 255 bytes of UTF-8"),
        );
    }
}

struct PostingList {
    postings: BlockSegmentPostings,
    max_doc: u32,
    max_freq: Option<u32>,
}

impl PostingList {
    /// Decodes the whole list. Returns what is wrong with it.
    ///
    /// The sum of its frequencies proves nothing: Tantivy only estimates it when a merge drops
    /// deleted documents.
    fn check(mut self) -> Result<(), String> {
        let (mut n_docs, mut previous) = (0u32, None);
        while self.postings.doc(0) != TERMINATED {
            let freqs = self.postings.freqs();
            for (idx, &doc) in self.postings.docs().iter().enumerate() {
                // Fields indexed without frequencies have none to give.
                let freq = freqs.get(idx).copied().unwrap_or(1);
                self.check_posting(doc, freq, previous)?;
                previous = Some(doc);
                n_docs = n_docs.saturating_add(1);
            }
            if n_docs > self.postings.doc_freq() {
                break;
            }
            self.postings.advance();
        }
        let doc_freq = self.postings.doc_freq();
        if n_docs == doc_freq {
            return Ok(());
        }
        Err(format!(
            "it has {n_docs} documents, the dictionary says {doc_freq}"
        ))
    }

    fn check_posting(&self, doc: u32, freq: u32, previous: Option<u32>) -> Result<(), String> {
        if doc >= self.max_doc {
            return Err(format!(
                "document {doc} is not one of the segment's {}",
                self.max_doc
            ));
        }
        if previous.is_some_and(|previous| previous >= doc) {
            return Err(format!("document {doc} is out of order"));
        }
        match self.max_freq {
            Some(max) if freq == 0 || freq > max => Err(format!(
                "document {doc} has impact {freq}, which is not 1 to {max}"
            )),
            _ => Ok(()),
        }
    }
}
