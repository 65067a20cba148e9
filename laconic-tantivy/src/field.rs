//! [`LaconicField`]: a Tantivy text field whose term frequencies are impacts.

use tantivy::schema::{
    Field, FieldEntry, FieldType, IndexRecordOption, Schema, SchemaBuilder, TextFieldIndexing,
    TextOptions,
};

use crate::{Error, Identity};

/// A laconic field of a schema: its name, Tantivy's handle, and its [`Identity`].
#[derive(Debug, Clone, PartialEq)]
pub struct LaconicField {
    field: Field,
    name: String,
    identity: Identity,
}

/// Options of a text field that holds impacts of `identity`: indexed with frequencies, without
/// positions and without field norms, not stored.
///
/// Add `| tantivy::schema::STORED` to keep the vectors' JSON text too. Do not point a stock
/// query parser at such a field: without field norms Tantivy's own `TermQuery` prunes by a bound
/// of zero and loses documents.
pub fn text_options(identity: &Identity) -> TextOptions {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(&identity.tokenizer_name())
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(false);
    TextOptions::default().set_indexing_options(indexing)
}

impl LaconicField {
    /// Adds a laconic field to a schema under construction.
    pub fn add_to(builder: &mut SchemaBuilder, name: &str, identity: Identity) -> LaconicField {
        let field = builder.add_text_field(name, text_options(&identity));
        LaconicField {
            field,
            name: name.to_owned(),
            identity,
        }
    }

    /// The laconic field called `name`.
    ///
    /// # Errors
    /// `is_invalid_input` when the schema has no such field or it is not a laconic one;
    /// `is_mismatch` for a newer format; `is_corrupt` for options a laconic field cannot have.
    pub fn find(schema: &Schema, name: &str) -> Result<LaconicField, Error> {
        let field = schema.get_field(name).map_err(|_| {
            Error::invalid(format!(
                "the index has no field `{name}`, so no learned-sparse vectors"
            ))
        })?;
        LaconicField::of(schema, field)
    }

    /// The laconic field behind Tantivy's handle.
    ///
    /// # Errors
    /// As [`find`](LaconicField::find).
    pub fn of(schema: &Schema, field: Field) -> Result<LaconicField, Error> {
        let entry = schema.get_field_entry(field);
        let indexing = laconic_indexing(entry).ok_or_else(|| {
            Error::invalid(format!(
                "field `{}` of the index is not a laconic field",
                entry.name()
            ))
        })?;
        let identity = Identity::from_tokenizer_name(indexing.tokenizer())?;
        check_options(entry.name(), indexing)?;
        Ok(LaconicField {
            field,
            name: entry.name().to_owned(),
            identity,
        })
    }

    /// Every laconic field of the schema.
    ///
    /// # Errors
    /// As [`find`](LaconicField::find), for the first that cannot be read.
    pub fn all(schema: &Schema) -> Result<Vec<LaconicField>, Error> {
        let laconic = schema
            .fields()
            .filter(|(_, entry)| laconic_indexing(entry).is_some());
        laconic
            .map(|(field, _)| LaconicField::of(schema, field))
            .collect()
    }

    /// Tantivy's handle.
    pub fn field(&self) -> Field {
        self.field
    }

    /// Name in the schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the field was built with.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// True if the field was made to hold impacts, whether or not it can be read.
pub(crate) fn is_laconic(entry: &FieldEntry) -> bool {
    laconic_indexing(entry).is_some()
}

fn laconic_indexing(entry: &FieldEntry) -> Option<&TextFieldIndexing> {
    let FieldType::Str(options) = entry.field_type() else {
        return None;
    };
    options
        .get_indexing_options()
        .filter(|ix| Identity::is_laconic_name(ix.tokenizer()))
}

/// With field norms, an index of ours and one of plain Tantivy calls would differ in files and
/// in statistics; with positions, the bulk path would have to invent them.
fn check_options(name: &str, indexing: &TextFieldIndexing) -> Result<(), Error> {
    if indexing.index_option() == IndexRecordOption::WithFreqs && !indexing.fieldnorms() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "laconic field `{name}` has to be indexed with frequencies, without positions and without \
         field norms; build its options with `laconic_tantivy::text_options`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tantivy::schema::{STORED, TEXT};

    #[test]
    fn found_again_after_a_trip_through_json() {
        let mut builder = Schema::builder();
        builder.add_text_field("text", TEXT | STORED);
        let field = LaconicField::add_to(&mut builder, "laconic", Identity::default());
        let json = serde_json::to_string(&builder.build()).unwrap();
        let schema: Schema = serde_json::from_str(&json).unwrap();
        assert_eq!(LaconicField::find(&schema, "laconic").unwrap(), field);
        assert_eq!(LaconicField::all(&schema).unwrap(), [field]);
        assert!(
            LaconicField::find(&schema, "text")
                .expect_err("text")
                .is_invalid_input()
        );
        assert!(
            LaconicField::find(&schema, "nope")
                .expect_err("nope")
                .is_invalid_input()
        );
    }

    #[test]
    fn wrong_options_are_refused() {
        for (option, fieldnorms) in [
            (IndexRecordOption::Basic, false),
            (IndexRecordOption::WithFreqsAndPositions, false),
            (IndexRecordOption::WithFreqs, true),
        ] {
            let indexing = TextFieldIndexing::default()
                .set_tokenizer(&Identity::default().tokenizer_name())
                .set_index_option(option)
                .set_fieldnorms(fieldnorms);
            let mut builder = Schema::builder();
            builder.add_text_field("f", TextOptions::default().set_indexing_options(indexing));
            let error = LaconicField::all(&builder.build()).expect_err("refused");
            assert!(error.to_string().contains("text_options"), "{error}");
        }
    }
}
