//! [`Threads`]: several segments under construction at a time, each on a thread of its own.
//!
//! Documents are dealt in batches, in turn, so that what a segment holds depends on the documents
//! and the budget alone. A thread that fails says so and ends; the next call meets the error.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use tantivy::schema::Value;
use tantivy::{TantivyDocument, TantivyError};

use super::segments::{Finished, SegmentSettings, Segments};
use crate::SparseVector;

/// A batch has at most so many documents,
const BATCH_DOCS: usize = 64;
/// and ends with the one that makes it larger than this many bytes.
const BATCH_BYTES: usize = 128 << 10;

/// Bytes of the batches that a thread causes to be held: one collected, one waiting, and one in
/// work.
pub(crate) const BATCHES_BYTES: usize = 3 * BATCH_BYTES;

type Batch = Vec<(TantivyDocument, SparseVector)>;

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
    orders: Vec<SyncSender<Order>>,
    reports: Receiver<tantivy::Result<Report>>,
    handles: Vec<JoinHandle<()>>,
    batch: Batch,
    batch_bytes: usize,
    /// Whose turn it is.
    next: usize,
}

impl Threads {
    /// `settings` are those of each thread.
    pub(crate) fn start(n_threads: usize, settings: &SegmentSettings) -> tantivy::Result<Threads> {
        let (report, reports) = channel();
        let mut threads = Threads {
            orders: Vec::new(),
            reports,
            handles: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            next: 0,
        };
        for number in 0..n_threads {
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

    /// Adds a document; returns segments that have been finished since the last call.
    pub(crate) fn push(
        &mut self,
        document: TantivyDocument,
        vector: &SparseVector,
    ) -> tantivy::Result<Vec<Finished>> {
        self.batch_bytes += weight(&document) + vector.mem_usage();
        self.batch.push((document, vector.clone()));
        if self.batch.len() < BATCH_DOCS && self.batch_bytes < BATCH_BYTES {
            return Ok(Vec::new());
        }
        self.deal()?;
        let mut finished = Vec::new();
        while let Ok(report) = self.reports.try_recv() {
            if let Report::Finished(segment) = report? {
                finished.push(segment);
            }
        }
        Ok(finished)
    }

    /// Ends all segments under construction, and returns those not returned yet.
    pub(crate) fn finish(&mut self) -> tantivy::Result<Vec<Finished>> {
        self.deal()?;
        self.next = 0;
        for number in 0..self.orders.len() {
            self.send(number, Order::Finish)?;
        }
        let mut finished = Vec::new();
        let mut n_idle = 0;
        while n_idle < self.orders.len() {
            match self.reports.recv().map_err(|_| ended())?? {
                Report::Finished(segment) => finished.push(segment),
                Report::Idle => n_idle += 1,
            }
        }
        Ok(finished)
    }

    fn deal(&mut self) -> tantivy::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let number = self.next;
        self.next = (number + 1) % self.orders.len();
        self.send(number, Order::Add(batch))
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
            for (document, vector) in batch {
                if let Some(finished) = segments.push(document, &vector, 0)? {
                    reporter.tell(Ok(Report::Finished(finished)));
                }
            }
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

/// About how many bytes a document takes.
fn weight(document: &TantivyDocument) -> usize {
    document
        .field_values()
        .map(|(_, value)| weight_of_value(value))
        .sum()
}

fn weight_of_value<'a>(value: impl Value<'a>) -> usize {
    const NODE: usize = 16;
    if let Some(text) = value.as_str() {
        return NODE + text.len();
    }
    if let Some(bytes) = value.as_bytes() {
        return NODE + bytes.len();
    }
    if let Some(values) = value.as_array() {
        return NODE + values.map(weight_of_value).sum::<usize>();
    }
    match value.as_object() {
        Some(entries) => {
            let entries = entries.map(|(key, value)| NODE + key.len() + weight_of_value(value));
            NODE + entries.sum::<usize>()
        }
        None => NODE,
    }
}
