//! [`Watch`]: how far a job is, for a person at a terminal and for a program that reads a file.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use laconic_tantivy::{ReindexProgress, ReindexStep};
use serde_json::json;

use crate::terminal::progress;

/// Between two states of the progress file.
const EVERY: Duration = Duration::from_secs(1);

/// Shows progress.
pub(crate) struct Watch {
    bar: ProgressBar,
    file: Option<PathBuf>,
    /// Nothing is to be said at the terminal.
    pub(crate) is_quiet: bool,
    state: ReindexProgress,
    step_began: Instant,
    last_write: Option<Instant>,
}

impl Watch {
    /// `file` is replaced about every second.
    pub(crate) fn new(file: Option<PathBuf>, quiet: bool) -> Watch {
        Watch {
            bar: progress("starting", Some(0), quiet),
            file,
            is_quiet: quiet,
            state: ReindexProgress {
                step: ReindexStep::Vectors,
                done: 0,
                resumed: 0,
                total: 0,
            },
            step_began: Instant::now(),
            last_write: None,
        }
    }

    /// Shows a state. A progress file that cannot be written is no reason to end a job of days.
    pub(crate) fn show(&mut self, state: ReindexProgress) {
        if state.step != self.state.step {
            self.step_began = Instant::now();
            self.last_write = None;
        }
        if (state.step, state.resumed) != (self.state.step, self.state.resumed) {
            self.bar.reset_eta();
        }
        self.state = state;
        self.bar.set_message(match state.step {
            ReindexStep::Vectors => "documents",
            ReindexStep::Assembling => "assembling",
        });
        self.bar.set_length(state.total);
        self.bar.set_position(state.done);
        if self.last_write.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last_write = Some(Instant::now());
            if let Err(error) = self.write("running") {
                log::warn!("{error:#}");
            }
        }
    }

    /// Says how it ended.
    ///
    /// # Errors
    /// When the progress file cannot be written.
    pub(crate) fn finish(&mut self, is_done: bool) -> Result<()> {
        self.bar.finish_and_clear();
        self.write(if is_done { "done" } else { "failed" })
    }

    fn write(&self, state: &str) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let ReindexProgress {
            done,
            resumed,
            total,
            ..
        } = self.state;
        let seconds = self.step_began.elapsed().as_secs_f64();
        let rate = to_f64(done - resumed) / seconds.max(1e-9);
        let remaining = (rate > 0.0).then(|| to_f64(total.saturating_sub(done)) / rate);
        let report = json!({
            "state": state,
            "step": match self.state.step {
                ReindexStep::Vectors => "vectors",
                ReindexStep::Assembling => "assembling",
            },
            "done": done,
            "resumed": resumed,
            "total": total,
            "seconds": seconds,
            "per_second": rate,
            "remaining_seconds": remaining,
        });
        let mut name = file.clone().into_os_string();
        name.push(".new");
        let context = || format!("cannot write the progress file {}", file.display());
        fs::write(&name, format!("{report}\n")).with_context(context)?;
        fs::rename(&name, file).with_context(context)
    }
}

/// Counts of documents and bytes are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
