//! A GGUF file that may be hostile.
//!
//! If the input begins with a NUL byte, the rest are edits of a valid file of Q8_0; else it is the
//! file.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use laconic_fixtures::checkpoint::TinyCheckpoint;
use laconic_model::{Encoder, FileFormat, LoadOptions, Text, quantize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = tempfile::tempdir_in(memory_folder()).expect("a folder can be made");
    let file = match input.split_first() {
        Some((0, edits)) => edited(edits),
        _ => input.to_vec(),
    };
    let path = folder.path().join("m.gguf");
    fs::write(&path, file).expect("a file can be written");
    fs::write(folder.path().join("tokenizer.json"), &VALID.1).expect("a file can be written");
    let encoder = match Encoder::load(&path, LoadOptions::new()) {
        Ok(encoder) => encoder,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    match encoder.encode(Text::Query("a b")) {
        Ok(encoding) => assert!(encoding.weights.iter().all(|(_, w)| w.is_finite() && *w > 0.0)),
        // Finite weights may overflow.
        Err(error) => assert!(error.is_not_finite()),
    }
});

#[derive(Arbitrary)]
struct Edit {
    at: u16,
    n_cut: u8,
    keeps_length: bool,
    inserted: [u8; 8],
    n_inserted: u8,
}

fn edited(edits: &[u8]) -> Vec<u8> {
    let mut file = VALID.0.clone();
    let mut edits = Unstructured::new(edits);
    while let (false, Ok(edit)) = (edits.is_empty(), Edit::arbitrary(&mut edits)) {
        let inserted = &edit.inserted[..usize::from(edit.n_inserted % 9)];
        let n_cut = match edit.keeps_length {
            true => inserted.len(),
            false => usize::from(edit.n_cut),
        };
        let start = usize::from(edit.at).min(file.len());
        let end = file.len().min(start + n_cut);
        file.splice(start..end, inserted.iter().copied());
    }
    file
}

/// A file and its tokenizer.
static VALID: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let checkpoint = TinyCheckpoint {
        hidden: 32,
        intermediate: 32,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        ..TinyCheckpoint::default()
    };
    let folder = tempfile::tempdir_in(memory_folder()).expect("a folder can be made");
    checkpoint.write(folder.path()).expect("it can be written");
    let path = folder.path().join("m.gguf");
    quantize(folder.path(), &path, FileFormat::Q8_0, &LoadOptions::new(), |_, _| {})
        .expect("it can be quantized");
    let read = |path: &Path| fs::read(path).expect("it was written");
    (read(&path), read(&folder.path().join("tokenizer.json")))
});

fn memory_folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return memory;
    }
    static TEMPORARY: LazyLock<std::path::PathBuf> = LazyLock::new(std::env::temp_dir);
    &TEMPORARY
}
