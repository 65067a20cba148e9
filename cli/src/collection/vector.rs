//! [`VectorRecord`]: a line `{"_id": "d1", "vector": {"term": weight, …}}`.
//!
//! Here a vector is only parsed. Which terms and weights make a vector is decided once, by
//! `laconic_tantivy::SparseVector`: it refuses what is negative, infinite, empty or given twice,
//! so all of that is passed on as it was found.

use std::fmt;

use laconic_tantivy::MAX_TERMS;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor,
};
use serde_json::Value;

use super::error::Malformed;
use super::ids::check_id;
use super::lines::LineReader;
use super::object::{given_twice, id_from, missing, parse_json};
use super::records::{Record, Records};
use super::scan::scan;
use super::term_weights::TermWeights;

/// The id of a document or query and the weights of its terms, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRecord {
    /// `_id` or `id`, under the same rules as a document's.
    pub id: String,
    /// Terms and weights in the file's order; a number too large for `f32` is infinite.
    pub weights: TermWeights,
}

impl Record for VectorRecord {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The factor a file's weights were multiplied with: `VectorScale::new(100.0)` makes 137 of the
/// file a term weight of 1.37.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct VectorScale(f64);

impl VectorScale {
    /// Weights as they are.
    pub const ONE: VectorScale = VectorScale(1.0);

    /// `None` unless `scale` is finite and greater than zero.
    pub fn new(scale: f32) -> Option<VectorScale> {
        (scale.is_finite() && scale > 0.0).then(|| VectorScale(f64::from(scale)))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounds; what is too large is refused later"
    )]
    pub(crate) fn weight(self, number: f64) -> f32 {
        (number / self.0) as f32
    }
}

/// The vectors of a file, one a line. Fields beside id and vector are ignored.
pub fn vectors(lines: LineReader, scale: VectorScale) -> Records<VectorRecord> {
    Records::new(lines, move |line| parse(line, scale))
}

fn parse(line: &str, scale: VectorScale) -> Result<VectorRecord, Malformed> {
    match scan(line, scale) {
        Some(record) if check_id("_id", &record.id).is_ok() => Ok(record),
        _ => parse_any(line, scale),
    }
}

/// Any line, valid or not.
fn parse_any(line: &str, scale: VectorScale) -> Result<VectorRecord, Malformed> {
    let raw: RawRecord = parse_json(line)?;
    let (field, id) = raw.id.ok_or_else(|| missing("_id"))?;
    let pairs = raw.vector.ok_or_else(|| missing("vector"))?.0;
    let mut weights = TermWeights::default();
    for (term, number) in pairs {
        weights.push(&term, scale.weight(number));
    }
    Ok(VectorRecord {
        id: id_from(field, id)?,
        weights,
    })
}

#[derive(Default)]
struct RawRecord {
    id: Option<(&'static str, Value)>,
    vector: Option<RawVector>,
}

impl<'de> Deserialize<'de> for RawRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawRecord, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = RawRecord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawRecord, A::Error> {
        let mut record = RawRecord::default();
        while let Some(key) = entries.next_key::<String>()? {
            let is_repeated = match key.as_str() {
                "_id" => record.id.replace(("_id", entries.next_value()?)).is_some(),
                "id" => record.id.replace(("id", entries.next_value()?)).is_some(),
                "vector" => record.vector.replace(entries.next_value()?).is_some(),
                _ => entries.next_value::<IgnoredAny>().map(|_| false)?,
            };
            if is_repeated {
                return Err(A::Error::custom(given_twice(&key)));
            }
        }
        Ok(record)
    }
}

/// Terms and numbers in the order of the line, repetitions included.
struct RawVector(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for RawVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawVector, D::Error> {
        deserializer.deserialize_map(RawVectorVisitor)
    }
}

struct RawVectorVisitor;

impl<'de> Visitor<'de> for RawVectorVisitor {
    type Value = RawVector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of term weights in `vector`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawVector, A::Error> {
        let mut pairs = Vec::new();
        while let Some(term) = entries.next_key::<String>()? {
            if pairs.len() == MAX_TERMS {
                return Err(A::Error::custom(format!(
                    "`vector` has more than {MAX_TERMS} terms"
                )));
            }
            let number = entries.next_value_seed(WeightOf(&term))?;
            pairs.push((term, number));
        }
        Ok(RawVector(pairs))
    }
}

/// A number, asked for in the name of its term.
struct WeightOf<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for WeightOf<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_f64(self)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 the nearest number will do"
)]
impl Visitor<'_> for WeightOf<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term: String = self.0.chars().take(40).collect();
        write!(f, "a number as weight of term `{term}`")
    }

    fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(line: &str, scale: f32) -> Vec<(String, f32)> {
        parse(line, VectorScale::new(scale).unwrap())
            .unwrap()
            .weights
            .iter()
            .map(|(term, weight)| (term.to_owned(), weight))
            .collect()
    }

    #[test]
    fn divides_by_the_scale() {
        let line =
            r#"{"set": "x", "id": 3, "vector": {"Ġa": 137, "b": -0.0, "c": 5e-1, "b": 1e39}}"#;
        let record = parse(line, VectorScale::new(100.0).unwrap()).unwrap();
        assert_eq!(record.id, "3");
        let weights: Vec<_> = record.weights.iter().collect();
        assert_eq!(
            weights,
            [("Ġa", 1.37), ("b", -0.0), ("c", 0.005), ("b", 1e37)]
        );
        assert_eq!(self::weights(line, 1.0)[3].1, f32::INFINITY);
    }

    #[test]
    fn scale_is_finite_and_positive() {
        for refused in [0.0, -0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(VectorScale::new(refused), None, "{refused}");
        }
        for accepted in [f32::MIN_POSITIVE, 1e-45, 51.2, f32::MAX] {
            assert!(VectorScale::new(accepted).is_some(), "{accepted}");
        }
    }

    #[test]
    fn term_count_boundary() {
        let line = |n_terms: usize| {
            let terms: Vec<_> = (0..n_terms).map(|idx| format!(r#""t{idx}":1"#)).collect();
            format!(r#"{{"_id": "d", "vector": {{{}}}}}"#, terms.join(","))
        };
        assert_eq!(weights(&line(MAX_TERMS), 1.0).len(), MAX_TERMS);
        assert!(parse(&line(MAX_TERMS + 1), VectorScale::ONE).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        for deep in ["[", r#"{"a":"#] {
            let line = format!(r#"{{"_id": "d", "vector": {}"#, deep.repeat(100_000));
            assert!(parse(&line, VectorScale::ONE).is_err());
            // An ignored value is passed over without recursion.
            let line = format!(r#"{{"_id": "d", "x": {}"#, deep.repeat(100_000));
            assert!(parse(&line, VectorScale::ONE).is_err());
        }
    }

    /// What a line may hold at the places that matter, most of it common.
    fn piece() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            4 => any::<f32>().prop_map(|n| format!("{:?}", n.abs())),
            2 => any::<f64>().prop_map(|n| n.abs().to_string()),
            2 => "[0-9]{1,3}(\\.[0-9]{1,18})?",
            1 => "-?[0-9]{0,22}\\.?[0-9]{0,3}([eE][+-]?[0-9]{1,3})?",
        ];
        let string = prop_oneof![
            4 => "[a-zĠ文]{1,6}".prop_map(|text| format!("\"{text}\"")),
            1 => r#""([a-z]|\\["\\/bnu]|\\u[0-9a-fA-F]{4}|\\ud8[0-9a-f]{2}|\t){0,4}""#,
        ];
        let space = "( |\t){0,1}";
        let pair =
            (string, space, number).prop_map(|(s, space, n)| format!("{s}{space}:{space}{n}"));
        let pairs = proptest::collection::vec(pair, 0..6);
        prop_oneof![
            8 => pairs.prop_map(|pairs| format!("{{{}}}", pairs.join(", "))),
            1 => Just("[]".to_owned()),
        ]
    }

    fn line() -> impl Strategy<Value = String> {
        let id = prop_oneof![
            4 => "[a-z0-9]{1,5}".prop_map(|id| format!("\"{id}\"")),
            1 => r#"(-?[0-9]{1,3}|""|" "|null|"\\u00e9")"#,
        ];
        let id_key = prop_oneof![4 => Just("_id"), 1 => Just("id"), 1 => Just("\\u0069d")];
        let other = prop_oneof![
            4 => Just(String::new()),
            1 => Just(r#""title": "a\"b", "#.to_owned()),
            1 => Just(r#""n": [1, {"vector": 2}], "#.to_owned()),
            1 => Just(r#""id": "again", "#.to_owned()),
        ];
        let end = prop_oneof![8 => Just("}"), 1 => Just("} "), 1 => Just("}}"), 1 => Just("")];
        (id_key, id, other, piece(), end).prop_map(|(key, id, other, vector, end)| {
            format!(r#"{{"{key}": {id}, {other}"vector":{vector}{end}"#)
        })
    }

    /// How often the quick way is taken, so that the property says something.
    #[test]
    fn common_lines_are_scanned() {
        for line in [
            r#"{"_id": "d", "vector": {"a": 1, "b": 0.25}}"#,
            r#"{"id":"d","content":"x \\ y","vector":{"\u0120a":12.3456789012345678}}"#,
            r#" { "vector" : { } , "_id" : "d" } "#,
        ] {
            let scanned = scan(line, VectorScale::ONE);
            assert_eq!(scanned, parse_any(line, VectorScale::ONE).ok());
            assert!(scanned.is_some(), "{line}");
        }
        for line in [
            r#"{"_id": "d", "vector": {"a": 01}}"#,
            r#"{"_id": "d", "vector": {"a": 1.}}"#,
            r#"{"_id": "d", "vector": {"a": 1}} x"#,
            r#"{"_id": "d", "vector": {"a": 1},}"#,
            r#"{"_id": "d", "vector": {"a": 1,}}"#,
            r#"{"_id": "d", "vector": {"\ud800": 1}}"#,
            r#"{"_id": "d", "vector": {"a": -1}}"#,
            r#"{"_id": 7, "vector": {"a": 12345678901234567890}}"#,
            r#"{"_id": "d"}"#,
            "",
        ] {
            assert_eq!(scan(line, VectorScale::ONE), None, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// What is read quickly is what is read carefully, to the bit.
        #[test]
        fn scanning_changes_nothing(line in line(), scale in prop_oneof![Just(1.0f32), 0.1f32..200.0]) {
            let scale = VectorScale::new(scale).unwrap();
            let carefully = parse_any(&line, scale);
            if let Some(record) = scan(&line, scale) {
                let bits = |record: &VectorRecord| {
                    let pairs = record.weights.iter();
                    pairs.map(|(t, w)| (t.to_owned(), w.to_bits())).collect::<Vec<_>>()
                };
                if let Ok(careful) = &carefully {
                    prop_assert_eq!(&record.id, &careful.id);
                    prop_assert_eq!(bits(&record), bits(careful));
                } else {
                    prop_assert!(check_id("_id", &record.id).is_err());
                }
            }
            let whole = parse(&line, scale).map_err(|e| e.to_string());
            let carefully = carefully.map_err(|e| e.to_string());
            prop_assert_eq!(whole, carefully);
        }
    }

    proptest! {
        /// The shortest decimal form of a weight gives the weight back.
        #[test]
        fn weights_survive_the_text(weights in proptest::collection::vec(0.0f32..f32::MAX, 0..8)) {
            let pairs: Vec<_> = weights.iter().map(|w| format!(r#""t":{w:?}"#)).collect();
            let line = format!(r#"{{"_id":"d","vector":{{{}}}}}"#, pairs.join(","));
            let read: Vec<f32> = self::weights(&line, 1.0).into_iter().map(|(_, w)| w).collect();
            prop_assert_eq!(read, weights);
        }
    }
}
