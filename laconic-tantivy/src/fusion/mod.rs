//! Fusion: one ranking out of several ranked lists of the same documents.
//!
//! Read [`Fusion`] first, it says what is computed; [`RankedList`] says what a list is,
//! [`complete_lists`] what may be done about documents that a list lacks.

mod formula;
mod fuse;
mod ranked_list;

pub use formula::{DEFAULT_RANK_CONSTANT, Fusion};
pub use fuse::{FusedHit, FusionPart};
pub use ranked_list::{RankedList, complete_lists};
