//! The `meta.json` of the new index: the source's, with a field more.
//!
//! It is edited as JSON, so that whatever else stands there stays.

use serde_json::Value;
use tantivy::schema::{FieldEntry, Schema};

use super::plan::ReindexPlan;
use crate::bounds::EXTENSION;
use crate::{Error, LaconicField};

/// The source's `meta.json` with the field of the plan.
pub(super) fn with_field(meta: &[u8], plan: &ReindexPlan) -> Result<Value, Error> {
    let damaged = || Error::corrupt("the source's meta.json has no list of fields");
    let mut meta: Value = serde_json::from_slice(meta).map_err(|_| damaged())?;
    let fields = meta.get_mut("schema").and_then(Value::as_array_mut);
    let fields = fields.ok_or_else(damaged)?;
    let name = plan.field_name();
    match fields.iter_mut().find(|field| field["name"] == *name) {
        Some(field) => {
            let tokenizer = field.pointer_mut("/options/indexing/tokenizer");
            *tokenizer.ok_or_else(damaged)? = plan.tokenizer.clone().into();
        }
        None => fields.push(new_field(plan)?),
    }
    add_extension(&mut meta).ok_or_else(damaged)?;
    Ok(meta)
}

fn new_field(plan: &ReindexPlan) -> Result<Value, Error> {
    let options = crate::text_options(&plan.identity()?);
    let entry = FieldEntry::new_text(plan.field_name().to_owned(), options);
    serde_json::to_value(entry).map_err(|e| Error::corrupt(format!("writing the schema: {e}")))
}

/// Opening the index registers the components that stand there.
fn add_extension(meta: &mut Value) -> Option<()> {
    let extensions = meta.as_object_mut()?.entry("persisted_custom_extensions");
    let extensions = extensions
        .or_insert_with(|| Value::Array(Vec::new()))
        .as_array_mut()?;
    if !extensions.iter().any(|extension| extension == EXTENSION) {
        extensions.push(EXTENSION.into());
    }
    Some(())
}

/// Reads the schema back, and the field in it.
pub(super) fn schema_of(meta: &Value, plan: &ReindexPlan) -> Result<(Schema, LaconicField), Error> {
    let schema = serde_json::from_value(meta["schema"].clone());
    let schema: Schema = schema
        .map_err(|e| Error::corrupt(format!("the schema of the new index cannot be read: {e}")))?;
    let field = LaconicField::find(&schema, plan.field_name())?;
    field.identity().check_same(&plan.identity()?)?;
    Ok((schema, field))
}
