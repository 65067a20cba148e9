//! The LM head fused with pooling, a tile of the vocabulary at a time: never positions ×
//! vocabulary at once, and texts × vocabulary is what comes back.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

use super::attention::Run;
use super::network::Network;
use crate::backbone::Pack;
use crate::head::{Attributed, BadLogit, MaxLogits, Pooled};
use crate::saturation::Saturation;

/// Logits of a tile: 128 MiB of f32.
const TILE: usize = 32 << 20;
/// Entries of the vocabulary in a tile: more bring no more speed, fewer start kernels too often.
const WIDTH: Range<usize> = 64..8192;

impl Network {
    /// The largest logit of each text and vocabulary entry.
    pub(crate) fn max_logits(&self, hidden: &Tensor, pack: &Pack) -> Result<Pooled> {
        self.pool(hidden, pack, |logits| logits.max(1))
    }

    /// The sum over positions of what saturation leaves of each logit.
    pub(crate) fn sums(
        &self,
        hidden: &Tensor,
        pack: &Pack,
        saturation: Saturation,
    ) -> Result<Pooled> {
        let once = |logits: &Tensor| (logits.relu()? + 1.0)?.log();
        self.pool(hidden, pack, |logits| match saturation {
            Saturation::Once => once(logits)?.sum(1),
            Saturation::Twice => once(&once(logits)?)?.sum(1),
        })
    }

    /// As [`max_logits`](Self::max_logits) of a single text, with the positions that won.
    pub(crate) fn attributed(&self, hidden: &Tensor) -> Result<Pooled<Attributed>> {
        let (mut maxima, mut rows) = (Vec::new(), Vec::new());
        let bad = self.each_tile(hidden, |logits| {
            maxima.push(logits.max(0)?);
            rows.push(logits.argmax(0)?);
            Ok(())
        })?;
        if let Some(bad) = bad {
            return Ok(Pooled::NotFinite(bad));
        }
        let rows = Tensor::cat(&rows, 0)?.to_vec1::<u32>()?;
        let position = |row: u32| usize::try_from(row).unwrap_or(usize::MAX);
        Ok(Pooled::Logits(Attributed {
            logits: MaxLogits::new(to_blocks(&maxima)?, 1),
            positions: rows.into_iter().map(position).collect(),
        }))
    }

    /// Reduces the logits of texts of one length, texts × positions × tile, to texts × tile.
    fn pool(
        &self,
        hidden: &Tensor,
        pack: &Pack,
        reduce: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Pooled> {
        let runs = Run::all(pack.spans());
        let mut tiles = Vec::new();
        let bad = self.each_tile(hidden, |logits| {
            let width = logits.dim(1)?;
            let texts = runs.iter().map(|run| {
                let logits = run.rows(logits)?;
                reduce(&logits.reshape((run.n_texts, run.len, width))?)
            });
            tiles.push(Tensor::cat(&texts.collect::<Result<Vec<_>>>()?, 0)?);
            Ok(())
        })?;
        Ok(match bad {
            Some(bad) => Pooled::NotFinite(bad),
            None => Pooled::Logits(MaxLogits::new(to_blocks(&tiles)?, pack.spans().len())),
        })
    }

    /// Hands over the logits of all rows, a tile after the other; returns the first that is not
    /// finite.
    ///
    /// `max` may drop a NaN, by where it stands, and `relu` does. A sum drops none: the tiles are
    /// looked through for it only if their sums are not finite.
    fn each_tile(
        &self,
        hidden: &Tensor,
        mut accept: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<Option<BadLogit>> {
        let hidden = hidden.to_dtype(self.head.dtype())?;
        let starts = self.starts(hidden.dim(0)?)?;
        let mut sums = Vec::with_capacity(starts.len());
        for range in &starts {
            let logits = self.tile(&hidden, range)?;
            // By row first: a GPU gives each sum to one block of threads.
            sums.push(logits.sum(1)?.sum_all()?);
            accept(&logits)?;
        }
        let sums = Tensor::stack(&sums, 0)?.to_vec1::<f32>()?;
        let suspects = starts.iter().zip(sums).filter(|(_, sum)| !sum.is_finite());
        let mut first = None;
        for (range, _) in suspects {
            let found = first_bad(&self.tile(&hidden, range)?, range.start)?;
            first = first.into_iter().chain(found).min();
        }
        Ok(first)
    }

    /// Logits of some vocabulary entries, rows × entries, in f32.
    fn tile(&self, hidden: &Tensor, entries: &Range<usize>) -> Result<Tensor> {
        let weight = self.head.narrow(0, entries.start, entries.len())?;
        hidden.matmul(&weight.t()?)?.to_dtype(DType::F32)
    }

    fn starts(&self, n_rows: usize) -> Result<Vec<Range<usize>>> {
        let vocab = self.head.dim(0)?;
        let width = (TILE / n_rows.max(1)).clamp(WIDTH.start, WIDTH.end);
        let starts = (0..vocab).step_by(width);
        Ok(starts.map(|at| at..vocab.min(at + width)).collect())
    }
}

/// One block of pooled values in main memory for each tile, texts × entries.
fn to_blocks(tiles: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    let block = |tile: &Tensor| tile.flatten_all()?.to_vec1();
    tiles.iter().map(block).collect()
}

/// The first of a tile, by row and then entry.
fn first_bad(tile: &Tensor, start: usize) -> Result<Option<BadLogit>> {
    let width = tile.dim(1)?;
    let logits = tile.flatten_all()?.to_vec1::<f32>()?;
    let place = logits.iter().position(|logit| !logit.is_finite());
    Ok(place.map(|place| BadLogit {
        row: place / width,
        token_id: start + place % width,
    }))
}
