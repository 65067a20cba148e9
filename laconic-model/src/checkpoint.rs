//! A checkpoint on disk, whichever way it is written: a Hugging Face folder or a GGUF file.

use std::path::Path;

use crate::config::Config;
use crate::error::Error;
use crate::family::Family;
use crate::folder::{Fingerprint, Folder, OpenFile, open_regular};
use crate::gguf::{EXTENSION, Gguf};
use crate::layout::Layout;
use crate::options::{LoadOptions, MAX_SIDE_FILE, WeightFormat};
use crate::parts::{CONFIG, MAX_CONFIG, Parts, read_config};
use crate::preset::{Preset, SIDE_FILE};
use crate::weights::{Expected, Stored, Weights, has_safetensors, inspect, read_each};

/// An opened checkpoint.
pub(crate) struct Checkpoint {
    folder: Folder,
    name: String,
    gguf: Option<Gguf>,
}

impl Checkpoint {
    /// Opens a GGUF file; or a folder, which may hold one instead of safetensors.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        if is_gguf(path) && path.is_file() {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            let folder = Folder::open(parent.unwrap_or(Path::new(".")))?;
            let name = path
                .file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy();
            return Self::with_gguf(folder, open_regular(path)?, &name);
        }
        let folder = Folder::open(path)?;
        match the_gguf_of(&folder)? {
            Some(name) => {
                let gone = || Error::missing(format!("opening {name}: it is gone"));
                let open = folder.file(&name)?.ok_or_else(gone)?;
                Self::with_gguf(folder, open, &name)
            }
            None => Ok(Self {
                name: folder.name(),
                folder,
                gguf: None,
            }),
        }
    }

    fn with_gguf(folder: Folder, open: OpenFile, name: &str) -> Result<Self, Error> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        Ok(Self {
            gguf: Some(Gguf::open(open, name)?),
            name: stem.to_owned(),
            folder,
        })
    }

    /// Where `tokenizer.json` and `laconic.json` are looked for.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The folder's name, or that of the GGUF file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn layout(&self) -> Result<Layout, Error> {
        match self.gguf {
            Some(_) => Ok(Layout::llama(&self.folder)),
            None => Layout::open(&self.folder),
        }
    }

    pub(crate) fn family(
        &self,
        layout: &Layout,
        fingerprint: &mut Fingerprint,
    ) -> Result<Family, Error> {
        match &self.gguf {
            Some(gguf) => gguf.config().map(Family::Llama),
            None => read_config(&layout.network, fingerprint),
        }
    }

    /// The config of a Llama; others are refused for the purpose named.
    pub(crate) fn llama(&self, purpose: &str) -> Result<Config, Error> {
        let family = self.family(&self.layout()?, &mut Fingerprint::new())?;
        family.into_llama(purpose)
    }

    /// The text of `config.json`, if the checkpoint has one.
    pub(crate) fn config_json(&self) -> Result<Option<String>, Error> {
        if let Some(gguf) = &self.gguf {
            return Ok(gguf.config_json().map(str::to_owned));
        }
        let bytes = self.folder.read(CONFIG, MAX_CONFIG)?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// The text of `laconic.json`, if the checkpoint has one.
    pub(crate) fn knobs(&self) -> Result<Option<String>, Error> {
        let bytes = self.folder.read(SIDE_FILE, MAX_SIDE_FILE)?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.or_else(|| self.gguf.as_ref().and_then(Gguf::preset).map(str::to_owned)))
    }

    /// The caller's preset or else the one that fits, overridden by the checkpoint's knobs, then by
    /// the caller's.
    pub(crate) fn preset(&self, options: &LoadOptions, fitting: Preset) -> Result<Preset, Error> {
        let embedded = self.gguf.as_ref().and_then(Gguf::preset);
        options.resolve_preset(&self.folder, embedded, fitting)
    }

    /// The format that weights are held in.
    pub(crate) fn format(&self, asked: WeightFormat) -> WeightFormat {
        match self.gguf {
            Some(_) => asked,
            None => asked.of_safetensors(),
        }
    }

    /// Loads every tensor, packed.
    pub(crate) fn weights(
        self,
        layout: &Layout,
        family: &Family,
        format: WeightFormat,
        fingerprint: &mut Fingerprint,
    ) -> Result<Weights, Error> {
        match (self.gguf, family) {
            (Some(gguf), Family::Llama(config)) => gguf.weights(config, format, fingerprint),
            _ => Weights::load(&layout.network, family, format, fingerprint),
        }
    }

    /// Checks all tensors and hashes them, without keeping any.
    pub(crate) fn inspect(
        self,
        parts: &Parts,
        fingerprint: &mut Fingerprint,
    ) -> Result<Vec<Stored>, Error> {
        match (self.gguf, &parts.family) {
            (Some(gguf), Family::Llama(config)) => gguf.inspect(config, fingerprint),
            _ => inspect(&parts.layout.network, &parts.family, fingerprint),
        }
    }

    /// Hands every tensor over, one by one, as numbers; safetensors are those of folder `network`.
    pub(crate) fn read_each(
        self,
        network: &Folder,
        config: &Config,
        fingerprint: &mut Fingerprint,
        mut accept: impl FnMut(&Expected, Vec<f32>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(gguf) = self.gguf else {
            let mut failure = Ok(());
            read_each(network, config, fingerprint, |tensor, values| {
                if failure.is_ok() {
                    failure = accept(tensor, values);
                }
            })?;
            return failure;
        };
        gguf.read_each(config, fingerprint, accept)
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

/// The name of the one GGUF file of a folder without safetensors.
fn the_gguf_of(folder: &Folder) -> Result<Option<String>, Error> {
    if has_safetensors(folder)? {
        return Ok(None);
    }
    let mut names = folder.names()?;
    names.retain(|name| is_gguf(Path::new(name)));
    match names.as_slice() {
        [] => Ok(None),
        [name] => Ok(Some(name.clone())),
        [first, second, ..] => Err(Error::invalid_input(format!(
            "opening {}: it holds {first}, {second} and perhaps more; name one of the files",
            folder.path().display()
        ))),
    }
}
