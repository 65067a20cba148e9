//! The pooled head with its gradient, a tile of the vocabulary at a time.
//!
//! The loss sees one logit for each text and term: the largest over the positions. So the
//! gradient of a logit goes to the position that won, and to no other; nothing of size
//! positions × vocabulary is needed, forward or backward. What is kept of the forward pass is
//! texts × vocabulary: the winning logits and where they stood.

use candle_core::{DType, Device, IndexOp, Result, Storage, Tensor};
use rayon::prelude::*;

use super::network::Piece;
use crate::device::fine;
use crate::error::Error;

/// Logits of a tile, and elements of the rows gathered for its gradient: 32 MiB of f32.
const TILE: usize = 8 << 20;

/// Winning logits of a piece, texts × vocabulary.
#[derive(Debug)]
pub(super) struct Winners {
    /// The largest logit of each term over the positions of each text.
    pub(super) logits: Tensor,
    /// The row of the piece's hidden states that reached it first, as u32.
    pub(super) rows: Tensor,
}

/// Finds the winners: `hidden` is (texts · longest) × hidden, `weight` vocabulary × hidden.
///
/// # Errors
///
/// If a logit is NaN or infinite.
pub(super) fn pool(
    hidden: &Tensor,
    weight: &Tensor,
    piece: &Piece,
) -> std::result::Result<Winners, Error> {
    let (hidden, weight) = (hidden.detach(), weight.detach());
    let vocab = weight.dim(0)?;
    let width = (TILE / hidden.dim(0)?.max(1)).clamp(64, vocab.max(64));
    let (mut logits, mut rows) = (Vec::new(), Vec::new());
    for start in (0..vocab).step_by(width) {
        let width = width.min(vocab - start);
        let tile = hidden.matmul(&weight.narrow(0, start, width)?.t()?)?;
        let (max, row) = match (tile.device(), tile.dtype()) {
            (Device::Cpu, DType::F32) => fold_tile(&tile, piece)?,
            _ => reduce_tile(&tile, piece)?,
        };
        logits.push(max);
        rows.push(row);
    }
    let winners = Winners {
        logits: Tensor::cat(&logits, 1)?,
        rows: Tensor::cat(&rows, 1)?,
    };
    // A sum of finite numbers of this size is finite; one that is not makes it so.
    let sum = winners
        .logits
        .to_dtype(DType::F64)?
        .sum_all()?
        .to_scalar::<f64>()?;
    if sum.is_finite() {
        return Ok(winners);
    }
    Err(Error::training(
        "computing a training step: a logit is NaN or infinite; lower the learning rate, or go \
         back to an earlier state",
    ))
}

/// Maxima and rows of one tile by plain loops: one pass over the logits, whatever is padding is
/// not looked at. A NaN wins, and stays.
fn fold_tile(tile: &Tensor, piece: &Piece) -> Result<(Tensor, Tensor)> {
    let (n_texts, width) = (piece.lengths.len(), tile.dim(1)?);
    let (storage, layout) = tile.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("the tile is not in main memory");
    };
    let logits = &storage.as_slice::<f32>()?[layout.start_offset()..];
    let mut max = vec![f32::NEG_INFINITY; n_texts * width];
    let mut rows = vec![0_u32; n_texts * width];
    let texts = max.par_chunks_mut(width).zip(rows.par_chunks_mut(width));
    texts.enumerate().for_each(|(text, (max, rows))| {
        let first = text * piece.longest;
        for row in first..first + piece.lengths[text] {
            let named = u32::try_from(row).unwrap_or(u32::MAX);
            let logits = &logits[row * width..(row + 1) * width];
            for ((max, winner), logit) in max.iter_mut().zip(rows.iter_mut()).zip(logits) {
                let wins = *logit > *max || logit.is_nan();
                *max = if wins { *logit } else { *max };
                *winner = if wins { named } else { *winner };
            }
        }
    });
    let tensor = Tensor::from_vec(max, (n_texts, width), tile.device())?;
    Ok((
        tensor,
        Tensor::from_vec(rows, (n_texts, width), tile.device())?,
    ))
}

/// The same in tensor operations, for any device and type.
fn reduce_tile(tile: &Tensor, piece: &Piece) -> Result<(Tensor, Tensor)> {
    let width = tile.dim(1)?;
    let fine = fine(tile.dtype());
    let tile = tile.to_dtype(fine)?;
    let (mut max, mut rows) = (Vec::new(), Vec::new());
    for (text, len) in piece.lengths.iter().enumerate() {
        let first = text * piece.longest;
        let text = tile.narrow(0, first, *len)?;
        // `max` may drop a NaN, by where it stands; a sum of zeros times it cannot.
        let poison = (&text * 0.0)?.sum_keepdim(0)?;
        let row = text.argmax_keepdim(0)?;
        max.push((text.gather(&row, 0)? + poison)?);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let offset = Tensor::full(first, (1, width), tile.device())?;
        rows.push((row + offset)?);
    }
    Ok((Tensor::cat(&max, 0)?, Tensor::cat(&rows, 0)?))
}

/// Gradients of hidden states and, if asked for, of the weight, from those of the winning
/// logits, `grad`, texts × vocabulary.
pub(super) fn backward(
    hidden: &Tensor,
    weight: &Tensor,
    winners: &Winners,
    grad: &Tensor,
    weight_too: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (hidden, weight) = (hidden.detach().contiguous()?, weight.detach().contiguous()?);
    match (hidden.device(), hidden.dtype()) {
        (Device::Cpu, DType::F32) => scatter(&hidden, &weight, winners, grad, weight_too),
        _ => scatter_tiles(&hidden, &weight, winners, grad, weight_too),
    }
}

/// One winner that the loss depends on.
struct Active {
    text: usize,
    term: usize,
    row: usize,
    grad: f32,
}

/// By plain loops over the winners whose gradient is not zero, which are few: ReLU stops the
/// rest.
fn scatter(
    hidden: &Tensor,
    weight: &Tensor,
    winners: &Winners,
    grad: &Tensor,
    weight_too: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (n_rows, width) = hidden.dims2()?;
    let vocab = weight.dim(0)?;
    let rows = winners.rows.flatten_all()?.to_vec1::<u32>()?;
    let grads = grad.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let active = rows
        .into_iter()
        .zip(grads)
        .enumerate()
        .filter(|(_, (_, grad))| *grad != 0.0);
    let mut active: Vec<Active> = active
        .map(|(at, (row, grad))| Active {
            text: at / vocab,
            term: at % vocab,
            row: usize::try_from(row).unwrap_or(usize::MAX),
            grad,
        })
        .collect();
    active.sort_by_key(|active| (active.row, active.term));
    let d_hidden = accumulate(&active, n_rows, width, weight, |active| {
        (active.row, active.term)
    })?;
    let d_weight = match weight_too {
        false => None,
        true => {
            active.sort_by_key(|active| (active.term, active.text));
            let d_weight = accumulate(&active, vocab, width, hidden, |active| {
                (active.term, active.row)
            })?;
            Some(d_weight)
        }
    };
    Ok((d_hidden, d_weight))
}

/// Adds `grad` times row *from* of `source` to row *to* of a new matrix, for every active winner;
/// they are sorted by *to*. Runs of one row are summed by one thread in order: the result does
/// not depend on the number of threads.
fn accumulate(
    active: &[Active],
    n_rows: usize,
    width: usize,
    source: &Tensor,
    ends: impl Fn(&Active) -> (usize, usize) + Sync,
) -> Result<Tensor> {
    let (storage, layout) = source.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("the head is not in main memory");
    };
    let source_rows = &storage.as_slice::<f32>()?[layout.start_offset()..];
    let mut sums = vec![0.0_f32; n_rows * width];
    sums.par_chunks_mut(width)
        .enumerate()
        .for_each(|(to, sum)| {
            let start = active.partition_point(|active| ends(active).0 < to);
            let run = active[start..]
                .iter()
                .take_while(|active| ends(active).0 == to);
            for active in run {
                let from = ends(active).1;
                let values = &source_rows[from * width..(from + 1) * width];
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += active.grad * value;
                }
            }
        });
    Tensor::from_vec(sums, (n_rows, width), source.device())
}

/// The same in tensor operations, for any device and type.
fn scatter_tiles(
    hidden: &Tensor,
    weight: &Tensor,
    winners: &Winners,
    grad: &Tensor,
    weight_too: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (n_texts, vocab) = grad.dims2()?;
    let width = hidden.dim(1)?;
    let terms = (TILE / (n_texts * width).max(1)).clamp(1, vocab.max(1));
    let fine = fine(hidden.dtype());
    let mut d_hidden = Tensor::zeros(hidden.shape(), fine, hidden.device())?;
    let mut d_weight = Vec::new();
    for start in (0..vocab).step_by(terms) {
        let terms = terms.min(vocab - start);
        let grad = grad
            .i((.., start..start + terms))?
            .to_dtype(fine)?
            .unsqueeze(2)?;
        let rows = winners
            .rows
            .i((.., start..start + terms))?
            .flatten_all()?
            .contiguous()?;
        let tile = weight
            .narrow(0, start, terms)?
            .to_dtype(fine)?
            .unsqueeze(0)?;
        let pushed = grad
            .broadcast_mul(&tile)?
            .reshape((n_texts * terms, width))?;
        d_hidden = d_hidden.index_add(&rows, &pushed, 0)?;
        if weight_too {
            let won = hidden.index_select(&rows, 0)?.to_dtype(fine)?;
            let won = won.reshape((n_texts, terms, width))?;
            d_weight.push(won.broadcast_mul(&grad)?.sum(0)?);
        }
    }
    let d_weight = match weight_too {
        true => Some(Tensor::cat(&d_weight, 0)?),
        false => None,
    };
    Ok((d_hidden, d_weight))
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn random(rows: usize, width: usize, seed: u64) -> Tensor {
        let mut random = Random::keyed(&[seed]);
        let values: Vec<f32> = (0..rows * width).map(|_| random.normal()).collect();
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    fn piece(lengths: &[usize]) -> Piece {
        let texts: Vec<Vec<u32>> = lengths.iter().map(|len| vec![1; *len]).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        Piece::new(&texts, &Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        tensor
            .to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    fn is_close(a: &Tensor, b: &Tensor) -> bool {
        a.dims() == b.dims()
            && values(a)
                .iter()
                .zip(values(b))
                .all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()))
    }

    /// Plain loops against tensor operations, whose gradient is candle's own.
    #[test]
    fn loops_and_tensor_operations_agree_with_candles_gradient() {
        for lengths in [&[5, 2, 7][..], &[4, 4], &[1]] {
            let piece = piece(lengths);
            let rows = lengths.len() * piece.longest;
            let (hidden, weight) = (random(rows, 6, 1), random(90, 6, 2));
            let grad = random(lengths.len(), 90, 3).relu().unwrap();
            let winners = pool(&hidden, &weight, &piece).unwrap();
            let tile = hidden.matmul(&weight.t().unwrap()).unwrap();
            let (max, row) = reduce_tile(&tile, &piece).unwrap();
            assert!(is_close(&winners.logits, &max) && is_close(&winners.rows, &row));
            let (by_loops, weight_by_loops) =
                scatter(&hidden, &weight, &winners, &grad, true).unwrap();
            let (by_tensors, weight_by_tensors) =
                scatter_tiles(&hidden, &weight, &winners, &grad, true).unwrap();
            let (h, w) = (
                candle_core::Var::from_tensor(&hidden).unwrap(),
                candle_core::Var::from_tensor(&weight).unwrap(),
            );
            let logits = h.matmul(&w.t().unwrap()).unwrap();
            let mut sum = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
            for (text, len) in lengths.iter().enumerate() {
                let max = logits
                    .narrow(0, text * piece.longest, *len)
                    .unwrap()
                    .max(0)
                    .unwrap();
                sum = (sum + (max * grad.i(text).unwrap()).unwrap().sum_all().unwrap()).unwrap();
            }
            let theirs = sum.backward().unwrap();
            for ours in [&by_loops, &by_tensors] {
                assert!(is_close(ours, theirs.get(&h).unwrap()));
            }
            for ours in [weight_by_loops, weight_by_tensors] {
                assert!(is_close(&ours.unwrap(), theirs.get(&w).unwrap()));
            }
        }
    }

    #[test]
    fn the_gradient_goes_to_the_winning_position_only() {
        let piece = piece(&[3, 2]);
        let (hidden, weight) = (random(6, 4, 5), random(1, 4, 6));
        let winners = pool(&hidden, &weight, &piece).unwrap();
        let grad = Tensor::ones((2, 1), DType::F32, &Device::Cpu).unwrap();
        let (d_hidden, _) = backward(&hidden, &weight, &winners, &grad, false).unwrap();
        let d_hidden = d_hidden.to_vec2::<f32>().unwrap();
        let won: Vec<u32> = winners.rows.flatten_all().unwrap().to_vec1().unwrap();
        let weight = weight.to_vec2::<f32>().unwrap();
        for (row, grad) in d_hidden.iter().enumerate() {
            let is_winner = won.contains(&u32::try_from(row).unwrap());
            let expected = if is_winner {
                weight[0].clone()
            } else {
                vec![0.0; 4]
            };
            assert_eq!(*grad, expected, "row {row}");
        }
        assert!(
            won[0] < 3 && (3..5).contains(&won[1]),
            "padding never wins: {won:?}"
        );
    }

    #[test]
    fn a_logit_that_is_not_finite_is_an_error() {
        let piece = piece(&[3, 2]);
        let weight = random(70, 4, 6);
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for dtype in [DType::F32, DType::F64] {
                let mut hidden: Vec<f32> =
                    random(6, 4, 5).flatten_all().unwrap().to_vec1().unwrap();
                hidden[5] = poison;
                let hidden = Tensor::from_vec(hidden, (6, 4), &Device::Cpu).unwrap();
                let pooled = pool(
                    &hidden.to_dtype(dtype).unwrap(),
                    &weight.to_dtype(dtype).unwrap(),
                    &piece,
                );
                assert!(pooled.unwrap_err().is_training(), "{poison} {dtype:?}");
            }
        }
    }
}
