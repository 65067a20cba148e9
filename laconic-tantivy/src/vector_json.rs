//! [`SparseVector`] from and to a JSON object `{"term": weight, …}`.

use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::Error;
use crate::vector::{MAX_TERMS, SparseVector, too_many_terms};

impl SparseVector {
    /// Parses `{"Ġsearch": 1.37, …}`, weights as they are.
    ///
    /// # Errors
    /// As [`from_json_scaled`](SparseVector::from_json_scaled).
    pub fn from_json(json: &str) -> Result<SparseVector, Error> {
        SparseVector::from_json_scaled(json, 1.0)
    }

    /// Parses `{"Ġsearch": 137, …}` where a stored number is the weight times `scale`, as in
    /// collections that are exchanged with integer weights.
    ///
    /// # Errors
    /// `is_invalid_input` when the text is not one JSON object of numbers, when a term is given
    /// twice, when a weight divided by the scale is not a finite 32-bit number (`1e39`), for
    /// everything [`from_pairs`](SparseVector::from_pairs) refuses, and for a scale that is not
    /// finite and positive.
    pub fn from_json_scaled(json: &str, scale: f32) -> Result<SparseVector, Error> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::invalid(format!(
                "vector scale is {scale}; it is the factor the weights were multiplied with, \
                 finite and greater than 0"
            )));
        }
        let pairs: RawPairs = serde_json::from_str(json)
            .map_err(|error| Error::invalid(format!("vector is not a JSON object: {error}")))?;
        let scale = f64::from(scale);
        SparseVector::from_pairs(
            pairs
                .0
                .into_iter()
                .map(|(term, n)| (term, to_f32(n / scale))),
        )
    }

    /// The vector as a JSON object, terms in byte order. Parsing it gives the same vector back.
    pub fn to_json(&self) -> String {
        let mut json = String::with_capacity(2 + 20 * self.len());
        json.push('{');
        for (idx, (term, weight)) in self.iter().enumerate() {
            let comma = if idx > 0 { "," } else { "" };
            // Writing to a `String` cannot fail; `Value`'s display escapes as JSON requires.
            let _ = write!(json, "{comma}{}:{weight:?}", serde_json::Value::from(term));
        }
        json.push('}');
        json
    }
}

/// The nearest `f32`; infinite when the number is too large, which the vector type refuses.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to f32 is what is wanted"
)]
fn to_f32(number: f64) -> f32 {
    number as f32
}

/// Pairs in the order of the text, repetitions kept so that the vector type can refuse them.
struct RawPairs(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for RawPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawPairsVisitor)
    }
}

struct RawPairsVisitor;

impl<'de> Visitor<'de> for RawPairsVisitor {
    type Value = RawPairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object of term weights")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawPairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(term) = map.next_key::<String>()? {
            if pairs.len() == MAX_TERMS {
                return Err(serde::de::Error::custom(too_many_terms()));
            }
            let weight = map.next_value::<f64>().map_err(|error| {
                serde::de::Error::custom(format!("weight of term `{term}`: {error}"))
            })?;
            pairs.push((term, weight));
        }
        Ok(RawPairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_floats_and_scaled_integers() {
        let floats = SparseVector::from_json(r#"{"Ġsearch": 1.37, "a": 2}"#).unwrap();
        assert_eq!(
            floats.iter().collect::<Vec<_>>(),
            [("a", 2.0), ("Ġsearch", 1.37)]
        );
        let integers = SparseVector::from_json_scaled(r#"{"Ġsearch": 137, "a": 200}"#, 100.0);
        assert_eq!(integers.unwrap(), floats);
    }

    #[test]
    fn refuses_with_the_term_named() {
        for (json, reason) in [
            (r#"{"tok": 1e39}"#, "`tok` is infinite"),
            (r#"{"tok": 1e999}"#, "out of range"),
            (r#"{"tok": -1}"#, "`tok` is negative"),
            (r#"{"tok": NaN}"#, "expected value"),
            (r#"{"tok": "1"}"#, "`tok`: invalid type: string"),
            (r#"{"tok": null}"#, "`tok`: invalid type: null"),
            (r#"{"tok": 1, "tok": 1}"#, "`tok` is given twice"),
            (r#"{"": 1}"#, "empty"),
            (r#"{"tok": 1"#, "EOF"),
            (r#"{"tok": 1} x"#, "trailing"),
            (r#"[1]"#, "a JSON object of term weights"),
            ("", "EOF"),
        ] {
            let error = SparseVector::from_json(json).expect_err(json);
            assert!(error.is_invalid_input(), "{json}");
            assert!(error.to_string().contains(reason), "{json}: {error}");
        }
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(
                SparseVector::from_json_scaled("{}", scale).is_err(),
                "{scale}"
            );
        }
    }

    proptest! {
        #[test]
        fn json_round_trip(pairs in proptest::collection::btree_map("\\PC{1,8}", 1e-30f32..1e30, 0..20)) {
            let vector = SparseVector::from_pairs(pairs).unwrap();
            prop_assert_eq!(SparseVector::from_json(&vector.to_json()).unwrap(), vector);
        }
    }
}
