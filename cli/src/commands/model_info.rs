//! `laconic model info`: what a checkpoint's folder holds.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use laconic_model::{LoadOptions, ModelInfo, Preset, QueryEncoding, WeightFormat};
use serde_json::{Map, Value, json};

use super::Global;
use super::options::{PresetOptions, Weights};
use crate::terminal::{Ending, print, print_json};

/// Show family, shape, files, weights, tokenizer, preset and identity of a checkpoint
///
/// The folder is checked as if it were loaded, but its weights are only read past, not kept.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  laconic model info checkpoint")]
pub(super) struct Info {
    /// Folder of a checkpoint: config.json, safetensors, tokenizer.json; or a GGUF file
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Tokenizer, if the checkpoint's folder has none (LACONIC checkpoints ship none)
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    preset: PresetOptions,
}

impl Info {
    pub(super) fn run(self, global: &Global) -> Result<Ending> {
        let options: LoadOptions = self.preset.load_options(self.tokenizer.as_deref())?;
        let info = ModelInfo::read(&self.folder, &options)?;
        if global.json {
            print_json(&to_json(&info))?;
        } else {
            print_text(&info)?;
        }
        Ok(Ending::Done)
    }
}

fn to_json(info: &ModelInfo) -> Value {
    let shape = info
        .shape
        .iter()
        .map(|(name, size)| ((*name).to_owned(), json!(size)));
    let memory = info.memory.iter();
    let memory = memory.map(|(format, n_bytes)| (format_name(*format), json!(n_bytes)));
    let knobs = info
        .preset
        .values()
        .map(|(key, value)| (key.to_owned(), json!(value)));
    let files = info
        .files
        .iter()
        .map(|file| json!({"path": file.path, "bytes": file.n_bytes}));
    json!({
        "model_id": info.model_id,
        "fingerprint": info.fingerprint,
        "family": info.family,
        "shape": shape.collect::<Map<_, _>>(),
        "parameters": info.n_parameters,
        "stored_as": info.stored_as,
        "memory": memory.collect::<Map<_, _>>(),
        "terms": info.n_terms,
        "special_tokens": info.special_tokens,
        "queries": match info.queries {
            QueryEncoding::Table { n_terms } => json!({"by": "table", "terms": n_terms}),
            _ => json!({"by": "network"}),
        },
        "preset": {
            "name": info.preset.name(),
            "hash": info.preset.hash(),
            "knobs": knobs.collect::<Map<_, _>>(),
        },
        "files": files.collect::<Vec<_>>(),
    })
}

/// As `--weights` takes it.
fn format_name(format: WeightFormat) -> String {
    let known = Weights::value_variants().iter();
    let mut named = known.filter(|weights| weights.format() == format);
    named
        .next()
        .map_or_else(|| format!("{format:?}"), Weights::to_string)
}

fn print_text(info: &ModelInfo) -> Result<()> {
    print(format_args!("identity    {}", info.model_id))?;
    print(format_args!("family      {}", info.family))?;
    for (name, size) in &info.shape {
        print(format_args!("  {name:<25} {size:>9}"))?;
    }
    print(format_args!("parameters  {}", info.n_parameters))?;
    for (dtype, n) in &info.stored_as {
        print(format_args!("  stored as {dtype:<15} {n:>9}"))?;
    }
    for (format, n_bytes) in &info.memory {
        let format = format_name(*format);
        let megabytes = n_bytes.div_ceil(1 << 20);
        print(format_args!(
            "  in memory as {format:<12} {megabytes:>9} MiB"
        ))?;
    }
    print(format_args!("vocabulary  {} terms", info.n_terms))?;
    let specials: Vec<&str> = info
        .special_tokens
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    match specials.as_slice() {
        [] => print("  nothing is put around a text")?,
        specials => print(format_args!("  around a text: {}", specials.join(" … ")))?,
    }
    match info.queries {
        QueryEncoding::Table { n_terms } => print(format_args!(
            "queries     looked up in a table of {n_terms} weights"
        ))?,
        _ => print("queries     read by the network")?,
    }
    print_preset(&info.preset)?;
    print("files")?;
    for file in &info.files {
        print(format_args!("  {:>13} {}", file.n_bytes, file.path))?;
    }
    Ok(())
}

fn print_preset(preset: &Preset) -> Result<()> {
    print(format_args!(
        "preset      {}@{}",
        preset.name(),
        preset.hash()
    ))?;
    for ((key, value), (_, meaning)) in preset.values().zip(Preset::knobs()) {
        let value = Value::from(value).to_string();
        print(format_args!("  {key:<18} {value:<14} {meaning}"))?;
    }
    Ok(())
}
