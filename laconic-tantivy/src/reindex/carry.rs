//! [`Carry`]: how what an index holds gets into the new one.

use serde::{Deserialize, Serialize};
use tantivy::Index;
use tantivy::schema::{FieldEntry, FieldType};

use super::plan::ReindexPlan;
use crate::bounds::EXTENSION;
use crate::reorder::check_components;
use crate::{Error, ReindexMode};

/// A [`ReindexMode`] as it is kept in a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Carry {
    #[default]
    Copy,
    Purge,
    Rewrite {
        memory_budget: u64,
    },
}

impl Carry {
    /// Plans of earlier versions, which all copied, have no such entry.
    pub(super) fn is_copy(&self) -> bool {
        *self == Carry::Copy
    }
}

impl From<ReindexMode> for Carry {
    fn from(mode: ReindexMode) -> Carry {
        match mode {
            ReindexMode::Copy => Carry::Copy,
            ReindexMode::Purge => Carry::Purge,
            ReindexMode::Rewrite { memory_budget } => Carry::Rewrite {
                memory_budget: memory_budget as u64,
            },
        }
    }
}

impl ReindexPlan {
    /// Refuses what cannot be carried over in the way that was asked for.
    pub(super) fn check_carry(&self, source: &Index) -> Result<(), Error> {
        match self.carry {
            Carry::Copy => Ok(()),
            Carry::Purge => check_plugins(source, "dropping deleted documents").and_then(|()| {
                check_components(source).map_err(|_| unknown_plugin("dropping deleted documents"))
            }),
            Carry::Rewrite { .. } => {
                check_plugins(source, "rewriting")?;
                self.check_rewritable(source)
            }
        }
    }

    /// A stored document has to say all that its index knew of it.
    fn check_rewritable(&self, source: &Index) -> Result<(), Error> {
        let schema = source.schema();
        let others = schema.fields().map(|(_, entry)| entry);
        let others: Vec<_> = others.filter(|entry| entry.name() != self.field).collect();
        let lost: Vec<&str> = others
            .iter()
            .filter(|entry| !entry.is_stored() && (entry.is_indexed() || entry.is_fast()))
            .map(|entry| entry.name())
            .collect();
        if !lost.is_empty() {
            return Err(Error::invalid(format!(
                "the index cannot be rewritten through its stored documents: what `{}` {} is \
                 not stored and would be lost; copy the index, which needs nothing stored",
                lost.join("`, `"),
                if lost.len() == 1 { "holds" } else { "hold" }
            )));
        }
        let missing = others
            .iter()
            .find_map(|entry| missing_tokenizer(source, entry));
        missing.map_or(Ok(()), Err)
    }
}

/// Writing needs what only the program itself may have.
fn check_plugins(source: &Index, act: &str) -> Result<(), Error> {
    let metas = source.load_metas();
    let metas = metas.map_err(|e| Error::during("reading the source's meta.json", e))?;
    let plugins = source.custom_plugins();
    let is_known = |extension: &String| {
        extension == EXTENSION
            || plugins
                .iter()
                .any(|plugin| plugin.extensions().contains(&extension.as_str()))
    };
    match metas.persisted_custom_extensions.iter().all(is_known) {
        true => Ok(()),
        false => Err(unknown_plugin(act)),
    }
}

fn unknown_plugin(act: &str) -> Error {
    Error::invalid(format!(
        "the index has files of a plugin of another program, and {act} would need that plugin; \
         copy the index, which takes such files as they are"
    ))
}

fn missing_tokenizer(source: &Index, entry: &FieldEntry) -> Option<Error> {
    let (indexing, fast) = match entry.field_type() {
        FieldType::Str(options) => (
            options.get_indexing_options(),
            options.get_fast_field_tokenizer_name(),
        ),
        FieldType::JsonObject(options) => (
            options.get_text_indexing_options(),
            options.get_fast_field_tokenizer_name(),
        ),
        _ => (None, None),
    };
    let indexing = indexing.map(|options| options.tokenizer());
    let indexing = indexing.filter(|name| source.tokenizers().get(name).is_none());
    let fast = fast.filter(|name| source.fast_field_tokenizer().get(name).is_none());
    let name = indexing.or(fast)?;
    Some(Error::invalid(format!(
        "the index cannot be rewritten: the tokenizer `{name}` of field `{}` is not registered; \
         register it, or copy the index, which needs no tokenizer",
        entry.name()
    )))
}
