//! A file of vectors, plain or compressed, and the vector type's door behind it.
#![no_main]

use std::collections::HashSet;

use laconic_cli::collection::{VectorRecord, VectorScale, vectors};
use laconic_fuzz::lines::check_records;
use laconic_tantivy::{MAX_TERM_BYTES, MAX_TERMS, SparseVector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check_records(bytes, |lines| vectors(lines, VectorScale::ONE), check);
});

/// A vector is accepted exactly when it obeys the rules of the type, and keeps what is above 0.
fn check(record: &VectorRecord) {
    let weights = record.weights.iter();
    let weights: Vec<_> = weights.map(|(t, weight)| (t.to_owned(), weight)).collect();
    let pairs = weights
        .iter()
        .map(|(term, weight)| (term.as_str(), *weight));
    match SparseVector::from_pairs(pairs.clone()) {
        Ok(vector) => {
            assert!(is_allowed(&weights));
            assert!(vector.iter().all(|(_, w)| w.is_finite() && w > 0.0));
            let positive = pairs.filter(|(_, weight)| *weight > 0.0);
            assert_eq!(positive.clone().count(), vector.len());
            for (term, weight) in positive {
                assert_eq!(vector.weight(term), Some(weight));
            }
        }
        Err(error) => assert!(error.is_invalid_input() && !is_allowed(&weights)),
    }
}

fn is_allowed(weights: &[(String, f32)]) -> bool {
    let terms: HashSet<_> = weights.iter().map(|(term, _)| term).collect();
    weights.len() <= MAX_TERMS
        && terms.len() == weights.len()
        && terms
            .iter()
            .all(|term| (1..=MAX_TERM_BYTES).contains(&term.len()))
        && weights.iter().all(|(_, w)| w.is_finite() && *w >= 0.0)
}
