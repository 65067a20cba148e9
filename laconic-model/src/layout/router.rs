//! A router: queries take another way through the modules than documents.

use serde_json::Value;

use super::Layout;
use super::json::Object;
use super::sentence_transformers::{Kind, Module, of_network, table};
use crate::error::Error;
use crate::folder::Folder;

const ROUTER: &str = "router_config.json";
/// Its name when the module was called Asym.
const OLDER: &str = "config.json";

/// Reads the routes; their modules lie in the folder of the router.
pub(super) fn layout(root: &Folder, folder: &Folder) -> Result<Layout, Error> {
    let (file, config) = match Object::read(folder, ROUTER)? {
        Some(config) => (ROUTER, config),
        None => (
            OLDER,
            Object::read(folder, OLDER)?.ok_or_else(|| missing(folder))?,
        ),
    };
    config.only(&["types", "structure", "parameters"])?;
    let parameters = config.object("parameters")?;
    parameters.only(&["default_route", "allow_empty_key"])?;
    let routes = config.object("structure")?;
    routes.only(&["query", "document"])?;
    let types = config.object("types")?;
    let route = |name: &str| -> Result<Vec<Module>, Error> {
        let Some(Value::Array(paths)) = routes.present(name) else {
            return Err(Error::corrupt(format!(
                "reading {file}: there is no route for a {name}; expected one for query and one \
                 for document"
            )));
        };
        let open = |path: &Value| {
            let shape = || routes.refuse(name, path, "names of modules");
            let path = path.as_str().ok_or_else(shape)?;
            Module::open(folder, file, types.required_text(path)?, path)
        };
        paths.iter().take(16).map(open).collect()
    };
    let (query, document) = (route("query")?, route("document")?);
    let kinds = |modules: &[Module]| modules.iter().map(|m| m.kind).collect::<Vec<Kind>>();
    let (query_kinds, document_kinds) = (kinds(&query), kinds(&document));
    let [network, pooling] = document.as_slice() else {
        return Err(other_routes(file, &query_kinds, &document_kinds));
    };
    if document_kinds != [Kind::Network, Kind::Pooling] {
        return Err(other_routes(file, &query_kinds, &document_kinds));
    }
    let mut layout = of_network(&network.folder, &pooling.folder)?;
    match query.as_slice() {
        [module] if module.kind == Kind::Table => {
            layout.query_table = Some(table(&module.folder)?);
        }
        // Both ways are one.
        [first, second]
            if query_kinds == document_kinds
                && first.folder.path() == network.folder.path()
                && second.folder.path() == pooling.folder.path() => {}
        _ => return Err(other_routes(file, &query_kinds, &document_kinds)),
    }
    log::debug!("{}: routes of {file}", root.path().display());
    Ok(layout)
}

fn missing(folder: &Folder) -> Error {
    Error::missing(format!(
        "opening {ROUTER} in {}: it is not there; download the checkpoint again",
        folder.path().display()
    ))
}

fn other_routes(file: &str, query: &[Kind], document: &[Kind]) -> Error {
    Error::unsupported(format!(
        "reading {file}: queries go through {query:?} and documents through {document:?}; this \
         encoder knows only documents through [Network, Pooling], and queries through the same or \
         through [Table]; load another checkpoint"
    ))
}
