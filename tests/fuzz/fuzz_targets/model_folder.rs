//! A model folder whose every file may be hostile.
//!
//! The input has four parts with NUL bytes between them: `config.json`, `laconic.json`,
//! `tokenizer.json`, and edits to the bytes of all three and of `model.safetensors`. An empty
//! part stands for the valid file; `"@"` in the third stands for a valid BPE model.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use laconic_fixtures::checkpoint::{Dtype, TOKENIZER_JSON, TinyCheckpoint};
use laconic_model::{Encoder, Encoding, LoadOptions, Part, Source, Text};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const FILES: [&str; 4] = [
    "config.json",
    "laconic.json",
    "tokenizer.json",
    "model.safetensors",
];
/// Vocabulary kept of the fixture's tokenizer: the bytes, and some merges.
const N_TERMS: u64 = 300;

fuzz_target!(|input: &[u8]| {
    let folder = tempfile::tempdir_in(memory_folder()).expect("a folder can be made");
    for (name, content) in FILES.iter().zip(files(input)) {
        fs::write(folder.path().join(name), content).expect("a file can be written");
    }
    match Encoder::load(folder.path(), LoadOptions::new()) {
        Ok(encoder) => check(&encoder),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// Terms of the vocabulary with finite positive weights, largest first, within the preset's
/// bounds; or an error.
fn check(encoder: &Encoder) {
    for text in [Text::Query("a b"), Text::titled("", "<|end_of_text|> é1")] {
        match encoder.encode(text) {
            Ok(encoding) => {
                check_encoding(encoder, &encoding);
                check_attribution(encoder, text, &encoding);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The same encoding, and places that can be cut out of the text.
fn check_attribution(encoder: &Encoder, text: Text<'_>, encoding: &Encoding) {
    let found = encoder
        .encode_with_attribution(text)
        .expect("it was encoded before");
    assert_eq!(&found.encoding, encoding);
    for term in found.terms() {
        let Source::Text(span) = term.source else {
            continue;
        };
        let string = match text {
            Text::Query(query) => query,
            Text::Document { title, .. } if span.part == Part::Title => title.expect("a title"),
            Text::Document { body, .. } => body,
        };
        assert!(!string[span.bytes.clone()].is_empty());
        assert!(!string[span.word.clone()].is_empty());
    }
}

fn check_encoding(encoder: &Encoder, encoding: &Encoding) {
    let weights = &encoding.weights;
    assert!(encoding.n_tokens <= encoder.preset().max_length());
    assert!(weights.len() <= encoder.preset().top_k().unwrap_or(usize::MAX));
    assert!(weights.iter().all(|(id, _)| encoder.term(*id).is_some()));
    assert!(weights.iter().all(|(_, w)| w.is_finite() && *w > 0.0));
    assert!(weights.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)));
}

fn files(input: &[u8]) -> [Vec<u8>; 4] {
    let mut parts = input.splitn(4, |byte| *byte == 0);
    let mut files = VALID.clone();
    for file in files.iter_mut().take(3) {
        let part = parts.next().unwrap_or_default();
        if !part.is_empty() {
            *file = part.to_vec();
        }
    }
    files[2] = with_model(&files[2]);
    let mut edits = Unstructured::new(parts.next().unwrap_or_default());
    while let (false, Ok(edit)) = (edits.is_empty(), Edit::arbitrary(&mut edits)) {
        edit.apply(&mut files);
    }
    files
}

#[derive(Arbitrary)]
struct Edit {
    file: u8,
    at: u16,
    keeps_length: bool,
    n_cut: u8,
    inserted: [u8; 4],
    n_inserted: u8,
}

impl Edit {
    fn apply(&self, files: &mut [Vec<u8>; 4]) {
        let file = &mut files[usize::from(self.file % 4)];
        let inserted = &self.inserted[..usize::from(self.n_inserted % 5)];
        let n_cut = match self.keeps_length {
            true => inserted.len(),
            false => usize::from(self.n_cut),
        };
        let start = usize::from(self.at) % (file.len() + 1);
        let end = file.len().min(start + n_cut);
        file.splice(start..end, inserted.iter().copied());
    }
}

fn with_model(tokenizer: &[u8]) -> Vec<u8> {
    match str::from_utf8(tokenizer) {
        Ok(text) => text.replacen("\"@\"", &MODEL, 1).into_bytes(),
        Err(_) => tokenizer.to_vec(),
    }
}

static VALID: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let checkpoint = TinyCheckpoint {
        hidden: 4,
        intermediate: 4,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        dtype: Dtype::Bf16,
        ..TinyCheckpoint::default()
    };
    let folder = tempfile::tempdir_in(memory_folder()).expect("a folder can be made");
    checkpoint.write(folder.path()).expect("it can be written");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("it was written");
    let tokenizer = include_bytes!("../src/tokenizer.json");
    [
        read("config.json"),
        b"{}".to_vec(),
        tokenizer.to_vec(),
        read("model.safetensors"),
    ]
});

/// The beginning of the fixture's BPE model, which is quick to parse.
static MODEL: LazyLock<String> = LazyLock::new(|| {
    let file: Value = serde_json::from_slice(TOKENIZER_JSON).expect("JSON");
    let mut model = file["model"].clone();
    let vocab = model["vocab"].as_object_mut().expect("an object");
    vocab.retain(|_, id| id.as_u64().is_some_and(|id| id < N_TERMS));
    let n_merges = vocab.len() - 256;
    let merges = model["merges"].as_array_mut().expect("an array");
    merges.truncate(n_merges);
    model.to_string()
});

fn memory_folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return memory;
    }
    static TEMPORARY: LazyLock<std::path::PathBuf> = LazyLock::new(std::env::temp_dir);
    &TEMPORARY
}
