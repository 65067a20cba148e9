//! Gradients of the weights under training, summed over the pieces of a batch.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};

/// By the names of [`Network::trained`](super::network::Network::trained), in f32 or finer.
#[derive(Debug, Default)]
pub(super) struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    pub(super) fn add(&mut self, name: &str, grad: Tensor) -> Result<()> {
        let sum = match self.0.get(name) {
            Some(sum) => (sum + grad)?,
            None => grad,
        };
        self.0.insert(name.to_owned(), sum.detach());
        Ok(())
    }

    /// Adds what candle found for each weight.
    pub(super) fn add_all(&mut self, trained: &[(String, Var)], store: &GradStore) -> Result<()> {
        for (name, var) in trained {
            if let Some(grad) = store.get(var) {
                self.add(name, grad.clone())?;
            }
        }
        Ok(())
    }

    pub(super) fn add_others(&mut self, others: Self) -> Result<()> {
        others
            .0
            .into_iter()
            .try_for_each(|(name, grad)| self.add(&name, grad))
    }

    pub(super) fn of(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Divides all by a number.
    pub(super) fn divide(&mut self, by: f64) -> Result<()> {
        for grad in self.0.values_mut() {
            *grad = (&*grad / by)?;
        }
        Ok(())
    }

    /// Euclidean length of all together.
    pub(super) fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for grad in self.0.values() {
            sum += grad
                .to_dtype(DType::F64)?
                .sqr()?
                .sum_all()?
                .to_scalar::<f64>()?;
        }
        Ok(sum.sqrt())
    }
}
