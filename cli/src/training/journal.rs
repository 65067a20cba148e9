//! The journal of a run: one JSON line for each step and each validation.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use laconic_model::train::{StepReport, Validation};
use serde_json::{Value, json};

/// A line of the journal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Steps done.
    pub(crate) step: u64,
    /// All figures by name.
    pub(crate) figures: Value,
}

/// A file that grows by a line a step.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens the journal of a run that goes on after `n_done` steps. Lines of later steps, which
    /// a killed run had written after its last saved state, are taken out.
    pub(crate) fn open(path: &Path, n_done: usize) -> Result<Self> {
        let describe = || format!("cannot write {}", path.display());
        let entries = match File::open(path) {
            Ok(file) => read(file, n_done as u64).with_context(describe)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(describe),
        };
        let kept: String = entries
            .iter()
            .map(|entry| format!("{}\n", entry.figures))
            .collect();
        let partial = path.with_extension("partial");
        std::fs::write(&partial, kept).with_context(describe)?;
        std::fs::rename(&partial, path).with_context(describe)?;
        Ok(Self {
            path: path.to_owned(),
            file: OpenOptions::new()
                .append(true)
                .open(path)
                .with_context(describe)?,
            entries,
        })
    }

    pub(crate) fn step(&mut self, report: &StepReport, seconds: f64) -> Result<()> {
        self.push(json!({
            "step": report.step,
            "loss": report.loss,
            "contrast": report.contrast,
            "accuracy": report.accuracy,
            "query_flops": report.query_flops,
            "document_flops": report.document_flops,
            "query_terms": report.query_terms,
            "document_terms": report.document_terms,
            "gradient_norm": report.gradient_norm,
            "learning_rate": report.learning_rate,
            "pairs_per_second": to_f64(report.examples) / seconds.max(1e-9),
        }))
    }

    pub(crate) fn validation(&mut self, n_done: usize, found: &Validation) -> Result<()> {
        self.push(json!({
            "step": n_done,
            "validation": {
                "recall_at_1": found.recall_at_1,
                "recall_at_10": found.recall_at_10,
                "ndcg_at_10": found.ndcg_at_10,
                "query_terms": found.query_terms,
                "document_terms": found.document_terms,
            },
        }))
    }

    fn push(&mut self, figures: Value) -> Result<()> {
        writeln!(self.file, "{figures}")
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        let step = figures["step"].as_u64().unwrap_or(0);
        self.entries.push(Entry { step, figures });
        Ok(())
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// The lines up to a step. A last line that was cut short is left out.
fn read(file: File, n_done: u64) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for line in BufReader::new(file).lines() {
        let Ok(figures) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        if let Some(step) = figures["step"].as_u64().filter(|step| *step <= n_done) {
            entries.push(Entry { step, figures });
        }
    }
    Ok(entries)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_step_gone_on_from_are_taken_out() {
        let dir = std::env::temp_dir().join(format!("laconic-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("metrics.jsonl");
        let text = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4,\"lo";
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path, 2).unwrap();
        journal.push(json!({"step": 3, "again": true})).unwrap();
        assert_eq!(journal.entries().len(), 3);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1}\n{\"step\":2}\n{\"again\":true,\"step\":3}\n"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
