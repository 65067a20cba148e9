//! Backbone and head together.

use std::sync::Arc;

use crate::backbone::{Backbone, Pack};
use crate::bert::{self, BertConfig};
use crate::config::Config;
use crate::error::Error;
use crate::family::Family;
use crate::head::{Head, Pooled};
use crate::matmul::Matrix;
use crate::timings::{Part, Timings};
use crate::weights::{LM_HEAD, Weights};

pub(crate) struct Network {
    body: Body,
    head: Head,
}

enum Body {
    Llama(Backbone),
    Bert(bert::Backbone),
}

impl Network {
    /// Takes the tensors of any family out of `weights`; texts may be `max_length` tokens long.
    pub(crate) fn new(
        family: &Family,
        weights: &mut Weights,
        max_length: usize,
    ) -> Result<Self, Error> {
        match family {
            Family::Llama(config) => Self::llama(config, weights, max_length),
            Family::Bert(config) => Self::bert(config, weights, max_length),
        }
    }

    /// As [`new`](Self::new), for a Llama.
    pub(crate) fn llama(
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
        Ok(Self {
            body: Body::Llama(backbone),
            head,
        })
    }

    fn bert(config: &BertConfig, weights: &mut Weights, max_length: usize) -> Result<Self, Error> {
        let backbone = bert::Backbone::new(config, weights, max_length)?;
        let weight = bert::decoder(config, weights, backbone.words())?;
        let head = Head::new(weight, config.vocab_size);
        let head = head.with_bias(bert::decoder_bias(config, weights)?);
        Ok(Self {
            body: Body::Bert(backbone),
            head,
        })
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The matrices that every token is multiplied with.
    pub(crate) fn matrices(&self) -> Vec<&Matrix> {
        let mut all = self.body_matrices();
        all.push(self.head.weight());
        all
    }

    fn body_matrices(&self) -> Vec<&Matrix> {
        match &self.body {
            Body::Llama(backbone) => backbone.matrices().collect(),
            Body::Bert(backbone) => backbone.matrices().collect(),
        }
    }

    /// What the head takes, tokens × hidden.
    pub(crate) fn hidden(&self, pack: &Pack, timings: &mut Timings) -> Vec<f32> {
        match &self.body {
            Body::Llama(backbone) => backbone.forward(pack, timings),
            Body::Bert(backbone) => backbone.forward(pack, timings),
        }
    }

    /// Largest logits of each text.
    pub(crate) fn max_logits(&self, pack: &Pack, timings: &mut Timings) -> Pooled {
        let hidden = self.hidden(pack, timings);
        timings.time(Part::Head, || self.head.max_logits(&hidden, pack.spans()))
    }

    /// Bytes that a forward pass over so many tokens takes at most, beside the weights.
    ///
    /// The residual stream, its norm and what is added to it are a row of the hidden size for each
    /// token; inputs and outputs of one layer come on top.
    pub(crate) fn room(&self, n_tokens: usize) -> usize {
        let matrices = self.body_matrices().into_iter();
        let widest = matrices
            .map(|matrix| matrix.inputs() + matrix.width())
            .max();
        let row = 3 * self.head.weight().inputs() + widest.unwrap_or(0);
        n_tokens.saturating_mul(size_of::<f32>() * row)
    }
}
