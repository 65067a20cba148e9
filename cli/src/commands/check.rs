//! `laconic check`: is every byte of the index what it should be?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use laconic_tantivy::{CheckReport, Problem};
use serde_json::{Value, json};

use super::Global;
use crate::corpus::Corpus;
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
        let mut report = check_quietly(&index, global)?;
        if report.is_clean() {
            report.problems = self.repeated_ids()?;
        }
        match global.json {
            true => print_json(&to_json(&report))?,
            false => print_text(&report)?,
        }
        Ok(match report.is_clean() {
            true => Ending::Done,
            false => Ending::Damaged,
        })
    }

    /// What only an index of `laconic index` promises: one live document per id.
    fn repeated_ids(&self) -> Result<Vec<Problem>> {
        let Ok(corpus) = Corpus::open(&self.index) else {
            return Ok(Vec::new());
        };
        let problem = |id: String| Problem {
            place: "field `_id`".to_owned(),
            fault: format!("`{id}` is the id of more than one document"),
        };
        Ok(corpus.repeated_ids()?.into_iter().map(problem).collect())
    }
}

/// Damage can make Tantivy panic; that is caught and reported, not printed.
fn check_quietly(index: &tantivy::Index, global: &Global) -> Result<CheckReport> {
    let bar = progress("segments", Some(0), global.quiet);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let report = laconic_tantivy::check(index, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    std::panic::set_hook(hook);
    bar.finish_and_clear();
    Ok(report?)
}

fn to_json(report: &CheckReport) -> Value {
    let problem = |p: &Problem| json!({"place": p.place, "fault": p.fault});
    json!({
        "clean": report.is_clean(),
        "segments": report.segments,
        "files": report.files,
        "documents": report.documents,
        "postings": report.postings,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn print_text(report: &CheckReport) -> Result<()> {
    for problem in &report.problems {
        print(format_args!("{}: {}", problem.place, problem.fault))?;
    }
    let verdict = if report.is_clean() {
        "clean"
    } else {
        "DAMAGED"
    };
    Ok(print(format_args!(
        "{verdict}: {} files in {} segments, {} stored documents, {} postings",
        report.files, report.segments, report.documents, report.postings
    ))?)
}
