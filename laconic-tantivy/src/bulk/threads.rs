//! [`Threads`]: several segments under construction at a time, one by the caller's thread and each
//! of the others by a thread of its own.
//!
//! Documents are dealt in batches, in turn, so that what a segment holds depends on the documents
//! and the budget alone. A thread that fails says so and ends; the next call meets the error.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use tantivy::{TantivyDocument, TantivyError};

use super::batch::{BATCH_BYTES, Batch, BatchSize};
use super::segments::{Finished, SegmentSettings, Segments};
use crate::vector::VectorParts;

/// Bytes of the batches that a thread causes to be held: one collected, one waiting, and one in
/// work, in buffers that double as they grow.
pub(crate) const BATCHES_BYTES: usize = 2 * 3 * BATCH_BYTES;

enum Order {
    Add(Batch),
    Finish,
}

enum Report {
    Finished(Finished),
    /// All before an [`Order::Finish`] is finished.
    Idle,
}

pub(crate) struct Threads {
    own: Segments,
    orders: Vec<SyncSender<Order>>,
    reports: Receiver<tantivy::Result<Report>>,
    handles: Vec<JoinHandle<()>>,
    /// Of the turn's documents, those that are not the caller's.
    batch: Batch,
    size: BatchSize,
    /// Whose turn it is: 0 is the caller's, then come the threads.
    turn: usize,
}

impl Threads {
    /// `settings` are those of each thread.
    pub(crate) fn start(n_threads: usize, settings: &SegmentSettings) -> tantivy::Result<Threads> {
        let (report, reports) = channel();
        let mut threads = Threads {
            own: Segments::new(settings.clone()),
            orders: Vec::new(),
            reports,
            handles: Vec::new(),
            batch: Batch::default(),
            size: BatchSize::default(),
            turn: 0,
        };
        for number in 1..n_threads {
            let (order, orders) = sync_channel(1);
            let (settings, report) = (settings.clone(), report.clone());
            let handle = std::thread::Builder::new()
                .name(format!("laconic-segment-{number}"))
                .spawn(move || work(Segments::new(settings), &orders, &Reporter(report)))
                .map_err(|e| TantivyError::SystemError(format!("cannot start a thread: {e}")))?;
            threads.orders.push(order);
            threads.handles.push(handle);
        }
        Ok(threads)
    }

    /// Adds a document; returns segments that have been finished since the last call. `taken`
    /// bytes of the memory are in use elsewhere, beyond what the threads were told to leave.
    pub(crate) fn push(
        &mut self,
        document: TantivyDocument,
        vector: VectorParts<'_>,
        taken: usize,
    ) -> tantivy::Result<Vec<Finished>> {
        self.size.add(&document, vector);
        let mut finished = Vec::new();
        if self.turn == 0 {
            finished.extend(self.own.push(document, vector, taken)?);
        } else {
            self.batch.push(document, vector);
        }
        if !self.size.is_full() {
            return Ok(finished);
        }
        self.end_turn()?;
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Finished(segment) = report? {
                finished.push(segment);
            }
        }
        Ok(finished)
    }

    /// Ends all segments under construction, and returns those not returned yet.
    pub(crate) fn finish(&mut self) -> tantivy::Result<Vec<Finished>> {
        self.end_turn()?;
        self.turn = 0;
        for number in 0..self.orders.len() {
            self.send(number, Order::Finish)?;
        }
        let mut finished: Vec<_> = self.own.finish()?.into_iter().collect();
        let mut n_idle = 0;
        while n_idle < self.orders.len() {
            match self.reports.recv().map_err(|_| ended())?? {
                Report::Finished(segment) => finished.push(segment),
                Report::Idle => n_idle += 1,
            }
        }
        Ok(finished)
    }

    fn end_turn(&mut self) -> tantivy::Result<()> {
        self.size = BatchSize::default();
        let thread = self.turn.checked_sub(1);
        self.turn = (self.turn + 1) % (1 + self.orders.len());
        let batch = std::mem::take(&mut self.batch);
        match thread {
            Some(number) if !batch.is_empty() => self.send(number, Order::Add(batch)),
            _ => Ok(()),
        }
    }

    /// A thread that takes no orders has reported why, unless it panicked.
    fn send(&mut self, number: usize, order: Order) -> tantivy::Result<()> {
        if self.orders[number].send(order).is_ok() {
            return Ok(());
        }
        let errors = self.reports.try_iter().filter_map(Result::err);
        Err(errors.last().unwrap_or_else(ended))
    }
}

impl Drop for Threads {
    /// Waits for the threads: they must not write when the lock of the index is gone.
    fn drop(&mut self) {
        self.orders.clear();
        for handle in self.handles.drain(..) {
            // What a panic had to say is on standard error.
            let _ = handle.join();
        }
    }
}

fn ended() -> TantivyError {
    TantivyError::ErrorInThread("a thread that writes segments has ended".to_owned())
}

/// Reports a panic too: whoever waits for a report would wait for ever.
struct Reporter(Sender<tantivy::Result<Report>>);

impl Reporter {
    fn tell(&self, report: tantivy::Result<Report>) {
        // Nobody listens any more when the writer is dropped.
        let _ = self.0.send(report);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Err(ended()));
        }
    }
}

fn work(mut segments: Segments, orders: &Receiver<Order>, reporter: &Reporter) {
    for order in orders {
        if let Err(error) = obey(&mut segments, order, reporter) {
            reporter.tell(Err(error));
            return;
        }
    }
}

fn obey(segments: &mut Segments, order: Order, reporter: &Reporter) -> tantivy::Result<()> {
    match order {
        Order::Add(batch) => {
            batch.into_each(|document, vector| {
                if let Some(finished) = segments.push(document, vector, 0)? {
                    reporter.tell(Ok(Report::Finished(finished)));
                }
                tantivy::Result::Ok(())
            })?;
        }
        Order::Finish => {
            if let Some(finished) = segments.finish()? {
                reporter.tell(Ok(Report::Finished(finished)));
            }
            reporter.tell(Ok(Report::Idle));
        }
    }
    Ok(())
}
