//! [`Fusion::fuse`]: values summed, documents ordered.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use tantivy::Score;

use super::formula::Fusion;
use super::ranked_list::RankedList;
use crate::Error;

/// A document of a fused ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct FusedHit<D> {
    /// The document.
    pub id: D,
    /// Σ of the contributions.
    pub score: f64,
    /// How the score comes about: one part per list, in the order of the lists.
    pub parts: Vec<FusionPart>,
}

/// What one list adds to a fused score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FusionPart {
    /// Rank in the list, from 1. `None` if the list lacks the document.
    pub rank: Option<usize>,
    /// Score in the list. `None` if the list lacks the document.
    pub score: Option<Score>,
    /// True if the list did not retrieve the document but scored it afterwards.
    pub is_rescored: bool,
    /// The value by the formula; 0 if the list lacks the document.
    pub normalized: f64,
    /// The list's weight.
    pub weight: f64,
    /// weight × value.
    pub contribution: f64,
}

impl FusionPart {
    fn missing(weight: f64) -> FusionPart {
        FusionPart {
            rank: None,
            score: None,
            is_rescored: false,
            normalized: 0.0,
            weight,
            contribution: 0.0,
        }
    }

    /// The rank, if the list counts and retrieved the document itself.
    fn own_rank(&self) -> Option<usize> {
        self.rank.filter(|_| self.weight > 0.0 && !self.is_rescored)
    }
}

impl Fusion {
    /// The `k` best documents of all lists together, best first; fewer if the lists have fewer.
    ///
    /// Documents of equal score are ordered by the best rank that a list of positive weight gave
    /// them, then by id, ascending. The order of the lists changes no bit of the scores. If only
    /// one list of positive weight has hits, its order is kept.
    ///
    /// # Errors
    /// `is_invalid_input` when no list has a positive weight, the rank constant is no finite
    /// number from 0, or a score has no meaning for the formula, naming list and entry. No list
    /// at all is no error, and fuses to nothing.
    pub fn fuse<D: Clone + Ord + Hash>(
        &self,
        lists: &[RankedList<D>],
        k: usize,
    ) -> Result<Vec<FusedHit<D>>, Error> {
        self.check()?;
        if !lists.is_empty() && lists.iter().all(|list| list.weight() <= 0.0) {
            let message = "every ranked list has the weight 0; give one of them more";
            return Err(Error::invalid(message));
        }
        let mut hits: Vec<_> = self
            .parts(lists)?
            .into_iter()
            .filter_map(|(id, parts)| Candidate::new(id, parts))
            .collect();
        hits.sort_unstable_by(Candidate::best_first);
        hits.truncate(k);
        Ok(hits.into_iter().map(Candidate::into_hit).collect())
    }

    /// For each document of any list what each list adds.
    fn parts<'a, D: Clone + Ord + Hash>(
        &self,
        lists: &'a [RankedList<D>],
    ) -> Result<HashMap<&'a D, Vec<FusionPart>>, Error> {
        let missing: Vec<_> = lists
            .iter()
            .map(|list| FusionPart::missing(list.weight()))
            .collect();
        let mut parts: HashMap<&D, Vec<FusionPart>> = HashMap::new();
        for (idx, list) in lists.iter().enumerate() {
            let values = self.values_of(list)?;
            let weight = list.weight();
            let n_retrieved = list.retrieved().len();
            let hits = list.retrieved().iter().chain(list.rescored());
            for ((id, score), rank) in hits.zip(1..) {
                let normalized = values.value(rank, *score);
                let of_document = parts.entry(id).or_insert_with(|| missing.clone());
                of_document[idx] = FusionPart {
                    rank: Some(rank),
                    score: Some(*score),
                    is_rescored: rank > n_retrieved,
                    normalized,
                    weight,
                    contribution: weight * normalized,
                };
            }
        }
        Ok(parts)
    }
}

struct Candidate<'a, D> {
    id: &'a D,
    score: f64,
    best_rank: usize,
    parts: Vec<FusionPart>,
}

impl<'a, D: Clone + Ord> Candidate<'a, D> {
    /// `None` if no list that counts retrieved the document.
    fn new(id: &'a D, parts: Vec<FusionPart>) -> Option<Candidate<'a, D>> {
        let best_rank = parts.iter().filter_map(FusionPart::own_rank).min()?;
        let score = sum(parts.iter().map(|part| part.contribution));
        Some(Candidate {
            id,
            score,
            best_rank,
            parts,
        })
    }

    fn best_first(&self, other: &Candidate<'_, D>) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        let by_rank = || self.best_rank.cmp(&other.best_rank);
        by_score
            .then_with(by_rank)
            .then_with(|| self.id.cmp(other.id))
    }

    fn into_hit(self) -> FusedHit<D> {
        FusedHit {
            id: self.id.clone(),
            score: self.score,
            parts: self.parts,
        }
    }
}

/// Sums in ascending order, so that the order of the lists does not matter, and so that a sum
/// never falls when one of its terms grows: where two terms change places, both orders agree.
fn sum(contributions: impl Iterator<Item = f64>) -> f64 {
    let mut contributions: Vec<f64> = contributions.collect();
    contributions.sort_unstable_by(f64::total_cmp);
    // From 0.0, lest there be a sum of -0.0.
    contributions.into_iter().fold(0.0, |sum, part| sum + part)
}
