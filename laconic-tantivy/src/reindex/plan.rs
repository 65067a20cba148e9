//! [`ReindexPlan`]: what is to be done, written once and read by everyone who has a part in it.
//!
//! The units follow from the segments and the size of a unit, so a plan cannot list one twice or
//! forget one. Every piece of work carries the plan's hash: what was made for another plan is
//! never taken for a part of this one.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tantivy::directory::Directory;
use tantivy::schema::Schema;
use tantivy::{DocId, HasLen, Index, Segment};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::carry::Carry;
use crate::{Error, Identity, LaconicField, ReindexMode};

/// Version of the plan and of the pieces made for it.
const VERSION: u32 = 1;

/// What a reindexing job is to do: the source as it was found, the field, the units of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReindexPlan {
    version: u32,
    pub(super) field: String,
    /// The identity, as the name of the field's tokenizer.
    pub(super) tokenizer: String,
    pub(super) replace: bool,
    recipe: String,
    unit_docs: DocId,
    #[serde(default, skip_serializing_if = "Carry::is_copy")]
    pub(super) carry: Carry,
    /// Hash of the source's `meta.json` and of the names and sizes of its files.
    fingerprint: String,
    segments: Vec<PlannedSegment>,
    /// Where the source was. No part of the plan's hash: another machine may see it elsewhere.
    location: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedSegment {
    id: String,
    max_doc: DocId,
    docs: DocId,
}

/// A range of documents of one segment: what is done, or done again, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReindexUnit {
    /// Number in the plan, from 0.
    pub number: u32,
    /// Which of the source's segments, from 0.
    pub segment: usize,
    /// First document.
    pub first_doc: DocId,
    /// One behind the last document.
    pub end_doc: DocId,
}

/// Settings of a plan.
pub(super) struct PlanSettings {
    pub(super) field: String,
    pub(super) identity: Identity,
    pub(super) replace: bool,
    pub(super) recipe: String,
    pub(super) unit_docs: DocId,
    pub(super) location: String,
    pub(super) mode: ReindexMode,
}

impl ReindexPlan {
    pub(super) fn new(source: &Index, settings: PlanSettings) -> Result<ReindexPlan, Error> {
        let metas = source.load_metas();
        let metas = metas.map_err(|e| Error::during("reading the source's meta.json", e))?;
        let segments = metas.segments.iter().map(|meta| PlannedSegment {
            id: meta.id().uuid_string(),
            max_doc: meta.max_doc(),
            docs: meta.num_docs(),
        });
        let plan = ReindexPlan {
            version: VERSION,
            field: settings.field,
            tokenizer: settings.identity.tokenizer_name(),
            replace: settings.replace,
            recipe: settings.recipe,
            unit_docs: settings.unit_docs.max(1),
            carry: settings.mode.into(),
            fingerprint: fingerprint(source)?,
            segments: segments.collect(),
            location: settings.location,
        };
        plan.check_field(&source.schema())?;
        plan.check_carry(source)?;
        Ok(plan)
    }

    /// The plan as it is kept.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads a plan back.
    ///
    /// # Errors
    /// `is_corrupt` for what is no plan, `is_mismatch` for one of another version.
    pub fn from_json(json: &str) -> Result<ReindexPlan, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |e| Error::corrupt(format!("the plan of the job cannot be read: {e}"));
        let Version { version } = serde_json::from_str(json).map_err(damaged)?;
        if version != VERSION {
            return Err(Error::mismatch(format!(
                "the plan of the job has version {version}, this library knows {VERSION}; go on \
                 with the version that made it, or begin anew"
            )));
        }
        let plan: ReindexPlan = serde_json::from_str(json).map_err(damaged)?;
        plan.identity()?;
        match plan.unit_docs {
            0 => Err(Error::corrupt(
                "the plan of the job has units of no documents",
            )),
            _ => Ok(plan),
        }
    }

    /// Name of the field to be.
    pub fn field_name(&self) -> &str {
        &self.field
    }

    /// What the field is built with.
    ///
    /// # Errors
    /// `is_corrupt` for a plan that was damaged.
    pub fn identity(&self) -> Result<Identity, Error> {
        Identity::from_tokenizer_name(&self.tokenizer)
    }

    /// What [`Reindexer::recipe`](crate::Reindexer::recipe) was given.
    pub fn recipe(&self) -> &str {
        &self.recipe
    }

    /// What [`Reindexer::location`](crate::Reindexer::location) was given.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Live documents of the source.
    pub fn n_docs(&self) -> u64 {
        self.segments.iter().map(|s| u64::from(s.docs)).sum()
    }

    /// Number of units.
    pub fn n_units(&self) -> u32 {
        let n_units = |segment: &PlannedSegment| segment.max_doc.div_ceil(self.unit_docs);
        self.segments.iter().map(n_units).sum()
    }

    /// The units of work, in order.
    pub fn units(&self) -> impl Iterator<Item = ReindexUnit> + '_ {
        let of_segment = |(segment, planned): (usize, &PlannedSegment)| {
            let (max_doc, size) = (planned.max_doc, self.unit_docs);
            let starts = (0..max_doc).step_by(size as usize);
            starts.map(move |first_doc| {
                (
                    segment,
                    first_doc,
                    max_doc.min(first_doc.saturating_add(size)),
                )
            })
        };
        let ranges = self.segments.iter().enumerate().flat_map(of_segment);
        (0..)
            .zip(ranges)
            .map(|(number, (segment, first_doc, end_doc))| ReindexUnit {
                number,
                segment,
                first_doc,
                end_doc,
            })
    }

    /// The units of one segment, in order.
    pub(super) fn units_of(&self, segment: &Segment) -> Vec<ReindexUnit> {
        let id = segment.id().uuid_string();
        let number = self.segments.iter().position(|planned| planned.id == id);
        self.units()
            .filter(|unit| Some(unit.segment) == number)
            .collect()
    }

    /// What pieces made for this plan carry.
    pub(super) fn hash(&self) -> u128 {
        let located_nowhere = ReindexPlan {
            location: String::new(),
            ..self.clone()
        };
        xxh3_128(located_nowhere.to_json().as_bytes())
    }

    /// Refuses to go on with a job that was begun as something else.
    pub(super) fn check_same(&self, asked: &ReindexPlan) -> Result<(), Error> {
        let differs = match () {
            () if self.hash() == asked.hash() => return Ok(()),
            () if self.fingerprint != asked.fingerprint => "for another state of the source",
            () if self.field != asked.field => "for a field of another name",
            () if self.tokenizer != asked.tokenizer => "with another model or quantizer",
            () if self.recipe != asked.recipe => "with vectors made in another way",
            () if self.unit_docs != asked.unit_docs => "with units of another size",
            () if self.carry != asked.carry => "in another mode (copy, purge or rewrite)",
            () => "with other settings",
        };
        Err(Error::mismatch(format!(
            "the job was begun {differs}; go on as it was begun, or delete it and begin anew"
        )))
    }

    /// Refuses a source that is not what the plan was made for.
    pub(super) fn check_source(&self, source: &Index) -> Result<(), Error> {
        if fingerprint(source)? == self.fingerprint {
            return Ok(());
        }
        Err(Error::mismatch(
            "the source has changed since the job was planned; what was done does not fit it any \
             more. Stop writing to the source, or copy it, and begin anew",
        ))
    }

    fn check_field(&self, schema: &Schema) -> Result<(), Error> {
        let name = &self.field;
        if name.is_empty() || name.starts_with('-') {
            return Err(Error::invalid(format!(
                "`{name}` cannot be the name of a field"
            )));
        }
        match (schema.get_field(name), self.replace) {
            (Err(_), false) => Ok(()),
            (Err(_), true) => Err(Error::invalid(format!(
                "the index has no field `{name}` whose vectors could be replaced"
            ))),
            (Ok(field), true) => LaconicField::of(schema, field).map(|_| ()),
            (Ok(_), false) => Err(Error::invalid(format!(
                "the index has a field `{name}` already; choose another name, or ask for its \
                 vectors to be replaced"
            ))),
        }
    }
}

/// Segments are never changed in place, so names and sizes tell files apart.
fn fingerprint(source: &Index) -> Result<String, Error> {
    let attempt = || "reading the files of the source";
    let directory = source.directory();
    let meta = directory.atomic_read(Path::new("meta.json"));
    let meta = meta.map_err(|e| Error::during(attempt(), e))?;
    let metas = source
        .load_metas()
        .map_err(|e| Error::during(attempt(), e))?;
    let mut files: Vec<_> = metas.list_segment_files().into_iter().collect();
    files.sort_unstable();
    let mut hash = Xxh3::new();
    hash.update(&meta);
    for path in files {
        // Some that are listed need not exist.
        if directory
            .exists(&path)
            .map_err(|e| Error::during(attempt(), e))?
        {
            let file = directory.open_read(&path);
            let len = file.map_err(|e| Error::during(attempt(), e))?.len();
            hash.update(path.to_string_lossy().as_bytes());
            hash.update(&(len as u64).to_le_bytes());
        }
    }
    Ok(format!("{:032x}", hash.digest128()))
}
