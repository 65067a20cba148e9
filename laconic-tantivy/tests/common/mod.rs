//! What the integration tests share: a small schema, a way to build segments, and the plain
//! model that search results are compared with.
#![allow(
    dead_code,
    reason = "every test binary uses its own part of this module"
)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test may panic, and its numbers are small"
)]

use std::collections::{BTreeMap, HashSet};

use laconic_tantivy::{
    BulkWriter, Identity, ImpactQuantizer, LaconicField, MIN_MEMORY_BUDGET, SparseVector, check,
    register,
};
use tantivy::directory::Directory;
use tantivy::index::SegmentId;
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::{FAST, Field, INDEXED, STORED, STRING, Schema, TEXT};
use tantivy::{
    DocAddress, DocId, Index, IndexSettings, IndexWriter, Searcher, SegmentReader, TantivyDocument,
    Term, doc,
};

/// Cases per property: `default`, or what the environment variable `LACONIC_CASES` says.
pub(crate) fn cases(default: u32) -> u32 {
    let asked = std::env::var("LACONIC_CASES").ok();
    asked.map_or(default, |n| n.parse().expect("LACONIC_CASES is a number"))
}

/// A vector from pairs that may repeat a term; the last weight counts.
pub(crate) fn vector<S: AsRef<str> + Ord>(
    pairs: impl IntoIterator<Item = (S, f32)>,
) -> SparseVector {
    SparseVector::from_pairs(pairs.into_iter().collect::<BTreeMap<_, _>>()).unwrap()
}

/// The schema of most tests: a number that tells documents apart, a text field for BM25, and a
/// laconic field.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    /// `ord` as a number, to read back.
    pub(crate) ord: Field,
    /// `ord` as a string, to delete by.
    pub(crate) id: Field,
    pub(crate) text: Field,
    pub(crate) laconic: LaconicField,
}

impl Fields {
    pub(crate) fn new(identity: Identity) -> Fields {
        let mut builder = Schema::builder();
        let ord = builder.add_u64_field("ord", FAST | INDEXED);
        let id = builder.add_text_field("id", STRING | STORED);
        let laconic = LaconicField::add_to(&mut builder, "laconic", identity);
        let text = builder.add_text_field("text", TEXT | STORED);
        Fields {
            schema: builder.build(),
            ord,
            id,
            text,
            laconic,
        }
    }

    pub(crate) fn with_bits(bits: u8) -> Fields {
        let quantizer = ImpactQuantizer::with_bits(bits).unwrap();
        Fields::new(Identity {
            quantizer,
            model: None,
        })
    }

    pub(crate) fn create(&self, directory: impl Directory) -> Index {
        let settings = IndexSettings::default();
        let mut index = Index::create(directory, self.schema.clone(), settings).unwrap();
        register(&mut index).unwrap();
        index
    }

    /// All fields but the vector.
    pub(crate) fn document(&self, ord: u64) -> TantivyDocument {
        let text = text_of(ord);
        doc!(self.ord => ord, self.id => id_of(ord), self.text => text)
    }

    pub(crate) fn id_term(&self, ord: u64) -> Term {
        Term::from_field_text(self.id, &id_of(ord))
    }

    /// One commit by the bulk writer.
    pub(crate) fn add_by_bulk<'a>(
        &self,
        index: &Index,
        documents: impl IntoIterator<Item = (u64, &'a SparseVector)>,
    ) {
        let writer = BulkWriter::new(index, &self.laconic, None, MIN_MEMORY_BUDGET).unwrap();
        let mut writer = writer.without_merges();
        for (ord, vector) in documents {
            writer.add(self.document(ord), vector).unwrap();
        }
        writer.commit(None).unwrap();
        writer.close().unwrap();
    }

    /// One commit by Tantivy's own writer, each term repeated.
    pub(crate) fn add_by_tokenizer<'a>(
        &self,
        index: &Index,
        documents: impl IntoIterator<Item = (u64, &'a SparseVector)>,
    ) {
        let mut writer = plain_writer(index);
        for (ord, vector) in documents {
            let mut document = self.document(ord);
            document.add_text(self.laconic.field(), vector.to_json());
            writer.add_document(document).unwrap();
        }
        writer.commit().unwrap();
        writer.wait_merging_threads().unwrap();
    }

    pub(crate) fn delete(&self, index: &Index, ords: impl IntoIterator<Item = u64>) {
        let mut writer = plain_writer(index);
        for ord in ords {
            writer.delete_term(self.id_term(ord));
        }
        writer.commit().unwrap();
        writer.wait_merging_threads().unwrap();
    }
}

pub(crate) fn id_of(ord: u64) -> String {
    format!("d{ord}")
}

/// Texts over four words of different frequencies, of different lengths.
pub(crate) fn text_of(ord: u64) -> String {
    let words = [
        ("common", 1 + ord % 3),
        ("red", ord % 2),
        ("green", ord % 5 / 2),
        ("blue", ord % 7 / 6),
    ];
    words
        .iter()
        .flat_map(|&(word, n)| (0..n).map(move |_| word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Tantivy's writer, without merges of its own.
pub(crate) fn plain_writer(index: &Index) -> IndexWriter {
    let writer = index.writer_with_num_threads(1, MIN_MEMORY_BUDGET).unwrap();
    writer.set_merge_policy(Box::new(NoMergePolicy));
    writer
}

/// Merges `segments` as a program would that has nothing but Tantivy.
pub(crate) fn merge(index: &Index, segments: &[SegmentId]) {
    let mut writer = plain_writer(index);
    if !segments.is_empty() {
        writer.merge(segments).wait().unwrap();
    }
    writer.wait_merging_threads().unwrap();
}

pub(crate) fn merge_all(index: &Index) {
    merge(index, &index.searchable_segment_ids().unwrap());
}

pub(crate) fn searcher(index: &Index) -> Searcher {
    index.reader().unwrap().searcher()
}

/// `ord` of each document of a segment, deleted ones included.
pub(crate) fn ords(reader: &SegmentReader) -> Vec<u64> {
    let column = reader.fast_fields().u64("ord").unwrap();
    (0..reader.max_doc())
        .map(|doc| column.first(doc).unwrap())
        .collect()
}

/// Live documents with their `ord`.
pub(crate) fn live_documents(searcher: &Searcher) -> Vec<(DocAddress, u64)> {
    let mut live = Vec::new();
    for (segment, reader) in (0u32..).zip(searcher.segment_readers()) {
        let documents = (0 as DocId..).zip(ords(reader));
        let alive = documents.filter(|(doc, _)| !reader.is_deleted(*doc));
        live.extend(alive.map(|(doc, ord)| (DocAddress::new(segment, doc), ord)));
    }
    live
}

pub(crate) fn live_ords(index: &Index) -> HashSet<u64> {
    live_documents(&searcher(index))
        .into_iter()
        .map(|(_, ord)| ord)
        .collect()
}

pub(crate) fn assert_clean(index: &Index) {
    let report = check(index, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// The documented scoring rule in plain arithmetic: impacts and query weights as integers, the
/// sum rounded to `f32` once.
pub(crate) struct Model {
    quantizer: ImpactQuantizer,
    /// Term → its weight in fixed point, and as given.
    query: BTreeMap<String, (u64, f64)>,
    fraction_bits: u32,
}

impl Model {
    pub(crate) fn new(query: &SparseVector, quantizer: ImpactQuantizer) -> Model {
        let code = |weight: f32, bits: u32| {
            (f64::from(weight) * f64::from(1u32 << bits))
                .round()
                .max(1.0)
        };
        let max = f64::from(quantizer.max_impact());
        let fits = |bits: &u32| {
            query.iter().map(|(_, w)| code(w, *bits)).sum::<f64>() * max
                <= f64::from(0xff00_0000u32)
        };
        let fraction_bits = (0..=24u32)
            .rev()
            .find(fits)
            .expect("the query's weights are moderate");
        let terms = query.iter().map(|(term, weight)| {
            (
                term.to_owned(),
                (code(weight, fraction_bits) as u64, f64::from(weight)),
            )
        });
        Model {
            quantizer,
            query: terms.collect(),
            fraction_bits,
        }
    }

    /// The impact of a weight, 0 if it vanishes.
    fn impact(&self, weight: f32) -> u64 {
        let scaled = (f64::from(weight) * f64::from(self.quantizer.scale())).round();
        scaled.min(f64::from(self.quantizer.max_impact())) as u64
    }

    /// The score of a document, `None` if it has no term of the query.
    pub(crate) fn score(&self, document: &SparseVector) -> Option<f32> {
        let (mut sum, mut real_sum, mut error) = (0u64, 0.0, 0.0);
        for (term, weight) in document.iter() {
            let impact = self.impact(weight);
            let Some((code, query_weight)) = self.query.get(term).filter(|_| impact > 0) else {
                continue;
            };
            sum += impact * code;
            let document_weight = impact as f64 / f64::from(self.quantizer.scale());
            real_sum += document_weight * query_weight;
            error += document_weight / f64::from(1u32 << self.fraction_bits);
        }
        let unit = f64::from(1u32 << self.fraction_bits) * f64::from(self.quantizer.scale());
        // A power of two divides exactly, so this is one rounding to `f32`.
        let score = (sum as f64 / unit) as f32;
        let tolerance = error + real_sum * 1e-7;
        assert!(
            (f64::from(score) - real_sum).abs() <= tolerance,
            "{score} is not {real_sum}"
        );
        (sum > 0).then_some(score)
    }
}

/// Best first: score descending, then document address ascending.
pub(crate) fn sort_hits(hits: &mut [(f32, DocAddress)]) {
    hits.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
}

/// What `TopDocs` finds equals `expected`, but for which of several documents with the last score
/// there are: Tantivy 0.27 promises the first ones and keeps any (`TopNHeap` compares scores alone).
pub(crate) fn assert_same_up_to_last_ties(
    found: &[(f32, DocAddress)],
    expected: &[(f32, DocAddress)],
    what: &str,
) {
    let scores = |hits: &[(f32, DocAddress)]| -> Vec<u32> {
        hits.iter().map(|(score, _)| score.to_bits()).collect()
    };
    assert_eq!(scores(found), scores(expected), "{what}");
    let last = expected.last().map_or(0.0, |(score, _)| *score);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found == expected || found.0 == last, "{what}: {found:?}");
    }
}

/// SplitMix64: the same numbers on every platform.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / 16_777_216.0
    }
}
