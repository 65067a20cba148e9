//! `laconic check`: is every byte of the index what it should be?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Global;
use crate::terminal::{Ending, print, print_json, progress};

/// Verify an index: every checksum, every posting, every stored document
///
/// Reads the whole index. Works on any Tantivy index; the invariants of laconic fields are
/// checked where there are any. Ends with exit code 4 if something is wrong.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
}

impl Check {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let index = laconic_tantivy::open_in_dir(&self.index)?;
        let bar = progress("segments", Some(0), global.quiet);
        // Damage can make Tantivy panic; that is caught and reported, not printed.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let report = laconic_tantivy::check(&index, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        });
        std::panic::set_hook(hook);
        bar.finish_and_clear();
        let report = report?;
        if global.json {
            let problems = report.problems.iter();
            let problems: Vec<_> = problems
                .map(|p| json!({"place": p.place, "fault": p.fault}))
                .collect();
            print_json(&json!({
                "clean": report.is_clean(),
                "segments": report.segments,
                "files": report.files,
                "documents": report.documents,
                "postings": report.postings,
                "problems": problems,
            }))?;
        } else {
            for problem in &report.problems {
                print(format_args!("{}: {}", problem.place, problem.fault))?;
            }
            let verdict = if report.is_clean() {
                "clean"
            } else {
                "DAMAGED"
            };
            print(format_args!(
                "{verdict}: {} files in {} segments, {} stored documents, {} postings",
                report.files, report.segments, report.documents, report.postings
            ))?;
        }
        Ok(if report.is_clean() {
            Ending::Done
        } else {
            Ending::Damaged
        })
    }
}
