//! A laconic field for an index that exists: where its vectors come from, and the folders in
//! which the new index comes about.
//!
//! The work itself is `laconic_tantivy::Reindexer`'s. Here stored texts or a vector file become
//! vectors ([`Vectors`]), and a finished folder becomes the new index by one rename
//! ([`Folders`]).

mod folders;
mod ids;
mod impacts;
mod lookup;
mod recipe;
mod texts;
mod vectors;
mod watch;

pub(crate) use folders::{Folders, directory};
pub(crate) use recipe::Recipe;
pub(crate) use vectors::{Tally, Vectors};
pub(crate) use watch::Watch;
