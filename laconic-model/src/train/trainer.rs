//! A run: steps taken, saved, taken up again.

use std::path::Path;

use candle_core::{DType, Var};

use super::adamw::AdamW;
use super::base::{Base, Kinds, StoredAs};
use super::example::{Example, Order, Tokens, fingerprint};
use super::gradients::Gradients;
use super::loss::{LossValue, LossWeights};
use super::network::Network;
use super::parameter::Pass;
use super::random::Random;
use super::recipe::{Precision, Recipe, to_f64};
use super::state::{self, Provenance};
use super::step::{self, StepPlan};
use super::validation::{Validation, validate};
use crate::device::Device;
use crate::error::Error;
use crate::options::LoadOptions;

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Number of the step, the first being 1.
    pub step: usize,
    /// The whole loss.
    pub loss: f64,
    /// Its contrastive part.
    pub contrast: f64,
    /// Sum over terms of the squared mean weight in queries, unweighted.
    pub query_flops: f64,
    /// The same of passages.
    pub document_flops: f64,
    /// Share of the queries whose own passage scored highest in the batch.
    pub accuracy: f64,
    /// Mean number of terms of a query.
    pub query_terms: f64,
    /// Mean number of terms of a passage.
    pub document_terms: f64,
    /// Length of the gradient, before it was clipped.
    pub gradient_norm: f64,
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Queries the step learnt from.
    pub examples: usize,
}

/// A checkpoint under training.
pub struct Trainer<'a> {
    base: Base,
    network: Network,
    trained: Vec<(String, Var)>,
    adamw: AdamW,
    recipe: Recipe,
    examples: &'a [Example],
    order: Order,
    provenance: Provenance,
    kinds: Kinds,
    n_done: usize,
}

impl<'a> Trainer<'a> {
    /// Loads a checkpoint for training, checked as [`Encoder::load`](crate::Encoder::load) does.
    ///
    /// # Errors
    ///
    /// As [`Encoder::load`](crate::Encoder::load); if a number of the recipe is out of its range;
    /// if an example has fewer hard negatives than the recipe wants; if there is no such device.
    pub fn load(
        model: impl AsRef<Path>,
        options: &LoadOptions,
        recipe: Recipe,
        examples: &'a [Example],
        device: Device,
    ) -> Result<Self, Error> {
        recipe.check()?;
        check_examples(examples, &recipe)?;
        let kinds = Kinds {
            device: device.open()?,
            master: DType::F32,
            compute: match recipe.precision {
                Precision::F32 => DType::F32,
                Precision::Bf16 => DType::BF16,
            },
        };
        let (base, network) = Base::load(model.as_ref(), options, &recipe, &kinds)?;
        let trained = network.trained();
        Ok(Self {
            adamw: AdamW::new(trained.clone(), &recipe)?,
            order: Order::new(recipe.seed, examples.len()),
            provenance: Provenance {
                recipe: recipe.clone(),
                model: base.fingerprint.clone(),
                examples: fingerprint(examples),
            },
            base,
            network,
            trained,
            recipe,
            examples,
            kinds,
            n_done: 0,
        })
    }

    /// Steps done.
    pub fn n_done(&self) -> usize {
        self.n_done
    }

    /// Numbers under training.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Takes a step; `None` if the recipe's steps are done.
    ///
    /// # Errors
    ///
    /// If the device runs out of memory, or loss or gradient leave the finite numbers; the
    /// weights are those of before then.
    pub fn step(&mut self) -> Result<Option<StepReport>, Error> {
        if self.n_done >= self.recipe.steps {
            return Ok(None);
        }
        let (value, gradients) = self.gradients()?;
        let learning_rate = self.recipe.learning_rate_at(self.n_done);
        let gradient_norm =
            self.adamw
                .step(&gradients, self.n_done, learning_rate, self.recipe.clip)?;
        self.n_done += 1;
        Ok(Some(StepReport {
            step: self.n_done,
            loss: value.loss,
            contrast: value.contrast,
            query_flops: value.query_flops,
            document_flops: value.document_flops,
            accuracy: value.accuracy,
            query_terms: value.query_terms,
            document_terms: value.document_terms,
            gradient_norm,
            learning_rate,
            examples: self.recipe.batch.min(self.examples.len()) * self.recipe.accumulate,
        }))
    }

    /// Mean loss and gradients of the step's batches.
    fn gradients(&mut self) -> Result<(LossValue, Gradients), Error> {
        let tokens = Tokens::new(
            &self.base.tokenizer,
            self.base.specials,
            &self.base.preset,
            &self.recipe,
        )?;
        let ramp = self.recipe.ramp_at(self.n_done);
        let mut sum = Gradients::default();
        let mut values = Vec::new();
        for part in 0..self.recipe.accumulate {
            let number = self.n_done * self.recipe.accumulate + part;
            let picked = self.order.batch(number, self.recipe.batch);
            let examples: Vec<&Example> = picked.iter().map(|at| &self.examples[*at]).collect();
            let batch = tokens.batch(&examples, self.recipe.negatives, &self.kinds.device)?;
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            let plan = StepPlan {
                weights: LossWeights {
                    temperature: self.recipe.temperature,
                    query_flops: self.recipe.query_flops * ramp,
                    document_flops: self.recipe.document_flops * ramp,
                },
                key: Random::keyed(&[self.recipe.seed, number, 0x6472_6f70]).next(),
                dtype: self.kinds.compute,
                chunk_tokens: self.recipe.chunk_tokens,
                dropout: self.recipe.lora.is_some(),
            };
            let (value, gradients) = step::run(&self.network, &self.trained, &batch, plan)?;
            values.push(value);
            sum.add_others(gradients)?;
        }
        sum.divide(to_f64(self.recipe.accumulate))?;
        Ok((LossValue::mean(&values), sum))
    }

    /// How well queries find their passages among those of all `examples`, as the network is now.
    ///
    /// # Errors
    ///
    /// If the device runs out of memory, or a logit is not finite.
    pub fn validate(&self, examples: &[Example]) -> Result<Validation, Error> {
        let tokens = Tokens::new(
            &self.base.tokenizer,
            self.base.specials,
            &self.base.preset,
            &self.recipe,
        )?;
        let pass = Pass {
            track: false,
            dropout: None,
            dtype: self.kinds.compute,
        };
        let plan = (pass, self.recipe.chunk_tokens, self.base.vocab_size());
        validate(&self.network, &tokens, examples, plan, &self.kinds.device)
    }

    /// Saves the state of the run into folder `dir`, which is created if missing. The two newest
    /// states stay there. A kill at any moment leaves whole states only.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn save_state(&self, dir: &Path) -> Result<(), Error> {
        state::save(dir, self.n_done, &self.provenance, &self.adamw)
    }

    /// Takes up the newest state of folder `dir`, if there is one; says whether.
    ///
    /// # Errors
    ///
    /// If the state is of another recipe, checkpoint or set of examples, or damaged.
    pub fn restore_state(&mut self, dir: &Path) -> Result<bool, Error> {
        let found = state::restore(dir, &self.provenance, &self.adamw)?;
        self.n_done = found.unwrap_or(self.n_done);
        Ok(found.is_some())
    }

    /// Writes the checkpoint as it is now into folder `dir`: plain Hugging Face files, adapters
    /// merged into the weights, `laconic.json` with preset knobs.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or a weight is too large for f16.
    pub fn write_model(&self, dir: &Path, stored: StoredAs) -> Result<(), Error> {
        self.base.write(&self.network, dir, stored)
    }
}

impl std::fmt::Debug for Trainer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("n_done", &self.n_done)
            .field("recipe", &self.recipe)
            .finish_non_exhaustive()
    }
}

fn check_examples(examples: &[Example], recipe: &Recipe) -> Result<(), Error> {
    if examples.len() < 2 {
        return Err(Error::invalid_input(format!(
            "starting a run: there are {} examples; 2 at least are needed",
            examples.len()
        )));
    }
    let few = examples
        .iter()
        .position(|example| example.negatives.len() < recipe.negatives);
    match few {
        None => Ok(()),
        Some(idx) => Err(Error::invalid_input(format!(
            "starting a run: example {idx} has {} hard negatives, the recipe wants {}; mine more, \
             or lower `negatives`",
            examples[idx].negatives.len(),
            recipe.negatives
        ))),
    }
}
