//! What comes out: term weights of one text, by log-saturation and cut.

use crate::saturation::Saturation;
use crate::tokenize::Tokens;

/// Term weights of one text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Encoding {
    /// (token id, term weight): weights finite and positive, largest first,
    /// equal ones by token id; at most the preset's `top_k`.
    pub weights: Vec<(u32, f32)>,
    /// Tokens that went through the network, prefix and specials included.
    pub n_tokens: usize,
    /// Tokens cut off at the preset's `max_length`; those of
    /// `n_dropped_bytes` come on top.
    pub n_dropped_tokens: usize,
    /// Bytes at the end of a very long text that were not even tokenized.
    pub n_dropped_bytes: usize,
}

impl Encoding {
    /// The encoding of a text before its weights are known.
    pub(crate) fn of(tokens: &Tokens) -> Self {
        Self {
            weights: Vec::new(),
            n_tokens: tokens.ids.len(),
            n_dropped_tokens: tokens.n_dropped_tokens,
            n_dropped_bytes: tokens.n_dropped_bytes,
        }
    }

    /// An encoding that was kept: what an [`Encoder`](crate::Encoder) once returned.
    pub fn from_parts(
        weights: Vec<(u32, f32)>,
        n_tokens: usize,
        n_dropped_tokens: usize,
        n_dropped_bytes: usize,
    ) -> Self {
        Self {
            weights,
            n_tokens,
            n_dropped_tokens,
            n_dropped_bytes,
        }
    }

    /// Whether the end of the text was cut off.
    pub fn is_truncated(&self) -> bool {
        self.n_dropped_tokens > 0 || self.n_dropped_bytes > 0
    }
}

/// What the network computed for one text before log-saturation, for
/// comparison with another implementation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trace {
    /// What the vocabulary is multiplied with, positions × hidden size, row by
    /// row: the last hidden state after the final norm and, for BERT and
    /// DistilBERT, the layer and norm of their head.
    pub hidden: Vec<f32>,
    /// Largest logit of each token over all positions; length is the
    /// vocabulary size.
    pub max_logits: Vec<f32>,
}

/// The saturated, pooled logits, largest first, at most `top_k`.
///
/// SPLADE v2 (Formal et al. 2021) saturates each position and then takes the
/// maximum; log(1 + relu(x)) is monotone, so pooling first is the same.
///
/// Rows of the head that are no terms (without a vocabulary string: padding)
/// are left out.
pub(crate) fn term_weights(
    max_logits: impl Iterator<Item = f32>,
    is_term: &[bool],
    saturation: Saturation,
    top_k: Option<usize>,
) -> Vec<(u32, f32)> {
    let logits = (0..).zip(max_logits).zip(is_term);
    let active = logits.filter(|((_, logit), is_term)| **is_term && *logit > 0.0);
    let weights = active.map(|((id, logit), _)| (id, saturation.of(logit)));
    ranked(weights.collect(), top_k)
}

/// Weights that are all positive, largest first, at most `top_k`.
pub(crate) fn ranked(mut weights: Vec<(u32, f32)>, top_k: Option<usize>) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if let Some(top_k) = top_k.filter(|top_k| *top_k < weights.len()) {
        weights.select_nth_unstable_by(top_k, order);
        weights.truncate(top_k);
    }
    weights.sort_unstable_by(order);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_positive_sorted_and_cut_with_ties_by_id() {
        let logits = [
            1.0,
            -1.0,
            3.0,
            0.0,
            1.0,
            3.0,
            9.0,
            1.0,
            f32::MIN_POSITIVE,
            -0.0,
        ];
        let mut has_term = [true; 10];
        has_term[6] = false;
        let ids = |top_k| -> Vec<u32> {
            let weights = term_weights(logits.into_iter(), &has_term, Saturation::Once, top_k);
            assert!(weights.iter().all(|(_, weight)| *weight > 0.0));
            weights.into_iter().map(|(id, _)| id).collect()
        };
        let all = [2, 5, 0, 4, 7, 8];
        assert_eq!(ids(None), all);
        for top_k in 1..8 {
            assert_eq!(ids(Some(top_k)), all[..top_k.min(6)], "top {top_k}");
        }
    }

    #[test]
    fn log_saturation_is_exact_where_it_is_known() {
        let e_minus_one = std::f32::consts::E - 1.0;
        let weights = term_weights([e_minus_one].into_iter(), &[true], Saturation::Once, None);
        assert!((weights[0].1 - 1.0).abs() < 1e-7);
        let e_to_e_minus_one = (std::f32::consts::E - 1.0).exp() - 1.0;
        let weights = term_weights(
            [e_to_e_minus_one].into_iter(),
            &[true],
            Saturation::Twice,
            None,
        );
        assert!((weights[0].1 - 1.0).abs() < 1e-6);
    }
}
