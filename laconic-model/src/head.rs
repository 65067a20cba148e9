//! The LM head fused with max-pooling: the largest logit of each token over
//! the positions of each text, never positions × vocabulary at once.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::backbone::to_vec;
use crate::error::Error;
use crate::kernels::all_finite;

/// Rows of the head's matrix in one tile of logits.
const TILE_TOKENS: usize = 1024;
/// Positions in one tile: with the above, 1 MiB of logits a thread.
const TILE_POSITIONS: usize = 256;

/// The output projection, vocabulary × hidden.
pub(crate) struct Head {
    weight: Tensor,
    vocab_size: usize,
}

/// What the head found over a pack.
pub(crate) enum Pooled<T = MaxLogits> {
    Logits(T),
    NotFinite(BadLogit),
}

/// What is kept of the logits of one vocabulary chunk, texts × tokens.
///
/// A type of its own for each purpose, so that pooling the maxima alone does not pay for
/// remembering where they stood.
trait Keep: Send + Sized {
    fn new(n_logits: usize) -> Self;
    /// Takes the logits of one row of the pack for the places `at`; rows come in order.
    fn raise(&mut self, at: Range<usize>, logits: &[f32], row: usize);
}

/// The maxima alone.
struct Maxima(Vec<f32>);

impl Keep for Maxima {
    fn new(n_logits: usize) -> Self {
        Self(vec![f32::NEG_INFINITY; n_logits])
    }

    fn raise(&mut self, at: Range<usize>, logits: &[f32], _row: usize) {
        raise(&mut self.0[at], logits);
    }
}

/// The maxima, and the first row of the pack that reached each.
struct Winners {
    maxima: Vec<f32>,
    rows: Vec<usize>,
}

impl Keep for Winners {
    fn new(n_logits: usize) -> Self {
        Self {
            maxima: vec![f32::NEG_INFINITY; n_logits],
            rows: vec![0; n_logits],
        }
    }

    fn raise(&mut self, at: Range<usize>, logits: &[f32], row: usize) {
        let kept = self.maxima[at.clone()].iter_mut().zip(&mut self.rows[at]);
        for ((max, winner), logit) in kept.zip(logits) {
            if *logit > *max {
                (*max, *winner) = (*logit, row);
            }
        }
    }
}

/// Largest logits of one text, and the position that reached each first.
pub(crate) struct Attributed {
    pub(crate) logits: MaxLogits,
    /// By token id.
    pub(crate) positions: Vec<usize>,
}

/// The first logit, by position then token, that is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BadLogit {
    /// Row of the pack.
    pub(crate) row: usize,
    pub(crate) token_id: usize,
}

/// Largest logits, kept as they were computed: one block per vocabulary
/// chunk, each texts × tokens of the chunk.
pub(crate) struct MaxLogits {
    blocks: Vec<Vec<f32>>,
    n_texts: usize,
}

impl MaxLogits {
    /// The largest logit of every token of the vocabulary for one text.
    pub(crate) fn of(&self, text_idx: usize) -> impl Iterator<Item = f32> + '_ {
        self.blocks.iter().flat_map(move |block| {
            let width = block.len() / self.n_texts;
            block[text_idx * width..(text_idx + 1) * width]
                .iter()
                .copied()
        })
    }
}

impl<T> Pooled<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Pooled<U> {
        match self {
            Pooled::Logits(logits) => Pooled::Logits(change(logits)),
            Pooled::NotFinite(bad) => Pooled::NotFinite(bad),
        }
    }
}

impl Head {
    pub(crate) fn new(weight: Tensor) -> Result<Self, Error> {
        let vocab_size = weight.dim(0)?;
        Ok(Self { weight, vocab_size })
    }

    /// Pools the logits of each span of `hidden` (rows × hidden size).
    ///
    /// Every logit is looked at for finiteness before it is compared: a
    /// maximum with NaN would keep or lose it depending on the order.
    pub(crate) fn max_logits(
        &self,
        hidden: &Tensor,
        spans: &[Range<usize>],
    ) -> Result<Pooled, Error> {
        let pooled = self.pool(hidden, spans, |Maxima(maxima)| maxima)?;
        Ok(pooled.map(|blocks| MaxLogits {
            blocks,
            n_texts: spans.len(),
        }))
    }

    /// As [`max_logits`](Head::max_logits) for a pack of one text, the same bits, with the
    /// position that won.
    pub(crate) fn attributed(&self, hidden: &Tensor) -> Result<Pooled<Attributed>, Error> {
        let span = 0..hidden.dim(0)?;
        let pooled = self.pool(hidden, &[span], |Winners { maxima, rows }| (maxima, rows))?;
        Ok(pooled.map(|kept| {
            let (blocks, positions): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
            Attributed {
                logits: MaxLogits { blocks, n_texts: 1 },
                positions: positions.concat(),
            }
        }))
    }

    /// Pools the chunks of the vocabulary, in order, and hands each to `finish`.
    fn pool<K: Keep, T: Send>(
        &self,
        hidden: &Tensor,
        spans: &[Range<usize>],
        finish: impl Fn(K) -> T + Sync,
    ) -> Result<Pooled<Vec<T>>, Error> {
        let starts: Vec<usize> = (0..self.vocab_size).step_by(TILE_TOKENS).collect();
        let chunks: Vec<Result<T, BadLogit>> = starts
            .into_par_iter()
            .map(|start| Ok(self.pool_chunk(hidden, spans, start)?.map(&finish)))
            .collect::<Result<_, Error>>()?;
        if let Some(bad) = chunks.iter().filter_map(|chunk| chunk.as_ref().err()).min() {
            return Ok(Pooled::NotFinite(*bad));
        }
        Ok(Pooled::Logits(chunks.into_iter().flatten().collect()))
    }

    fn pool_chunk<K: Keep>(
        &self,
        hidden: &Tensor,
        spans: &[Range<usize>],
        start: usize,
    ) -> Result<Result<K, BadLogit>, Error> {
        let width = TILE_TOKENS.min(self.vocab_size - start);
        let weight = self.weight.narrow(0, start, width)?.t()?;
        let mut kept = K::new(spans.len() * width);
        for (text, span) in texts_by_row(spans).tiles() {
            let logits = to_vec(&hidden.narrow(0, span.start, span.len())?.matmul(&weight)?)?;
            for (idx, row) in logits.chunks_exact(width).enumerate() {
                if !all_finite(row) {
                    return Ok(Err(first_bad(row, span.start + idx, start)));
                }
                let text = text[idx];
                kept.raise(text * width..(text + 1) * width, row, span.start + idx);
            }
        }
        Ok(Ok(kept))
    }
}

/// For each row of a pack, which text it belongs to.
struct TextsByRow(Vec<usize>);

fn texts_by_row(spans: &[Range<usize>]) -> TextsByRow {
    let owners = spans.iter().enumerate();
    TextsByRow(
        owners
            .flat_map(|(text, span)| span.clone().map(move |_| text))
            .collect(),
    )
}

impl TextsByRow {
    /// Runs of at most `TILE_POSITIONS` rows, with their texts.
    fn tiles(&self) -> impl Iterator<Item = (&[usize], Range<usize>)> {
        self.0
            .chunks(TILE_POSITIONS)
            .enumerate()
            .map(|(idx, texts)| {
                let start = idx * TILE_POSITIONS;
                (texts, start..start + texts.len())
            })
    }
}

fn raise(maxima: &mut [f32], row: &[f32]) {
    for (max, logit) in maxima.iter_mut().zip(row) {
        *max = if *logit > *max { *logit } else { *max };
    }
}

fn first_bad(logits: &[f32], row: usize, start: usize) -> BadLogit {
    let idx = logits
        .iter()
        .position(|logit| !logit.is_finite())
        .unwrap_or(0);
    BadLogit {
        row,
        token_id: start + idx,
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers in tests")]
mod tests {
    use super::*;
    use candle_core::Device;

    fn wave(rows: usize, cols: usize, step: f32) -> Tensor {
        let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * step).sin()).collect();
        Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap()
    }

    fn logits(pooled: Pooled) -> MaxLogits {
        match pooled {
            Pooled::Logits(logits) => logits,
            Pooled::NotFinite(bad) => panic!("{bad:?}"),
        }
    }

    #[test]
    fn tiles_together_are_the_plain_maximum() {
        // Neither count is a multiple of its tile; spans cross tile borders.
        let (rows, vocab) = (2 * TILE_POSITIONS + 9, 2 * TILE_TOKENS + 7);
        let (hidden, weight) = (wave(rows, 8, 0.37), wave(vocab, 8, 0.11));
        let spans = [0..1, 1..300, 300..rows];
        let all = hidden
            .matmul(&weight.t().unwrap())
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let pooled = logits(
            Head::new(weight)
                .unwrap()
                .max_logits(&hidden, &spans)
                .unwrap(),
        );
        for (text, span) in spans.iter().enumerate() {
            let ours: Vec<f32> = pooled.of(text).collect();
            assert_eq!(ours.len(), vocab);
            for (token, ours) in ours.iter().enumerate() {
                let max = all[span.clone()]
                    .iter()
                    .map(|row| row[token])
                    .fold(f32::MIN, f32::max);
                assert!(
                    (ours - max).abs() < 1e-5,
                    "text {text}, token {token}: {ours} is not {max}"
                );
            }
        }
    }

    #[test]
    fn winners_hold_the_maximum_and_the_first_of_equals_wins() {
        // Maxima in all tiles: rows repeat with a period of 70.
        let (rows, vocab) = (2 * TILE_POSITIONS + 9, TILE_TOKENS + 7);
        let period = wave(70, 8, 0.37).to_vec2::<f32>().unwrap();
        let hidden: Vec<f32> = (0..rows).flat_map(|row| period[row % 70].clone()).collect();
        let hidden = Tensor::from_vec(hidden, (rows, 8), &Device::Cpu).unwrap();
        let head = Head::new(wave(vocab, 8, 0.11)).unwrap();
        let plain = logits(
            head.max_logits(&hidden, std::slice::from_ref(&(0..rows)))
                .unwrap(),
        );
        let Pooled::Logits(found) = head.attributed(&hidden).unwrap() else {
            panic!("all logits are finite");
        };
        let bits = |logits: &MaxLogits| logits.of(0).map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&found.logits), bits(&plain));
        // Each row alone, through the same code.
        let alone: Vec<Vec<f32>> = (0..70)
            .map(|row| {
                let row = hidden.narrow(0, row, 1).unwrap();
                logits(
                    head.max_logits(&row, std::slice::from_ref(&(0..1)))
                        .unwrap(),
                )
                .of(0)
                .collect()
            })
            .collect();
        assert_eq!(found.positions.len(), vocab);
        for (token, position) in found.positions.iter().enumerate() {
            let best = alone.iter().map(|row| row[token]).fold(f32::MIN, f32::max);
            assert!(
                (alone[*position % 70][token] - best).abs() < 1e-5,
                "{token}"
            );
        }
        // Ties, where the bits are known.
        let mut kept = Winners::new(3);
        for (row, logits) in [[-1.0, 2.0, 0.0], [-1.0, 2.0, 0.5], [-0.5, 1.0, 0.5]]
            .iter()
            .enumerate()
        {
            kept.raise(0..3, logits, 4 + row);
        }
        assert_eq!(
            (kept.rows, kept.maxima),
            (vec![6, 4, 5], vec![-0.5, 2.0, 0.5])
        );
    }

    #[test]
    fn one_bad_logit_anywhere_is_found_and_placed() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (row, token) in [(0, 0), (3, 1023), (5, 1024), (8, 1100)] {
                // Only this row meets only this token's weight.
                let mut hidden = vec![0.0_f32; 9 * 2];
                hidden[row * 2] = 1.0;
                let mut weight = vec![0.25_f32; 1101 * 2];
                weight[token * 2] = poison;
                let hidden = Tensor::from_vec(hidden, (9, 2), &Device::Cpu).unwrap();
                let head = Head::new(Tensor::from_vec(weight, (1101, 2), &Device::Cpu).unwrap());
                match head.unwrap().max_logits(&hidden, &[0..4, 4..9]).unwrap() {
                    Pooled::NotFinite(bad) => {
                        assert_eq!(bad.token_id, token);
                        // 0 × infinity is NaN as well: the first row counts.
                        assert_eq!(bad.row, 0);
                    }
                    Pooled::Logits(_) => panic!("{poison} at {row}, {token} went unseen"),
                }
            }
        }
    }

    #[test]
    fn the_row_of_an_overflow_is_the_one_reported() {
        let mut hidden = vec![1.0_f32; 9 * 2];
        hidden[6 * 2] = f32::MAX;
        hidden[7 * 2] = f32::MAX;
        let hidden = Tensor::from_vec(hidden, (9, 2), &Device::Cpu).unwrap();
        let weight = Tensor::from_vec(vec![4.0_f32; 20], (10, 2), &Device::Cpu).unwrap();
        match Head::new(weight)
            .unwrap()
            .max_logits(&hidden, &[0..4, 4..9])
            .unwrap()
        {
            Pooled::NotFinite(bad) => assert_eq!(
                bad,
                BadLogit {
                    row: 6,
                    token_id: 0
                }
            ),
            Pooled::Logits(_) => panic!("an infinite logit went unseen"),
        }
    }
}
