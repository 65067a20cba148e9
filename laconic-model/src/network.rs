//! Backbone and head together.

use std::sync::Arc;

use crate::backbone::{Backbone, Pack};
use crate::config::Config;
use crate::error::Error;
use crate::head::{Head, Pooled};
use crate::matmul::Matrix;
use crate::timings::{Part, Timings};
use crate::weights::{LM_HEAD, Weights};

pub(crate) struct Network {
    backbone: Backbone,
    head: Head,
}

impl Network {
    /// Takes its tensors out of `weights`; texts may be `max_length` tokens long.
    pub(crate) fn new(
        config: &Config,
        weights: &mut Weights,
        max_length: usize,
    ) -> Result<Self, Error> {
        let backbone = Backbone::new(config, weights, max_length)?;
        let weight = match config.is_tied {
            true => backbone.embed_tokens(),
            false => Arc::new(weights.matrix(LM_HEAD)?),
        };
        let head = Head::new(weight, config.vocab_size);
        Ok(Self { backbone, head })
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The matrices that every token is multiplied with.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.backbone.matrices().chain([self.head.weight()])
    }

    /// Last hidden states, tokens × hidden.
    pub(crate) fn hidden(&self, pack: &Pack, timings: &mut Timings) -> Vec<f32> {
        self.backbone.forward(pack, timings)
    }

    /// Largest logits of each text.
    pub(crate) fn max_logits(&self, pack: &Pack, timings: &mut Timings) -> Pooled {
        let hidden = self.hidden(pack, timings);
        timings.time(Part::Head, || self.head.max_logits(&hidden, pack.spans()))
    }
}
