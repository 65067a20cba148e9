//! What a training run does: sizes, rates and weights of the losses.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// Low-rank adapters on the seven linear projections of each layer (Hu et al. 2021, LoRA,
/// section 4.1): the rest of the network stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Inner width of an adapter.
    pub rank: usize,
    /// An adapter's output is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Share of an adapter's inputs that are left out, each time others; at least 0, below 1.
    pub dropout: f64,
}

/// The type that matrices are multiplied in. Weights under training, their moments, norms,
/// softmax, pooled logits and losses are f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision: any device.
    #[default]
    F32,
    /// bfloat16, with f32 master weights: devices that have it.
    Bf16,
}

/// The numbers of a training run. See [`Recipe::named`] for those of the LACONIC models.
///
/// ```
/// use laconic_model::train::Recipe;
///
/// let mut recipe = Recipe::named("laconic-1b", 1)?;
/// assert_eq!(recipe.batch, 8192);
/// recipe.steps = 500;
/// recipe.check()?;
/// # Ok::<(), laconic_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Decides the order of the examples, dropout and the adapters' start.
    pub seed: u64,
    /// Updates of the weights.
    pub steps: usize,
    /// Queries that are compared with each other's passages.
    pub batch: usize,
    /// Batches whose gradients are averaged for one update.
    pub accumulate: usize,
    /// Hard negatives taken of each example, the first ones; those of all examples of a batch are
    /// negatives of every query in it.
    pub negatives: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Embedding and head learn at this multiple of the learning rate.
    pub embedding_rate: f64,
    /// Gains of norms learn at this multiple of the learning rate.
    pub norm_rate: f64,
    /// Share of the steps over which the learning rate rises from 0, before it falls along a
    /// cosine.
    pub warmup: f64,
    /// Decoupled weight decay (Loshchilov and Hutter 2019) of matrices.
    pub weight_decay: f64,
    /// Decay of the mean of gradients (AdamW's β₁).
    pub beta1: f64,
    /// Decay of the mean of squared gradients (AdamW's β₂).
    pub beta2: f64,
    /// What is added to the root of the mean squared gradient (AdamW's ε): gradients much smaller
    /// than this make steps in proportion to them, not of full length. Embeddings of rare tokens,
    /// which seldom have any, stay where they are.
    pub epsilon: f64,
    /// Longest gradient: longer ones are shortened to it.
    pub clip: f64,
    /// Inner products are divided by this before the softmax.
    pub temperature: f64,
    /// Weight of the FLOPs loss of the queries.
    pub query_flops: f64,
    /// Weight of the FLOPs loss of the passages.
    pub document_flops: f64,
    /// Share of the steps over which both weights rise from 0, quadratically.
    pub flops_ramp: f64,
    /// Tokens kept of a query, prefix included.
    pub query_length: usize,
    /// Tokens kept of a passage, prefix included.
    pub document_length: usize,
    /// Adapters; all weights are trained if absent.
    pub lora: Option<Lora>,
    /// Type of matrix products.
    pub precision: Precision,
    /// Tokens that go through the network together. Batches of more go through in pieces, twice
    /// (Gao et al. 2021, GradCache): memory is bounded by this, whatever the batch.
    pub chunk_tokens: usize,
}

impl Recipe {
    /// A published recipe, or ours for small models.
    ///
    /// `laconic-1b`, `laconic-3b`, `laconic-8b` are the settings published with LACONIC; `nano`
    /// trains every weight of a model of a few million parameters on a CPU. `phase` is 1 (weakly
    /// supervised pairs, negatives from the batch only) or 2 (pairs with hard negatives, from
    /// phase 1's weights).
    ///
    /// # Errors
    ///
    /// If there is no such recipe or phase; the message lists them.
    pub fn named(name: &str, phase: u8) -> Result<Self, Error> {
        let recipe = match (name, phase) {
            ("laconic-1b" | "laconic-3b", 1) => Self::weakly_supervised(32, 64.0),
            ("laconic-8b", 1) => Self::weakly_supervised(16, 32.0),
            ("laconic-1b" | "laconic-3b", 2) => Self::high_signal(32, 64.0, 5e-5),
            ("laconic-8b", 2) => Self::high_signal(16, 32.0, 1e-4),
            ("nano", 1) => Self::nano(),
            ("nano", 2) => Self::nano_with_negatives(),
            _ => {
                return Err(Error::invalid_input(format!(
                    "looking up recipe {name:?}, phase {phase}: there are laconic-1b, laconic-3b, \
                     laconic-8b and nano, each with phases 1 and 2"
                )));
            }
        };
        Ok(recipe)
    }

    fn weakly_supervised(rank: usize, alpha: f64) -> Self {
        Self {
            seed: 0,
            steps: 1000,
            batch: 8192,
            accumulate: 1,
            negatives: 0,
            learning_rate: 1e-4,
            embedding_rate: 1.0,
            norm_rate: 1.0,
            warmup: 0.05,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip: 1.0,
            temperature: 1.0,
            query_flops: 5e-4,
            document_flops: 5e-4,
            flops_ramp: 0.33,
            query_length: 64,
            document_length: 192,
            lora: Some(Lora {
                rank,
                alpha,
                dropout: 0.1,
            }),
            precision: Precision::Bf16,
            chunk_tokens: 16_384,
        }
    }

    fn high_signal(rank: usize, alpha: f64, learning_rate: f64) -> Self {
        Self {
            batch: 128,
            negatives: 15,
            learning_rate,
            query_flops: 1e-3,
            document_flops: 1e-3,
            query_length: 192,
            ..Self::weakly_supervised(rank, alpha)
        }
    }

    /// For a model that begins as a matcher of words (see [`NewModel`](super::NewModel)): mostly the
    /// embedding is trained, gently, and not where gradients are small; layers barely move. Faster
    /// rates give every text hundreds of terms that mean nothing, and find less of what was held out.
    fn nano() -> Self {
        Self {
            steps: 150,
            batch: 64,
            learning_rate: 1e-5,
            embedding_rate: 100.0,
            warmup: 0.1,
            beta2: 0.98,
            epsilon: 3e-4,
            query_flops: 0.3,
            document_flops: 0.1,
            flops_ramp: 0.02,
            query_length: 48,
            document_length: 128,
            lora: None,
            precision: Precision::F32,
            chunk_tokens: 16_384,
            ..Self::weakly_supervised(8, 16.0)
        }
    }

    fn nano_with_negatives() -> Self {
        Self {
            steps: 150,
            batch: 16,
            negatives: 3,
            ..Self::nano()
        }
    }

    /// Sets one number from its text form, the way a command line gives it: `steps`, `batch`,
    /// `learning_rate` and so on; adapters by `lora_rank`, `lora_alpha` and `lora_dropout`, or
    /// `lora` = `none`.
    ///
    /// # Errors
    ///
    /// If there is no such number (the message lists those there are) or the text is none.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let unfit =
            |why: String| Error::invalid_input(format!("setting `{key}` to {value:?}: {why}"));
        let parsed = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let mut all = serde_json::to_value(&*self).map_err(|error| unfit(error.to_string()))?;
        let standard = Lora {
            rank: 8,
            alpha: 16.0,
            dropout: 0.1,
        };
        let (place, inner) = match key.strip_prefix("lora_") {
            Some(inner) => {
                if all["lora"].is_null() {
                    all["lora"] =
                        serde_json::to_value(standard).map_err(|error| unfit(error.to_string()))?;
                }
                (&mut all["lora"], inner)
            }
            None => (&mut all, key),
        };
        let Some(slot) = place
            .as_object_mut()
            .and_then(|fields| fields.get_mut(inner))
        else {
            let known: Vec<&str> = place
                .as_object()
                .into_iter()
                .flat_map(|all| all.keys().map(String::as_str))
                .collect();
            return Err(unfit(format!(
                "there is no such number; known are {}",
                known.join(", ")
            )));
        };
        *slot = match (key, value) {
            ("lora", "none") => Value::Null,
            _ => parsed,
        };
        *self = serde_json::from_value(all).map_err(|error| unfit(error.to_string()))?;
        Ok(())
    }

    /// Says which number is out of its range.
    ///
    /// # Errors
    ///
    /// If one is.
    pub fn check(&self) -> Result<(), Error> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let weight = |x: f64| x.is_finite() && x >= 0.0;
        let length = |n: usize| (4..=crate::preset::MAX_LENGTH_LIMIT).contains(&n);
        let lora = self.lora.unwrap_or(Lora {
            rank: 1,
            alpha: 1.0,
            dropout: 0.0,
        });
        for (is_sound, name, range) in [
            (self.steps > 0, "steps", "at least 1"),
            ((1..=1 << 20).contains(&self.batch), "batch", "1 to 1048576"),
            (self.accumulate > 0, "accumulate", "at least 1"),
            (self.negatives <= 1024, "negatives", "at most 1024"),
            (
                self.batch > 1 || self.negatives > 0,
                "batch",
                "2 or more without hard negatives",
            ),
            (weight(self.learning_rate), "learning_rate", "0 or more"),
            (weight(self.embedding_rate), "embedding_rate", "0 or more"),
            (weight(self.norm_rate), "norm_rate", "0 or more"),
            (share(self.warmup), "warmup", "a share from 0 to 1"),
            (weight(self.weight_decay), "weight_decay", "0 or more"),
            ((0.0..1.0).contains(&self.beta1), "beta1", "from 0, below 1"),
            ((0.0..1.0).contains(&self.beta2), "beta2", "from 0, below 1"),
            (
                weight(self.epsilon) && self.epsilon > 0.0,
                "epsilon",
                "above 0",
            ),
            (self.clip > 0.0, "clip", "above 0"),
            (
                weight(self.temperature) && self.temperature > 0.0,
                "temperature",
                "above 0",
            ),
            (weight(self.query_flops), "query_flops", "0 or more"),
            (weight(self.document_flops), "document_flops", "0 or more"),
            (share(self.flops_ramp), "flops_ramp", "a share from 0 to 1"),
            (
                length(self.query_length),
                "query_length",
                "4 to 32768 tokens",
            ),
            (
                length(self.document_length),
                "document_length",
                "4 to 32768 tokens",
            ),
            ((1..=1024).contains(&lora.rank), "lora rank", "1 to 1024"),
            (weight(lora.alpha), "lora alpha", "0 or more"),
            (
                (0.0..1.0).contains(&lora.dropout),
                "lora dropout",
                "from 0, below 1",
            ),
            (self.chunk_tokens > 0, "chunk_tokens", "at least 1"),
        ] {
            if !is_sound {
                return Err(Error::invalid_input(format!(
                    "checking the recipe: `{name}` must be {range}"
                )));
            }
        }
        Ok(())
    }

    /// The learning rate of a step, the first being 0: linear to its maximum, then a cosine
    /// (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts).
    #[must_use]
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        let (step, steps) = (to_f64(step), to_f64(self.steps));
        let warmup = (self.warmup * steps).round();
        if step < warmup {
            return self.learning_rate * (step + 1.0) / warmup;
        }
        let done = (step - warmup) / (steps - warmup).max(1.0);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }

    /// The share of the FLOPs weights that is in force at a step, from 0 to 1 (Paria et al.
    /// 2020, section 4, grow them quadratically).
    #[must_use]
    pub fn ramp_at(&self, step: usize) -> f64 {
        let ramp = self.flops_ramp * to_f64(self.steps);
        if ramp <= 0.0 {
            return 1.0;
        }
        (to_f64(step + 1) / ramp).min(1.0).powi(2)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub(super) fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_settings_are_those_published() {
        for name in ["laconic-1b", "laconic-3b", "laconic-8b"] {
            let is_largest = name == "laconic-8b";
            let (weak, strong) = (
                Recipe::named(name, 1).unwrap(),
                Recipe::named(name, 2).unwrap(),
            );
            for recipe in [&weak, &strong] {
                recipe.check().unwrap();
                let lora = recipe.lora.unwrap();
                let expected = if is_largest { (16, 32.0) } else { (32, 64.0) };
                assert_eq!(
                    (lora.rank, lora.alpha, lora.dropout),
                    (expected.0, expected.1, 0.1)
                );
                assert_eq!((recipe.temperature, recipe.warmup), (1.0, 0.05));
            }
            assert_eq!(
                (weak.batch, weak.negatives, weak.learning_rate),
                (8192, 0, 1e-4)
            );
            assert_eq!((weak.query_flops, weak.document_flops), (5e-4, 5e-4));
            assert_eq!((weak.query_length, weak.document_length), (64, 192));
            assert_eq!((strong.batch, strong.negatives), (128, 15));
            assert_eq!(strong.learning_rate, if is_largest { 1e-4 } else { 5e-5 });
            assert_eq!((strong.query_flops, strong.document_flops), (1e-3, 1e-3));
            assert_eq!((strong.query_length, strong.document_length), (192, 192));
        }
        let error = Recipe::named("laconic-2b", 1).unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains("laconic-3b"));
        assert!(Recipe::named("nano", 3).is_err());
    }

    #[test]
    fn the_schedule_rises_falls_and_ends_near_zero() {
        let recipe = Recipe {
            steps: 1000,
            warmup: 0.05,
            ..Recipe::named("nano", 1).unwrap()
        };
        let rates: Vec<f64> = (0..1000)
            .map(|step| recipe.learning_rate_at(step))
            .collect();
        assert!(rates[..50].is_sorted() && rates[50..].is_sorted_by(|a, b| a >= b));
        assert_eq!(rates[49], recipe.learning_rate);
        assert!((rates[525] - recipe.learning_rate / 2.0).abs() < recipe.learning_rate / 500.0);
        assert!(rates[999] < recipe.learning_rate * 1e-5 && rates[0] > 0.0);
    }

    #[test]
    fn the_ramp_is_quadratic_and_then_full() {
        let recipe = Recipe {
            steps: 100,
            flops_ramp: 0.5,
            ..Recipe::named("nano", 1).unwrap()
        };
        assert!((recipe.ramp_at(24) - 0.25).abs() < 1e-12);
        assert_eq!((recipe.ramp_at(49), recipe.ramp_at(99)), (1.0, 1.0));
        let none = Recipe {
            flops_ramp: 0.0,
            ..recipe
        };
        assert_eq!(none.ramp_at(0), 1.0);
    }

    #[test]
    fn numbers_are_set_by_name() {
        let mut recipe = Recipe::named("nano", 1).unwrap();
        for (key, value) in [
            ("steps", "7"),
            ("learning_rate", "2e-4"),
            ("precision", "bf16"),
        ] {
            recipe.set(key, value).unwrap();
        }
        assert_eq!((recipe.steps, recipe.learning_rate), (7, 2e-4));
        assert_eq!(recipe.precision, Precision::Bf16);
        recipe.set("lora_rank", "4").unwrap();
        assert_eq!(recipe.lora.map(|lora| lora.rank), Some(4));
        recipe.set("lora", "none").unwrap();
        assert_eq!(recipe.lora, None);
        for (key, value) in [
            ("step", "7"),
            ("steps", "many"),
            ("steps", "-1"),
            ("lora_x", "1"),
        ] {
            let error = recipe.set(key, value).unwrap_err();
            assert!(
                error.is_invalid_input() && error.to_string().contains(key),
                "{error}"
            );
        }
        assert!(
            recipe
                .set("step", "7")
                .unwrap_err()
                .to_string()
                .contains("temperature")
        );
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let sound = Recipe::named("laconic-8b", 2).unwrap();
        let mut bad = sound.clone();
        bad.clip = f64::NAN;
        assert!(bad.check().unwrap_err().to_string().contains("`clip`"));
        let mut bad = sound.clone();
        bad.lora.as_mut().unwrap().dropout = 1.0;
        assert!(bad.check().unwrap_err().to_string().contains("dropout"));
        let bad = Recipe {
            batch: 1,
            negatives: 0,
            ..sound
        };
        assert!(bad.check().unwrap_err().to_string().contains("`batch`"));
    }
}
