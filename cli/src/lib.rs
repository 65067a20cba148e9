//! The library half of the command-line tool: what the sub-commands share.
//!
//! [`collection`] reads the files a user hands over (documents, vectors, queries), which are
//! treated as hostile; [`corpus`] is the index made of them; [`indexing`] fills it and
//! `reindexing` gives one that exists a laconic field; [`retrieval`] asks it, [`hybrid`]ly too, for [pages](paging) of hits; [`explain`] says why a
//! document was found; [`eval`] judges ranked lists as trec_eval does, [`tuning`] chooses weights by
//! them; `training` fits a model to one's texts; `bench` measures; `hub` fetches checkpoints. Each
//! file of [`commands`] is one sub-command and only connects these.
#![forbid(unsafe_code)]

mod bench;
pub mod collection;
pub mod commands;
pub mod corpus;
pub mod encoding;
pub mod encoding_cache;
pub mod eval;
pub mod explain;
#[cfg(feature = "hub")]
mod hub;
pub mod hybrid;
pub mod indexing;
pub mod paging;
mod reindexing;
pub mod retrieval;
mod svg;
pub mod terminal;
mod training;
pub mod tuning;

/// The whole command-line tool: reads the arguments of the process, runs the sub-command, prints
/// what went wrong and returns the exit code.
pub fn main() -> std::process::ExitCode {
    let laconic = <commands::Laconic as clap::Parser>::parse();
    terminal::log_to_stderr(laconic.global.verbose, laconic.global.quiet);
    terminal::exit_code(terminal::catch_panics(|| laconic.run()))
}
