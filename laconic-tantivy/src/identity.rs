//! [`Identity`]: which model, preset, quantizer and format made a field's impacts.
//!
//! Nothing in Tantivy stops a query encoded by model B from running on postings made with
//! model A; the answer is plausible nonsense. So the identity is written into the *name of the
//! field's tokenizer*, which lives in the schema: it survives plain commits, merges and copies
//! of the index, and a program that knows nothing of us cannot lose it.

use std::fmt;

use crate::{Error, ImpactQuantizer};

/// Version of the meaning of a laconic field, part of every identity.
pub(crate) const FORMAT_VERSION: u32 = 1;

const PREFIX: &str = "laconic";

/// The encoder side of an identity: which checkpoint, run under which preset.
///
/// A name that ends in `@` and a fingerprint of 16 or more hexadecimal digits is compared by its
/// fingerprint alone: a checkpoint stays what it is when its folder is renamed.
///
/// ```
/// use laconic_tantivy::ModelIdentity;
///
/// let model = |name| ModelIdentity::new(name, "laconic").expect("not empty");
/// assert_eq!(model("nano@0123456789abcdef"), model("renamed@0123456789abcdef"));
/// assert_ne!(model("nano@v1"), model("other@v1"));
/// ```
#[derive(Debug, Clone)]
pub struct ModelIdentity {
    model: String,
    preset: String,
}

impl ModelIdentity {
    /// `model` names the checkpoint, best with a fingerprint of its weights; `preset` names the
    /// rules of encoding, best with a hash of them.
    ///
    /// # Errors
    /// `is_invalid_input` when one of the two is empty or longer than 512 bytes.
    pub fn new(
        model: impl Into<String>,
        preset: impl Into<String>,
    ) -> Result<ModelIdentity, Error> {
        let (model, preset) = (model.into(), preset.into());
        for (what, value) in [("model id", &model), ("preset id", &preset)] {
            if value.is_empty() || value.len() > 512 {
                return Err(Error::invalid(format!(
                    "{what} is {} bytes long; 1 to 512 are allowed",
                    value.len()
                )));
            }
        }
        Ok(ModelIdentity { model, preset })
    }

    /// Name of the checkpoint.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Name of the encoding rules.
    pub fn preset(&self) -> &str {
        &self.preset
    }
}

/// What identifies a model or preset: its fingerprint, or its whole name if it has none.
fn fingerprint(name: &str) -> &str {
    match name.rsplit_once('@') {
        Some((_, hex)) if hex.len() >= 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => hex,
        _ => name,
    }
}

impl PartialEq for ModelIdentity {
    fn eq(&self, other: &ModelIdentity) -> bool {
        fingerprint(&self.model) == fingerprint(&other.model)
            && fingerprint(&self.preset) == fingerprint(&other.preset)
    }
}

impl Eq for ModelIdentity {}

impl std::hash::Hash for ModelIdentity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        fingerprint(&self.model).hash(state);
        fingerprint(&self.preset).hash(state);
    }
}

impl fmt::Display for ModelIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model `{}` with preset `{}`", self.model, self.preset)
    }
}

/// What a laconic field was built with: the quantizer, and the model unless the vectors came
/// from an unnamed source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    /// Weight ↔ impact.
    pub quantizer: ImpactQuantizer,
    /// The encoder; `None` when vectors were given without saying which model made them.
    pub model: Option<ModelIdentity>,
}

impl Identity {
    /// The tokenizer name that carries this identity: `laconic/1/linear8/MODEL/PRESET`, the last
    /// two percent-encoded and empty for vectors of an unnamed model.
    pub fn tokenizer_name(&self) -> String {
        let part = |get: fn(&ModelIdentity) -> &str| self.model.as_ref().map_or("", get);
        format!(
            "{PREFIX}/{FORMAT_VERSION}/linear{}/{}/{}",
            self.quantizer.bits(),
            encode(part(ModelIdentity::model)),
            encode(part(ModelIdentity::preset)),
        )
    }

    /// True for a tokenizer name of ours, of whatever version.
    pub(crate) fn is_laconic_name(name: &str) -> bool {
        name.split('/').next() == Some(PREFIX)
    }

    /// Reads a tokenizer name back.
    ///
    /// # Errors
    /// `is_mismatch` for a format version that this library does not know, `is_corrupt` for a
    /// name that it could not have written.
    pub fn from_tokenizer_name(name: &str) -> Result<Identity, Error> {
        let damaged = || Error::corrupt(format!("tokenizer name `{name}` is not a laconic one"));
        let mut parts = name.split('/');
        if parts.next() != Some(PREFIX) {
            return Err(damaged());
        }
        check_version(parts.next().ok_or_else(damaged)?)?;
        let rest: Vec<&str> = parts.collect();
        let [code, model, preset] = rest[..] else {
            return Err(damaged());
        };
        let bits = code
            .strip_prefix("linear")
            .and_then(|bits| bits.parse().ok());
        let bits = bits.ok_or_else(damaged)?;
        let quantizer = ImpactQuantizer::with_bits(bits).map_err(|_| damaged())?;
        let model = decode(model).ok_or_else(damaged)?;
        let preset = decode(preset).ok_or_else(damaged)?;
        let model = match (model.as_str(), preset.as_str()) {
            ("", "") => None,
            _ => Some(ModelIdentity::new(model, preset).map_err(|_| damaged())?),
        };
        let identity = Identity { quantizer, model };
        // A tokenizer is registered under the name it would be given, so no other spelling of the
        // same identity may pass.
        if identity.tokenizer_name() == name {
            Ok(identity)
        } else {
            Err(damaged())
        }
    }

    /// Refuses `other` unless it is the same model and preset. Vectors of an unnamed model on
    /// either side cannot be told apart and pass.
    ///
    /// # Errors
    /// `is_mismatch`, with both sides in the message.
    pub fn check_model(&self, other: Option<&ModelIdentity>) -> Result<(), Error> {
        match (&self.model, other) {
            (Some(index), Some(other)) if index != other => Err(Error::mismatch(format!(
                "the index was built with {index}, but the vectors are of {other}; \
                 use the index's model or reindex with the other one"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a different identity: model, preset or quantizer.
    ///
    /// # Errors
    /// `is_mismatch`, with both sides in the message.
    pub fn check_same(&self, other: &Identity) -> Result<(), Error> {
        self.check_model(other.model.as_ref())?;
        if self == other {
            return Ok(());
        }
        Err(Error::mismatch(format!(
            "the index was built with {self}, but {other} is asked for; \
             use the index's settings or build a new index"
        )))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.quantizer.bits();
        match &self.model {
            Some(model) => write!(f, "{model}, {bits}-bit impacts"),
            None => write!(f, "vectors of an unnamed model, {bits}-bit impacts"),
        }
    }
}

fn check_version(version: &str) -> Result<(), Error> {
    if version == FORMAT_VERSION.to_string() {
        return Ok(());
    }
    Err(Error::mismatch(format!(
        "the index has laconic format version `{version}`, this library reads version \
         {FORMAT_VERSION}; upgrade it, or reindex"
    )))
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' | b'%' | 0..=b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02x}")),
            plain => encoded.push(char::from(plain)),
        }
    }
    encoded
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(model: &str, preset: &str, bits: u8) -> Identity {
        Identity {
            quantizer: ImpactQuantizer::with_bits(bits).unwrap(),
            model: Some(ModelIdentity::new(model, preset).unwrap()),
        }
    }

    #[test]
    fn name_is_readable_and_stable() {
        assert_eq!(Identity::default().tokenizer_name(), "laconic/1/linear5//");
        assert_eq!(
            identity("nano@3f9a", "laconic/x 1", 5).tokenizer_name(),
            "laconic/1/linear5/nano@3f9a/laconic%2fx%201"
        );
    }

    #[test]
    fn foreign_names_are_refused() {
        for name in [
            "default",
            "laconic",
            "laconic/1",
            "laconic/1/linear8",
            "laconic/1/linear8/",
            "laconic/1/log8//",
            "laconic/1/linear//",
            "laconic/1/linear9//",
            "laconic/1/linear8/m/",
            "laconic/1/linear8/%/p",
            "laconic/1/linear8/%zz/p",
            "laconic/1/linear8/%ff/p",
            "laconic/1/linear8/a/b/c",
        ] {
            let error = Identity::from_tokenizer_name(name).expect_err(name);
            assert!(error.is_corrupt(), "{name}: {error}");
        }
        let newer = Identity::from_tokenizer_name("laconic/2/linear8//").expect_err("newer");
        assert!(newer.is_mismatch());
        assert!(newer.to_string().contains("`2`"));
    }

    /// Found by the fuzz target `identity`: such names passed, and no tokenizer was registered
    /// under them.
    #[test]
    fn other_spellings_of_an_identity_are_refused() {
        for name in [
            "laconic/1/linear+8//",
            "laconic/1/linear08//",
            "laconic/1/linear8/a%2Fb/p",
            "laconic/1/linear8/%61/p",
            "laconic/1/linear8/a b/p",
            "laconic/1/linear8/é/p",
        ] {
            let error = Identity::from_tokenizer_name(name).expect_err(name);
            assert!(error.is_corrupt(), "{name}: {error}");
        }
    }

    #[test]
    fn every_difference_is_refused_with_both_sides() {
        let index = identity("m1", "p1", 8);
        for (other, sides) in [
            (identity("m2", "p1", 8), ["m1", "m2"]),
            (identity("m1", "p2", 8), ["p1", "p2"]),
            (identity("m1", "p1", 6), ["8-bit", "6-bit"]),
            (Identity::default(), ["m1", "unnamed"]),
        ] {
            let error = index.check_same(&other).expect_err("differs");
            assert!(error.is_mismatch());
            assert!(
                sides.iter().all(|side| error.to_string().contains(side)),
                "{error}"
            );
        }
        assert!(index.check_same(&index.clone()).is_ok());
        assert!(index.check_model(None).is_ok());
        assert!(
            Identity::default()
                .check_model(index.model.as_ref())
                .is_ok()
        );
    }

    proptest! {
        #[test]
        fn round_trip(model in "\\PC{1,40}", preset in "[ -~]{1,40}", bits in 4u8..=8) {
            let identity = identity(&model, &preset, bits);
            let name = identity.tokenizer_name();
            prop_assert!(Identity::is_laconic_name(&name));
            prop_assert_eq!(Identity::from_tokenizer_name(&name).unwrap(), identity);
        }
    }
}
