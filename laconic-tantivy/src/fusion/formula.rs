//! [`Fusion`]: what a document's place in one list is worth.

use std::cmp::Ordering;

use tantivy::Score;

use super::ranked_list::RankedList;
use crate::Error;

/// The rank constant of Cormack, Clarke and Büttcher, "found to be near-optimal, but not critical".
pub const DEFAULT_RANK_CONSTANT: f64 = 60.0;

/// How ranked lists become one.
///
/// A document's fused score is Σ weight × value over the lists, and the formula says what the
/// value is. A document that a list lacks gets nothing from it: its value is 0 there, whatever
/// the formula. If the list was [completed](crate::complete_lists), the document has a score there, and
/// its value follows from that score by the same formula; the *statistics* of a list (minimum,
/// maximum, mean, deviation) are always those of the documents it retrieved itself, so that
/// completing lists never moves the values of the documents that were there before. A list that
/// retrieved nothing has no statistics; what it scored afterwards has the value 0 by the formulas
/// that need them. Where all scores of a list are equal, the values below are those of that score;
/// what was scored afterwards and lower has the value 0, as clipping would have it.
///
/// A list of weight 0 takes no part: what only it retrieved is not in the result. Weights need not
/// add up to 1; if they do, the normalised formulas are the *convex combinations* of the
/// literature. If all other lists are empty, the order of a list is the result.
///
/// ```
/// use laconic_tantivy::{Fusion, RankedList};
///
/// let learned = RankedList::new("sparse", [("a", 7.0), ("b", 5.0)])?.with_weight(0.7)?;
/// let words = RankedList::new("bm25", [("c", 21.0), ("a", 14.0)])?.with_weight(0.3)?;
/// let fused = Fusion::TheoreticalMinMax.fuse(&[learned, words], 10)?;
/// let ids: Vec<_> = fused.iter().map(|hit| hit.id).collect();
/// assert_eq!(ids, ["a", "b", "c"]);
/// assert_eq!(fused[0].parts[1].normalized, 14.0 / 21.0);
/// assert_eq!(fused[2].parts[0].rank, None);
/// # Ok::<(), laconic_tantivy::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Fusion {
    /// The score as it is (CombSUM: Fox and Shaw, "Combination of Multiple Searches", TREC-2,
    /// 1994, with a weight for each list).
    ///
    /// A missing document has the value 0, the score of a document that matches nothing. Scores
    /// are not brought to one scale, so the weights have to do that too.
    WeightedSum,
    /// 1 / (rank constant + rank), ranks counted from 1 (reciprocal rank fusion: Cormack, Clarke
    /// and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    /// Methods", SIGIR 2009), with a weight for each list.
    ///
    /// A missing document has the value 0, as if its rank were infinite. A document that was
    /// scored afterwards ranks behind all that the list retrieved, by score among its like: at
    /// best its true rank, for others may stand between that nobody asked for.
    ReciprocalRank {
        /// 60 unless you know better ([`DEFAULT_RANK_CONSTANT`]): a finite number from 0. The
        /// larger, the less the first ranks stand out.
        rank_constant: f64,
    },
    /// (score − min) / (max − min) (Lee, "Analyses of Multiple Evidence Combination", SIGIR 1997;
    /// in a weighted sum M<sub>MM</sub> of Bruch, Gai and Ingber, "An Analysis of Fusion Functions
    /// for Hybrid Retrieval", ACM TOIS 42(1), 2023).
    ///
    /// A missing document has the value 0, that of the worst one retrieved. One scored afterwards
    /// is clipped to 0..=1, and what exact retrieval left out scores no more than the minimum: so
    /// completing lists changes nothing here unless retrieval was approximate. Where all scores
    /// are equal, each is the maximum, and the value is 1: the least that a document is worth for
    /// being retrieved must not be what a missing one is worth.
    MinMax,
    /// (score − (mean − 3σ)) / 6σ, clipped to 0..=1 (distribution-based score fusion: Mazzeschi,
    /// "Distribution-Based Score Fusion (DBSF), a new approach to Vector Search Ranking", 2023: a
    /// z-score whose ±3 are mapped to 0 and 1). σ is the deviation of the list taken as the whole
    /// population, so that one hit has one too (Qdrant's takes it as a sample, and does not clip).
    ///
    /// A missing document has the value 0, as if it were three deviations below the mean or
    /// worse. Where all scores are equal, the value is 1/2, what this formula gives to the mean of
    /// every list.
    ZScore,
    /// score / max (M<sub>TMM</sub> of Bruch, Gai and Ingber, as above: min-max with the
    /// *theoretical* minimum of the scoring function, which is 0 for BM25 and for dot products of
    /// positive weights). Negative scores are refused.
    ///
    /// A missing document has the value 0, the theoretical minimum. One scored afterwards is
    /// clipped to 0..=1. Where all scores are equal the value is 1, or 0 if all are 0.
    TheoreticalMinMax,
}

impl Fusion {
    /// Reciprocal rank fusion with the usual rank constant.
    pub const RECIPROCAL_RANK: Fusion = Fusion::ReciprocalRank {
        rank_constant: DEFAULT_RANK_CONSTANT,
    };

    /// True if a list's values lie in 0..=1, and fused scores so in 0..=Σ weights.
    pub fn is_normalized(&self) -> bool {
        *self != Fusion::WeightedSum
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Fusion::ReciprocalRank { rank_constant: k } if !(k.is_finite() && *k >= 0.0) => {
                let message = format!("the rank constant {k} is not a finite number from 0");
                Err(Error::invalid(message))
            }
            _ => Ok(()),
        }
    }

    /// The values of one list.
    ///
    /// # Errors
    /// When the formula has no meaning for one of its scores.
    pub(super) fn values_of<D>(&self, list: &RankedList<D>) -> Result<Values, Error> {
        let first = list.retrieved_scores().next().map_or(0.0, f64::from);
        let last = list.retrieved_scores().last().map_or(0.0, f64::from);
        let is_constant = first <= last;
        Ok(match *self {
            Fusion::WeightedSum => Values::Score,
            Fusion::ReciprocalRank { rank_constant } => Values::Rank { rank_constant },
            _ if list.retrieved().is_empty() => Values::Nothing,
            Fusion::MinMax if is_constant => Values::step(first, 1.0),
            Fusion::MinMax => Values::linear(last, first - last),
            Fusion::ZScore if is_constant => Values::step(first, 0.5),
            Fusion::ZScore => {
                let (mean, deviation) = distribution(list);
                Values::linear(mean - 3.0 * deviation, 6.0 * deviation)
            }
            Fusion::TheoreticalMinMax => {
                list.refuse_negative_scores()?;
                match first > 0.0 {
                    true => Values::linear(0.0, first),
                    false => Values::step(0.0, 0.0),
                }
            }
        })
    }
}

/// From a document's rank and score in a list to its value there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values {
    Score,
    Rank { rank_constant: f64 },
    Nothing,
    Step { at: f64, value: f64 },
    Linear { low: f64, width: f64 },
}

impl Values {
    /// 0 at `low`, 1 at `low + width`.
    fn linear(low: f64, width: f64) -> Values {
        Values::Linear { low, width }
    }

    /// What a linear value becomes as its width vanishes: 0 below `at`, 1 above, `value` there.
    fn step(at: f64, value: f64) -> Values {
        Values::Step { at, value }
    }

    pub(super) fn value(self, rank: usize, score: Score) -> f64 {
        match self {
            Values::Score => f64::from(score),
            Values::Rank { rank_constant } => 1.0 / (rank_constant + to_f64(rank)),
            Values::Nothing => 0.0,
            Values::Step { at, value } => match f64::from(score).partial_cmp(&at) {
                Some(Ordering::Less) => 0.0,
                Some(Ordering::Greater) => 1.0,
                _ => value,
            },
            Values::Linear { low, width } => ((f64::from(score) - low) / width).clamp(0.0, 1.0),
        }
    }
}

/// Mean and deviation of the scores retrieved.
fn distribution<D>(list: &RankedList<D>) -> (f64, f64) {
    let scores = || list.retrieved_scores().map(f64::from);
    let n = to_f64(scores().count());
    let mean = scores().sum::<f64>() / n;
    let squares: f64 = scores().map(|score| (score - mean).powi(2)).sum();
    (mean, (squares / n).sqrt())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the length of a list in memory stays far below 2^53"
)]
fn to_f64(n: usize) -> f64 {
    n as f64
}
