//! Compressed collections read as their plain text does, and damage never goes unnoticed by a
//! panic, a hang or more lines than there were.
#![allow(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use laconic_cli::collection::{InputError, LineReader};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

/// A frame that decoders pass over.
fn skippable(n_bytes: u32) -> Vec<u8> {
    let mut frame = vec![0x57, 0x2a, 0x4d, 0x18];
    frame.extend(n_bytes.to_le_bytes());
    frame.extend((0..n_bytes).map(|_| b'\n'));
    frame
}

fn read(content: Vec<u8>) -> Result<Vec<(u64, u64, String)>, InputError> {
    let mut lines = LineReader::from_reader("f", Cursor::new(content))?;
    let mut read = Vec::new();
    while let Some(line) = lines.next_line()? {
        read.push((line.place.line(), line.place.offset(), line.text.to_owned()));
    }
    Ok(read)
}

fn numbered_lines(n_lines: usize) -> Vec<u8> {
    (0..n_lines)
        .flat_map(|number| format!("line {number} of a file\n").into_bytes())
        .collect()
}

#[test]
fn compression_is_invisible() {
    let content = numbered_lines(40_000);
    let (front, back) = content.split_at(content.len() / 3);
    let plain = read(content.clone()).unwrap();
    assert_eq!(plain.len(), 40_000);
    let frames = [
        skippable(9),
        zstd(front),
        skippable(0),
        zstd(back),
        skippable(100_000),
    ];
    for compressed in [
        gzip(&content),
        [gzip(front), gzip(b""), gzip(back)].concat(),
        zstd(&content),
        frames[1..].concat(),
    ] {
        assert!(compressed.len() < content.len());
        assert!(read(compressed).unwrap() == plain);
    }
}

#[test]
fn empty_content_has_no_lines() {
    for content in [Vec::new(), gzip(b""), zstd(b""), gzip(b"\n\r\n")] {
        assert!(read(content).unwrap().is_empty());
    }
}

/// A stream cut anywhere is reported as cut: no prefix passes for the whole.
#[test]
fn every_truncation_is_reported() {
    let content = numbered_lines(30);
    for compressed in [gzip(&content), zstd(&content)] {
        for n_bytes in 4..compressed.len() {
            let error = read(compressed[..n_bytes].to_vec()).unwrap_err();
            assert!(
                error.is_truncated() && !error.is_skippable(),
                "{n_bytes}: {error}"
            );
        }
    }
}

/// With checksums in the file, a changed text is never served: gzip's is checked by its
/// library, zstd's by ours.
#[test]
fn damaged_contents_are_reported() {
    let content = b"one line of incompressible text, #7f3a\n";
    let raw_gzip = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let raw_zstd = compress_to_vec(&content[..], CompressionLevel::Uncompressed);
    for mut compressed in [raw_gzip, raw_zstd] {
        let start = compressed
            .windows(8)
            .position(|bytes| bytes == b"one line")
            .unwrap();
        compressed[start] ^= 1;
        let error = read(compressed).unwrap_err();
        assert!(!error.is_skippable(), "{error}");
    }
}

proptest! {
    // Test files beside a crate have no place to keep failures; the failing input is printed.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_or_a_text(
        is_gzip in any::<bool>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let content = numbered_lines(300);
        let mut compressed = if is_gzip { gzip(&content) } else { zstd(&content) };
        for (idx, byte) in damage {
            let idx = idx.index(compressed.len() - 4) + 4;
            compressed[idx] = byte;
        }
        let _ = read(compressed);
    }

    #[test]
    fn noise_behind_the_magic_is_no_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        is_gzip in any::<bool>(),
    ) {
        let magic: &[u8] =
            if is_gzip { &[0x1f, 0x8b, 8, 0] } else { &[0x28, 0xb5, 0x2f, 0xfd] };
        let _ = read([magic, &noise[..]].concat());
    }
}
