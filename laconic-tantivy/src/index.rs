//! Creating, opening and registering: one call each, on a user's own `Index`.

use std::path::Path;

use tantivy::schema::Schema;
use tantivy::{Index, IndexSettings};

use crate::bounds::{BoundsPlugin, EXTENSION, registered_plugin};
use crate::tokenizer::LaconicTokenizer;
use crate::{Error, LaconicField};

/// Creates an index with `schema` in the directory `path`, which is made if it is missing, and
/// registers what its laconic fields need.
///
/// # Errors
/// `is_invalid_input` when an index exists there already or a laconic field has options it
/// cannot have; Tantivy's errors for the rest.
pub fn create_in_dir(path: impl AsRef<Path>, schema: Schema) -> Result<Index, Error> {
    let path = path.as_ref();
    LaconicField::all(&schema)?;
    let attempt = || format!("creating an index in {}", path.display());
    std::fs::create_dir_all(path).map_err(|e| Error::during(attempt(), e))?;
    let builder = Index::builder()
        .schema(schema)
        .settings(IndexSettings::default())
        .register_plugin(BoundsPlugin::default().shared());
    let mut index = builder
        .create_in_dir(path)
        .map_err(|e| Error::during(attempt(), e))?;
    register(&mut index)?;
    Ok(index)
}

/// Opens the index in the directory `path` and registers what its laconic fields need.
///
/// # Errors
/// As [`register`]; Tantivy's errors when there is no index or it cannot be read.
pub fn open_in_dir(path: impl AsRef<Path>) -> Result<Index, Error> {
    let path = path.as_ref();
    if !path.join("meta.json").exists() {
        return Err(Error::invalid(format!(
            "there is no index in {}; check the folder's name, or make an index there first",
            path.display()
        )));
    }
    let opened = Index::open_in_dir(path);
    let mut index =
        opened.map_err(|e| Error::during(format!("opening the index in {}", path.display()), e))?;
    register(&mut index)?;
    Ok(index)
}

/// Registers a [`LaconicTokenizer`] for every laconic field of an index that was opened or built
/// by plain Tantivy calls. Returns the fields. A tokenizer that is registered under the field's
/// [name](crate::Identity::tokenizer_name) already stays: register one of your own first to keep
/// a clone and read its [`rejected`](LaconicTokenizer::rejected) count.
///
/// Without it such an index can be searched and merged and its documents deleted, but adding a
/// document to an `IndexWriter`, even one without a vector, fails at commit.
///
/// # Errors
/// `is_mismatch` for a field of a newer format, `is_invalid_input` for one whose options a
/// laconic field cannot have.
pub fn register(index: &mut Index) -> Result<Vec<LaconicField>, Error> {
    let fields = LaconicField::all(&index.schema())?;
    register_bounds(index)?;
    for field in &fields {
        let name = field.identity().tokenizer_name();
        if index.tokenizers().get(&name).is_none() {
            let tokenizer = LaconicTokenizer::new(field.identity().quantizer);
            index.tokenizers().register(&name, tokenizer);
        }
    }
    Ok(fields)
}

/// Tantivy insists that an index is written with exactly the components it was created with.
fn register_bounds(index: &mut Index) -> Result<(), Error> {
    let metas = index.load_metas();
    let metas = metas.map_err(|e| Error::during("reading meta.json", e))?;
    let mut wanted = metas.persisted_custom_extensions.iter();
    let wanted = wanted.any(|extension| extension == EXTENSION);
    if wanted && registered_plugin(index).is_none() {
        index.register_plugin(BoundsPlugin::default().shared());
    }
    Ok(())
}
