//! Reading collection files line by line: BEIR documents and queries, and sparse vectors.
//!
//! Such files come from outside and are never trusted. Every line is bounded before it is
//! buffered, every fault names file and line, and a faulty line does not end the reading:
//!
//! ```
//! use laconic_cli::collection::{self, LineReader};
//!
//! let file = r#"{"_id": "d1", "title": "", "text": "Sparse vectors"}
//! {"_id": "d2", "text": 7}
//! {"_id": "d3", "text": "Posting lists"}
//! "#;
//! let lines = LineReader::from_reader("corpus.jsonl", file.as_bytes())?;
//! let (read, faults): (Vec<_>, Vec<_>) = collection::documents(lines).partition(Result::is_ok);
//! assert_eq!(read.len(), 2);
//! let fault = faults.into_iter().find_map(Result::err).expect("one line is faulty");
//! assert_eq!(
//!     fault.to_string(),
//!     "cannot read corpus.jsonl, line 2: `text` is a number where a string belongs; \
//!      correct or remove the line"
//! );
//! # Ok::<(), collection::InputError>(())
//! ```
//!
//! | Layer | Does | File |
//! |---|---|---|
//! | source | opens, recognises gzip and zstd by their first bytes | `source.rs` |
//! | [`LineReader`] | bounded lines, UTF-8, positions to resume from | `lines.rs` |
//! | [`Records`] | one record a line, unique ids on request | `records.rs` |
//! | [`Document`], [`Query`], [`VectorRecord`] | what a record means | one file each |

mod document;
mod error;
mod example;
mod ids;
mod lines;
mod object;
mod query;
mod records;
mod scan;
mod source;
mod term_weights;
mod vector;

pub use document::{Document, documents};
pub use error::InputError;
pub(crate) use example::{example_json, examples};
pub(crate) use ids::check_id;
pub use ids::{DuplicateIds, MAX_ID_BYTES};
pub use lines::{DEFAULT_LINE_LIMIT, Line, LineReader, Place, Position};
pub use query::{Query, queries};
pub use records::{Located, Record, Records};
pub use term_weights::TermWeights;
pub use vector::{VectorRecord, VectorScale, vectors};
