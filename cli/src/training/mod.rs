//! Training as a job: what is written while it runs, what it is drawn as, and where hard negatives
//! come from.
//!
//! | Part | Does | File |
//! |---|---|---|
//! | [`Journal`] | the figures of every step, as JSON lines | `journal.rs` |
//! | [`plot`] | the run as SVG | `plot.rs` |
//! | [`Miner`] | hard negatives from an index | `mining.rs` |

mod journal;
mod mining;
mod plot;

pub(crate) use journal::Journal;
pub(crate) use mining::Miner;
pub(crate) use plot::plot;
