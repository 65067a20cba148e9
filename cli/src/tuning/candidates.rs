//! [`JudgedCandidates`]: what was retrieved for one query, ready to be fused again and again.

use std::cmp::Ordering;

use anyhow::Result;
use laconic_tantivy::{Fusion, RankedList};
use tantivy::Score;

use super::Judgments;
use crate::eval::{Hit, JudgedRanking};

/// The two lists of one query, learned-sparse first, and the query's judgments.
#[derive(Debug, Clone)]
pub struct JudgedCandidates {
    /// The documents of both lists by their place in `ids`, which is cheaper to fuse.
    lists: [RankedList<u32>; 2],
    /// Ascending.
    ids: Vec<String>,
    judgments: Judgments,
}

impl JudgedCandidates {
    /// Two lists without scores for what they lack.
    ///
    /// # Errors
    /// When they are no ranked lists.
    pub fn new(lists: [Vec<(String, Score)>; 2], judgments: Judgments) -> Result<JudgedCandidates> {
        let [sparse, bm25] = lists;
        let lists = [
            RankedList::new("sparse", sparse)?,
            RankedList::new("bm25", bm25)?,
        ];
        JudgedCandidates::of_lists(&lists, Clone::clone, judgments)
    }

    /// Two lists of documents whose ids `id` knows.
    ///
    /// # Errors
    /// When two documents have the same id.
    pub(crate) fn of_lists<D: Clone + Ord + std::hash::Hash>(
        lists: &[RankedList<D>; 2],
        id: impl Fn(&D) -> String,
        judgments: Judgments,
    ) -> Result<JudgedCandidates> {
        let entries = |list: &RankedList<D>| -> Vec<(String, Score)> {
            let entries = list.retrieved().iter().chain(list.rescored());
            entries.map(|(doc, score)| (id(doc), *score)).collect()
        };
        let mut ids: Vec<String> = lists.iter().flat_map(entries).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        let numbered = |entries: &[(D, Score)]| -> Vec<(u32, Score)> {
            let numbered = entries.iter().map(|(doc, score)| {
                let place = ids.binary_search(&id(doc)).unwrap_or_else(|place| place);
                // Candidates are a million at most.
                (u32::try_from(place).unwrap_or(u32::MAX), *score)
            });
            numbered.collect()
        };
        let renamed = |list: &RankedList<D>| {
            let renamed = RankedList::new(list.name(), numbered(list.retrieved()))?;
            renamed.with_rescored(numbered(list.rescored()))
        };
        Ok(JudgedCandidates {
            lists: [renamed(&lists[0])?, renamed(&lists[1])?],
            ids,
            judgments,
        })
    }

    /// nDCG@10 of the fused list, in the order trec_eval judges it: by falling score of 32 bits,
    /// equal ones by falling id.
    pub(super) fn ndcg_at_10(&self, fusion: Fusion, weights: [f64; 2]) -> Result<f64> {
        let [sparse, bm25] = self.lists.clone();
        let lists = [
            sparse.with_weight(weights[0])?,
            bm25.with_weight(weights[1])?,
        ];
        let fused = fusion.fuse(&lists, usize::MAX)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a run's scores are of 32 bits"
        )]
        let mut hits: Vec<_> = fused.iter().map(|hit| (hit.score as f32, hit.id)).collect();
        hits.sort_unstable_by(|a, b| {
            let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
            by_score.then_with(|| b.1.cmp(&a.1))
        });
        let hit = |(score, place): &(f32, u32)| {
            let doc = self.ids.get(*place as usize).cloned().unwrap_or_default();
            Hit { doc, score: *score }
        };
        let hits: Vec<Hit> = hits.iter().take(10).map(hit).collect();
        Ok(JudgedRanking::new(&self.judgments, &hits).ndcg(10))
    }
}
