//! Collections to index: generated from a seed, and the first documents of SciFact.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// A word and a term that every generated document has.
const COMMON: &str = "common";

/// A generated document.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    /// The id, `d0` for the first.
    pub id: String,
    /// Body.
    pub text: String,
    /// Term weights.
    pub vector: Map<String, Value>,
}

/// Generated documents: each has the word and the term `common`, further words and terms `w0`,
/// `w1`, … with falling probability, and a field `number`.
#[derive(Debug, Clone, PartialEq)]
pub struct Docs(pub Vec<Doc>);

impl Docs {
    /// `n_docs` documents, the same for the same seed.
    pub fn generate(n_docs: usize, seed: u64) -> Docs {
        let mut rng = StdRng::seed_from_u64(seed);
        Docs(
            (0..n_docs)
                .map(|number| Doc::generate(number, &mut rng))
                .collect(),
        )
    }

    /// The document file.
    pub fn documents(&self) -> String {
        let line = |(number, doc): (usize, &Doc)| {
            json!({"_id": doc.id, "title": "", "text": doc.text, "number": number}).to_string()
        };
        lines(self.0.iter().enumerate().map(line))
    }

    /// The vector file.
    pub fn vectors(&self) -> String {
        lines(
            self.0
                .iter()
                .map(|doc| json!({"_id": doc.id, "vector": doc.vector}).to_string()),
        )
    }

    /// The first `n_queries` vectors as queries.
    pub fn query_vectors(&self, n_queries: usize) -> String {
        Docs(self.0[..n_queries].to_vec()).vectors()
    }

    /// The ids, in order.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|doc| doc.id.clone()).collect()
    }
}

impl Doc {
    fn generate(number: usize, rng: &mut StdRng) -> Doc {
        let mut text = COMMON.to_owned();
        let mut vector = Map::new();
        vector.insert(COMMON.to_owned(), weight(rng));
        for _ in 0..rng.random_range(3..20) {
            // Squaring makes small numbers, and so long posting lists, more frequent.
            let word = format!("w{}", rng.random_range(0..30_u32).pow(2) / 2);
            text.push(' ');
            text.push_str(&word);
            vector.insert(word, weight(rng));
        }
        Doc {
            id: format!("d{number}"),
            text,
            vector,
        }
    }
}

/// A weight with two decimals, from 0.05 to 3.
fn weight(rng: &mut StdRng) -> Value {
    json!(f64::from(rng.random_range(5..300_u32)) / 100.0)
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// The first `n_docs` documents of SciFact as JSON lines.
pub fn scifact_docs(n_docs: usize) -> String {
    let mut text = String::new();
    GzDecoder::new(laconic_fixtures::scifact::CORPUS_GZ)
        .read_to_string(&mut text)
        .unwrap();
    lines(text.lines().take(n_docs).map(str::to_owned))
}

/// `content` as a gzip file.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// `content` as a zstd file: one frame of stored blocks, after RFC 8878.
pub fn zstd(content: &[u8]) -> Vec<u8> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    // Single segment, no checksum, content size in eight bytes.
    const DESCRIPTOR: u8 = 0b1110_0000;
    const BLOCK_BYTES: usize = 1 << 16;
    let mut frame = [
        &MAGIC[..],
        &[DESCRIPTOR],
        &(content.len() as u64).to_le_bytes(),
    ]
    .concat();
    let n_blocks = content.len().div_ceil(BLOCK_BYTES).max(1);
    for n_before in 0..n_blocks {
        let block = &content[n_before * BLOCK_BYTES..];
        let block = &block[..block.len().min(BLOCK_BYTES)];
        let is_last = u32::from(n_before + 1 == n_blocks);
        let header = is_last | (u32::try_from(block.len()).unwrap() << 3);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(block);
    }
    frame
}
