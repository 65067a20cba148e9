//! What the benches share: documents of learned-sparse shape, and arguments.
#![allow(dead_code, reason = "every bench uses its own part of this module")]

use laconic_fixtures::synthetic::{SyntheticCollection, TermWeights, term};
use laconic_tantivy::SparseVector;

/// True under `cargo test --benches`: show that it runs, not how fast.
pub(crate) fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// The number in an environment variable, or else `default`; `quick` when run as a test.
pub(crate) fn size(variable: &str, default: u32, quick: u32) -> u32 {
    let given = std::env::var(variable)
        .ok()
        .map(|n| n.parse().expect("a whole number"));
    if is_test() {
        quick
    } else {
        given.unwrap_or(default)
    }
}

pub(crate) fn collection(n_docs: u32) -> SyntheticCollection {
    SyntheticCollection {
        n_docs,
        ..SyntheticCollection::default()
    }
}

/// Strings of term ids, made once.
pub(crate) struct Vocabulary(Vec<String>);

impl Vocabulary {
    pub(crate) fn new(collection: &SyntheticCollection) -> Vocabulary {
        Vocabulary((0..collection.vocab).map(term).collect())
    }

    pub(crate) fn vector(&self, weights: &TermWeights) -> SparseVector {
        let pairs = weights
            .iter()
            .map(|&(id, weight)| (self.0[id as usize].as_str(), weight));
        SparseVector::from_pairs(pairs).expect("generated vectors are valid")
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
