//! AdamW (Loshchilov and Hutter 2019, algorithm 2), with moments that can be saved.

use candle_core::{DType, Result, Tensor, Var};

use super::gradients::Gradients;
use super::recipe::Recipe;
use crate::error::Error;
use crate::weights::{EMBEDDING, LM_HEAD};

/// A weight under training with its running means.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) weight: Var,
    /// Mean of gradients.
    pub(super) mean: Var,
    /// Mean of squared gradients.
    pub(super) square: Var,
}

#[derive(Debug)]
pub(super) struct AdamW {
    pub(super) slots: Vec<Slot>,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    embedding_rate: f64,
    norm_rate: f64,
}

impl AdamW {
    pub(super) fn new(trained: Vec<(String, Var)>, recipe: &Recipe) -> Result<Self> {
        let slots = trained.into_iter().map(|(name, weight)| {
            let zeros = weight.as_tensor().zeros_like()?;
            Ok(Slot {
                name,
                mean: Var::from_tensor(&zeros)?,
                square: Var::from_tensor(&zeros.copy()?)?,
                weight,
            })
        });
        Ok(Self {
            slots: slots.collect::<Result<_>>()?,
            beta1: recipe.beta1,
            beta2: recipe.beta2,
            epsilon: recipe.epsilon,
            weight_decay: recipe.weight_decay,
            embedding_rate: recipe.embedding_rate,
            norm_rate: recipe.norm_rate,
        })
    }

    /// Takes the step with this number, the first being 0. Returns the gradient's length before
    /// it was clipped.
    ///
    /// # Errors
    ///
    /// If the gradient is not finite; no weight has been touched then.
    pub(super) fn step(
        &self,
        gradients: &Gradients,
        step: usize,
        learning_rate: f64,
        clip: f64,
    ) -> std::result::Result<f64, Error> {
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            return Err(Error::training(
                "computing a training step: the gradient is NaN or infinite; lower the learning \
                 rate, or go back to an earlier state",
            ));
        }
        let scale = if norm > clip { clip / norm } else { 1.0 };
        let count = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let (unbias1, unbias2) = (1.0 - self.beta1.powi(count), 1.0 - self.beta2.powi(count));
        for slot in &self.slots {
            let Some(grad) = gradients.of(&slot.name) else {
                continue;
            };
            let grad = (grad * scale)?;
            let mean = decay(&slot.mean, &grad, self.beta1)?;
            let square = decay(&slot.square, &grad.sqr()?, self.beta2)?;
            slot.mean.set(&mean)?;
            slot.square.set(&square)?;
            let update = ((mean / unbias1)? / ((square / unbias2)?.sqrt()? + self.epsilon)?)?;
            let weight = slot.weight.as_detached_tensor();
            // Gains of norms are not decayed towards 0.
            let (rate, decay) = match slot.name.as_str() {
                EMBEDDING | LM_HEAD => (self.embedding_rate, self.weight_decay),
                _ if weight.rank() < 2 => (self.norm_rate, 0.0),
                _ => (1.0, self.weight_decay),
            };
            let learning_rate = learning_rate * rate;
            let kept = (weight * (1.0 - learning_rate * decay))?;
            slot.weight.set(&(kept - (update * learning_rate)?)?)?;
        }
        Ok(norm)
    }
}

fn decay(mean: &Var, new: &Tensor, beta: f64) -> Result<Tensor> {
    (mean.as_detached_tensor() * beta)? + (new.to_dtype(DType::F32)? * (1.0 - beta))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Two steps by hand, against the formulas of the paper in f64.
    #[test]
    fn steps_follow_the_algorithm() {
        let recipe = Recipe {
            weight_decay: 0.1,
            epsilon: 1e-8,
            ..Recipe::named("nano", 1).unwrap()
        };
        let weight = Var::new(&[[1.0_f32, -2.0]], &Device::Cpu).unwrap();
        let adamw = AdamW::new(vec![("w".to_owned(), weight.clone())], &recipe).unwrap();
        let (mut expected, mut mean, mut square) = ([1.0_f64, -2.0], [0.0; 2], [0.0; 2]);
        for (step, grads) in [[0.3_f64, 0.4], [-0.6, 0.8]].into_iter().enumerate() {
            let mut gradients = Gradients::default();
            let tensor = Tensor::new(&[grads], &Device::Cpu).unwrap();
            gradients
                .add("w", tensor.to_dtype(DType::F32).unwrap())
                .unwrap();
            let norm = adamw.step(&gradients, step, 0.01, 0.5).unwrap();
            assert!((norm - [0.5, 1.0][step]).abs() < 1e-6);
            for i in 0..2 {
                let grad = grads[i] * [1.0, 0.5][step];
                mean[i] = recipe.beta1 * mean[i] + (1.0 - recipe.beta1) * grad;
                square[i] = recipe.beta2 * square[i] + (1.0 - recipe.beta2) * grad * grad;
                let count = i32::try_from(step + 1).unwrap();
                let unbiased = mean[i] / (1.0 - recipe.beta1.powi(count));
                let spread = (square[i] / (1.0 - recipe.beta2.powi(count))).sqrt();
                expected[i] -= 0.01 * (unbiased / (spread + 1e-8) + 0.1 * expected[i]);
            }
            let found = weight.as_tensor().to_vec2::<f32>().unwrap();
            for i in 0..2 {
                assert!((f64::from(found[0][i]) - expected[i]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_touches_nothing() {
        let recipe = Recipe::named("nano", 1).unwrap();
        let weight = Var::new(&[1.0_f32], &Device::Cpu).unwrap();
        let adamw = AdamW::new(vec![("w".to_owned(), weight.clone())], &recipe).unwrap();
        let mut gradients = Gradients::default();
        gradients
            .add("w", Tensor::new(&[f32::NAN], &Device::Cpu).unwrap())
            .unwrap();
        assert!(
            adamw
                .step(&gradients, 0, 0.1, 1.0)
                .unwrap_err()
                .is_training()
        );
        assert_eq!(weight.as_tensor().to_vec1::<f32>().unwrap(), [1.0]);
    }
}
