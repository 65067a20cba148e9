//! Pruned search against the exhaustive reference, over segments, deletes and merges.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use laconic_tantivy::{
    BoundsPlugin, BulkWriter, Identity, ImpactQuantizer, LaconicField, LaconicQuery, LaconicTopK,
    MIN_MEMORY_BUDGET, SparseVector, exhaustive_top_k, register,
};
use libfuzzer_sys::fuzz_target;
use tantivy::collector::{Count, TopDocs};
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::{Field, INDEXED, Schema};
use tantivy::{Index, IndexWriter, Searcher, TantivyDocument, Term, doc};

/// Documents of an index: several blocks of 128 postings.
const MAX_DOCS: usize = 600;
const MAX_SEGMENTS: usize = 4;
/// Few terms, so that documents share them.
const N_TERMS: u8 = 12;
/// Groups by which documents are deleted.
const N_GROUPS: u64 = 16;

#[derive(Arbitrary, Debug)]
struct Case {
    bits: u8,
    segments: Vec<Segment>,
    deleted: Vec<u8>,
    is_merged: bool,
    query: Vec<(u8, QueryWeight)>,
    k: u8,
}

#[derive(Arbitrary, Debug)]
struct Segment {
    is_bulk: bool,
    documents: Vec<Repeated>,
}

/// Equal documents, whose scores tie.
#[derive(Arbitrary, Debug)]
struct Repeated {
    n_copies: u8,
    weights: Vec<(u8, u8)>,
}

#[derive(Arbitrary, Debug)]
struct QueryWeight {
    mantissa: u16,
    exponent: u8,
}

impl QueryWeight {
    /// From 2⁻²⁰, which vanishes in fixed point, to 2²⁶, which no score can hold.
    fn value(&self) -> f32 {
        f32::from(self.mantissa) * f32::from(self.exponent % 31).exp2() / 1_048_576.0
    }
}

fuzz_target!(|case: Case| {
    let corpus = Corpus::new(4 + case.bits % 5);
    for segment in case.segments.iter().take(MAX_SEGMENTS) {
        corpus.add(segment);
    }
    if !case.deleted.is_empty() {
        corpus.delete(&case.deleted);
    }
    if case.is_merged {
        corpus.merge();
    }
    let weights = case.query.iter().map(|(term, w)| (*term, w.value()));
    let query = LaconicQuery::new(&corpus.laconic, vector(weights));
    let reader = corpus.index.reader().expect("a healthy index");
    check(&reader.searcher(), &query, usize::from(case.k));
});

/// The same documents with the same scores, and as many match.
fn check(searcher: &Searcher, query: &LaconicQuery, k: usize) {
    // Alone: beside another collector Tantivy would not prune.
    let found = searcher.search(query, &TopDocs::with_limit(k + 1).order_by_score());
    let expected = exhaustive_top_k(searcher, query, usize::MAX);
    // Weights that are too large are refused by both.
    assert_eq!(found.is_ok(), expected.is_ok());
    if let (Ok(found), Ok(expected)) = (found, expected) {
        let n_found = searcher.search(query, &Count).expect("it was searched");
        assert_eq!(n_found, expected.len());
        let n_best = expected.len().min(k + 1);
        assert_eq!(found, expected[..n_best]);
        let bounded = LaconicTopK::new(k + 1).always_bounded();
        let bounded = bounded.search(searcher, query).expect("it was searched");
        assert_eq!(bounded.hits, expected[..n_best]);
    }
}

struct Corpus {
    index: Index,
    group: Field,
    laconic: LaconicField,
}

impl Corpus {
    fn new(bits: u8) -> Corpus {
        let quantizer = ImpactQuantizer::with_bits(bits).expect("4 to 8");
        let mut schema = Schema::builder();
        let group = schema.add_u64_field("group", INDEXED);
        let identity = Identity {
            quantizer,
            model: None,
        };
        let laconic = LaconicField::add_to(&mut schema, "laconic", identity);
        // Bounds for every term, so that they are used for so few documents.
        let plugin = BoundsPlugin::default().min_postings(1).share(8.0);
        let builder = Index::builder()
            .schema(schema.build())
            .register_plugin(plugin.shared());
        let mut index = builder.create_in_ram().expect("an index in memory");
        register(&mut index).expect("our own field");
        Corpus {
            index,
            group,
            laconic,
        }
    }

    /// One commit, by the bulk writer or by Tantivy's and the tokenizer.
    fn add(&self, segment: &Segment) {
        let copies = segment.documents.iter().flat_map(|document| {
            let vector = vector(document.weights.iter().map(|(t, w)| (*t, weight(*w))));
            std::iter::repeat_n(vector, usize::from(document.n_copies))
        });
        let vectors = copies.take(MAX_DOCS / MAX_SEGMENTS);
        let documents = (0..).map(|ord| doc!(self.group => ord % N_GROUPS));
        let documents = documents.zip(vectors);
        if segment.is_bulk {
            self.add_in_bulk(documents);
        } else {
            self.add_as_text(documents);
        }
    }

    fn add_in_bulk(&self, documents: impl Iterator<Item = (TantivyDocument, SparseVector)>) {
        let writer = BulkWriter::new(&self.index, &self.laconic, None, MIN_MEMORY_BUDGET);
        let mut writer = writer.expect("nobody holds the lock").without_merges();
        for (document, vector) in documents {
            writer.add(document, &vector).expect("a fitting document");
        }
        writer.commit(None).expect("memory can be written");
        writer.close().expect("no merge fails");
    }

    fn add_as_text(&self, documents: impl Iterator<Item = (TantivyDocument, SparseVector)>) {
        self.write(|writer| {
            for (mut document, vector) in documents {
                document.add_text(self.laconic.field(), vector.to_json());
                writer.add_document(document).expect("a fitting document");
            }
        });
    }

    fn delete(&self, groups: &[u8]) {
        self.write(|writer| {
            for group in groups {
                let group = u64::from(*group) % (2 * N_GROUPS);
                writer.delete_term(Term::from_field_u64(self.group, group));
            }
        });
    }

    fn merge(&self) {
        let segments = self.index.searchable_segment_ids().expect("its own files");
        if !segments.is_empty() {
            self.write(|writer| {
                writer.merge(&segments).wait().expect("healthy segments");
            });
        }
    }

    /// One commit by Tantivy's writer.
    fn write(&self, work: impl FnOnce(&mut IndexWriter)) {
        let writer = self.index.writer_with_num_threads(1, MIN_MEMORY_BUDGET);
        let mut writer = writer.expect("nobody holds the lock");
        writer.set_merge_policy(Box::new(NoMergePolicy));
        work(&mut writer);
        writer.commit().expect("memory can be written");
        writer.wait_merging_threads().expect("no merge fails");
    }
}

/// From 0 to 4.98: some vanish, some are clipped.
fn weight(code: u8) -> f32 {
    f32::from(code) * f32::from(code) / 13_056.0
}

fn vector(weights: impl Iterator<Item = (u8, f32)>) -> SparseVector {
    let weights: BTreeMap<_, _> = weights
        .map(|(term, weight)| (format!("t{}", term % N_TERMS), weight))
        .collect();
    SparseVector::from_pairs(weights).expect("each term once, its weight finite")
}
