//! [`BulkWriter`]: documents with their vectors straight into segments, impacts written as term
//! frequencies without repeating a token.

mod batch;
mod deletes;
mod impacts;
mod segment;
mod segments;
mod splice;
mod term_table;
mod threads;

use std::collections::HashSet;

use tantivy::merge_policy::{LogMergePolicy, MergePolicy, NoMergePolicy};
use tantivy::{Index, IndexWriter, Opstamp, TantivyDocument, Term};

use crate::reorder::check_order;
use crate::{Error, LaconicField, ModelIdentity, QuantizationLoss, SparseVector, register};
use deletes::{DeleteOlder, SegmentAges};
pub(crate) use impacts::{ImpactBuffer, PostingLists};
use segments::{Finished, SegmentSettings};
pub(crate) use splice::{ListSource, VisitList, copy_component, splice_field};
use threads::{BATCHES_BYTES, Threads};

/// Smallest memory budget, in bytes. Tantivy's writers take twelve million before the first
/// document.
pub const MIN_MEMORY_BUDGET: usize = 20_000_000;

/// Bytes that Tantivy's `IndexWriter` takes, which has no documents to index.
const WRITER_BYTES: usize = 2_600_000;

/// Bytes of an id to replace, beside its own: in a set, and in a list that grows.
const TERM_BYTES: usize = 150;

/// With several threads, one part in so many of the memory is for ids to replace.
const IDS_SHARE: usize = 8;

/// Adds documents with vectors to an index: the same postings as the tokenizer makes, many
/// times faster.
///
/// A segment that fills the memory is written, and the next one begun: that is how the writer
/// spills. [`optimize`](crate::optimize), or a merge, makes one of several.
///
/// Holds Tantivy's writer lock. Documents become visible at [`commit`](BulkWriter::commit), all
/// or none. After an error the writer refuses everything but
/// [`rollback`](BulkWriter::rollback); the last commit is untouched.
///
/// ```
/// use laconic_tantivy::{BulkWriter, Identity, LaconicField, SparseVector, register};
/// use tantivy::{Index, Term, doc, schema::{STORED, STRING, Schema}};
///
/// let mut schema = Schema::builder();
/// let id = schema.add_text_field("id", STRING | STORED);
/// let laconic = LaconicField::add_to(&mut schema, "laconic", Identity::default());
/// let mut index = Index::create_in_ram(schema.build());
/// register(&mut index)?;
///
/// let mut writer = BulkWriter::new(&index, &laconic, None, 50_000_000)?;
/// let vector = SparseVector::from_pairs([("Ġsearch", 1.5)])?;
/// writer.replace(Term::from_field_text(id, "a"), doc!(id => "a"), &vector)?;
/// writer.commit(None)?;
/// assert_eq!(index.reader()?.searcher().num_docs(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BulkWriter {
    writer: IndexWriter,
    field: LaconicField,
    memory_budget: usize,
    n_threads: usize,
    reorder: bool,
    /// Started with the first document.
    threads: Option<Threads>,
    /// Ids of [`replace`](BulkWriter::replace) in the segments under construction and of the same
    /// age: when they are finished, older documents with these ids go.
    replaced_ids: HashSet<Term>,
    replaced_bytes: usize,
    /// Among the same documents are some whose ids are not known.
    has_plain_documents: bool,
    /// Segments that are finished but not handed over.
    finished: Vec<Finished>,
    ages: SegmentAges,
    /// Of the last segments handed over.
    newest: u64,
    merge_policy: fn() -> Box<dyn MergePolicy>,
    totals: BulkTotals,
    failed: bool,
    /// Tantivy's writer is of no more use, not even to roll back.
    lost_lock: bool,
}

/// What a [`BulkWriter`] has written since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BulkTotals {
    /// Documents added, replacements included.
    pub documents: u64,
    /// Postings written.
    pub postings: u64,
    /// Documents without any posting.
    pub empty_documents: u64,
    /// Segments finished, merges of which may leave fewer.
    pub segments: u64,
    /// Weights clipped or vanished.
    pub loss: QuantizationLoss,
}

impl std::ops::AddAssign for BulkTotals {
    fn add_assign(&mut self, other: BulkTotals) {
        self.documents += other.documents;
        self.postings += other.postings;
        self.empty_documents += other.empty_documents;
        self.segments += other.segments;
        self.loss += other.loss;
    }
}

impl BulkWriter {
    /// A writer for `field` of `index`. `vectors_of` states which model makes the vectors,
    /// `memory_budget` bounds the bytes held, which those needed to finish a segment belong to: a
    /// segment ends before they exceed it. What a single document takes may, and Tantivy's merges
    /// in the background come on top, as do the ids deleted or replaced since the last commit, and
    /// the index if it is in memory.
    ///
    /// # Errors
    /// `is_mismatch` when the field was built with another model, `is_busy` when another writer
    /// holds the index, `is_invalid_input` for a budget below [`MIN_MEMORY_BUDGET`].
    pub fn new(
        index: &Index,
        field: &LaconicField,
        vectors_of: Option<&ModelIdentity>,
        memory_budget: usize,
    ) -> Result<BulkWriter, Error> {
        if memory_budget < MIN_MEMORY_BUDGET {
            return Err(Error::invalid(format!(
                "memory budget is {memory_budget} bytes; at least {MIN_MEMORY_BUDGET} are needed"
            )));
        }
        let stored = LaconicField::of(&index.schema(), field.field())?;
        stored.identity().check_same(field.identity())?;
        stored.identity().check_model(vectors_of)?;
        // Tantivy asks for the tokenizer even though no vector goes through it here.
        register(&mut index.clone())?;
        let writer = index
            .writer_with_num_threads(1, MIN_MEMORY_BUDGET)
            .map_err(|e| Error::during("opening the index for writing", e))?;
        remove_leftovers(&writer)?;
        Ok(BulkWriter::over(writer, stored, memory_budget))
    }

    fn over(writer: IndexWriter, field: LaconicField, memory_budget: usize) -> BulkWriter {
        // Segments of one session may only be merged once they are committed: see `deletes`.
        writer.set_merge_policy(Box::new(NoMergePolicy));
        BulkWriter {
            writer,
            field,
            memory_budget: memory_budget - WRITER_BYTES,
            n_threads: 1,
            reorder: false,
            threads: None,
            replaced_ids: HashSet::new(),
            replaced_bytes: 0,
            has_plain_documents: false,
            finished: Vec::new(),
            ages: SegmentAges::default(),
            newest: 0,
            merge_policy: || Box::new(LogMergePolicy::default()),
            totals: BulkTotals::default(),
            failed: false,
            lost_lock: false,
        }
    }

    /// Builds segments on `n_threads` threads, the calling one among them, or on as many as have
    /// [`MIN_MEMORY_BUDGET`] each. Each has a segment under construction, so a commit leaves at
    /// least as many. What goes wrong on a thread is reported by a later call, a commit at the
    /// latest.
    #[must_use]
    pub fn with_threads(mut self, n_threads: usize) -> BulkWriter {
        let most = self.memory_budget / MIN_MEMORY_BUDGET;
        self.n_threads = n_threads.min(most).max(1);
        self
    }

    /// Leaves the segments as they are written, instead of merging them in the background after
    /// each commit.
    #[must_use]
    pub fn without_merges(mut self) -> BulkWriter {
        self.merge_policy = || Box::new(NoMergePolicy);
        self
    }

    /// Brings the documents of every segment into an order in which those with similar vectors
    /// stand together, by recursive graph bisection, which makes search faster. Takes several
    /// times as long and about three times the memory for a posting, so segments are smaller;
    /// [`optimize`](crate::optimize) orders an index as a whole.
    ///
    /// # Errors
    /// `is_invalid_input` for an index that is sorted by a field.
    pub fn with_reordering(mut self) -> Result<BulkWriter, Error> {
        check_order(self.writer.index())?;
        self.reorder = true;
        Ok(self)
    }

    /// Adds a document. `document` holds the other fields; an empty vector is fine.
    ///
    /// # Errors
    /// `is_invalid_input` when the document has a value of the laconic field; Tantivy's errors
    /// for a document that does not fit the schema, and for I/O when a full segment is written.
    pub fn add(&mut self, document: TantivyDocument, vector: &SparseVector) -> Result<(), Error> {
        self.check_document(&document)?;
        self.has_plain_documents = true;
        self.guarded(|writer| writer.push(document, vector))
    }

    /// Adds a document in place of all earlier ones that contain `id`, committed or not.
    ///
    /// # Errors
    /// As [`add`](BulkWriter::add).
    pub fn replace(
        &mut self,
        id: Term,
        document: TantivyDocument,
        vector: &SparseVector,
    ) -> Result<(), Error> {
        self.check_document(&document)?;
        self.guarded(|writer| {
            if writer.has_plain_documents || writer.replaced_ids.contains(&id) {
                writer.hand_over()?;
            }
            writer.replaced_bytes += TERM_BYTES + id.serialized_value_bytes().len();
            writer.replaced_ids.insert(id);
            writer.push(document, vector)
        })
    }

    /// Deletes all documents that contain one of `ids`, committed or not. Ends the segment under
    /// construction, so delete many at a time.
    ///
    /// # Errors
    /// As [`add`](BulkWriter::add).
    pub fn delete(&mut self, ids: impl IntoIterator<Item = Term>) -> Result<(), Error> {
        self.check_usable()?;
        let ids: Vec<Term> = ids.into_iter().collect();
        self.guarded(|writer| {
            writer.hand_over()?;
            writer.delete_older(ids, writer.newest + 1)
        })
    }

    /// Publishes everything since the last commit, atomically and durably, with `payload`
    /// beside it (readable from `Index::load_metas`).
    ///
    /// # Errors
    /// Tantivy's for I/O. The last commit stays; only when the very last sync of the folder fails
    /// is it the new one already, which its payload tells.
    pub fn commit(&mut self, payload: Option<&str>) -> Result<Opstamp, Error> {
        self.check_usable()?;
        self.guarded(|bulk| {
            bulk.hand_over()?;
            bulk.writer.set_merge_policy((bulk.merge_policy)());
            let mut prepared = bulk.writer.prepare_commit()?;
            if let Some(payload) = payload {
                prepared.set_payload(payload);
            }
            let opstamp = prepared.commit()?;
            bulk.writer.set_merge_policy(Box::new(NoMergePolicy));
            // Tantivy syncs the directory before it renames `meta.json`, not after: a power cut
            // could undo a commit that was already acknowledged.
            tantivy::Directory::sync_directory(bulk.writer.index().directory())?;
            Ok(opstamp)
        })
    }

    /// Drops everything since the last commit; the writer is usable again.
    ///
    /// # Errors
    /// Tantivy's for I/O.
    pub fn rollback(&mut self) -> Result<(), Error> {
        self.check_lock()?;
        self.threads = None;
        self.finished.clear();
        self.replaced_ids.clear();
        self.replaced_bytes = 0;
        self.has_plain_documents = false;
        self.failed = true;
        self.lost_lock = true; // Tantivy lets go of it first, and gets it back last
        self.writer
            .rollback()
            .map_err(|e| Error::during("rolling back", e))?;
        self.lost_lock = false;
        self.writer.set_merge_policy(Box::new(NoMergePolicy));
        remove_leftovers(&self.writer)?;
        self.failed = false;
        Ok(())
    }

    /// Waits for background merges and releases the lock. What was not committed is dropped.
    ///
    /// # Errors
    /// Tantivy's when a merge failed.
    pub fn close(self) -> Result<(), Error> {
        self.writer
            .wait_merging_threads()
            .map_err(|e| Error::during("merging segments", e))
    }

    /// What was written so far.
    pub fn totals(&self) -> BulkTotals {
        self.totals
    }

    fn push(&mut self, document: TantivyDocument, vector: &SparseVector) -> tantivy::Result<()> {
        let threads = match &mut self.threads {
            Some(threads) => threads,
            None => {
                let threads = Threads::start(self.n_threads, &self.segment_settings())?;
                self.threads.insert(threads)
            }
        };
        // Several threads leave room for the ids; one alone ends its segment when it gets narrow.
        let taken = if self.n_threads == 1 {
            self.replaced_bytes
        } else {
            0
        };
        let finished = threads.push(document, vector.parts(), taken)?;
        // With one thread, nothing is under construction behind a segment that is finished.
        let is_over = match self.n_threads {
            1 => !finished.is_empty(),
            _ => self.replaced_bytes >= self.memory_budget / IDS_SHARE,
        };
        self.note(finished);
        if is_over {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Of each thread.
    fn segment_settings(&self) -> SegmentSettings {
        let memory_budget = match self.n_threads {
            1 => self.memory_budget,
            n => (self.memory_budget - self.memory_budget / IDS_SHARE) / n - BATCHES_BYTES,
        };
        SegmentSettings {
            index: self.writer.index().clone(),
            field: self.field.clone(),
            memory_budget,
            reorder: self.reorder,
        }
    }

    fn note(&mut self, finished: impl IntoIterator<Item = Finished>) {
        for segment in finished {
            self.totals += segment.totals;
            self.finished.push(segment);
        }
    }

    /// Hands all segments to Tantivy, those under construction too, and deletes what their
    /// documents replace.
    fn hand_over(&mut self) -> tantivy::Result<()> {
        self.has_plain_documents = false;
        self.replaced_bytes = 0;
        if let Some(threads) = &mut self.threads {
            let finished = threads.finish()?;
            self.note(finished);
        }
        if self.finished.is_empty() {
            return Ok(());
        }
        self.newest += 1;
        for segment in self.finished.drain(..) {
            self.ages.enter(segment.meta.id(), self.newest);
            self.writer.add_segment(segment.meta)?;
        }
        let replaced = self.replaced_ids.drain().collect();
        self.delete_older(replaced, self.newest)
    }

    fn delete_older(&mut self, mut ids: Vec<Term>, before: u64) -> tantivy::Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        let delete = DeleteOlder {
            ids: ids.into(),
            before,
            ages: self.ages.clone(),
        };
        self.writer.delete_query(Box::new(delete)).map(|_| ())
    }

    fn check_document(&self, document: &TantivyDocument) -> Result<(), Error> {
        self.check_usable()?;
        if document.get_first(self.field.field()).is_none() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the document has a value for the laconic field `{}`; give the vector instead",
            self.field.name()
        )))
    }

    fn check_lock(&self) -> Result<(), Error> {
        if self.lost_lock {
            return Err(Error::invalid(
                "rolling back failed before; open the index anew to go on from the last commit",
            ));
        }
        Ok(())
    }

    fn check_usable(&self) -> Result<(), Error> {
        self.check_lock()?;
        if self.failed {
            return Err(Error::invalid(
                "the bulk writer failed before; call `rollback` to go on from the last commit",
            ));
        }
        Ok(())
    }

    /// Runs a step and marks the writer dead if it fails.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut BulkWriter) -> tantivy::Result<T>,
    ) -> Result<T, Error> {
        step(self).map_err(|error| {
            self.failed = true;
            Error::during("writing documents to the index", error)
        })
    }
}

/// Deletes the files of a session that did not end in a commit.
///
/// Tantivy would do so after the next commit, which may never come: a file of deletes is named
/// after its segment and the number of the operation, so a session that is run again meets the
/// file of the first attempt, and Tantivy refuses to overwrite it.
fn remove_leftovers(writer: &IndexWriter) -> Result<(), Error> {
    let removed = writer.garbage_collect_files().wait();
    removed
        .map(|_| ())
        .map_err(|e| Error::during("removing files of an unfinished session", e))
}
