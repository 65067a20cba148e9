//! Fitting a checkpoint to pairs of queries and passages.
//!
//! LACONIC models are trained in two phases, from a causal language model whose mask is taken
//! off: on very many pairs that were found rather than judged, the other passages of a large
//! batch being the wrong answers; then on fewer, better pairs with hard negatives. A [`Recipe`]
//! holds the numbers of one phase, a [`Trainer`] carries it out.
//!
//! ```no_run
//! use laconic_model::{Device, LoadOptions};
//! use laconic_model::train::{Example, Passage, Recipe, StoredAs, Trainer};
//!
//! let examples = vec![Example {
//!     query: "what conducts electricity?".to_owned(),
//!     positive: Passage { title: None, body: "Copper conducts well.".to_owned() },
//!     ..Example::default()
//! }];
//! let recipe = Recipe::named("laconic-1b", 1)?;
//! let mut trainer =
//!     Trainer::load("llama-3.2-1b", &LoadOptions::new(), recipe, &examples, Device::Cpu)?;
//! while let Some(report) = trainer.step()? {
//!     println!("step {}: loss {:.3}", report.step, report.loss);
//! }
//! trainer.write_model("laconic-mine".as_ref(), StoredAs::Bf16)?;
//! # Ok::<(), laconic_model::Error>(())
//! ```
//!
//! # The same, whatever happens
//!
//! On a CPU a run is a function of checkpoint, examples and recipe, bit for bit; a run that was
//! killed and taken up from a saved state ends with the same weights as one that was not.
//!
//! # Speed on a CPU
//!
//! Set `CANDLE_NUM_THREADS=1` in the environment, as `laconic train` does: pieces of a batch go
//! through side by side, one on each core, and candle's threads, which wait for each other after
//! every operation, would only be in their way (2 to 3 times slower on two cores).
//!
//! # Memory
//!
//! A step keeps the activations of [`Recipe::chunk_tokens`] tokens, whatever the size of the
//! batch, and the winning logits of its texts, texts × vocabulary. Positions × vocabulary exists
//! only as a tile of 32 MiB.

mod adamw;
mod base;
mod dropout;
mod example;
mod gradients;
mod head;
mod loss;
mod network;
mod pairs;
mod parameter;
mod random;
mod recipe;
mod start;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod trainer;
mod validation;

pub use base::StoredAs;
pub use example::{Example, Passage};
pub use pairs::PairRecipe;
pub use recipe::{Lora, Precision, Recipe};
pub use start::NewModel;
pub use trainer::{StepReport, Trainer};
pub use validation::Validation;
