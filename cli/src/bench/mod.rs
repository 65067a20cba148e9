//! Measuring: the same queries by several methods in one process, over collections anyone can make.
//!
//! | Layer | Does | File |
//! |---|---|---|
//! | [`collection`] | documents and queries: generated, read, resampled | `collection.rs`, `files.rs`, `text.rs` |
//! | [`index`] | builds the index, or takes one that was built before | `index.rs` |
//! | [`method`] | what is compared | `method.rs`; two floors of our own: `plain.rs`, `union.rs` |
//! | [`measure`] | alternates the methods, takes the times | `measure.rs`, `clock.rs` |
//! | [`encoder`] | the encoder's speed, on random weights | `encoder.rs` |
//! | [`report`] | figures as JSON, table and plots | `report.rs`, `table.rs`, `svg.rs`, `machine.rs` |

mod clock;
pub(crate) mod collection;
pub(crate) mod encoder;
pub(crate) mod files;
pub(crate) mod index;
mod machine;
pub(crate) mod measure;
pub(crate) mod method;
mod plain;
pub(crate) mod report;
mod svg;
mod table;
mod text;
mod union;

/// A count as a number to calculate with.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts and bytes below 2^53, printed rounded"
)]
fn real(count: u64) -> f64 {
    count as f64
}
