//! Learned sparse retrieval inside Tantivy's segments.
#![forbid(unsafe_code)]

mod bulk;
mod check;
mod error;
mod field;
mod identity;
mod index;
mod quantizer;
mod query;
mod stats;
mod tokenizer;
mod vector;
mod vector_json;

pub use bulk::{BulkTotals, BulkWriter, MIN_MEMORY_BUDGET};
pub use check::{CheckReport, Problem, check};
pub use error::Error;
pub use field::{LaconicField, text_options};
pub use identity::{Identity, ModelIdentity};
pub use index::{create_in_dir, open_in_dir, register};
pub use quantizer::{ImpactQuantizer, QuantizationLoss};
pub use query::{LaconicQuery, TermContribution, exhaustive_top_k};
pub use stats::{FieldStats, IndexStats};
pub use tokenizer::LaconicTokenizer;
pub use vector::{MAX_TERM_BYTES, MAX_TERMS, SparseVector};
