//! The LM head fused with max-pooling: the largest logit of each token over
//! the positions of each text, never positions × vocabulary at once.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::kernels::all_finite;
use crate::matmul::{Cpu, GROUP, Input, Lanes, Matrix, Rows, Work};
use crate::saturation::Saturation;

/// Tokens that one task pools: several groups of the head's matrix.
const CHUNK_TOKENS: usize = 16 * GROUP;

/// The output projection, vocabulary × hidden.
pub(crate) struct Head {
    weight: Arc<Matrix>,
    /// Added to the logits of each token; empty if the family has none.
    bias: Vec<f32>,
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
    /// Takes the logits of one row of the pack, without their bias, for the places `at`; rows come
    /// in order.
    fn raise(&mut self, at: Range<usize>, logits: &[f32], bias: &[f32], row: usize);
    /// What is kept, for the last look: the bias has not been added to maxima yet.
    ///
    /// Rounding is monotone: the maximum of sums with a bias is the sum of maximum and bias, bit
    /// for bit, and costs one addition a text instead of one a position.
    fn values(&mut self) -> &mut [f32];
    /// Whether the bias is added once all positions have been seen.
    const ADDS_BIAS_LAST: bool = true;
}

/// The maxima alone.
struct Maxima(Vec<f32>);

impl Keep for Maxima {
    fn new(n_logits: usize) -> Self {
        Self(vec![f32::NEG_INFINITY; n_logits])
    }

    #[inline(always)]
    fn raise(&mut self, at: Range<usize>, logits: &[f32], _bias: &[f32], _row: usize) {
        raise(&mut self.0[at], logits);
    }

    fn values(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Sums over the positions of what `TIMES` saturations leave of each logit.
struct Sums<const TIMES: u8>(Vec<f32>);

impl<const TIMES: u8> Keep for Sums<TIMES> {
    const ADDS_BIAS_LAST: bool = false;

    fn new(n_logits: usize) -> Self {
        Self(vec![0.0; n_logits])
    }

    fn raise(&mut self, at: Range<usize>, logits: &[f32], bias: &[f32], _row: usize) {
        for (idx, (sum, logit)) in self.0[at].iter_mut().zip(logits).enumerate() {
            let logit = logit + bias.get(idx).copied().unwrap_or(0.0);
            *sum += Saturation::times(TIMES).of(logit);
        }
    }

    fn values(&mut self) -> &mut [f32] {
        &mut self.0
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

    fn values(&mut self) -> &mut [f32] {
        &mut self.maxima
    }

    fn raise(&mut self, at: Range<usize>, logits: &[f32], _bias: &[f32], row: usize) {
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
    /// Blocks of texts × tokens, one for each chunk of the vocabulary, in order.
    #[cfg(feature = "device")]
    pub(crate) fn new(blocks: Vec<Vec<f32>>, n_texts: usize) -> Self {
        Self { blocks, n_texts }
    }

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
    pub(crate) fn new(weight: Arc<Matrix>, vocab_size: usize) -> Self {
        Self {
            weight,
            bias: Vec::new(),
            vocab_size,
        }
    }

    /// With a bias for each token of the vocabulary.
    pub(crate) fn with_bias(self, bias: Vec<f32>) -> Self {
        Self { bias, ..self }
    }

    pub(crate) fn weight(&self) -> &Matrix {
        &self.weight
    }

    /// Pools the logits of each span of `hidden` (rows × hidden size).
    ///
    /// Every logit is looked at for finiteness before it is compared: a
    /// maximum with NaN would keep or lose it depending on the order.
    pub(crate) fn max_logits(&self, hidden: &[f32], spans: &[Range<usize>]) -> Pooled {
        let pooled = self.pool(hidden, spans, |Maxima(maxima)| maxima);
        pooled.map(|blocks| MaxLogits {
            blocks,
            n_texts: spans.len(),
        })
    }

    /// As [`max_logits`](Head::max_logits), but for each token the sum over the positions of what
    /// saturation leaves of its logits (the first SPLADE, Formal et al. 2021).
    pub(crate) fn sums(
        &self,
        hidden: &[f32],
        spans: &[Range<usize>],
        saturation: Saturation,
    ) -> Pooled {
        let pooled = match saturation {
            Saturation::Once => self.pool(hidden, spans, |Sums::<1>(sums)| sums),
            Saturation::Twice => self.pool(hidden, spans, |Sums::<2>(sums)| sums),
        };
        pooled.map(|blocks| MaxLogits {
            blocks,
            n_texts: spans.len(),
        })
    }

    /// As [`max_logits`](Head::max_logits) for a pack of one text, the same bits, with the
    /// position that won.
    pub(crate) fn attributed(&self, hidden: &[f32]) -> Pooled<Attributed> {
        let span = 0..hidden.len() / self.weight.inputs();
        let pooled = self.pool(hidden, &[span], |Winners { maxima, rows }| (maxima, rows));
        pooled.map(|kept| {
            let (blocks, positions): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
            Attributed {
                logits: MaxLogits { blocks, n_texts: 1 },
                positions: positions.concat(),
            }
        })
    }

    /// Pools the chunks of the vocabulary, in order, and hands each to `finish`.
    fn pool<K: Keep, T: Send>(
        &self,
        hidden: &[f32],
        spans: &[Range<usize>],
        finish: impl Fn(K) -> T + Sync,
    ) -> Pooled<Vec<T>> {
        let texts = texts_by_row(spans);
        let input = self.weight.input(&Rows::of(hidden, self.weight.inputs()));
        let starts: Vec<usize> = (0..self.vocab_size).step_by(CHUNK_TOKENS).collect();
        let chunks: Vec<Result<T, BadLogit>> = starts
            .into_par_iter()
            .map_init(Vec::new, |sums, start| {
                let tokens = start..self.vocab_size.min(start + CHUNK_TOKENS);
                let mut chunk = Chunk {
                    kept: K::new(spans.len() * tokens.len()),
                    tokens,
                    bad: None,
                };
                self.pool_chunk(&input, &texts, &mut chunk, sums);
                self.finish_chunk(&mut chunk, spans);
                chunk.bad.map_or_else(|| Ok(finish(chunk.kept)), Err)
            })
            .collect();
        if let Some(bad) = chunks.iter().filter_map(|chunk| chunk.as_ref().err()).min() {
            return Pooled::NotFinite(*bad);
        }
        Pooled::Logits(chunks.into_iter().flatten().collect())
    }

    fn pool_chunk<K: Keep>(
        &self,
        input: &Input,
        texts: &[usize],
        chunk: &mut Chunk<K>,
        sums: &mut Vec<Lanes>,
    ) {
        for tiles in input.runs() {
            let first = input.rows(&tiles).start;
            for start in chunk.tokens.clone().step_by(GROUP) {
                self.weight.group(input, tiles.clone(), start / GROUP, sums);
                let bias = self.bias.get(start..).unwrap_or_default();
                Cpu::this().vectorized(PoolGroup {
                    bias,
                    chunk,
                    start,
                    first,
                    texts: &texts[first..],
                    sums,
                });
            }
        }
    }
}

impl Head {
    /// Adds the bias, and looks at the values once more: a sum of finite numbers may overflow.
    fn finish_chunk<K: Keep>(&self, chunk: &mut Chunk<K>, spans: &[Range<usize>]) {
        if self.bias.is_empty() || chunk.bad.is_some() {
            return;
        }
        let bias = &self.bias[chunk.tokens.clone()];
        let texts = chunk.kept.values().chunks_exact_mut(bias.len());
        for (values, span) in texts.zip(spans) {
            let values: &mut [f32] = values;
            if K::ADDS_BIAS_LAST {
                for (value, bias) in values.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
            // Saturation hides a bias of negative infinity.
            for numbers in [values, bias] {
                if !all_finite(numbers) {
                    let bad = first_bad(numbers, span.start, chunk.tokens.start);
                    chunk.bad = Some(bad);
                    return;
                }
            }
        }
    }
}

/// A chunk of the vocabulary while it is pooled.
struct Chunk<K> {
    tokens: Range<usize>,
    kept: K,
    bad: Option<BadLogit>,
}

/// Takes the logits of one group, from row `first` on, each row with its text.
struct PoolGroup<'a, K> {
    chunk: &'a mut Chunk<K>,
    /// From the first token of the group on.
    bias: &'a [f32],
    start: usize,
    first: usize,
    texts: &'a [usize],
    sums: &'a [Lanes],
}

impl<K: Keep> Work for PoolGroup<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (chunk, start) = (self.chunk, self.start);
        let width = GROUP.min(chunk.tokens.end - start);
        let offset = start - chunk.tokens.start;
        for (idx, (logits, text)) in self.sums.iter().zip(self.texts).enumerate() {
            let (logits, row) = (&logits[..width], self.first + idx);
            if all_finite(logits) {
                let at = text * chunk.tokens.len() + offset;
                chunk.kept.raise(at..at + width, logits, self.bias, row);
            } else {
                let bad = first_bad(logits, row, start);
                chunk.bad = Some(chunk.bad.map_or(bad, |known| known.min(bad)));
            }
        }
    }
}

/// For each row of a pack, which text it belongs to.
fn texts_by_row(spans: &[Range<usize>]) -> Vec<usize> {
    let owners = spans.iter().enumerate();
    owners
        .flat_map(|(text, span)| span.clone().map(move |_| text))
        .collect()
}

#[inline(always)]
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
    use crate::options::WeightFormat;

    fn wave(rows: usize, cols: usize, step: f32) -> Vec<f32> {
        (0..rows * cols).map(|i| (i as f32 * step).sin()).collect()
    }

    fn head(weight: &[f32], hidden: usize) -> Head {
        let matrix = Matrix::pack(WeightFormat::F32, weight, hidden);
        Head::new(Arc::new(matrix), weight.len() / hidden)
    }

    fn logits(pooled: Pooled) -> MaxLogits {
        match pooled {
            Pooled::Logits(logits) => logits,
            Pooled::NotFinite(bad) => panic!("{bad:?}"),
        }
    }

    #[test]
    fn chunks_together_are_the_plain_maximum() {
        // The vocabulary is no multiple of a chunk; spans cross the borders of runs and tiles.
        let (rows, vocab) = (521, 2 * CHUNK_TOKENS + 7);
        let (hidden, weight) = (wave(rows, 8, 0.37), wave(vocab, 8, 0.11));
        let spans = [0..1, 1..300, 300..rows];
        let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
        let logits_of = |x| weight.chunks(8).map(|w| dot(x, w)).collect();
        let all: Vec<Vec<f32>> = hidden.chunks(8).map(logits_of).collect();
        let pooled = logits(head(&weight, 8).max_logits(&hidden, &spans));
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
        let (rows, vocab) = (521, CHUNK_TOKENS + 7);
        let period = wave(70, 8, 0.37);
        let hidden: Vec<f32> = period.iter().copied().cycle().take(rows * 8).collect();
        let head = head(&wave(vocab, 8, 0.11), 8);
        let one = |hidden: &[f32]| {
            let span = 0..hidden.len() / 8;
            logits(head.max_logits(hidden, std::slice::from_ref(&span)))
        };
        let plain = one(&hidden);
        let Pooled::Logits(found) = head.attributed(&hidden) else {
            panic!("all logits are finite");
        };
        let bits = |logits: &MaxLogits| logits.of(0).map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&found.logits), bits(&plain));
        // Each row alone, through the same code.
        let alone: Vec<Vec<f32>> = period
            .chunks(8)
            .map(|row| one(row).of(0).collect())
            .collect();
        assert_eq!(found.positions.len(), vocab);
        for (token, position) in found.positions.iter().enumerate() {
            let best = alone.iter().map(|row| row[token]).fold(f32::MIN, f32::max);
            assert_eq!(alone[*position % 70][token], best, "{token}");
        }
        // Ties, where the bits are known.
        let mut kept = Winners::new(3);
        for (row, logits) in [[-1.0, 2.0, 0.0], [-1.0, 2.0, 0.5], [-0.5, 1.0, 0.5]]
            .iter()
            .enumerate()
        {
            kept.raise(0..3, logits, &[], 4 + row);
        }
        assert_eq!(
            (kept.rows, kept.maxima),
            (vec![6, 4, 5], vec![-0.5, 2.0, 0.5])
        );
    }

    /// Biases of both signs, sums of both saturations, over several chunks and texts.
    #[test]
    fn biases_and_sums_follow_their_definitions() {
        let (rows, vocab) = (37, CHUNK_TOKENS + 7);
        let (hidden, weight) = (wave(rows, 8, 0.37), wave(vocab, 8, 0.11));
        let bias = wave(vocab, 1, 0.7);
        let spans = [0..1, 1..30, 30..rows];
        let head = head(&weight, 8).with_bias(bias.clone());
        let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
        let logit = |row: usize, token: usize| {
            dot(&hidden[row * 8..][..8], &weight[token * 8..][..8]) + bias[token]
        };
        let max = logits(head.max_logits(&hidden, &spans));
        let once = logits(head.sums(&hidden, &spans, Saturation::Once));
        let twice = logits(head.sums(&hidden, &spans, Saturation::Twice));
        for (text, span) in spans.iter().enumerate() {
            let all = max.of(text).zip(once.of(text)).zip(twice.of(text));
            for (token, ((max, once), twice)) in all.enumerate() {
                let of = |row| logit(row, token);
                let largest = span.clone().map(of).fold(f32::MIN, f32::max);
                let saturated = |row| of(row).max(0.0).ln_1p();
                let sum: f32 = span.clone().map(saturated).sum();
                let double: f32 = span.clone().map(|row| saturated(row).ln_1p()).sum();
                for (ours, truth) in [(max, largest), (once, sum), (twice, double)] {
                    assert!(
                        (ours - truth).abs() < 1e-4,
                        "{token}: {ours} is not {truth}"
                    );
                }
            }
        }
        let Pooled::Logits(found) = head.attributed(&hidden) else {
            panic!("all logits are finite");
        };
        let span = 0..rows;
        let whole = logits(head.max_logits(&hidden, std::slice::from_ref(&span)));
        assert!(found.logits.of(0).eq(whole.of(0)));
    }

    #[test]
    fn a_bias_that_makes_a_logit_overflow_is_seen() {
        let head = head(&[1.0; 20], 2).with_bias(vec![f32::MAX; 10]);
        let hidden = [f32::MAX / 4.0; 6];
        for pooled in [
            head.max_logits(&hidden, &[0..1, 1..3]),
            head.sums(&hidden, &[0..1, 1..3], Saturation::Once),
        ] {
            match pooled {
                Pooled::NotFinite(bad) => assert_eq!((bad.row, bad.token_id), (0, 0)),
                Pooled::Logits(_) => panic!("an infinite logit went unseen"),
            }
        }
    }

    #[test]
    fn one_bad_logit_anywhere_is_found_and_placed() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (row, token) in [(0, 0), (3, 511), (5, 512), (8, 1100)] {
                // Only this row meets only this token's weight.
                let mut hidden = vec![0.0_f32; 9 * 2];
                hidden[row * 2] = 1.0;
                let mut weight = vec![0.25_f32; 1101 * 2];
                weight[token * 2] = poison;
                match head(&weight, 2).max_logits(&hidden, &[0..4, 4..9]) {
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
        match head(&[4.0; 20], 2).max_logits(&hidden, &[0..4, 4..9]) {
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
