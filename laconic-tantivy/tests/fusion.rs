//! Fusion of ranked lists: what the documentation of `Fusion` promises, on random lists.
//!
//! `LACONIC_CASES=100000 cargo test --release -p laconic-tantivy --test fusion` for more.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::cases;
use laconic_tantivy::{Error, FusedHit, Fusion, FusionPart, RankedList, complete_lists};
use proptest::prelude::*;

type List = RankedList<u16>;

const NORMALIZED: [Fusion; 4] = [
    Fusion::RECIPROCAL_RANK,
    Fusion::MinMax,
    Fusion::ZScore,
    Fusion::TheoreticalMinMax,
];

fn all_fusions() -> [Fusion; 6] {
    let small = Fusion::ReciprocalRank { rank_constant: 0.0 };
    let [rrf, min_max, z_score, tmm] = NORMALIZED;
    [Fusion::WeightedSum, rrf, min_max, z_score, tmm, small]
}

/// Scores that are often equal, sometimes 0, tiny or huge.
fn score() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (0u8..6).prop_map(f32::from),
        4 => 0.0f32..30.0,
        1 => Just(f32::MIN_POSITIVE),
        1 => Just(f32::from_bits(1)),
        1 => Just(f32::MAX),
    ]
}

/// Up to `n` hits of some forty documents, best first; those of equal score in any order.
fn hits(n: usize) -> impl Strategy<Value = Vec<(u16, f32)>> {
    let ids = proptest::sample::subsequence((0..40u16).collect::<Vec<_>>(), 0..=n).prop_shuffle();
    (ids, proptest::collection::vec(score(), n), any::<bool>()).prop_map(
        |(ids, mut scores, constant)| {
            scores.sort_by(|a, b| b.total_cmp(a));
            let first = scores[0];
            let score = |score| if constant { first } else { score };
            ids.into_iter().zip(scores.into_iter().map(score)).collect()
        },
    )
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => 0.0f64..1.0,
        1 => Just(1.0),
        1 => Just(0.5),
        1 => Just(0.0),
        1 => Just(1e6),
    ]
}

/// One to four lists, completed or not, of which at least one counts.
fn lists() -> impl Strategy<Value = Vec<List>> {
    let list = (hits(30), weight());
    let lists = proptest::collection::vec(list, 1..=4);
    let completed = (any::<bool>(), proptest::collection::vec(score(), 40));
    (lists, completed).prop_map(|(lists, (completed, scores))| {
        let mut lists: Vec<List> = lists
            .into_iter()
            .enumerate()
            .map(|(idx, (hits, weight))| list_of(&format!("l{idx}"), &hits, weight))
            .collect();
        if lists.iter().all(|list| list.weight() == 0.0) {
            lists[0] = lists[0].clone().with_weight(0.5).unwrap();
        }
        if completed {
            complete_lists(&mut lists, |_, ids| {
                let score = |id: &u16| (!id.is_multiple_of(5)).then(|| scores[usize::from(*id)]);
                Ok::<_, Error>(ids.iter().map(score).collect())
            })
            .unwrap();
        }
        lists
    })
}

fn list_of(name: &str, hits: &[(u16, f32)], weight: f64) -> List {
    let list = RankedList::new(name, hits.iter().copied()).unwrap();
    list.with_weight(weight).unwrap()
}

fn ids(hits: &[FusedHit<u16>]) -> Vec<u16> {
    hits.iter().map(|hit| hit.id).collect()
}

/// The formulas once more, straight from the papers, for a document's entry in a list.
fn value(fusion: Fusion, list: &List, id: u16) -> Option<f64> {
    let entries = || list.retrieved().iter().chain(list.rescored());
    let (rank, score) = (1u16..)
        .zip(entries())
        .find_map(|(rank, entry)| (entry.0 == id).then(|| (f64::from(rank), f64::from(entry.1))))?;
    let scores: Vec<f64> = list
        .retrieved()
        .iter()
        .map(|(_, s)| f64::from(*s))
        .collect();
    let min = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
    let has_spread = max > min;
    let step = |at_mean: f64| match score.partial_cmp(&max).unwrap() {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => at_mean,
        std::cmp::Ordering::Greater => 1.0,
    };
    Some(match fusion {
        Fusion::WeightedSum => score,
        Fusion::ReciprocalRank { rank_constant } => 1.0 / (rank_constant + rank),
        _ if scores.is_empty() => 0.0,
        Fusion::MinMax if has_spread => ((score - min) / (max - min)).clamp(0.0, 1.0),
        Fusion::MinMax => step(1.0),
        Fusion::ZScore if has_spread => {
            ((score - mean) / variance.sqrt()).clamp(-3.0, 3.0) / 6.0 + 0.5
        }
        Fusion::ZScore => step(0.5),
        Fusion::TheoreticalMinMax if max > 0.0 => (score / max).clamp(0.0, 1.0),
        Fusion::TheoreticalMinMax => step(0.0),
        _ => unreachable!("all fusions are here"),
    })
}

fn assert_near(found: f64, expected: f64, what: &str) -> Result<(), TestCaseError> {
    let tolerance = 1e-6 * (1.0 + expected.abs());
    prop_assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found} is not {expected}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1000)))]

    #[test]
    fn scores_follow_the_formula(lists in lists()) {
        for fusion in all_fusions() {
            for hit in fusion.fuse(&lists, usize::MAX).unwrap() {
                let mut expected = 0.0;
                for (list, part) in lists.iter().zip(&hit.parts) {
                    prop_assert_eq!(part.weight, list.weight());
                    prop_assert_eq!(part.contribution, part.weight * part.normalized);
                    match value(fusion, list, hit.id) {
                        Some(value) => {
                            assert_near(part.normalized, value, "value")?;
                            expected += list.weight() * value;
                        }
                        None => prop_assert_eq!((part.rank, part.score), (None, None)),
                    }
                }
                assert_near(hit.score, expected, "score")?;
            }
        }
    }

    #[test]
    fn the_union_is_found_once_best_first(lists in lists(), k in 0usize..60) {
        let counting = lists.iter().filter(|list| list.weight() > 0.0);
        let union: BTreeSet<u16> = counting
            .flat_map(|list| list.retrieved().iter().map(|(id, _)| *id))
            .collect();
        for fusion in all_fusions() {
            let all = fusion.fuse(&lists, usize::MAX).unwrap();
            let found: BTreeSet<u16> = ids(&all).into_iter().collect();
            prop_assert_eq!(found.len(), all.len());
            prop_assert_eq!(&found, &union);
            prop_assert!(all.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let cut = fusion.fuse(&lists, k).unwrap();
            prop_assert_eq!(&cut[..], &all[..k.min(all.len())]);
        }
    }

    #[test]
    fn the_order_of_the_lists_changes_no_bit(lists in lists(), seed in any::<u64>()) {
        let mut order: Vec<usize> = (0..lists.len()).collect();
        order.sort_by_key(|idx| seed.rotate_left(u32::try_from(*idx * 13).unwrap()) % 17);
        let shuffled: Vec<List> = order.iter().map(|idx| lists[*idx].clone()).collect();
        for fusion in all_fusions() {
            let expected = fusion.fuse(&lists, usize::MAX).unwrap();
            let found = fusion.fuse(&shuffled, usize::MAX).unwrap();
            prop_assert_eq!(ids(&found), ids(&expected));
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert_eq!(found.score.to_bits(), expected.score.to_bits());
                let parts: Vec<FusionPart> = order.iter().map(|idx| expected.parts[*idx]).collect();
                prop_assert_eq!(&found.parts, &parts);
            }
        }
    }

    #[test]
    fn a_list_alone_keeps_its_order(
        hits in hits(40),
        weight in 0.001f64..10.0,
        n_empty in 0usize..3,
        unweighted in hits(20),
    ) {
        let expected: Vec<u16> = hits.iter().map(|(id, _)| *id).collect();
        let mut lists: Vec<List> = (0..n_empty).map(|_| list_of("empty", &[], 1.0)).collect();
        lists.push(list_of("alone", &hits, weight));
        lists.push(list_of("unweighted", &unweighted, 0.0));
        for fusion in all_fusions() {
            prop_assert_eq!(&ids(&fusion.fuse(&lists, 100).unwrap()), &expected);
        }
    }

    #[test]
    fn fused_scores_are_finite_and_normalized_ones_within_the_weights(lists in lists()) {
        let mut weights: Vec<f64> = lists.iter().map(RankedList::weight).collect();
        weights.sort_by(f64::total_cmp);
        let most: f64 = weights.iter().sum();
        for fusion in all_fusions() {
            for hit in fusion.fuse(&lists, usize::MAX).unwrap() {
                prop_assert!(hit.score.is_finite() && hit.score >= 0.0, "{}", hit.score);
                prop_assert!(!fusion.is_normalized() || hit.score <= most, "{}", hit.score);
            }
        }
    }

    /// Whatever is moved up in one list, all others staying in their order, is not fused lower.
    #[test]
    fn raising_a_document_in_a_list_never_lowers_its_fused_rank(
        lists in lists(),
        list_idx in any::<proptest::sample::Index>(),
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
    ) {
        let list_idx = list_idx.index(lists.len());
        let list = &lists[list_idx];
        if list.retrieved().is_empty() {
            return Ok(());
        }
        let from = from.index(list.retrieved().len());
        let to = to.index(from + 1);
        let mut documents: Vec<u16> = list.retrieved().iter().map(|(id, _)| *id).collect();
        let raised = documents.remove(from);
        documents.insert(to, raised);
        // The scores stay where they are, so every statistic does.
        let scores = list.retrieved().iter().map(|(_, score)| *score);
        let hits: Vec<(u16, f32)> = documents.into_iter().zip(scores).collect();
        let mut after = lists.clone();
        after[list_idx] = list_of("raised", &hits, list.weight())
            .with_rescored(list.rescored().iter().copied())
            .unwrap();
        for fusion in all_fusions() {
            let rank = |lists: &[List]| {
                let fused = fusion.fuse(lists, usize::MAX).unwrap();
                fused.iter().position(|hit| hit.id == raised)
            };
            prop_assert!(rank(&after) <= rank(&lists), "{fusion:?}");
        }
    }

    #[test]
    fn completing_lists_moves_no_value_of_what_was_there(
        first in hits(30),
        second in hits(30),
        low in 0.0f32..1.0,
    ) {
        let lists = [list_of("a", &first, 0.7), list_of("b", &second, 0.3)];
        let mut completed = lists.clone();
        let mut asked = BTreeMap::new();
        complete_lists(&mut completed, |idx, ids| {
            asked.insert(idx, ids.to_vec());
            Ok::<_, Error>(ids.iter().map(|id| (id % 2 > 0).then_some(low)).collect())
        })
        .unwrap();
        let of = |hits: &[(u16, f32)]| hits.iter().map(|hit| hit.0).collect::<BTreeSet<u16>>();
        let (first, second) = (of(&first), of(&second));
        for (idx, lacks) in [(0, &second - &first), (1, &first - &second)] {
            let ids = asked.remove(&idx).unwrap_or_default();
            prop_assert_eq!(ids, lacks.into_iter().collect::<Vec<_>>());
        }
        for fusion in all_fusions() {
            let before = fusion.fuse(&lists, usize::MAX).unwrap();
            let after = fusion.fuse(&completed, usize::MAX).unwrap();
            let after: BTreeMap<u16, FusedHit<u16>> =
                after.into_iter().map(|hit| (hit.id, hit)).collect();
            prop_assert_eq!(before.len(), after.len());
            for hit in before {
                for (before, after) in hit.parts.iter().zip(&after[&hit.id].parts) {
                    match before.rank {
                        Some(_) => prop_assert_eq!(before, after),
                        None => prop_assert_eq!(after.rank.is_some(), hit.id % 2 > 0),
                    }
                }
            }
        }
    }
}

#[test]
fn ties_are_broken_by_best_rank_and_then_by_id() {
    let lists = [
        list_of("a", &[(7, 2.0), (9, 1.0), (1, 1.0)], 1.0),
        list_of("b", &[(3, 2.0), (8, 1.0)], 1.0),
    ];
    for fusion in [Fusion::WeightedSum, Fusion::TheoreticalMinMax] {
        assert_eq!(ids(&fusion.fuse(&lists, 9).unwrap()), [3, 7, 8, 9, 1]);
    }
}

#[test]
fn lists_that_cannot_be_fused_are_refused_by_name_and_entry() {
    let list = |hits: &[(u16, f32)]| RankedList::new("bm25", hits.iter().copied());
    let good = || list(&[(1, 2.0), (2, 1.0)]).unwrap();
    let rescored = |hits: &[(u16, f32)]| good().with_rescored(hits.iter().copied());
    let fuse = |fusion: Fusion, list: List| fusion.fuse(&[list], 1).map(|_| ());
    let rrf = |rank_constant| fuse(Fusion::ReciprocalRank { rank_constant }, good());
    let negative = list(&[(1, 1.0), (2, -1.0)]).unwrap();
    let (short, not_finite) = (vec![Some(1.0)], vec![Some(1.0), Some(f32::NAN)]);
    let completing = |scores: Vec<Option<f32>>| {
        let mut lists = [good(), list(&[(5, 2.0), (6, 1.0)]).unwrap()];
        complete_lists(&mut lists, |_, _| Ok::<_, Error>(scores.clone()))
    };
    for (refused, parts) in [
        (
            list(&[(1, 2.0), (2, f32::NAN)]).map(|_| ()),
            &["entry 2", "NaN"][..],
        ),
        (list(&[(1, f32::INFINITY)]).map(|_| ()), &["entry 1", "inf"]),
        (
            list(&[(1, 2.0), (2, 1.0), (1, 1.0)]).map(|_| ()),
            &["entry 3", "already"],
        ),
        (
            list(&[(1, 2.0), (2, 3.0)]).map(|_| ()),
            &["entry 2", "3", "above 2"],
        ),
        (good().with_weight(f64::NAN).map(|_| ()), &["weight NaN"]),
        (good().with_weight(-0.5).map(|_| ()), &["weight -0.5"]),
        (
            good().with_weight(f64::INFINITY).map(|_| ()),
            &["weight inf"],
        ),
        (good().with_weight(1e300).map(|_| ()), &["weight 1"]),
        (
            rescored(&[(3, 0.5), (4, f32::NAN)]).map(|_| ()),
            &["rescored entry 2", "NaN"],
        ),
        (
            rescored(&[(3, 0.5), (3, 0.5)]).map(|_| ()),
            &["rescored entry 2", "already"],
        ),
        (
            rescored(&[(2, 0.5)]).map(|_| ()),
            &["rescored entry 1", "already"],
        ),
        (
            fuse(Fusion::TheoreticalMinMax, negative),
            &["entry 2", "-1", "theoretical minimum"],
        ),
        (completing(short), &["1 scores", "2 documents"]),
        (completing(not_finite), &["rescored entry 2", "NaN"]),
    ] {
        let error = refused.unwrap_err();
        assert!(error.is_invalid_input());
        let message = error.to_string();
        for part in ["`bm25`"].iter().chain(parts) {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
    for constant in [-1.0, f64::NAN, f64::INFINITY] {
        let message = rrf(constant).unwrap_err().to_string();
        assert!(message.contains("rank constant"), "{message}");
    }
    let nothing_counts = fuse(Fusion::MinMax, good().with_weight(0.0).unwrap());
    assert!(nothing_counts.unwrap_err().is_invalid_input());
    assert!(Fusion::MinMax.fuse::<u16>(&[], 10).unwrap().is_empty());
}
