//! [`RankedList`]: what one way of searching found, checked.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use tantivy::Score;

use crate::Error;

/// A ranked list of documents, best first, each once, all scores finite; with a weight.
///
/// `D` is whatever tells documents apart in all lists alike: a user's id, or a `DocAddress` if all
/// lists are of one searcher.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedList<D> {
    name: String,
    weight: f64,
    retrieved: Vec<(D, Score)>,
    /// Behind what was retrieved: score descending, then id ascending.
    rescored: Vec<(D, Score)>,
}

impl<D: Clone + Ord + Hash> RankedList<D> {
    /// A list of weight 1. The name is for messages.
    ///
    /// # Errors
    /// `is_invalid_input`, naming list and entry, when a score is not finite or above the one
    /// before it, or a document is in the list twice.
    pub fn new(
        name: impl Into<String>,
        hits: impl IntoIterator<Item = (D, Score)>,
    ) -> Result<RankedList<D>, Error> {
        let list = RankedList {
            name: name.into(),
            weight: 1.0,
            retrieved: hits.into_iter().collect(),
            rescored: Vec::new(),
        };
        list.refuse_unless_finite(&list.retrieved, "entry")?;
        list.refuse_unless_unique("entry")?;
        let mut entries = list.retrieved.windows(2).zip(2..);
        match entries.find(|(pair, _)| pair[1].1 > pair[0].1) {
            None => Ok(list),
            Some((pair, entry)) => Err(list.refusal(format!(
                "entry {entry} has the score {}, above {} of the entry before it; the best has \
                 to come first",
                pair[1].1, pair[0].1
            ))),
        }
    }

    /// The same list with another weight.
    ///
    /// # Errors
    /// `is_invalid_input` when the weight is no finite number from 0 to `f32::MAX` (so that no
    /// fused score can overflow).
    pub fn with_weight(mut self, weight: f64) -> Result<RankedList<D>, Error> {
        if !(0.0..=f64::from(f32::MAX)).contains(&weight) {
            let max = f32::MAX;
            let message = format!("the weight {weight} is not a number from 0 to {max:e}");
            return Err(self.refusal(message));
        }
        self.weight = weight;
        Ok(self)
    }

    /// The same list with scores of documents that it did not retrieve, in any order. They do not
    /// count for the list's statistics. Earlier such scores are replaced.
    ///
    /// # Errors
    /// `is_invalid_input`, naming list and entry, when a score is not finite, or a document is
    /// given twice or was retrieved.
    pub fn with_rescored(
        mut self,
        scores: impl IntoIterator<Item = (D, Score)>,
    ) -> Result<RankedList<D>, Error> {
        self.rescored = scores.into_iter().collect();
        self.refuse_unless_finite(&self.rescored, "rescored entry")?;
        self.refuse_unless_unique("rescored entry")?;
        // Finite, so this is a total order; by `==`, so that 0.0 and -0.0 are a tie.
        self.rescored.sort_by(|a, b| {
            let by_score = b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal);
            by_score.then_with(|| a.0.cmp(&b.0))
        });
        Ok(self)
    }

    /// The documents that other lists retrieved and this one did not, ascending.
    fn missing(&self, retrieved_by_any: &BTreeSet<D>) -> Vec<D> {
        let own: HashSet<&D> = self.retrieved.iter().map(|(id, _)| id).collect();
        let missing = retrieved_by_any.iter().filter(|id| !own.contains(id));
        missing.cloned().collect()
    }

    fn refuse_unless_finite(&self, hits: &[(D, Score)], what: &str) -> Result<(), Error> {
        let mut entries = hits.iter().zip(1..);
        match entries.find(|((_, score), _)| !score.is_finite()) {
            None => Ok(()),
            Some(((_, score), entry)) => {
                let entry: usize = entry;
                let message = format!("{what} {entry} has the score {score}, no finite number");
                Err(self.refusal(message))
            }
        }
    }

    /// Every document once among all; `what` names the entries that were added last.
    fn refuse_unless_unique(&self, what: &str) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let last = match self.rescored.is_empty() {
            true => &self.retrieved,
            false => &self.rescored,
        };
        if !self.rescored.is_empty() {
            seen.extend(self.retrieved.iter().map(|(id, _)| id));
        }
        let mut entries = last.iter().zip(1..);
        match entries.find(|((id, _), _)| !seen.insert(id)) {
            None => Ok(()),
            Some((_, entry)) => {
                let entry: usize = entry;
                let message = format!("{what} {entry} is a document that is in the list already");
                Err(self.refusal(message))
            }
        }
    }
}

impl<D> RankedList<D> {
    /// What messages call the list.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weight of its values.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The documents retrieved, best first.
    pub fn retrieved(&self) -> &[(D, Score)] {
        &self.retrieved
    }

    /// The documents that were scored afterwards, best first.
    pub fn rescored(&self) -> &[(D, Score)] {
        &self.rescored
    }

    pub(super) fn retrieved_scores(&self) -> impl DoubleEndedIterator<Item = Score> + '_ {
        self.retrieved.iter().map(|(_, score)| *score)
    }

    pub(super) fn refuse_negative_scores(&self) -> Result<(), Error> {
        for (hits, what) in [
            (&self.retrieved, "entry"),
            (&self.rescored, "rescored entry"),
        ] {
            // Best first, so the last is negative if any is.
            if let Some((_, score)) = hits.last().filter(|(_, score)| *score < 0.0) {
                let entry = hits.len();
                return Err(self.refusal(format!(
                    "{what} {entry} has the score {score}, below the theoretical minimum 0"
                )));
            }
        }
        Ok(())
    }

    fn refusal(&self, message: impl std::fmt::Display) -> Error {
        Error::invalid(format!("ranked list `{}`: {message}", self.name))
    }
}

/// Has every list score the documents that only others retrieved.
///
/// `score` is called once per list that lacks some, with the list's position among `lists` and
/// the ids, ascending; it returns as many scores, `None` for a document that does not match there
/// at all and so stays missing.
///
/// # Errors
/// What `score` returns; `is_invalid_input` when it returns another number of scores than ids, or
/// a score that is not finite.
pub fn complete_lists<D: Clone + Ord + Hash, E: From<Error>>(
    lists: &mut [RankedList<D>],
    mut score: impl FnMut(usize, &[D]) -> Result<Vec<Option<Score>>, E>,
) -> Result<(), E> {
    let retrieved = lists.iter().flat_map(|list| &list.retrieved);
    let retrieved_by_any: BTreeSet<D> = retrieved.map(|(id, _)| id.clone()).collect();
    for (idx, list) in lists.iter_mut().enumerate() {
        let missing = list.missing(&retrieved_by_any);
        if missing.is_empty() {
            continue;
        }
        let scores = score(idx, &missing)?;
        if scores.len() != missing.len() {
            let (n_scores, n_ids) = (scores.len(), missing.len());
            let message = format!("{n_scores} scores were given for {n_ids} documents");
            return Err(list.refusal(message).into());
        }
        let scored = missing.into_iter().zip(scores);
        let scored = scored.filter_map(|(id, score)| Some((id, score?)));
        *list = list.clone().with_rescored(scored)?;
    }
    Ok(())
}
