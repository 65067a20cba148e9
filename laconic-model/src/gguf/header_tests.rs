//! Headers made by hand: one fault each, refused before anything is sized by it.

use std::io::Write;

use super::*;

/// A header in the making: metadata, then tensors, as bytes.
#[derive(Clone)]
struct Draft {
    version: u32,
    n_tensors: u64,
    n_entries: u64,
    metadata: Vec<u8>,
    tensors: Vec<u8>,
    n_data: usize,
}

fn text(text: &str) -> Vec<u8> {
    [
        &u64::try_from(text.len()).unwrap().to_le_bytes(),
        text.as_bytes(),
    ]
    .concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key), &kind.to_le_bytes()[..], value].concat()
}

fn info(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
    dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

impl Draft {
    /// Two tensors: 3 × 2 of F32 in 24 bytes and padding, one block of Q8_0.
    fn sound() -> Self {
        Self {
            version: 3,
            n_tensors: 2,
            n_entries: 1,
            metadata: entry("general.architecture", 8, &text("llama")),
            tensors: [info("a", &[2, 3], 0, 0), info("b", &[32], 8, 32)].concat(),
            n_data: 32 + 34,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_entries.to_le_bytes());
        bytes.extend(&self.metadata);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32) + self.n_data, 0);
        bytes
    }

    fn with_entry(entry: &[u8]) -> Self {
        let mut draft = Self::sound();
        draft.n_entries += 1;
        draft.metadata.extend(entry);
        draft
    }

    fn with_tensors(tensors: &[Vec<u8>], n_data: usize) -> Self {
        Self {
            n_tensors: u64::try_from(tensors.len()).unwrap(),
            tensors: tensors.concat(),
            n_data,
            ..Self::sound()
        }
    }
}

fn open(bytes: &[u8]) -> Result<Gguf, Error> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let len = u64::try_from(bytes.len()).unwrap();
    Gguf::open(OpenFile { file, len }, "m.gguf")
}

fn refusal(draft: &Draft) -> String {
    match open(&draft.bytes()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => {
            assert!(error.is_corrupt() || error.is_unsupported(), "{error:?}");
            assert!(error.to_string().contains("m.gguf"), "{error}");
            error.to_string()
        }
    }
}

#[test]
fn a_sound_header_is_read() {
    let gguf = open(&Draft::sound().bytes()).unwrap();
    assert_eq!(
        gguf.metadata["general.architecture"],
        Value::Text("llama".to_owned())
    );
    let places = gguf
        .tensors
        .iter()
        .map(|info| (&*info.name, &*info.shape, info.offset, info.n_bytes));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [("a", &[3, 2][..], 0, 24), ("b", &[32][..], 32, 34)]
    );
    assert_eq!(gguf.start % 32, 0);
    // Padding behind the last tensor is as good.
    let mut padded = Draft::sound();
    padded.n_data = 32 + 64;
    assert!(open(&padded.bytes()).is_ok());
}

#[test]
fn every_beginning_of_a_file_is_refused() {
    let whole = Draft::sound().bytes();
    for len in 0..whole.len() {
        assert!(open(&whole[..len]).is_err(), "{len} of {}", whole.len());
    }
}

#[test]
fn counts_are_bounded_by_what_is_there() {
    for count in [3, 70_000, 1 << 60, u64::MAX] {
        assert!(
            open(
                &Draft {
                    n_tensors: count,
                    ..Draft::sound()
                }
                .bytes()
            )
            .is_err()
        );
        assert!(
            open(
                &Draft {
                    n_entries: count,
                    ..Draft::sound()
                }
                .bytes()
            )
            .is_err()
        );
    }
    let long = u64::MAX.to_le_bytes();
    // A text, an array of bytes, an array of texts, each as long as can be said.
    let texts =
        [8, 9].map(|kind: u32| [&kind.to_le_bytes()[..], &(1_u64 << 60).to_le_bytes()].concat());
    for (kind, value) in [
        (8, long.to_vec()),
        (9, [&0_u32.to_le_bytes()[..], &long].concat()),
        (9, texts[0].clone()),
        (9, texts[1].clone()),
    ] {
        refusal(&Draft::with_entry(&entry("k", kind, &value)));
    }
}

#[test]
fn arrays_do_not_nest_without_end() {
    let mut value = Vec::new();
    for _ in 0..100_000 {
        value.extend(9_u32.to_le_bytes());
        value.extend(1_u64.to_le_bytes());
    }
    let error = refusal(&Draft::with_entry(&entry("k", 9, &value)));
    assert!(error.contains("deep"), "{error}");
}

#[test]
fn dimensions_are_multiplied_with_care() {
    let big = 1_u64 << 32;
    for dims in [
        &[32, big, big][..],
        &[32, u64::MAX],
        &[big, big],
        &[1 << 60],
        &[32, 0],
        &[0],
        &[],
    ] {
        refusal(&Draft::with_tensors(&[info("a", dims, 0, 0)], 64));
    }
    // A product that wraps to the very size there is: 2^62 · 4 bytes · 4 + …
    refusal(&Draft::with_tensors(&[info("a", &[4, 1 << 62], 0, 0)], 0));
    refusal(&Draft::with_tensors(
        &[info("a", &[1, 1, 1, 1, 1], 0, 0)],
        4,
    ));
    let error = refusal(&Draft::with_tensors(&[info("a", &[33], 8, 0)], 68));
    assert!(error.contains("whole blocks"), "{error}");
}

#[test]
fn tensors_lie_one_behind_the_other() {
    let a = || info("a", &[8], 0, 0);
    for (second, n_data) in [
        (info("b", &[8], 0, 0), 64),        // the same place
        (info("b", &[8], 0, 16), 64),       // overlapping, unaligned
        (info("b", &[8], 0, 64), 96),       // a gap
        (info("b", &[8], 0, 1 << 63), 64),  // nowhere
        (info("b", &[8], 0, u64::MAX), 64), // nowhere, wrapping
        (info("b", &[9], 0, 32), 64),       // beyond the end
        (info("a", &[8], 0, 32), 64),       // the same name
        (info("b", &[8], 0, 32), 128),      // more follows
    ] {
        refusal(&Draft::with_tensors(&[a(), second], n_data));
    }
    assert!(open(&Draft::with_tensors(&[a(), info("b", &[8], 0, 32)], 64).bytes()).is_ok());
    // Their order in the header does not matter.
    assert!(open(&Draft::with_tensors(&[info("b", &[8], 0, 32), a()], 64).bytes()).is_ok());
}

#[test]
fn odd_metadata_are_refused() {
    for (key, kind, value) in [
        ("k", 13, &[0; 8][..]),
        ("k", u32::MAX, &[0; 8]),
        ("k", 7, &[2]),
        ("k", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        ("general.architecture", 4, &[0; 4]),
        ("general.alignment", 4, &[0; 4]),
        ("general.alignment", 4, &[24, 0, 0, 0]),
        ("general.alignment", 4, &[0, 0, 0, 0x80]),
        ("general.alignment", 6, &[0; 4]),
    ] {
        refusal(&Draft::with_entry(&entry(key, kind, value)));
    }
    refusal(&Draft::with_entry(&entry(&"k".repeat(257), 0, &[1])));
}

#[test]
fn types_and_versions_that_are_not_read_are_named() {
    for (kind, name) in [(2, "Q4_0"), (6, "Q5_0"), (10, "Q2_K"), (99, "99")] {
        let error = refusal(&Draft::with_tensors(&[info("a", &[256], kind, 0)], 256));
        assert!(
            error.contains(name) && error.contains("tensor a"),
            "{error}"
        );
    }
    for version in [0, 1, 4, 3_u32.swap_bytes()] {
        let error = refusal(&Draft {
            version,
            ..Draft::sound()
        });
        assert!(error.contains("version"), "{error}");
    }
    let mut bytes = Draft::sound().bytes();
    bytes[0] = b'g';
    assert!(open(&bytes).is_err_and(|error| error.is_corrupt()));
}
