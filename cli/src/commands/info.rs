//! `laconic info`: what an index holds.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use laconic_tantivy::{FieldStats, IndexStats};
use serde_json::{Value, json};

use super::Global;
use crate::terminal::{Ending, print, print_json};

/// Show documents, segments, terms, postings, sizes, model, quantiser and impacts of an index
///
/// Works on any Tantivy index; laconic fields are described where there are any.
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// Folder of the index
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
}

impl Info {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let index = laconic_tantivy::open_in_dir(&self.index)?;
        let stats = IndexStats::read(&index)?;
        if global.json {
            print_json(&to_json(&stats))?;
        } else {
            print_text(&stats)?;
        }
        Ok(Ending::Done)
    }
}

fn to_json(stats: &IndexStats) -> Value {
    json!({
        "documents": stats.documents,
        "deleted_documents": stats.deleted_documents,
        "segments": stats.segments,
        "bytes": stats.bytes,
        "laconic_fields": stats.fields.iter().map(field_json).collect::<Vec<_>>(),
    })
}

fn field_json(stats: &FieldStats) -> Value {
    let identity = stats.field.identity();
    let model = identity.model.as_ref();
    json!({
        "name": stats.field.name(),
        "model": model.map(|model| model.model()),
        "preset": model.map(|model| model.preset()),
        "quantizer": {
            "bits": identity.quantizer.bits(),
            "scale": identity.quantizer.scale(),
            "max_impact": identity.quantizer.max_impact(),
        },
        "terms": stats.terms,
        "postings": stats.postings,
        "posting_bytes": stats.posting_bytes,
        "dictionary_bytes": stats.dictionary_bytes,
        "impact_histogram": stats.impact_histogram,
    })
}

fn print_text(stats: &IndexStats) -> Result<()> {
    print(format_args!("documents  {:>12}", stats.documents))?;
    print(format_args!("deleted    {:>12}", stats.deleted_documents))?;
    print(format_args!("segments   {:>12}", stats.segments))?;
    let total: u64 = stats.bytes.values().sum();
    print(format_args!("bytes      {total:>12}"))?;
    for (name, bytes) in &stats.bytes {
        print(format_args!("  .{name:<9}{bytes:>11}"))?;
    }
    if stats.fields.is_empty() {
        print("no laconic field: the index was made without vectors")?;
    }
    stats.fields.iter().try_for_each(print_field)
}

fn print_field(stats: &FieldStats) -> Result<()> {
    let identity = stats.field.identity();
    print(format_args!("\nfield `{}`: {identity}", stats.field.name()))?;
    let quantizer = identity.quantizer;
    print(format_args!(
        "quantiser  impact = round(weight × {}), 1 to {}",
        quantizer.scale(),
        quantizer.max_impact()
    ))?;
    print(format_args!("terms      {:>12}", stats.terms))?;
    print(format_args!("postings   {:>12}", stats.postings))?;
    #[expect(clippy::cast_precision_loss, reason = "printed with two decimals")]
    let per_posting = stats.posting_bytes as f64 / stats.postings.max(1) as f64;
    print(format_args!(
        "           {:>12} bytes, {per_posting:.2} a posting",
        stats.posting_bytes
    ))?;
    print(format_args!(
        "           {:>12} bytes of dictionary",
        stats.dictionary_bytes
    ))?;
    print_histogram(stats)
}

/// Sixteen bars over the range of the quantizer.
fn print_histogram(stats: &FieldStats) -> Result<()> {
    const WIDTH: u64 = 50;
    let n_codes = usize::from(stats.field.identity().quantizer.max_impact()) + 1;
    let counts = &stats.impact_histogram[..n_codes.min(stats.impact_histogram.len())];
    let bars: Vec<u64> = counts
        .chunks(n_codes.div_ceil(16))
        .map(|c| c.iter().sum())
        .collect();
    let largest = bars.iter().copied().max().unwrap_or(0).max(1);
    print("impacts")?;
    for (bar, &count) in bars.iter().enumerate() {
        let first = bar * n_codes.div_ceil(16);
        let last = (first + n_codes.div_ceil(16)).min(n_codes) - 1;
        let length = usize::try_from((count * WIDTH).div_ceil(largest)).unwrap_or(0);
        print(format_args!(
            "  {first:>3}–{last:<3} {count:>11} {}",
            "█".repeat(length)
        ))?;
    }
    Ok(())
}
