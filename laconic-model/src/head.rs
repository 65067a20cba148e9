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
pub(crate) enum Pooled {
    Logits(MaxLogits),
    NotFinite(BadLogit),
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
        let starts: Vec<usize> = (0..self.vocab_size).step_by(TILE_TOKENS).collect();
        let chunks: Vec<Result<Vec<f32>, BadLogit>> = starts
            .into_par_iter()
            .map(|start| self.pool_chunk(hidden, spans, start))
            .collect::<Result<_, Error>>()?;
        if let Some(bad) = chunks.iter().filter_map(|chunk| chunk.as_ref().err()).min() {
            return Ok(Pooled::NotFinite(*bad));
        }
        let blocks = chunks.into_iter().flatten().collect();
        Ok(Pooled::Logits(MaxLogits {
            blocks,
            n_texts: spans.len(),
        }))
    }

    fn pool_chunk(
        &self,
        hidden: &Tensor,
        spans: &[Range<usize>],
        start: usize,
    ) -> Result<Result<Vec<f32>, BadLogit>, Error> {
        let width = TILE_TOKENS.min(self.vocab_size - start);
        let weight = self.weight.narrow(0, start, width)?.t()?;
        let mut maxima = vec![f32::NEG_INFINITY; spans.len() * width];
        for (text, span) in texts_by_row(spans).tiles() {
            let logits = to_vec(&hidden.narrow(0, span.start, span.len())?.matmul(&weight)?)?;
            for (idx, row) in logits.chunks_exact(width).enumerate() {
                if !all_finite(row) {
                    return Ok(Err(first_bad(row, span.start + idx, start)));
                }
                let text = text[idx];
                raise(&mut maxima[text * width..(text + 1) * width], row);
            }
        }
        Ok(Ok(maxima))
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
