//! `laconic model pull`: a checkpoint from a hub.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Global;
use crate::hub::{Manifest, RepoId, Request, Revision, Settings, pull};
use crate::terminal::{Ending, note, print, print_json, progress_of_bytes};

/// Get a checkpoint from a hub, huggingface.co or one like it
///
/// Prints the folder that --model takes. Only what laconic loads is downloaded: configs,
/// tokenizer, safetensors, tables; never pickles, never code. The revision is resolved to a commit
/// once, every file is of that commit, and sizes and SHA-256 are compared with what the hub states.
/// What was broken off goes on where it stopped; what is there is not downloaded again.
///
/// Files are kept in the cache that all of the hub's tools share: HF_HUB_CACHE, else HF_HOME/hub,
/// else .cache/huggingface/hub at home. HF_ENDPOINT names another hub. Private and gated
/// repositories want a token, in HF_TOKEN or the file HF_HOME/token. No other command of laconic
/// uses the network.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  laconic model pull opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill
  laconic model pull OWNER/NAME --revision v1.0 --output checkpoint
  laconic search --index idx --model \"$(laconic model pull OWNER/NAME --offline)\" 'a question'")]
pub(crate) struct Pull {
    /// The repository, as in the address of its page
    #[arg(value_name = "OWNER/NAME")]
    id: RepoId,
    /// Branch, tag or commit; a commit never changes
    #[arg(long, value_name = "REV", default_value = "main")]
    revision: Revision,
    /// Put copies into this new folder, with laconic-pull.json: commit, sizes, SHA-256
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Pull this GGUF file instead of safetensors, and print its path
    #[arg(long, value_name = "NAME", value_parser = gguf_name)]
    file: Option<String>,
    /// Use only what the cache has, as with HF_HUB_OFFLINE=1
    #[arg(long)]
    offline: bool,
}

fn gguf_name(name: &str) -> Result<String, &'static str> {
    match name.to_ascii_lowercase().ends_with(".gguf") {
        true => Ok(name.to_owned()),
        false => Err("expected the name of a GGUF file; all else is chosen by itself"),
    }
}

impl Pull {
    pub(crate) fn run(self, global: &Global) -> Result<Ending> {
        let settings = Settings::from_env()?;
        let request = Request {
            id: self.id,
            revision: self.revision,
            gguf: self.file,
            is_offline: self.offline,
            output: self.output,
        };
        let bar = progress_of_bytes("pulling", global.quiet);
        let pulled = pull(&request, &settings, &bar)?;
        bar.finish_and_clear();
        note(global.quiet, summary(&pulled.manifest));
        let model = match &request.gguf {
            Some(file) => pulled.folder.join(file),
            None => pulled.folder,
        };
        let model = model.display().to_string();
        match global.json {
            true => print_json(&json!({"model": model, "pulled": pulled.manifest}))?,
            false => print(model)?,
        }
        Ok(Ending::Done)
    }
}

fn summary(manifest: &Manifest) -> String {
    let n_bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    format!(
        "{} at commit {}: {} files, {} MB",
        manifest.id,
        manifest.commit,
        manifest.files.len(),
        n_bytes.div_ceil(1_000_000)
    )
}
