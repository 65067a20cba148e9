//! The library half of the command-line tool: what the sub-commands share.
//!
//! [`collection`] reads the files a user hands over (documents, vectors, queries), which are
//! treated as hostile; [`eval`] judges ranked lists as trec_eval does.
#![forbid(unsafe_code)]

pub mod collection;
pub mod eval;
