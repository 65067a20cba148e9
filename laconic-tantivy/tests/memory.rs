//! The bulk writer keeps to its memory budget, whatever the documents are made of: all that it
//! allocates is counted, from its first document to the end of its commit.
//!
//! A test binary of its own, with one test: the allocator counts the whole process.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "an allocator cannot be had otherwise; a test may panic, and its numbers are small"
)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Rng, vector};
use laconic_tantivy::{
    BulkWriter, Identity, LaconicField, MIN_MEMORY_BUDGET, SparseVector, create_in_dir,
};
use tantivy::TantivyDocument;
use tantivy::schema::{FAST, Field, STORED, STRING, Schema, TEXT};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let held = HELD.fetch_add(bytes, SeqCst) + bytes;
    PEAK.fetch_max(held, SeqCst);
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), SeqCst);
        grow(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Fields {
    schema: Schema,
    laconic: LaconicField,
    id: Field,
    number: Field,
    text: Field,
}

impl Fields {
    fn new() -> Fields {
        let mut builder = Schema::builder();
        let id = builder.add_text_field("id", STRING | STORED | FAST);
        let number = builder.add_u64_field("number", FAST);
        let text = builder.add_text_field("text", TEXT | STORED);
        let laconic = LaconicField::add_to(&mut builder, "laconic", Identity::default());
        Fields {
            schema: builder.build(),
            laconic,
            id,
            number,
            text,
        }
    }

    fn document(&self, n: u64, text: &str) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_text(self.id, format!("document {n}"));
        document.add_u64(self.number, n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        document.add_text(self.text, text);
        document
    }
}

/// One kind of collection.
struct Kind {
    name: &'static str,
    n_terms: u64,
    vocabulary: u64,
    n_words: u64,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "common terms",
        n_terms: 200,
        vocabulary: 3_000,
        n_words: 0,
    },
    Kind {
        name: "rare terms",
        n_terms: 200,
        vocabulary: u64::MAX,
        n_words: 0,
    },
    Kind {
        name: "long vectors",
        n_terms: 20_000,
        vocabulary: 60_000,
        n_words: 0,
    },
    Kind {
        name: "short vectors",
        n_terms: 3,
        vocabulary: 30_000,
        n_words: 3,
    },
    Kind {
        name: "texts",
        n_terms: 100,
        vocabulary: 30_000,
        n_words: 300,
    },
    Kind {
        name: "long texts",
        n_terms: 10,
        vocabulary: 30_000,
        n_words: 20_000,
    },
];

impl Kind {
    fn vector(&self, rng: &mut Rng) -> SparseVector {
        vector((0..self.n_terms).map(|_| {
            (
                format!("Ġ{:x}", rng.below(self.vocabulary)),
                0.1 + 3.0 * rng.unit(),
            )
        }))
    }

    fn text(&self, rng: &mut Rng) -> String {
        let words = (0..self.n_words).map(|_| format!("w{} ", rng.below(1 << 20)));
        words.collect()
    }
}

/// Bytes held at the most until two segments a thread are full and all is committed.
fn peak(kind: &Kind, budget: usize, n_threads: usize, reorder: bool) -> (usize, u64) {
    let fields = Fields::new();
    let folder = tempfile::tempdir().unwrap();
    let index = create_in_dir(folder.path(), fields.schema.clone()).unwrap();
    let mut rng = Rng(5);
    // The same again and again: making them up costs more than indexing them.
    let documents: Vec<_> = (0..50)
        .map(|_| (kind.vector(&mut rng), kind.text(&mut rng)))
        .collect();
    let before = HELD.load(SeqCst);
    PEAK.store(before, SeqCst);
    let mut writer = BulkWriter::new(&index, &fields.laconic, None, budget)
        .unwrap()
        .without_merges()
        .with_threads(n_threads);
    if reorder {
        writer = writer.with_reordering().unwrap();
    }
    for n in 0.. {
        let (repeated, text) = &documents[usize::try_from(n).unwrap() % documents.len()];
        let document = fields.document(n, text);
        if kind.vocabulary == u64::MAX {
            let vector = kind.vector(&mut rng);
            writer.add(document, &vector).unwrap();
        } else {
            writer.add(document, repeated).unwrap();
        }
        if writer.totals().segments == 2 * n_threads as u64 {
            break;
        }
    }
    writer.commit(None).unwrap();
    (PEAK.load(SeqCst) - before, writer.totals().documents)
}

#[test]
fn the_budget_is_kept() {
    for (budget, n_threads, reorder) in [
        (MIN_MEMORY_BUDGET, 1, false),
        (40_000_000, 1, false),
        (40_000_000, 1, true),
        (120_000_000, 1, false),
        (120_000_000, 3, false),
    ] {
        for kind in &KINDS {
            let (peak, n_docs) = peak(kind, budget, n_threads, reorder);
            let used = peak as f64 / budget as f64;
            println!(
                "{n_threads} {budget} {:<14} {peak} {used:.2} {n_docs}",
                kind.name
            );
            // The text, and what Tantivy makes of it before it can be asked how much that is.
            let document = n_threads * usize::try_from(50 * kind.n_words).unwrap();
            assert!(
                peak <= budget + document,
                "{}: {peak} of {budget}",
                kind.name
            );
            // Nor may it be kept by writing tiny segments.
            assert!(used > 0.5, "{}: {peak} of {budget}", kind.name);
        }
    }
}
