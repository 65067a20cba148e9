//! [`LaconicTopK`]: the `k` best documents, and what finding them took.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;

use tantivy::query::EnableScoring;
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentOrdinal};

use super::best::Best;
use super::filter::Admission;
use super::open_segment::OpenSegment;
use super::segment::{Evaluation, EvaluationMode};
use super::sum_query::SumQuery;
use super::top_hits::{Approximation, SearchWork, TopHits};
use super::two_step;
use super::weight::SumWeight;
use crate::Error;
use crate::bounds::{BLOCK_BITS, SUPERBLOCK_BITS};

/// Fewest documents that are worth a thread of their own.
const MIN_DOCS_PER_THREAD: u32 = 1 << 16;

/// Searches for the `k` best documents of a [`LaconicQuery`](crate::LaconicQuery), a
/// [`Bm25Query`](crate::Bm25Query) or a [`HybridQuery`](crate::HybridQuery): score descending, then
/// document address ascending. Exact unless [`approximate`](LaconicTopK::approximate) is called.
///
/// Faster than `TopDocs`, which may be used as well: it knows `k`, begins with the most promising
/// documents, and carries its threshold over segments and threads.
///
/// ```
/// use laconic_tantivy::{BulkWriter, Identity, LaconicField, LaconicQuery, LaconicTopK, SparseVector};
/// use tantivy::{TantivyDocument, schema::Schema};
///
/// let folder = tempfile::tempdir()?;
/// let mut schema = Schema::builder();
/// let laconic = LaconicField::add_to(&mut schema, "laconic", Identity::default());
/// let index = laconic_tantivy::create_in_dir(folder.path(), schema.build())?;
/// let mut writer = BulkWriter::new(&index, &laconic, None, 50_000_000)?;
/// for weight in [0.5, 1.5, 1.0] {
///     let vector = SparseVector::from_pairs([("Ġsearch", weight)])?;
///     writer.add(TantivyDocument::default(), &vector)?;
/// }
/// writer.commit(None)?;
///
/// let query = LaconicQuery::new(&laconic, SparseVector::from_pairs([("Ġsearch", 2.0)])?);
/// let top = LaconicTopK::new(2).search(&index.reader()?.searcher(), &query)?;
/// let scores: Vec<f32> = top.hits.iter().map(|(score, _)| *score).collect();
/// assert_eq!(scores, [3.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LaconicTopK {
    k: usize,
    n_threads: usize,
    exhaustive: bool,
    always_bounded: bool,
    approximation: Approximation,
    offset: usize,
    after: Option<(Score, DocAddress)>,
    min_score: Option<Score>,
}

/// Some documents of a segment, ready to be evaluated.
struct Task<'a> {
    segment_ord: SegmentOrdinal,
    segment: &'a OpenSegment<'a>,
    n_docs: u32,
    evaluation: Evaluation<'a>,
}

impl LaconicTopK {
    /// Exact search for the `k` best, on one thread.
    #[must_use]
    pub fn new(k: usize) -> LaconicTopK {
        LaconicTopK {
            k,
            n_threads: 1,
            exhaustive: false,
            always_bounded: false,
            approximation: Approximation::default(),
            offset: 0,
            after: None,
            min_score: None,
        }
    }

    /// Leaves the first `n` documents out. Every page costs as much as all before it together;
    /// [`after`](LaconicTopK::after) does not.
    #[must_use]
    pub fn offset(mut self, n: usize) -> LaconicTopK {
        self.offset = n;
        self
    }

    /// Only documents behind this place of the ranking: the last hit of the page before. As long
    /// as the searcher is the same, pages neither skip nor repeat a document.
    #[must_use]
    pub fn after(mut self, score: Score, address: DocAddress) -> LaconicTopK {
        self.after = Some((score, address));
        self
    }

    /// Only documents with at least this score.
    #[must_use]
    pub fn min_score(mut self, score: Score) -> LaconicTopK {
        self.min_score = Some(score);
        self
    }

    /// Searches on up to `n_threads` threads, splitting large segments.
    #[must_use]
    pub fn threads(mut self, n_threads: usize) -> LaconicTopK {
        self.n_threads = n_threads.max(1);
        self
    }

    /// Adds up every posting, without looking at any bound.
    #[must_use]
    pub fn exhaustive(mut self) -> LaconicTopK {
        self.exhaustive = true;
        self
    }

    /// Reads bounds wherever there are any, even where reading them is not expected to pay: for
    /// tests and measurements.
    #[must_use]
    pub fn always_bounded(mut self) -> LaconicTopK {
        self.always_bounded = true;
        self
    }

    /// Trades exactness for speed.
    #[must_use]
    pub fn approximate(mut self, approximation: Approximation) -> LaconicTopK {
        self.approximation = approximation;
        self
    }

    /// Runs the search.
    ///
    /// # Errors
    /// `is_mismatch` for an index of another model, `is_corrupt` for damaged files,
    /// `is_invalid_input` for query weights that no score can hold, for a factor below 1 and for
    /// scores that are no numbers.
    pub fn search(&self, searcher: &Searcher, query: &dyn SumQuery) -> Result<TopHits, Error> {
        self.check()?;
        let parts = query.parts();
        let n_terms = parts.learned.map_or(0, |(query, _)| query.vector().len());
        match self.approximation.query_terms {
            Some(n) if n < n_terms => two_step::search(self, searcher, &parts, n),
            _ => self.search_by_all_terms(searcher, &self.weight(searcher, query)?),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(factor) = self.approximation.overestimate
            && (factor < 1.0 || factor.is_nan())
        {
            return Err(Error::invalid(format!(
                "the factor of overestimation is {factor}; it has to be at least 1"
            )));
        }
        if self.min_score.is_some_and(f32::is_nan) || self.after.is_some_and(|(at, _)| at.is_nan())
        {
            let message = "a score to begin with is not a number";
            return Err(Error::invalid(message));
        }
        Ok(())
    }

    fn weight(&self, searcher: &Searcher, query: &dyn SumQuery) -> Result<SumWeight, Error> {
        let scoring = EnableScoring::enabled_from_searcher(searcher);
        SumWeight::new(&query.parts(), scoring)
    }

    /// The same search for another number of documents from the first on, by all terms of the
    /// query.
    pub(super) fn candidates(&self, k: usize) -> LaconicTopK {
        LaconicTopK {
            k,
            offset: 0,
            after: None,
            min_score: None,
            approximation: Approximation {
                query_terms: None,
                ..self.approximation
            },
            ..*self
        }
    }

    /// So many documents have to be found.
    pub(super) fn n_wanted(&self) -> usize {
        self.k.saturating_add(self.offset)
    }

    /// An empty result that takes what this search may find.
    pub(super) fn new_best<'a>(&self, weight: &SumWeight, threshold: &'a AtomicU32) -> Best<'a> {
        let mut best = Best::new(self.n_wanted().max(1), weight.score_of(), threshold);
        if let Some((score, address)) = self.after {
            best.start_after(score, address);
        }
        if let Some(min_score) = self.min_score {
            best.start_at_score(min_score);
        }
        best
    }

    /// The page of a result that was asked for.
    pub(super) fn page(&self, mut best: Best<'_>) -> Vec<(Score, DocAddress)> {
        let mut hits = best.take_hits();
        hits.drain(..self.offset.min(hits.len()));
        hits.truncate(self.k);
        hits
    }

    pub(super) fn search_by_all_terms(
        &self,
        searcher: &Searcher,
        weight: &SumWeight,
    ) -> Result<TopHits, Error> {
        if self.k == 0 {
            return Ok(TopHits::default());
        }
        let readers = searcher.segment_readers();
        let mode = self.mode();
        let segments = readers.iter().map(|reader| weight.open(reader, mode));
        let segments = segments.collect::<tantivy::Result<Vec<_>>>()?;
        let mut tasks = self.tasks(weight, &segments);
        tasks.sort_by_key(|task| Reverse(task.evaluation.max_bound()));
        let mut work = SearchWork::default();
        for segment in &segments {
            work.blocks += u64::from(segment.reader.max_doc().div_ceil(1 << BLOCK_BITS));
            work.postings += segment.n_postings();
        }
        let threshold = AtomicU32::new(1);
        let n_threads = self.n_threads.min(tasks.len()).max(1);
        let tasks = Mutex::new(tasks.into_iter());
        let next_task = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let n_docs = searcher.num_docs();
        let run = || {
            let mut best = self.new_best(weight, &threshold);
            let mut work = SearchWork::default();
            while let Some(task) = next_task() {
                let (reader, filter) = (task.segment.reader, &task.segment.filter);
                best.enter_segment(task.segment_ord, Admission::new(reader, filter));
                work += self.run(task, n_docs, &mut best);
                best.leave_segment()?;
            }
            Ok((best, work))
        };
        let (best, first_work) = if n_threads == 1 {
            run()?
        } else {
            run_on_threads(n_threads, &run)?
        };
        work += first_work;
        Ok(TopHits {
            hits: self.page(best),
            work,
        })
    }

    fn mode(&self) -> EvaluationMode {
        match self.approximation.max_documents {
            _ if self.exhaustive => EvaluationMode::Exhaustive,
            Some(_) => EvaluationMode::Bounded,
            None if self.always_bounded => EvaluationMode::Bounded,
            None => EvaluationMode::Pruned {
                n_wanted: self.n_wanted(),
            },
        }
    }

    fn tasks<'a>(&self, weight: &'a SumWeight, segments: &'a [OpenSegment<'a>]) -> Vec<Task<'a>> {
        let max_docs = segments.iter().map(|segment| segment.reader.max_doc());
        let n_docs: u32 = max_docs.sum();
        let n_threads = u32::try_from(self.n_threads).unwrap_or(u32::MAX);
        let docs_per_task = match self.n_threads {
            1 => u32::MAX,
            _ => n_docs.div_ceil(n_threads).max(MIN_DOCS_PER_THREAD),
        };
        let mut tasks = Vec::with_capacity(segments.len());
        for (segment_ord, segment) in (0..).zip(segments) {
            for docs in split(segment.reader.max_doc(), docs_per_task) {
                tasks.push(Task {
                    segment_ord,
                    segment,
                    n_docs: docs.end - docs.start,
                    evaluation: weight.evaluation(segment, docs, self.mode()),
                });
            }
        }
        tasks
    }

    fn run(&self, task: Task<'_>, n_docs: u64, best: &mut Best<'_>) -> SearchWork {
        match (task.evaluation, self.approximation.max_documents) {
            (Evaluation::Pruned(pruned), Some(budget)) if budget < n_docs => {
                let share = budget.saturating_mul(task.n_docs.into()) / n_docs;
                let n_blocks = (share >> BLOCK_BITS).max(1);
                pruned.collect_most_promising(usize::try_from(n_blocks).unwrap_or(0), best)
            }
            (Evaluation::Pruned(mut pruned), _) => {
                pruned.overestimate(self.approximation.overestimate.unwrap_or(1.0));
                pruned.collect(best)
            }
            (sweep, _) => sweep.collect(best),
        }
    }
}

fn run_on_threads<'b>(
    n_threads: usize,
    run: &(impl Fn() -> Result<(Best<'b>, SearchWork), Error> + Sync),
) -> Result<(Best<'b>, SearchWork), Error> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads).map(|_| scope.spawn(run)).collect();
        let mut merged = run();
        for other in others {
            let other = other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            merged = merged.and_then(|(mut best, work_so_far)| {
                let (other_best, mut work) = other?;
                best.merge(other_best);
                work += work_so_far;
                Ok((best, work))
            });
        }
        merged
    })
}

/// Splits documents into ranges of about `n` that begin with a superblock.
fn split(max_doc: DocId, n: u32) -> impl Iterator<Item = Range<DocId>> {
    let n = n
        .div_ceil(1 << SUPERBLOCK_BITS)
        .saturating_mul(1 << SUPERBLOCK_BITS)
        .max(1);
    let starts = (0..max_doc).step_by(n as usize);
    starts.map(move |start| start..max_doc.min(start.saturating_add(n)))
}
