//! How a checkpoint's folder is laid out: plain, as sentence-transformers saves a `SparseEncoder`,
//! or as OpenSearch publishes its models, with a table of query weights beside the network.

mod json;
mod router;
mod sentence_transformers;

use crate::error::Error;
use crate::family::{Family, is_llama};
use crate::folder::Folder;
use crate::layout::json::Object;
use crate::preset::{MAX_LENGTH_LIMIT, Preset};

const MODULES: &str = "modules.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const IDF: &str = "idf.json";
const QUERY_TOKEN_WEIGHTS: &str = "query_token_weights.txt";

/// Where the parts of a model lie, and what the folder says about the use of them.
pub(crate) struct Layout {
    /// Holds config, weights and tokenizer.
    pub(crate) network: Folder,
    pub(crate) query_table: Option<TableFile>,
    /// Whether the network's texts are lower-cased, whatever its tokenizer does.
    pub(crate) lower_case: bool,
    /// Everything but lengths, which depend on the network too.
    preset: Preset,
    /// Length that the folder states for the network.
    max_length: Option<usize>,
}

/// Where the weights of query tokens are, for a model whose queries no network reads.
pub(crate) struct TableFile {
    pub(crate) folder: Folder,
    pub(crate) name: String,
    /// Whether [CLS] and [SEP] are looked up too. Of OpenSearch's folders they are; they only
    /// count if the table names them.
    pub(crate) with_specials: bool,
}

impl Layout {
    /// Finds out how the folder is laid out.
    ///
    /// A Llama is always plain: LACONIC's checkpoints are. Of all others, `modules.json` decides.
    pub(crate) fn open(root: &Folder) -> Result<Self, Error> {
        let config = root.read(crate::parts::CONFIG, crate::parts::MAX_CONFIG)?;
        if config.is_some_and(|bytes| is_llama(&bytes)) {
            return Ok(Self::llama(root));
        }
        match root.read(MODULES, json::MAX_BYTES)? {
            Some(bytes) => sentence_transformers::layout(root, &bytes),
            None => Self::plain(root),
        }
    }

    /// A Llama's folder.
    pub(crate) fn llama(root: &Folder) -> Self {
        Self::of(root.clone(), Preset::laconic())
    }

    fn of(network: Folder, preset: Preset) -> Self {
        Self {
            network,
            query_table: None,
            lower_case: false,
            preset,
            max_length: None,
        }
    }

    fn plain(root: &Folder) -> Result<Self, Error> {
        for name in [IDF, QUERY_TOKEN_WEIGHTS] {
            if root.file(name)?.is_some() {
                return Ok(Self {
                    query_table: Some(TableFile {
                        folder: root.clone(),
                        name: name.to_owned(),
                        with_specials: true,
                    }),
                    ..Self::of(root.clone(), Preset::opensearch())
                });
            }
        }
        Ok(Self::of(root.clone(), Preset::splade()))
    }

    /// The knobs that fit the folder and its network, unless a caller names a preset.
    pub(crate) fn preset(&self, family: &Family) -> Result<Preset, Error> {
        if let Family::Llama(_) = family {
            return Ok(Preset::laconic());
        }
        let mut preset = self.preset.clone();
        let stated = match self.max_length {
            Some(length) => Some(length),
            None => model_max_length(&self.network)?,
        };
        let longest = family.max_positions().min(MAX_LENGTH_LIMIT);
        let length = stated.unwrap_or(longest).min(longest);
        preset.set("max_length", &length.to_string())?;
        if let Some(table) = self.query_table.as_ref().filter(|t| !t.with_specials) {
            let length = model_max_length(&table.folder)?.unwrap_or(MAX_LENGTH_LIMIT);
            let length = length.min(MAX_LENGTH_LIMIT);
            preset.set("query_max_length", &length.to_string())?;
        }
        Ok(preset)
    }
}

/// The truncation length of the tokenizer in a folder; transformers writes 10³⁰ for none.
fn model_max_length(folder: &Folder) -> Result<Option<usize>, Error> {
    let Some(config) = Object::read(folder, TOKENIZER_CONFIG)? else {
        return Ok(None);
    };
    let Some(value) = config.present("model_max_length") else {
        return Ok(None);
    };
    match value.as_f64() {
        Some(length) if length >= 1.0 && length.fract() == 0.0 => Ok(value
            .as_u64()
            .and_then(|length| usize::try_from(length).ok())),
        _ => Err(config.refuse("model_max_length", value, "a whole number of at least 1")),
    }
}
