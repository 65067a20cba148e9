//! Options of hybrid search.

use anyhow::Result;
use clap::{Args, ValueEnum};
use laconic_tantivy::{DEFAULT_RANK_CONSTANT, Fusion};

use crate::hybrid::{Hybrid, LISTS};
use crate::retrieval::{MAX_K, Mode};
use crate::terminal::UsageError;

/// Largest weight: far from where a fused score would not fit into 32 bits.
const MAX_WEIGHT: f64 = 1e9;

/// How hybrid search makes one ranking of two.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hybrid search (--mode hybrid)")]
pub(crate) struct HybridOptions {
    /// How the two rankings become one [default: sum; all of them with --tune]
    #[arg(long, value_enum, value_name = "FORMULA")]
    pub(crate) fusion: Vec<FusionName>,
    /// Weights of the two sides [default: 0.5 each; 1 each for sum]
    ///
    /// Both are named, separated by a comma: sparse=0.7,bm25=0.3. A side of weight 0 takes no
    /// part.
    #[arg(long, value_name = "WEIGHTS", value_parser = weights)]
    pub(crate) weight: Option<Weights>,
    /// Constant c of rrf, 1 / (c + rank): the larger, the less the first ranks stand out
    /// [default: 60]; asks for rrf if no formula is named
    #[arg(long, value_name = "C")]
    pub(crate) rank_constant: Option<f64>,
    /// Documents fetched from each side before they are fused [default: 10 for each of the k hits
    /// asked for, at least 100]
    ///
    /// A fused ranking ends with the last candidate. `sum` needs no candidates: every document
    /// that matches takes part; for it this is how far down --explain looks for ranks.
    #[arg(long, value_name = "N", value_parser = n_candidates)]
    pub(crate) candidates: Option<usize>,
    /// Have each side score the candidates that only the other one found
    ///
    /// Without it a document adds nothing where it was not among the candidates, however close
    /// it came. minmax is not affected: what was not found scores no more than the worst found.
    #[arg(long)]
    pub(crate) rescore_missing: bool,
}

/// The formulas by the names that users give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FusionName {
    /// Weighted sum of the scores as they are; exact, over all matching documents
    Sum,
    /// Reciprocal rank fusion: 1 / (60 + rank)
    Rrf,
    /// Scores mapped to 0..1 from the least to the largest of the list
    Minmax,
    /// Scores mapped to 0..1 from mean - 3σ to mean + 3σ of the list (also known as DBSF)
    Zscore,
    /// Scores divided by the largest of the list: min-max from the theoretical minimum 0
    Tmm,
}

impl FusionName {
    /// What users call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FusionName::Sum => "sum",
            FusionName::Rrf => "rrf",
            FusionName::Minmax => "minmax",
            FusionName::Zscore => "zscore",
            FusionName::Tmm => "tmm",
        }
    }
}

/// Of the learned-sparse and the BM25 side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weights([f64; 2]);

impl HybridOptions {
    /// The way of fusing that a search of `mode` is to use.
    pub(crate) fn hybrid(&self, mode: Mode) -> Result<Hybrid> {
        let is_given = !self.fusion.is_empty()
            || self.weight.is_some()
            || self.rank_constant.is_some()
            || self.candidates.is_some()
            || self.rescore_missing;
        if is_given && mode != Mode::Hybrid {
            let message = "--fusion, --weight, --rank-constant, --candidates and \
                           --rescore-missing are for --mode hybrid";
            return Err(UsageError(message.to_owned()).into());
        }
        let name = match self.fusion[..] {
            [] if self.rank_constant.is_some() => FusionName::Rrf,
            [] => FusionName::Sum,
            [name] => name,
            _ => {
                let message = "--fusion is given more than once; only eval --tune compares \
                               several";
                return Err(UsageError(message.to_owned()).into());
            }
        };
        let fusion = self.formula(name)?;
        if self.rank_constant.is_some() && name != FusionName::Rrf {
            let message = format!("--rank-constant is for --fusion rrf, not {}", name.name());
            return Err(UsageError(message).into());
        }
        let default = match name {
            FusionName::Sum => [1.0; 2],
            _ => [0.5; 2],
        };
        Ok(Hybrid {
            fusion,
            weights: self.weight.map_or(default, |Weights(weights)| weights),
            candidates: self.candidates,
            rescore_missing: self.rescore_missing,
            with_parts: false,
        })
    }

    /// The formula of a name, with the rank constant given.
    pub(crate) fn formula(&self, name: FusionName) -> Result<Fusion> {
        let rank_constant = self.rank_constant.unwrap_or(DEFAULT_RANK_CONSTANT);
        if !(rank_constant.is_finite() && rank_constant >= 0.0) {
            let message = format!("--rank-constant {rank_constant} is not a number from 0");
            return Err(UsageError(message).into());
        }
        Ok(match name {
            FusionName::Sum => Fusion::WeightedSum,
            FusionName::Rrf => Fusion::ReciprocalRank { rank_constant },
            FusionName::Minmax => Fusion::MinMax,
            FusionName::Zscore => Fusion::ZScore,
            FusionName::Tmm => Fusion::TheoreticalMinMax,
        })
    }
}

/// Parses `sparse=0.7,bm25=0.3`.
fn weights(text: &str) -> Result<Weights, String> {
    let mut weights = [None; 2];
    for part in text.split(',') {
        let (name, weight) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` has no `=`; write sparse=0.7,bm25=0.3"))?;
        let list = LISTS.iter().position(|list| *list == name.trim());
        let list =
            list.ok_or_else(|| format!("`{name}` in `{part}` is neither sparse nor bm25"))?;
        let is_weight = |weight: &f64| (0.0..=MAX_WEIGHT).contains(weight);
        let number = weight.trim().parse::<f64>().ok().filter(is_weight);
        let number = number
            .ok_or_else(|| format!("`{weight}` in `{part}` is no number from 0 to {MAX_WEIGHT}"))?;
        if weights[list].replace(number).is_some() {
            return Err(format!("`{part}` gives {name} a second weight"));
        }
    }
    match weights {
        [Some(sparse), Some(bm25)] if sparse + bm25 > 0.0 => Ok(Weights([sparse, bm25])),
        [Some(_), Some(_)] => Err("one of the two has to be above 0".to_owned()),
        [None, _] => Err("sparse has no weight; name both, as in sparse=0.7,bm25=0.3".to_owned()),
        [_, None] => Err("bm25 has no weight; name both, as in sparse=0.7,bm25=0.3".to_owned()),
    }
}

fn n_candidates(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MAX_K).contains(n));
    number.ok_or_else(|| format!("a number from 1 to {MAX_K} is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_and_refused_by_their_part() {
        for (text, expected) in [
            ("sparse=0.7,bm25=0.3", [0.7, 0.3]),
            ("bm25=3, sparse = 0", [0.0, 3.0]),
        ] {
            assert_eq!(weights(text), Ok(Weights(expected)));
        }
        for (text, part) in [
            ("0.7", "`0.7` has no `=`"),
            ("sparse=0.7", "bm25 has no weight"),
            ("bm25=1", "sparse has no weight"),
            ("sparse=0.7,dense=0.3", "`dense` in `dense=0.3`"),
            ("sparse=0.7,bm25=-1", "`-1` in `bm25=-1`"),
            ("sparse=NaN,bm25=1", "`NaN` in `sparse=NaN`"),
            ("sparse=1,bm25=inf", "`inf` in `bm25=inf`"),
            (
                "sparse=1,bm25=2e9",
                "`2e9` in `bm25=2e9` is no number from 0 to 1000000000",
            ),
            (
                "sparse=1,bm25=1,sparse=2",
                "`sparse=2` gives sparse a second",
            ),
            ("sparse=0,bm25=0", "above 0"),
        ] {
            let message = weights(text).unwrap_err();
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
}
