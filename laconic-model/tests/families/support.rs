//! The goldens, and copies of the checkpoints that a test may change.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use laconic_model::{Encoder, Encoding, Error, LoadOptions, Text};
use serde::Deserialize;
use serde_json::Value;

/// Of a term weight.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) documents: Vec<Case>,
    pub(crate) queries: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) weights: Vec<f32>,
}

impl Golden {
    pub(crate) fn of(family: &str) -> Self {
        serde_json::from_slice(&fs::read(folder(family).join("golden.json")).unwrap()).unwrap()
    }

    /// Every case with its text as a query or as a document.
    pub(crate) fn cases(&self) -> impl Iterator<Item = (Text<'_>, &Case)> {
        let documents = self.documents.iter();
        let documents = documents.map(|case| (Text::document(&case.text), case));
        let queries = self.queries.iter();
        documents.chain(queries.map(|case| (Text::Query(&case.text), case)))
    }
}

impl Case {
    /// Why an encoding is not this one.
    pub(crate) fn difference(&self, encoding: &Encoding) -> Option<String> {
        let ours: BTreeMap<u32, f32> = encoding.weights.iter().copied().collect();
        let pairs = self.ids.iter().copied().zip(self.weights.iter().copied());
        let truth: BTreeMap<u32, f32> = pairs.collect();
        let of = |map: &BTreeMap<u32, f32>, id: &u32| map.get(id).copied().unwrap_or(0.0);
        let far = |id: &&u32| (of(&ours, id) - of(&truth, id)).abs() > TOLERANCE;
        let far = ours.keys().chain(truth.keys()).find(far);
        if let Some(id) = far {
            let (ours, truth) = (of(&ours, id), of(&truth, id));
            return Some(format!(
                "{:?}: token {id} is {ours}, not {truth}",
                self.text
            ));
        }
        // Weights that are all but zero may be on one side only.
        let small = |map: &BTreeMap<u32, f32>| map.values().filter(|w| **w < TOLERANCE).count();
        let slack = small(&ours).max(small(&truth));
        (ours.len().abs_diff(truth.len()) > slack).then(|| {
            let (ours, truth) = (ours.len(), truth.len());
            format!("{:?}: {ours} terms, not {truth}", self.text)
        })
    }
}

pub(crate) fn folder(family: &str) -> PathBuf {
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families");
    families.join(family)
}

pub(crate) fn load(folder: impl AsRef<Path>) -> Result<Encoder, Error> {
    Encoder::load(folder, LoadOptions::new())
}

/// A copy of a family that a test may change.
pub(crate) fn copy(family: &str) -> tempfile::TempDir {
    fn copy_all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy_all(&entry.path(), &to),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy_all(&folder(family), dir.path());
    dir
}

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

pub(crate) fn first_difference(encoder: &Encoder, golden: &Golden) -> Option<String> {
    golden.cases().find_map(|(text, case)| {
        let encoding = encoder.encode(text).unwrap();
        case.difference(&encoding)
    })
}
