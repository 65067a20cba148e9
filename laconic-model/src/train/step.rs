//! One batch: vectors, loss, gradients, in pieces that fit in memory.
//!
//! A contrastive loss needs the vectors of the whole batch at once, its backward pass only the
//! gradient of each vector. So (Gao et al. 2021, GradCache, section 3) a batch that is too large
//! goes through the network twice: piece by piece without gradients for the vectors; then, the
//! gradient of every vector known, piece by piece with gradients. The result is the same as in
//! one go, dropout included, since masks are a function of the piece and not of the pass. A batch
//! that fits goes through once.
//!
//! On a CPU pieces go through side by side, each on one thread: candle's own threads meet at a
//! barrier after every operation, where they spend more time than in most operations. Sums are
//! taken in the order of the pieces, so the number of threads changes nothing.

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;

use super::gradients::Gradients;
use super::head::{self, Winners};
use super::loss::{Exempt, LossValue, LossWeights, loss};
use super::network::{Network, Piece};
use super::parameter::Pass;
use super::random::Random;
use crate::error::Error;

/// A tokenized batch: passages lie example by example, the right one first.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) queries: Vec<Vec<u32>>,
    pub(super) documents: Vec<Vec<u32>>,
    /// Passages of each query: 1 and its hard negatives.
    pub(super) per_query: usize,
    /// Queries × passages: right answers that another query brought.
    pub(super) exempt: Option<Exempt>,
}

/// How a batch is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepPlan {
    pub(super) weights: LossWeights,
    /// Key of this batch's random numbers.
    pub(super) key: u64,
    pub(super) dtype: DType,
    pub(super) chunk_tokens: usize,
    /// Whether there is dropout.
    pub(super) dropout: bool,
}

/// Texts of one side that go through together.
struct Part {
    /// Their places in the batch.
    texts: Vec<usize>,
    piece: Piece,
    key: u64,
}

/// A piece that went through, with the graph of its hidden states if that is kept.
struct Through {
    hidden: Option<Tensor>,
    winners: Option<Winners>,
}

/// Loss and gradients of a batch.
pub(super) fn run(
    network: &Network,
    trained: &[(String, Var)],
    batch: &Batch,
    plan: StepPlan,
) -> Result<(LossValue, Gradients), Error> {
    let device = network.head().value().device().clone();
    let queries = parts(&batch.queries, plan, 0, &device)?;
    let documents = parts(&batch.documents, plan, 1, &device)?;
    let padded = |part: &Part| part.piece.lengths.len() * part.piece.longest;
    let n_tokens: usize = queries.iter().chain(&documents).map(padded).sum();
    let keep = n_tokens <= plan.chunk_tokens;
    let (query_logits, query_parts) = forward(network, &queries, plan, keep)?;
    let (document_logits, document_parts) = forward(network, &documents, plan, keep)?;
    let (value, grads) = loss(
        &query_logits,
        &document_logits,
        batch.per_query,
        batch.exempt.as_ref(),
        plan.weights,
    )?;
    let mut gradients = Gradients::default();
    for (parts, through, grad) in [
        (queries, query_parts, grads.queries),
        (documents, document_parts, grads.documents),
    ] {
        let work: Vec<(&Part, &Through)> = parts.iter().zip(&through).collect();
        // A thread's worth at a time, so that their gradients are not all in memory together.
        for work in work.chunks(rayon::current_num_threads()) {
            let found = each(work, &grad, |(part, through)| {
                backward(network, trained, part, through, &grad, plan)
            })?;
            found
                .into_iter()
                .try_for_each(|found| gradients.add_others(found))?;
        }
    }
    Ok((value, gradients))
}

/// Cuts one side of a batch into pieces of texts of like length.
fn parts(
    texts: &[Vec<u32>],
    plan: StepPlan,
    side: u64,
    device: &Device,
) -> Result<Vec<Part>, Error> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|text| (texts[*text].len(), *text));
    let mut parts = Vec::new();
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let longest = |n: usize| texts[rest[n - 1]].len();
        // An eighth of a chunk at most, so that what fits as a whole still falls into pieces of
        // like lengths, with less padding.
        let fits = |n: &usize| *n == 1 || n * longest(*n) <= plan.chunk_tokens.div_ceil(8);
        let n = (1..=rest.len()).take_while(|n| fits(n)).last().unwrap_or(1);
        let (taken, left) = rest.split_at(n);
        let ids: Vec<&[u32]> = taken.iter().map(|text| texts[*text].as_slice()).collect();
        let number = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        parts.push(Part {
            piece: Piece::new(&ids, device)?,
            texts: taken.to_vec(),
            key: Random::keyed(&[plan.key, side, number]).next(),
        });
        rest = left;
    }
    Ok(parts)
}

fn pass_of(part: &Part, plan: StepPlan, track: bool) -> Pass {
    Pass {
        track,
        dropout: plan.dropout.then_some(part.key),
        dtype: plan.dtype,
    }
}

/// Winning logits of one side, in the batch's order, texts × vocabulary.
fn forward(
    network: &Network,
    parts: &[Part],
    plan: StepPlan,
    keep: bool,
) -> Result<(Tensor, Vec<Through>), Error> {
    let weight = network.head().tensor(plan.dtype, false)?;
    let done = each(parts, &weight, |part| {
        let hidden = network.hidden(&part.piece, pass_of(part, plan, keep))?;
        let winners = head::pool(&hidden, &weight, &part.piece)?;
        let logits = winners.logits.clone();
        let through = match keep {
            true => Through {
                hidden: Some(hidden),
                winners: Some(winners),
            },
            false => Through {
                hidden: None,
                winners: None,
            },
        };
        Ok((logits, through))
    })?;
    let (logits, all): (Vec<Tensor>, Vec<Through>) = done.into_iter().unzip();
    let places = parts.iter().flat_map(|part| part.texts.iter().copied());
    let mut at = vec![0_u32; parts.iter().map(|part| part.texts.len()).sum()];
    for (row, place) in (0..).zip(places) {
        at[place] = row;
    }
    let logits = Tensor::cat(&logits, 0)?;
    let at = Tensor::from_vec(at, logits.dim(0)?, logits.device())?;
    let logits = network.without_padding(logits.index_select(&at, 0)?)?;
    Ok((logits, all))
}

/// The gradients that come through one piece.
fn backward(
    network: &Network,
    trained: &[(String, Var)],
    part: &Part,
    through: &Through,
    grad: &Tensor,
    plan: StepPlan,
) -> Result<Gradients, Error> {
    let mut gradients = Gradients::default();
    let weight = network.head().tensor(plan.dtype, false)?;
    let hidden = match &through.hidden {
        Some(hidden) => hidden.clone(),
        None => network.hidden(&part.piece, pass_of(part, plan, true))?,
    };
    let again;
    let winners = match &through.winners {
        Some(winners) => winners,
        None => {
            again = head::pool(&hidden, &weight, &part.piece)?;
            &again
        }
    };
    let places = part
        .texts
        .iter()
        .filter_map(|text| u32::try_from(*text).ok());
    let places = Tensor::from_iter(places, grad.device())?;
    let grad = grad.index_select(&places, 0)?;
    let trains_head = network.head().var().is_some();
    let (d_hidden, d_weight) = head::backward(&hidden, &weight, winners, &grad, trains_head)?;
    if let Some(d_weight) = d_weight {
        let name = match network.lm_head {
            Some(_) => crate::weights::LM_HEAD,
            None => crate::weights::EMBEDDING,
        };
        gradients.add(name, d_weight)?;
    }
    // Its gradient for `hidden` is `d_hidden`: the chain rule, started in the middle.
    let surrogate = (hidden.to_dtype(d_hidden.dtype())? * d_hidden)?.sum_all()?;
    gradients.add_all(trained, &surrogate.backward()?)?;
    Ok(gradients)
}

/// Does something with each item: side by side on a CPU, one after the other elsewhere. Results
/// come in order.
pub(super) fn each<T: Sync, U: Send>(
    items: &[T],
    like: &Tensor,
    work: impl Fn(&T) -> Result<U, Error> + Send + Sync,
) -> Result<Vec<U>, Error> {
    match like.device().is_cpu() {
        true => items.par_iter().map(work).collect(),
        false => items.iter().map(work).collect(),
    }
}
