//! The folder of a sentence-transformers `SparseEncoder`: `modules.json` lists what a text goes
//! through, each module with a folder of its own or the root.

use serde_json::Value;

use super::json::{self, Object};
use super::{Layout, MODULES, TableFile, router};
use crate::error::Error;
use crate::folder::Folder;
use crate::preset::Preset;

const SETTINGS: &str = "config_sentence_transformers.json";
/// Settings of the network's module; the older name is of the time when each family had one.
const NETWORK_SETTINGS: [&str; 2] = [
    "sentence_bert_config.json",
    "sentence_distilbert_config.json",
];
const MODULE_CONFIG: &str = "config.json";
const TABLE_WEIGHTS: &str = "model.safetensors";

/// A module that is known, and its folder.
pub(super) struct Module {
    pub(super) kind: Kind,
    pub(super) folder: Folder,
}

/// What a module does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A masked language model: token ids to logits.
    Network,
    /// Logits to term weights.
    Pooling,
    /// Token ids to the weights of a table.
    Table,
    /// Other modules for queries than for documents.
    Router,
}

impl Module {
    /// Opens a module of a type that `file` names.
    pub(super) fn open(root: &Folder, file: &str, kind: &str, path: &str) -> Result<Self, Error> {
        let folder = match path {
            "" | "." => root.clone(),
            name => root.subfolder(name)?,
        };
        let kind = Kind::of(file, kind)?;
        Ok(Self { kind, folder })
    }
}

impl Kind {
    /// Modules were moved between the packages of the library, but kept their names.
    fn of(file: &str, type_name: &str) -> Result<Self, Error> {
        let name = type_name.rsplit('.').next().unwrap_or_default();
        match name {
            _ if !type_name.starts_with("sentence_transformers.") => {}
            "Transformer" | "MLMTransformer" => return Ok(Self::Network),
            "SpladePooling" => return Ok(Self::Pooling),
            "SparseStaticEmbedding" | "IDF" => return Ok(Self::Table),
            "Router" | "Asym" => return Ok(Self::Router),
            _ => {}
        }
        let shown: String = type_name.chars().take(120).collect();
        Err(Error::unsupported(format!(
            "reading {file}: a module has the type {shown:?}, and this encoder knows only \
             Transformer (MLMTransformer), SpladePooling, SparseStaticEmbedding and Router of \
             sentence-transformers; load another checkpoint"
        )))
    }
}

pub(super) fn layout(root: &Folder, bytes: &[u8]) -> Result<Layout, Error> {
    let modules = modules(root, bytes)?;
    let kinds: Vec<Kind> = modules.iter().map(|module| module.kind).collect();
    let mut layout = match (kinds.as_slice(), modules.as_slice()) {
        ([Kind::Router], [module]) => router::layout(root, &module.folder)?,
        ([Kind::Network, Kind::Pooling], [network, pooling]) => {
            of_network(&network.folder, &pooling.folder)?
        }
        _ => {
            return Err(Error::unsupported(format!(
                "reading {MODULES}: its modules are {kinds:?}, and this encoder knows only a \
                 network followed by SpladePooling, or a Router; load another checkpoint"
            )));
        }
    };
    if let Some(settings) = Object::read(root, SETTINGS)? {
        apply_prompts(&settings, &mut layout.preset)?;
    }
    Ok(layout)
}

fn modules(root: &Folder, bytes: &[u8]) -> Result<Vec<Module>, Error> {
    let Value::Array(entries) = json::parse(MODULES, bytes)? else {
        return Err(json::not_of_shape(MODULES, "a list of modules"));
    };
    let open = |entry: Value| {
        let Value::Object(map) = entry else {
            return Err(json::not_of_shape(MODULES, "a list of objects"));
        };
        let entry = Object::new(MODULES, map);
        entry.only(&["idx", "name", "path", "type"])?;
        let path = entry.text("path")?.unwrap_or_default();
        Module::open(root, MODULES, entry.required_text("type")?, path)
    };
    // A handful: more would not be one of the lists that are known.
    entries.into_iter().take(16).map(open).collect()
}

/// A network and its pooling, for queries and documents alike.
pub(super) fn of_network(network: &Folder, pooling: &Folder) -> Result<Layout, Error> {
    let mut layout = Layout::of(network.clone(), Preset::sparse_encoder());
    apply_pooling(pooling, &mut layout.preset)?;
    for name in NETWORK_SETTINGS {
        if let Some(settings) = Object::read(network, name)? {
            apply_settings(&settings, &mut layout)?;
            break;
        }
    }
    Ok(layout)
}

fn apply_pooling(folder: &Folder, preset: &mut Preset) -> Result<(), Error> {
    let config = Object::read(folder, MODULE_CONFIG)?.ok_or_else(|| {
        Error::missing(format!(
            "opening {MODULE_CONFIG} of SpladePooling in {}: it is not there; download the \
             checkpoint again",
            folder.path().display()
        ))
    })?;
    config.only(&[
        "pooling_strategy",
        "activation_function",
        "word_embedding_dimension",
        "embedding_dimension",
        "chunk_size",
    ])?;
    let key = "pooling_strategy";
    match config.text(key)? {
        None | Some("max") => preset.set("pooling", "max")?,
        Some("sum") => preset.set("pooling", "sum")?,
        Some(other) => return Err(config.unsupported(key, &other.into(), "max and sum")),
    }
    let key = "activation_function";
    match config.text(key)? {
        None | Some("relu") => preset.set("saturations", "1"),
        Some("log1p_relu") => preset.set("saturations", "2"),
        Some(other) => Err(config.unsupported(key, &other.into(), "relu and log1p_relu")),
    }
}

fn apply_settings(settings: &Object, layout: &mut Layout) -> Result<(), Error> {
    settings.only(&[
        "max_seq_length",
        "do_lower_case",
        "transformer_task",
        // Which outputs of transformers' model are called what.
        "modality_config",
        "module_output_name",
        // How batches are computed.
        "unpad_inputs",
    ])?;
    let key = "transformer_task";
    if let Some(task) = settings.text(key)?.filter(|task| *task != "fill-mask") {
        return Err(settings.unsupported(key, &task.into(), "fill-mask"));
    }
    layout.lower_case = settings.flag("do_lower_case")?;
    let key = "max_seq_length";
    if let Some(value) = settings.present(key) {
        let length = value
            .as_u64()
            .and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length > 0);
        let length =
            length.ok_or_else(|| settings.refuse(key, value, "a whole number of at least 1"))?;
        layout.max_length = Some(length);
    }
    Ok(())
}

/// The prompts that `encode_query` and `encode_document` put before a text.
///
/// Others, and the default prompt, never count: every `SparseEncoder` has prompts of these two
/// names, empty if the folder has none.
fn apply_prompts(settings: &Object, preset: &mut Preset) -> Result<(), Error> {
    let key = "model_type";
    if let Some(other) = settings.text(key)?.filter(|name| *name != "SparseEncoder") {
        return Err(settings.unsupported(key, &other.into(), "SparseEncoder"));
    }
    let prompts = settings.object("prompts")?;
    preset.set("query_prefix", prompts.text("query")?.unwrap_or_default())?;
    preset.set(
        "document_prefix",
        prompts.text("document")?.unwrap_or_default(),
    )
}

/// Where a module of static weights keeps them.
pub(super) fn table(folder: &Folder) -> Result<TableFile, Error> {
    let mut name = TABLE_WEIGHTS.to_owned();
    if let Some(config) = Object::read(folder, MODULE_CONFIG)? {
        config.only(&["frozen", "path"])?;
        if let Some(path) = config.text("path")? {
            name = path.to_owned();
        }
    }
    if folder.file(&name)?.is_none() && name == TABLE_WEIGHTS {
        name = super::IDF.to_owned();
    }
    if folder.file(&name)?.is_none() {
        return Err(Error::missing(format!(
            "opening the query weights in {}: there is neither {TABLE_WEIGHTS} nor {name}; \
             download the checkpoint again",
            folder.path().display()
        )));
    }
    Ok(TableFile {
        folder: folder.clone(),
        name,
        with_specials: false,
    })
}
