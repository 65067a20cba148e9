//! Judging ranked lists against relevance judgments, by trec_eval's definitions.
//!
//! [`Qrels`] and [`Run`] are read from the usual files, [`evaluate`] compares them, and
//! [`RunWriter`] writes what other tools judge. The figures agree with trec_eval's; a test
//! compares them with figures made by `pytrec_eval`.
//!
//! ```
//! use laconic_cli::eval::{Qrels, Run, evaluate};
//!
//! let mut qrels = Qrels::default();
//! qrels.insert("q1", "d1", 2)?;
//! qrels.insert("q1", "d2", 1)?;
//! let mut run = Run::default();
//! run.insert("q1", [("d2", 7.5), ("d3", 3.0), ("d1", 1.0)])?;
//!
//! let evaluation = evaluate(&qrels, &run);
//! assert_eq!(evaluation.by_query["q1"].map, (1.0 / 1.0 + 2.0 / 3.0) / 2.0);
//! # Ok::<(), laconic_cli::eval::EvalError>(())
//! ```

mod error;
mod metrics;
mod qrels;
mod run;

pub use error::EvalError;
pub use metrics::{Evaluation, JudgedRanking, Metrics, evaluate};
pub use qrels::Qrels;
pub use run::{Hit, Run, RunWriter};
