//! Everything of a model but its weights, read from its folder and checked against each other.

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::family::Family;
use crate::folder::{Fingerprint, Folder, read_named};
use crate::layout::Layout;
use crate::options::LoadOptions;
use crate::preset::Preset;
use crate::query_table::QueryTable;
use crate::template;
use crate::tokenize::{Specials, TextTokenizer};
use crate::vocabulary;

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";

pub(crate) const MAX_CONFIG: u64 = 1 << 20;
pub(crate) const MAX_TOKENIZER: u64 = 64 << 20;

/// Everything of a model but its weights.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) family: Family,
    pub(crate) preset: Preset,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) specials: Specials,
    pub(crate) query_table: Option<QueryTable>,
}

impl Parts {
    /// Reads and checks them. The fingerprint is to go on with the weights.
    pub(crate) fn open(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        fingerprint: &mut Fingerprint,
    ) -> Result<Self, Error> {
        let layout = checkpoint.layout()?;
        let family = checkpoint.family(&layout, fingerprint)?;
        let preset = checkpoint.preset(options, layout.preset(&family)?)?;
        let looks_up = layout.query_table.is_some();
        check_length(&preset, looks_up, family.max_positions())?;
        let bytes = match &family {
            Family::Llama(_) => tokenizer_bytes(&layout.network, options)?,
            Family::Bert(_) => word_piece_bytes(&layout.network, options)?,
        };
        fingerprint.part("tokenizer", &bytes);
        let tokenizer = TextTokenizer::parse(&bytes, family.vocab_size())?;
        check_case(&layout, &bytes)?;
        let specials = match &family {
            Family::Llama(config) => specials(&preset, config.bos_id, config.eos_id)?,
            Family::Bert(_) => of_template(&preset, &bytes, &tokenizer)?,
        };
        let query_table = layout.query_table.as_ref().map(|file| {
            let network = &layout.network;
            QueryTable::load(file, network, &tokenizer, specials, options, fingerprint)
        });
        Ok(Self {
            query_table: query_table.transpose()?,
            layout,
            family,
            preset,
            tokenizer,
            specials,
        })
    }
}

/// The checkpoint's name and fingerprint.
pub(crate) fn model_id(name: &str, fingerprint: &str) -> String {
    format!("{name}@{fingerprint}")
}

pub(crate) fn read_config(folder: &Folder, fingerprint: &mut Fingerprint) -> Result<Family, Error> {
    let bytes = folder.read(CONFIG, MAX_CONFIG)?.ok_or_else(|| {
        Error::missing(format!(
            "opening {CONFIG} in {}: it is not there; name the folder of a Hugging Face checkpoint",
            folder.path().display()
        ))
    })?;
    fingerprint.part("config", &bytes);
    Family::parse(&bytes)
}

/// A text of upper-case letters must not meet a vocabulary of lower-case ones.
fn check_case(layout: &Layout, tokenizer_json: &[u8]) -> Result<(), Error> {
    if !layout.lower_case || template::is_lower_casing(tokenizer_json)? {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "loading the model from {}: its settings have `do_lower_case`, but the normalizer of \
         {TOKENIZER} keeps upper case; add a Lowercase normalizer to it",
        layout.network.path().display()
    )))
}

pub(crate) fn tokenizer_bytes(folder: &Folder, options: &LoadOptions) -> Result<Vec<u8>, Error> {
    match options.tokenizer_path() {
        Some(path) => read_named(path, MAX_TOKENIZER),
        None => folder
            .read(TOKENIZER, MAX_TOKENIZER)?
            .ok_or_else(|| no_tokenizer(folder)),
    }
}

/// As [`tokenizer_bytes`], of BERT, whose older folders have a list of words instead.
fn word_piece_bytes(folder: &Folder, options: &LoadOptions) -> Result<Vec<u8>, Error> {
    let has_none = options.tokenizer_path().is_none() && folder.file(TOKENIZER)?.is_none();
    let listed = match has_none {
        true => vocabulary::tokenizer_json(folder, MAX_TOKENIZER)?,
        false => None,
    };
    match listed {
        Some(bytes) => Ok(bytes),
        None if has_none => Err(Error::missing(format!(
            "opening {TOKENIZER} in {}: neither it nor vocab.txt is there; download the \
             checkpoint's tokenizer, or name it with LoadOptions::tokenizer",
            folder.path().display()
        ))),
        None => tokenizer_bytes(folder, options),
    }
}

fn no_tokenizer(folder: &Folder) -> Error {
    Error::missing(format!(
        "opening {TOKENIZER} in {}: it is not there; LACONIC checkpoints ship no tokenizer, name \
         the {TOKENIZER} of the base model (Llama 3, 128,256 entries) with LoadOptions::tokenizer",
        folder.path().display()
    ))
}

/// Most tokens that the network reads.
pub(crate) fn longest(preset: &Preset, looks_up: bool) -> usize {
    let queries = preset.query_max_length().filter(|_| !looks_up);
    preset.max_length().max(queries.unwrap_or(0))
}

pub(crate) fn check_length(
    preset: &Preset,
    looks_up: bool,
    max_positions: usize,
) -> Result<(), Error> {
    let length = longest(preset, looks_up);
    if length <= max_positions {
        return Ok(());
    }
    let knob = match length == preset.max_length() {
        true => "max_length",
        false => "query_max_length",
    };
    Err(Error::invalid_input(format!(
        "loading the model: the preset's {knob} is {length}, `max_position_embeddings` of \
         config.json is {max_positions}; set {knob} to at most that"
    )))
}

/// The special tokens that the preset wants, of a family whose config names them.
pub(crate) fn specials(
    preset: &Preset,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
) -> Result<Specials, Error> {
    let wanted = |is_wanted: bool, id: Option<u32>, knob: &str, field: &str| match id {
        None if is_wanted => Err(Error::invalid_input(format!(
            "loading the model: the preset's {knob} is true, but config.json has no `{field}`; set \
             {knob} to false"
        ))),
        _ => Ok(id.filter(|_| is_wanted)),
    };
    Ok(Specials {
        bos: wanted(preset.add_bos(), bos_id, "add_bos", "bos_token_id")?,
        eos: wanted(preset.add_eos(), eos_id, "add_eos", "eos_token_id")?,
    })
}

/// As [`specials`], of a family whose tokenizer names them.
fn of_template(
    preset: &Preset,
    tokenizer_json: &[u8],
    tokenizer: &TextTokenizer,
) -> Result<Specials, Error> {
    if !preset.add_bos() && !preset.add_eos() {
        return Ok(Specials::default());
    }
    let specials = template::specials(tokenizer_json, tokenizer)?;
    Ok(Specials {
        bos: specials.bos.filter(|_| preset.add_bos()),
        eos: specials.eos.filter(|_| preset.add_eos()),
    })
}
