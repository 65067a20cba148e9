//! The steps of fusion behind a hit of hybrid search, for people and for machines.

use anyhow::Result;
use laconic_tantivy::FusionPart;
use serde_json::{Value, json};

use crate::corpus::Found;
use crate::hybrid::LISTS;
use crate::terminal::print;

/// Prints what each list adds to a hit's score.
pub(crate) fn print_fusion(hit: &Found) -> Result<()> {
    for (name, part) in LISTS.iter().zip(&hit.parts) {
        print(format_args!("       {}", line(name, part)))?;
    }
    Ok(())
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

/// What each list adds to a hit's score. A rank is given only where the list found the document
/// itself.
pub(crate) fn fusion_json(hit: &Found) -> Value {
    let parts = LISTS.iter().zip(&hit.parts);
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
