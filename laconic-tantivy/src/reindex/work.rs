//! [`ReindexJob::work`]: units into pieces.

use std::ops::ControlFlow;

use tantivy::SegmentReader;

use super::piece::{Found, Piece, PieceCounts, piece_path};
use super::plan::ReindexUnit;
use super::unit::{UnitDocuments, UnitVectors};
use super::{ReindexJob, ReindexProgress, ReindexStep, report};
use crate::{Error, QuantizationLoss};

/// What [`ReindexJob::work`] found done and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkReport {
    /// Units done now.
    pub units: u64,
    /// Units that had been done before.
    pub resumed_units: u64,
    /// Units that were there but damaged or of another plan, done again and counted above.
    pub redone_units: u64,
    /// Live documents of all these units.
    pub documents: u64,
    /// Of these, documents of units that had been done before.
    pub resumed_documents: u64,
    /// Documents without any posting.
    pub empty_documents: u64,
    /// Postings.
    pub postings: u64,
    /// Weights clipped or vanished.
    pub loss: QuantizationLoss,
}

impl WorkReport {
    fn add(&mut self, counts: PieceCounts) {
        self.documents += counts.documents;
        self.empty_documents += counts.empty;
        self.postings += counts.postings();
        self.loss += counts.loss;
    }
}

impl ReindexJob {
    /// Does the units whose numbers `wanted` accepts and that are not done yet. `vectors` is asked
    /// for the vectors of a unit's documents; `progress` is told how many documents have theirs,
    /// and ends the work by [`ControlFlow::Break`].
    ///
    /// A finished unit is durable. Work that is repeated, or done twice at the same time, does no
    /// harm.
    ///
    /// # Errors
    /// What `vectors` returns; `is_mismatch` when the source changed; `is_cancelled`; Tantivy's
    /// for I/O. Finished units stay.
    pub fn work<E: From<Error>>(
        &self,
        wanted: impl Fn(u32) -> bool,
        vectors: &mut dyn FnMut(&UnitDocuments<'_>, &mut UnitVectors<'_>) -> Result<(), E>,
        progress: &mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
    ) -> Result<WorkReport, E> {
        self.plan.check_source(&self.source)?;
        let units: Vec<_> = self.plan.units().filter(|u| wanted(u.number)).collect();
        let segments = self.segments()?;
        let mut work = Work {
            job: self,
            report: WorkReport::default(),
            total: 0,
            progress,
        };
        let mut reader: Option<(usize, SegmentReader)> = None;
        let mut open = |number: usize| -> Result<SegmentReader, Error> {
            if let Some((_, open)) = reader.as_ref().filter(|(open, _)| *open == number) {
                return Ok(open.clone());
            }
            let opened = SegmentReader::open(&segments[number]);
            let opened = opened.map_err(|e| Error::during("opening a segment of the source", e))?;
            reader = Some((number, opened.clone()));
            Ok(opened)
        };
        for unit in &units {
            work.total += live_docs(&open(unit.segment)?, unit);
        }
        for unit in &units {
            if !work.is_done(unit)? {
                let segment = open(unit.segment)?;
                work.make(unit, &segment, vectors)?;
            }
            work.tell()?;
        }
        self.plan.check_source(&self.source)?;
        Ok(work.report)
    }
}

fn live_docs(reader: &SegmentReader, unit: &ReindexUnit) -> u64 {
    let docs = unit.first_doc..unit.end_doc;
    match reader.alive_bitset() {
        None => u64::from(unit.end_doc - unit.first_doc),
        Some(alive) => docs.filter(|doc| alive.is_alive(*doc)).count() as u64,
    }
}

struct Work<'a> {
    job: &'a ReindexJob,
    report: WorkReport,
    total: u64,
    progress: &'a mut dyn FnMut(ReindexProgress) -> ControlFlow<()>,
}

impl Work<'_> {
    fn is_done(&mut self, unit: &ReindexUnit) -> Result<bool, Error> {
        let found = Piece::find(&*self.job.directory, self.job.plan_hash, unit);
        let found = found.map_err(|e| Error::during(format!("reading unit {}", unit.number), e))?;
        match found {
            Found::Nothing => Ok(false),
            Found::Refused(why) => {
                let path = piece_path(unit);
                log::warn!("{} {why}; it is done again", path.display());
                self.report.redone_units += 1;
                Ok(false)
            }
            Found::Piece(piece) => {
                self.report.resumed_units += 1;
                self.report.resumed_documents += piece.counts().documents;
                self.report.add(piece.counts());
                Ok(true)
            }
        }
    }

    fn make<E: From<Error>>(
        &mut self,
        unit: &ReindexUnit,
        reader: &SegmentReader,
        vectors: &mut dyn FnMut(&UnitDocuments<'_>, &mut UnitVectors<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let documents = UnitDocuments::open(reader, unit)
            .map_err(|e| Error::during("opening the stored documents", e))?;
        let quantizer = self.job.plan.identity()?.quantizer;
        let state = self.state();
        let mut taken = UnitVectors::new(reader, unit, quantizer, self.progress, state);
        vectors(&documents, &mut taken)?;
        let (counts, bytes) = taken.finish(self.job.plan_hash);
        let directory = &self.job.directory;
        let written = directory
            .atomic_write(&piece_path(unit), &bytes)
            .and_then(|()| directory.sync_directory());
        let attempt = || format!("writing {} of the job", piece_path(unit).display());
        written.map_err(|e| Error::during(attempt(), e))?;
        self.report.units += 1;
        self.report.add(counts);
        Ok(())
    }

    fn tell(&mut self) -> Result<(), Error> {
        let state = self.state();
        report(self.progress, state)
    }

    fn state(&self) -> ReindexProgress {
        ReindexProgress {
            step: ReindexStep::Vectors,
            done: self.report.documents,
            resumed: self.report.resumed_documents,
            total: self.total,
        }
    }
}
