//! The steps of fusion behind a hit of hybrid search.

use laconic_tantivy::FusionPart;
use serde_json::{Value, json};
use tantivy::Score;
use tantivy::query::Explanation;

use crate::hybrid::LISTS;

/// What each list adds, a line each.
pub(super) fn lines(parts: &[FusionPart]) -> impl Iterator<Item = String> {
    LISTS.iter().zip(parts).map(|(name, part)| line(name, part))
}

fn line(name: &str, part: &FusionPart) -> String {
    let FusionPart {
        normalized,
        weight,
        contribution,
        ..
    } = part;
    let place = match (part.rank, part.score) {
        (Some(rank), Some(score)) if !part.is_rescored => {
            format!("rank {rank:>4}, score {score:.4}")
        }
        (_, Some(score)) => format!("not found, score {score:.4}"),
        (_, None) => "not found".to_owned(),
    };
    format!("{name:<7} {place:<28} value {normalized:.4} × weight {weight} = {contribution:.4}")
}

/// What each list adds. A rank is given only where the list found the document itself.
pub(super) fn json(parts: &[FusionPart]) -> Value {
    let parts = LISTS.iter().zip(parts);
    let parts = parts.map(|(name, part)| {
        json!({
            "list": name,
            "rank": part.rank.filter(|_| !part.is_rescored),
            "score": part.score,
            "rescored": part.is_rescored,
            "normalized": part.normalized,
            "weight": part.weight,
            "contribution": part.contribution,
        })
    });
    parts.collect()
}

/// The fused score over what each list adds, over `details`, which explain the score of each.
#[expect(clippy::cast_possible_truncation, reason = "scores are of 32 bits")]
pub(super) fn explanation(parts: &[FusionPart], details: Vec<Explanation>) -> Explanation {
    let score: f64 = parts.iter().map(|part| part.contribution).sum();
    let mut whole = Explanation::new("hybrid, sum of weight × value", score as Score);
    let mut details = details.into_iter();
    for (name, part) in LISTS.iter().zip(parts) {
        let line = line(name, part);
        let mut explanation = Explanation::new_with_string(line, part.contribution as Score);
        if let Some(detail) = details.next() {
            explanation.add_detail(detail);
        }
        whole.add_detail(explanation);
    }
    whole
}
