//! How well a network under training finds held-out passages.

use candle_core::{DType, Device, Tensor};

use super::example::{Example, Tokens};
use super::head;
use super::loss::{n_terms, term_weights};
use super::network::{Network, Piece};
use super::parameter::Pass;
use super::recipe::to_f64;
use super::step::each;
use crate::error::Error;

/// Means over held-out queries, each with one right passage among those of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Validation {
    /// Share of the queries whose passage came first.
    pub recall_at_1: f64,
    /// Share of the queries whose passage was among the first ten.
    pub recall_at_10: f64,
    /// Normalised discounted cumulative gain of the first ten.
    pub ndcg_at_10: f64,
    /// Mean number of terms of a query.
    pub query_terms: f64,
    /// Mean number of terms of a passage.
    pub document_terms: f64,
}

/// Passages that equal another's, or share a group with the query, are not counted as better.
pub(super) fn validate(
    network: &Network,
    tokens: &Tokens<'_>,
    examples: &[Example],
    plan: (Pass, usize, usize),
    device: &Device,
) -> Result<Validation, Error> {
    let queries: Result<Vec<_>, _> = examples
        .iter()
        .map(|example| tokens.query(&example.query))
        .collect();
    let documents: Result<Vec<_>, _> = examples
        .iter()
        .map(|example| tokens.passage(&example.positive))
        .collect();
    let queries = vectors(network, &queries?, plan, device)?;
    let documents = vectors(network, &documents?, plan, device)?;
    let scores = queries.matmul(&documents.t()?)?.to_vec2::<f32>()?;
    let mut found = Validation {
        query_terms: n_terms(&queries)?,
        document_terms: n_terms(&documents)?,
        ..Validation::default()
    };
    for (query, scores) in scores.iter().enumerate() {
        let own = &examples[query];
        let is_other = |other: &Example| {
            other.positive != own.positive && (own.group.is_none() || own.group != other.group)
        };
        // A tie counts against the query: a model that scores all alike finds nothing.
        let better = examples
            .iter()
            .zip(scores)
            .enumerate()
            .filter(|(at, (other, score))| {
                *at != query && **score >= scores[query] && is_other(other)
            });
        let rank = better.count();
        if rank < 10 {
            found.recall_at_10 += 1.0;
            found.ndcg_at_10 += 1.0 / to_f64(rank + 2).log2();
        }
        if rank == 0 {
            found.recall_at_1 += 1.0;
        }
    }
    let n = to_f64(examples.len().max(1));
    found.recall_at_1 /= n;
    found.recall_at_10 /= n;
    found.ndcg_at_10 /= n;
    Ok(found)
}

/// Term weights, texts × vocabulary.
fn vectors(
    network: &Network,
    texts: &[Vec<u32>],
    (pass, chunk_tokens, vocab_size): (Pass, usize, usize),
    device: &Device,
) -> Result<Tensor, Error> {
    let longest = texts.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let chunks: Vec<_> = texts.chunks((chunk_tokens / 8 / longest).max(1)).collect();
    let weight = network.head().tensor(pass.dtype, false)?;
    let vectors = each(&chunks, &weight, |texts| {
        let ids: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let piece = Piece::new(&ids, device)?;
        let hidden = network.hidden(&piece, pass)?;
        let logits = head::pool(&hidden, &weight, &piece)?.logits;
        let logits = network.without_padding(logits)?;
        Ok(term_weights(&logits)?.detach())
    })?;
    let none = Tensor::zeros((0, vocab_size), DType::F32, device)?;
    Ok(Tensor::cat(&[vec![none], vectors].concat(), 0)?)
}
