//! [`Reindexer`]: a laconic field for an index that exists, whatever else it holds.
//!
//! The other fields are not indexed again: their sections of a segment's files are copied byte
//! for byte, and the new field's posting lists are spliced in, as [`bulk`](crate::BulkWriter)
//! does. So nothing has to be stored, no tokenizer registered, and nothing else changes.
//!
//! ```text
//! source ─▶ plan ─▶ units of documents ─ vectors ─▶ pieces ─▶ merged per segment ─▶ new index
//!                   (any process, any order)                 (spliced into a copy)
//! ```
//! The source is only read, and not locked; that it stayed the same is checked.

mod assemble;
mod carry;
mod merge;
mod meta;
mod piece;
mod plan;
mod purge;
mod rewrite;
mod segment;
mod unit;
mod work;

use std::ops::ControlFlow;

use tantivy::directory::Directory;
use tantivy::directory::error::OpenReadError;
use tantivy::{DocId, Index, Segment, SegmentReader};

use crate::bounds::EXTENSION;
use crate::{Error, Identity};
pub use assemble::ReindexReport;
use piece::plan_path;
use plan::PlanSettings;
pub use plan::{ReindexPlan, ReindexUnit};
pub use unit::{UnitDocuments, UnitVectors};
pub use work::WorkReport;

/// Documents of a unit unless asked otherwise.
const DEFAULT_UNIT_DOCS: DocId = 1 << 16;

/// Begins, or goes on with, a job that makes a copy of an index with a laconic field more.
///
/// ```
/// use std::ops::ControlFlow;
/// use laconic_tantivy::{Error, Identity, LaconicField, Reindexer, SparseVector};
/// use tantivy::directory::RamDirectory;
/// use tantivy::schema::{STORED, Schema, TEXT, Value};
/// use tantivy::{Index, TantivyDocument, doc};
///
/// // An index of a program that knows nothing of us.
/// let mut schema = Schema::builder();
/// let text = schema.add_text_field("text", TEXT | STORED);
/// let source = Index::create_in_ram(schema.build());
/// let mut writer = source.writer_with_num_threads(1, 15_000_000)?;
/// writer.add_document(doc!(text => "old songs"))?;
/// writer.commit()?;
///
/// // On a disk, both are `MmapDirectory`s.
/// let (job_folder, new_folder) = (RamDirectory::create(), RamDirectory::create());
/// let job = Reindexer::new(&source, "laconic", Identity::default()).begin(job_folder)?;
/// job.work::<Error>(
///     |_| true,
///     &mut |documents, vectors| {
///         for doc in documents.live() {
///             let stored: TantivyDocument = documents.stored(doc)?;
///             let words = stored.get_first(text).and_then(|value| value.as_str());
///             let terms = words.unwrap_or_default().split(' ').map(|word| (word, 1.0));
///             vectors.push(doc, &SparseVector::from_pairs(terms)?)?;
///         }
///         Ok(())
///     },
///     &mut |_| ControlFlow::Continue(()),
/// )?;
/// job.assemble(new_folder.clone(), &mut |_| ControlFlow::Continue(()))?;
///
/// let index = Index::open(new_folder)?;
/// assert!(LaconicField::find(&index.schema(), "laconic").is_ok());
/// # Ok::<(), Error>(())
/// ```
pub struct Reindexer {
    source: Index,
    settings: PlanSettings,
}

impl Reindexer {
    /// A job over the last commit of `source`, which is only read, for a field `name` of vectors
    /// that `identity` describes.
    pub fn new(source: &Index, name: &str, identity: Identity) -> Reindexer {
        let settings = PlanSettings {
            field: name.to_owned(),
            identity,
            replace: false,
            recipe: String::new(),
            unit_docs: DEFAULT_UNIT_DOCS,
            location: String::new(),
            mode: ReindexMode::Copy,
        };
        Reindexer {
            source: source.clone(),
            settings,
        }
    }

    /// Documents of a unit, 65,536 unless asked otherwise: what is lost when the work is
    /// interrupted, and what is held in memory.
    #[must_use]
    pub fn unit_docs(mut self, unit_docs: DocId) -> Reindexer {
        self.settings.unit_docs = unit_docs;
        self
    }

    /// Puts new vectors in the place of those that the laconic field of this name has. The field
    /// keeps its place in the schema and gets the new identity.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Reindexer {
        self.settings.replace = replace;
        self
    }

    /// How the vectors are made, in the caller's own words: kept in the plan, and a job is only
    /// gone on with under the same recipe.
    #[must_use]
    pub fn recipe(mut self, recipe: impl Into<String>) -> Reindexer {
        self.settings.recipe = recipe.into();
        self
    }

    /// Where the source is, kept in the plan for whoever works on it.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Reindexer {
        self.settings.location = location.into();
        self
    }

    /// How what the source holds gets into the new index: copied, unless asked otherwise.
    #[must_use]
    pub fn mode(mut self, mode: ReindexMode) -> Reindexer {
        self.settings.mode = mode;
        self
    }

    /// Writes the plan into the folder of the job, or goes on with the one that is there.
    ///
    /// # Errors
    /// `is_invalid_input` when the index has a field of this name (or, for a replacement, no
    /// laconic one), or cannot be carried over in the mode asked for; `is_mismatch` when the job was begun as something else; `is_corrupt` and
    /// Tantivy's for a source that cannot be read.
    pub fn begin(self, directory: impl Into<Box<dyn Directory>>) -> Result<ReindexJob, Error> {
        let directory = directory.into();
        let asked = ReindexPlan::new(&self.source, self.settings)?;
        let plan = match read_plan(&*directory)? {
            Some(plan) => {
                plan.check_same(&asked)?;
                plan
            }
            None => {
                check_readable(&self.source)?;
                let written = directory
                    .atomic_write(plan_path(), asked.to_json().as_bytes())
                    .and_then(|()| directory.sync_directory());
                written.map_err(|e| Error::during("writing the plan of the job", e))?;
                asked
            }
        };
        Ok(ReindexJob::of(self.source, directory, plan))
    }
}

/// A job that was begun: its plan, and the folder of its pieces.
pub struct ReindexJob {
    source: Index,
    directory: Box<dyn Directory>,
    plan: ReindexPlan,
    plan_hash: u128,
}

impl ReindexJob {
    fn of(source: Index, directory: Box<dyn Directory>, plan: ReindexPlan) -> ReindexJob {
        ReindexJob {
            source,
            directory,
            plan_hash: plan.hash(),
            plan,
        }
    }

    /// Joins a job that was begun, here or elsewhere.
    ///
    /// # Errors
    /// `is_invalid_input` when there is none; `is_mismatch` when the source is not what it was
    /// begun with.
    pub fn open(
        source: &Index,
        directory: impl Into<Box<dyn Directory>>,
    ) -> Result<ReindexJob, Error> {
        let directory = directory.into();
        let plan = ReindexPlan::read(&*directory)?;
        plan.check_source(source)?;
        Ok(ReindexJob::of(source.clone(), directory, plan))
    }

    /// What is to be done.
    pub fn plan(&self) -> &ReindexPlan {
        &self.plan
    }

    /// The index that is only read.
    pub fn source(&self) -> &Index {
        &self.source
    }

    /// Extensions of files of other programs' plugins, which a copy takes along as they are: they
    /// go on to hold what the plugin noted of the documents, and nothing of the new field.
    ///
    /// # Errors
    /// Tantivy's when `meta.json` cannot be read.
    pub fn copied_plugins(&self) -> Result<Vec<String>, Error> {
        let metas = self.source.load_metas();
        let metas = metas.map_err(|e| Error::during("reading the source's meta.json", e))?;
        let extensions = metas.persisted_custom_extensions.into_iter();
        Ok(extensions.filter(|ext| ext != EXTENSION).collect())
    }

    fn segments(&self) -> Result<Vec<Segment>, Error> {
        let segments = self.source.searchable_segments();
        segments.map_err(|e| Error::during("reading the source's meta.json", e))
    }
}

impl ReindexPlan {
    /// The plan in the folder of a job.
    ///
    /// # Errors
    /// `is_invalid_input` when there is none; as [`from_json`](ReindexPlan::from_json).
    pub fn read(directory: &dyn Directory) -> Result<ReindexPlan, Error> {
        read_plan(directory)?.ok_or_else(|| {
            Error::invalid("the folder holds no plan of a reindexing job; make one first")
        })
    }
}

fn read_plan(directory: &dyn Directory) -> Result<Option<ReindexPlan>, Error> {
    match directory.atomic_read(plan_path()) {
        Ok(bytes) => ReindexPlan::from_json(&String::from_utf8_lossy(&bytes)).map(Some),
        Err(OpenReadError::FileDoesNotExist(_)) => Ok(None),
        Err(error) => Err(Error::during("reading the plan of the job", error)),
    }
}

/// What cannot be opened is found out before days of work, not after.
fn check_readable(source: &Index) -> Result<(), Error> {
    let segments = source.searchable_segments();
    let segments = segments.map_err(|e| Error::during("reading the source's meta.json", e))?;
    for segment in segments {
        let attempt = || {
            let id = segment.id().short_uuid_string();
            format!("opening segment {id} of the source, which has to be readable by this version")
        };
        SegmentReader::open(&segment).map_err(|e| Error::during(attempt(), e))?;
    }
    Ok(())
}

/// How what the source holds gets into the new index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReindexMode {
    /// Byte for byte. Needs nothing stored, no tokenizer, and no plugin; deleted documents stay
    /// deleted. It can be done with every index that Tantivy opens.
    #[default]
    Copy,
    /// As a copy, but without the deleted documents: segments that have some are written anew
    /// from their own files. Needs nothing stored; refused where a plugin of another program has
    /// files.
    Purge,
    /// By indexing the stored documents again, deleted ones left out, in segments of about
    /// `memory_budget` bytes of memory. Refused if a field that is indexed or fast is not stored,
    /// or its tokenizer or a plugin not registered with the source.
    Rewrite {
        /// Bytes of memory at which a new segment ends, with the unit at hand.
        memory_budget: usize,
    },
}

/// What a reindexing job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReindexStep {
    /// Giving documents their vectors, in documents.
    Vectors,
    /// Writing the new index, in segments' bytes and postings.
    Assembling,
}

/// How far a reindexing job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReindexProgress {
    /// What is being done.
    pub step: ReindexStep,
    /// How much of the step is done.
    pub done: u64,
    /// How much of that an earlier run had done.
    pub resumed: u64,
    /// How much there is to do in this step.
    pub total: u64,
}

fn report(
    progress: &mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
    state: ReindexProgress,
) -> Result<(), Error> {
    match progress(state) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::cancelled(
            "reindexing was stopped; what is finished stays, and can be gone on from",
        )),
    }
}
