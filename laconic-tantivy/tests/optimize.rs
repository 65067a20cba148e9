//! Optimizing loses nothing: every stored document, posting, position, norm and column of an index
//! is there afterwards, in one segment, and every score is the same.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may panic, and its numbers are small"
)]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use common::{Fields, Rng, assert_clean, live_ords, merge_all, plain_writer, searcher, vector};
use faulty::{Fault, FaultyDirectory};
use laconic_tantivy::{
    BulkWriter, Error, Identity, LaconicField, LaconicQuery, MIN_MEMORY_BUDGET, OptimizeOptions,
    OptimizeReport, OptimizeStep, SparseVector, create_in_dir, open_in_dir, optimize, register,
};
use proptest::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::columnar::{Cardinality, DynamicColumn};
use tantivy::index::SegmentComponent;
use tantivy::postings::Postings;
use tantivy::query::{Query, QueryParser};
use tantivy::schema::{
    FAST, Facet, FacetOptions, Field, INDEXED, IndexRecordOption, JsonObjectOptions, STORED,
    STRING, Schema, TEXT, TextFieldIndexing, TextOptions,
};
use tantivy::{
    DateTime, DocSet, Index, IndexSettings, IndexSortByField, Order, SegmentReader, TERMINATED,
    TantivyDocument, Term,
};

/// One field of every type, and two laconic ones.
struct Everything {
    schema: Schema,
    sparse: LaconicField,
    second: LaconicField,
}

impl Everything {
    fn new() -> Everything {
        let mut builder = Schema::builder();
        builder.add_u64_field("ord", FAST | INDEXED);
        builder.add_text_field("id", STRING | STORED | FAST);
        let sparse = LaconicField::add_to(&mut builder, "sparse", Identity::default());
        builder.add_text_field("text", TEXT | STORED);
        let basic = TextFieldIndexing::default().set_index_option(IndexRecordOption::Basic);
        let basic = basic.set_fieldnorms(false);
        builder.add_text_field("basic", TextOptions::default().set_indexing_options(basic));
        let freqs = TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqs);
        builder.add_text_field("freqs", TextOptions::default().set_indexing_options(freqs));
        let json = JsonObjectOptions::from(TEXT | STORED | FAST);
        builder.add_json_field("json", json);
        builder.add_facet_field("facet", FacetOptions::default().set_stored());
        builder.add_date_field("date", INDEXED | FAST | STORED);
        builder.add_f64_field("ratios", INDEXED | FAST | STORED);
        builder.add_i64_field("signed", FAST);
        builder.add_bool_field("flag", INDEXED | FAST);
        builder.add_ip_addr_field("ip", INDEXED | FAST);
        builder.add_bytes_field("bytes", INDEXED | FAST | STORED);
        builder.add_u64_field("never", FAST | INDEXED);
        let second = LaconicField::add_to(&mut builder, "second", Identity::default());
        Everything {
            schema: builder.build(),
            sparse,
            second,
        }
    }

    fn field(&self, name: &str) -> Field {
        self.schema.get_field(name).unwrap()
    }

    fn document(&self, ord: u64) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        document.add_u64(self.field("ord"), ord);
        document.add_text(self.field("id"), id_of(ord));
        document.add_text(self.field("text"), text_of(ord));
        document.add_text(self.field("basic"), text_of(ord / 2));
        document.add_text(self.field("freqs"), text_of(ord / 3));
        if !ord.is_multiple_of(3) {
            let json = serde_json::json!({
                "words": text_of(ord), "n": ord % 5, "mixed": if ord.is_multiple_of(2) { "a" } else { "b" },
                "deep": {"x": [1, 2, ord % 4]},
            });
            let serde_json::Value::Object(json) = json else {
                unreachable!()
            };
            let json = json.into_iter().map(|(key, value)| (key, value.into()));
            document.add_object(self.field("json"), json.collect());
        }
        document.add_facet(self.field("facet"), Facet::from(&format!("/a/{}", ord % 4)));
        let date = DateTime::from_timestamp_secs(ord.cast_signed() * 1000);
        document.add_date(self.field("date"), date);
        for i in 0..ord % 4 {
            document.add_f64(self.field("ratios"), f64::from(i as u32) + 0.5);
        }
        if !ord.is_multiple_of(5) {
            document.add_i64(self.field("signed"), -ord.cast_signed());
            document.add_ip_addr(self.field("ip"), Ipv6Addr::from(u128::from(ord % 9)));
        }
        document.add_bool(self.field("flag"), ord.is_multiple_of(2));
        document.add_bytes(self.field("bytes"), &(ord % 11).to_le_bytes());
        document.add_text(self.second.field(), vector_of(ord + 1).to_json());
        document
    }

    /// Segments of given sizes, some documents without a vector, and some deleted again.
    fn fill(&self, index: &Index, sizes: &[u64], is_deleted: impl Fn(u64) -> bool) {
        let mut next = 0;
        let writer = BulkWriter::new(index, &self.sparse, None, MIN_MEMORY_BUDGET).unwrap();
        let mut writer = writer.without_merges();
        for &size in sizes {
            for ord in next..next + size {
                let vector = match ord % 10 {
                    9 => SparseVector::default(),
                    _ => vector_of(ord),
                };
                writer.add(self.document(ord), &vector).unwrap();
            }
            writer.commit(None).unwrap();
            next += size;
        }
        let id = self.field("id");
        let deleted = (0..next).filter(|&ord| is_deleted(ord));
        let terms = deleted.map(|ord| Term::from_field_text(id, &id_of(ord)));
        writer.delete(terms).unwrap();
        writer.commit(Some("how far it came")).unwrap();
        writer.close().unwrap();
    }

    /// An index on disk, of several segments; one loses all of its documents.
    fn filled(&self) -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = create_in_dir(dir.path(), self.schema.clone()).unwrap();
        self.fill(&index, &[700, 40, 300], |ord| {
            ord % 7 == 0 || (700..740).contains(&ord)
        });
        (dir, index)
    }
}

fn id_of(ord: u64) -> String {
    format!("d{ord}")
}

/// Words of several documents in different places, one of them very often.
fn text_of(ord: u64) -> String {
    let mut rng = Rng(ord);
    let words = (0..5 + rng.below(30)).map(|_| match rng.below(4) {
        0 => "the".to_owned(),
        1 => format!("topic{}", ord % 20),
        _ => format!("w{}", rng.below(50)),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Topics take turns, so that the order as it is given is a bad one.
fn vector_of(ord: u64) -> SparseVector {
    let mut rng = Rng(ord);
    let topic = ord % 20;
    vector((0..12).map(|i| {
        let term = match i % 3 {
            0 => rng.below(200),
            _ => 1000 + topic * 10 + rng.below(10),
        };
        (format!("t{term}"), 0.1 + rng.unit() * 2.0)
    }))
}

fn optimized(index: &Index, field: &LaconicField, options: OptimizeOptions) -> OptimizeReport {
    optimize(index, field, options, &mut |_| {}).unwrap()
}

fn two_threads() -> OptimizeOptions {
    OptimizeOptions {
        n_threads: 2,
        ..OptimizeOptions::default()
    }
}

type Posting = (String, Vec<u8>, String);

/// Everything an index holds, by the ids of its live documents.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    payload: Option<String>,
    stored: BTreeMap<String, String>,
    /// Field, term, id: frequency and positions.
    postings: BTreeMap<Posting, (u32, Vec<u32>)>,
    /// Field, id: norm.
    norms: BTreeMap<(String, String), u32>,
    /// Column, id: values.
    columns: BTreeMap<(String, String), String>,
}

impl Contents {
    fn read(index: &Index) -> Contents {
        let mut contents = Contents {
            payload: index.load_metas().unwrap().payload,
            ..Contents::default()
        };
        for segment in index.searchable_segments().unwrap() {
            contents.add(&SegmentReader::open(&segment).unwrap());
        }
        contents
    }

    fn add(&mut self, reader: &SegmentReader) {
        let schema = reader.schema().clone();
        let ids: Vec<String> = ids(reader);
        let alive: Vec<u32> = reader.doc_ids_alive().collect();
        let store = reader.get_store_reader(10).unwrap();
        for &doc in &alive {
            let document: TantivyDocument = store.get(doc).unwrap();
            let json = tantivy::Document::to_json(&document, &schema);
            let earlier = self.stored.insert(ids[doc as usize].clone(), json);
            assert!(earlier.is_none(), "a document is there twice");
        }
        for (field, entry) in schema.fields() {
            let name = entry.name().to_owned();
            if entry.is_indexed() {
                self.add_postings(reader, field, &name, &ids);
            }
            if entry.is_indexed() && entry.has_fieldnorms() {
                let norms = reader.get_fieldnorms_reader(field).unwrap();
                assert_eq!(norms.num_docs(), reader.max_doc());
                for &doc in &alive {
                    let key = (name.clone(), ids[doc as usize].clone());
                    self.norms.insert(key, norms.fieldnorm(doc));
                }
            }
        }
        self.add_columns(reader, &ids);
    }

    fn add_postings(&mut self, reader: &SegmentReader, field: Field, name: &str, ids: &[String]) {
        let inverted_index = reader.inverted_index(field).unwrap();
        let mut terms = inverted_index.terms().stream().unwrap();
        while terms.advance() {
            let option = IndexRecordOption::WithFreqsAndPositions;
            let (term, info) = (terms.key().to_vec(), terms.value().clone());
            let block = inverted_index.read_block_postings_from_terminfo(&info, option);
            // Tantivy stumbles over positions of a number in a JSON field.
            let option = match block.unwrap().freqs() {
                [] => IndexRecordOption::Basic,
                _ => option,
            };
            let postings = inverted_index.read_postings_from_terminfo(&info, option);
            let mut postings = postings.unwrap();
            let mut n_postings = 0;
            while postings.doc() != TERMINATED {
                n_postings += 1;
                let doc = postings.doc();
                if !reader.is_deleted(doc) {
                    let mut positions = Vec::new();
                    postings.positions(&mut positions);
                    let key = (name.to_owned(), term.clone(), ids[doc as usize].clone());
                    self.postings.insert(key, (postings.term_freq(), positions));
                }
                postings.advance();
            }
            assert_eq!(n_postings, info.doc_freq, "{name}");
        }
    }

    fn add_columns(&mut self, reader: &SegmentReader, ids: &[String]) {
        let file = reader.open_read(SegmentComponent::FastFields).unwrap();
        let columnar = tantivy::columnar::ColumnarReader::open(file).unwrap();
        for (name, handle) in columnar.iter_columns().unwrap() {
            let column = handle.open().unwrap();
            for doc in reader.doc_ids_alive() {
                let values = values(&column, doc);
                if !values.is_empty() {
                    let key = (name.clone(), ids[doc as usize].clone());
                    let all = self.columns.entry(key).or_default();
                    all.push_str(&values.join(","));
                }
            }
        }
    }
}

fn ids(reader: &SegmentReader) -> Vec<String> {
    let column = reader.fast_fields().str("id").unwrap().unwrap();
    let id = |doc| {
        let mut id = String::new();
        column
            .ord_to_str(column.term_ords(doc).next().unwrap(), &mut id)
            .unwrap();
        id
    };
    (0..reader.max_doc()).map(id).collect()
}

fn values(column: &DynamicColumn, doc: u32) -> Vec<String> {
    use DynamicColumn as C;
    match column {
        C::Bool(column) => column.values_for_doc(doc).map(|v| v.to_string()).collect(),
        C::I64(column) => column.values_for_doc(doc).map(|v| v.to_string()).collect(),
        C::U64(column) => column.values_for_doc(doc).map(|v| v.to_string()).collect(),
        C::F64(column) => column.values_for_doc(doc).map(|v| v.to_string()).collect(),
        C::IpAddr(column) => column.values_for_doc(doc).map(|v| v.to_string()).collect(),
        C::DateTime(column) => column
            .values_for_doc(doc)
            .map(|v| format!("{v:?}"))
            .collect(),
        C::Str(column) => {
            let text = |ord| {
                let mut text = String::new();
                column.ord_to_str(ord, &mut text).unwrap();
                text
            };
            column.term_ords(doc).map(text).collect()
        }
        C::Bytes(column) => {
            let bytes = |ord| {
                let mut bytes = Vec::new();
                column.ord_to_bytes(ord, &mut bytes).unwrap();
                format!("{bytes:?}")
            };
            column.term_ords(doc).map(bytes).collect()
        }
    }
}

/// Scores of all hits with the documents' ids, best first.
fn scores(index: &Index, query: &dyn Query) -> Vec<(u32, String)> {
    let searcher = searcher(index);
    let top = TopDocs::with_limit(100_000).order_by_score();
    let readers = searcher.segment_readers();
    let ids: Vec<Vec<String>> = readers.iter().map(ids).collect();
    let hits = searcher
        .search(query, &top)
        .unwrap()
        .into_iter()
        .map(|(score, at)| {
            let id = ids[at.segment_ord as usize][at.doc_id as usize].clone();
            (score.to_bits(), id)
        });
    let mut hits: Vec<_> = hits.collect();
    hits.sort();
    hits
}

fn by_words(index: &Index, query: &str) -> Vec<(u32, String)> {
    let text = index.schema().get_field("text").unwrap();
    let parser = QueryParser::for_index(index, vec![text]);
    scores(index, &*parser.parse_query(query).unwrap())
}

fn by_vector(index: &Index, field: &LaconicField, ord: u64) -> Vec<(u32, String)> {
    scores(index, &LaconicQuery::new(field, vector_of(ord)))
}

#[test]
fn nothing_is_lost() {
    let everything = Everything::new();
    let (_dir, index) = everything.filled();
    let before = Contents::read(&index);
    let metas = index.searchable_segment_metas().unwrap();
    let sparse: Vec<_> = (0..20)
        .map(|q| by_vector(&index, &everything.sparse, q))
        .collect();
    let second: Vec<_> = (0..20)
        .map(|q| by_vector(&index, &everything.second, q))
        .collect();
    let mut steps = Vec::new();
    let report = optimize(&index, &everything.sparse, two_threads(), &mut |progress| {
        assert!(progress.done <= progress.total);
        steps.push(progress.step);
    });
    let report = report.unwrap();
    assert_eq!(Contents::read(&index), before);
    assert_clean(&index);
    for (query, expected) in (0..20).zip(sparse) {
        assert_eq!(by_vector(&index, &everything.sparse, query), expected);
    }
    for (query, expected) in (0..20).zip(second) {
        assert_eq!(by_vector(&index, &everything.second, query), expected);
    }
    assert_eq!(report.documents, before.stored.len() as u64);
    let deleted: u32 = metas.iter().map(|meta| meta.num_deleted_docs()).sum();
    assert!(deleted > 100 && metas.len() > 1);
    assert_eq!(report.dropped_documents, u64::from(deleted));
    assert_eq!(report.segments_before, metas.len() as u64);
    assert_eq!(report.segments_after, 1);
    assert!(report.bytes_after < report.bytes_before);
    steps.dedup();
    let expected = [
        OptimizeStep::Reading,
        OptimizeStep::Ordering,
        OptimizeStep::Writing,
    ];
    assert_eq!(steps, expected);
    let metas = index.load_metas().unwrap();
    assert_eq!(metas.payload.as_deref(), Some("how far it came"));
}

/// What the words score and what the statistics of the segment say is what a merge by Tantivy
/// makes of the same documents; only the order is another.
#[test]
fn words_score_as_after_a_merge_by_tantivy() {
    let everything = Everything::new();
    let (_dirs, [reordered, merged, twin]) = {
        let (a, b, c) = (
            everything.filled(),
            everything.filled(),
            everything.filled(),
        );
        ((a.0, b.0, c.0), [a.1, b.1, c.1])
    };
    optimized(&reordered, &everything.sparse, two_threads());
    let no_reorder = OptimizeOptions {
        reorder: false,
        ..two_threads()
    };
    optimized(&merged, &everything.sparse, no_reorder);
    merge_all(&twin);
    assert_eq!(Contents::read(&merged), Contents::read(&twin));
    assert_eq!(Contents::read(&reordered), Contents::read(&twin));
    for query in [
        "the",
        "w1 w2 topic3",
        "\"the w1\"",
        "\"topic4 the\" OR w7",
        "+the +w3",
        "json.words:w5",
        "ratios:1.5",
        "json.n:3",
        "facet:\"/a/2\"",
    ] {
        let expected = by_words(&twin, query);
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(by_words(&reordered, query), expected, "{query}");
        assert_eq!(by_words(&merged, query), expected, "{query}");
    }
    // Top-k by blocks needs the maxima that stand beside them.
    let text = everything.field("text");
    for index in [&reordered, &twin] {
        let query = QueryParser::for_index(index, vec![text])
            .parse_query("the w1 w9")
            .unwrap();
        let top = TopDocs::with_limit(10).order_by_score();
        let hits = searcher(index).search(&*query, &top).unwrap();
        let best: Vec<u32> = hits.iter().map(|(score, _)| score.to_bits()).collect();
        let mut all: Vec<u32> = scores(index, &*query)
            .iter()
            .map(|(score, _)| *score)
            .collect();
        all.reverse();
        assert_eq!(best, all[..10]);
    }
}

#[test]
fn columns_keep_their_kind() {
    let everything = Everything::new();
    let (_dir, index) = everything.filled();
    let kinds = |index: &Index| {
        let searcher = searcher(index);
        let file = searcher
            .segment_reader(0)
            .open_read(SegmentComponent::FastFields);
        let columnar = tantivy::columnar::ColumnarReader::open(file.unwrap()).unwrap();
        let columns = columnar.iter_columns().unwrap().map(|(name, handle)| {
            let cardinality: Cardinality = handle.open().unwrap().get_cardinality();
            (name, format!("{:?} {cardinality}", handle.column_type()))
        });
        columns.collect::<Vec<_>>()
    };
    merge_all(&index);
    let merged = kinds(&index);
    assert!(merged.iter().any(|(name, _)| name == "never"));
    optimized(&index, &everything.sparse, two_threads());
    assert_eq!(kinds(&index), merged);
}

#[test]
fn similar_documents_come_together() {
    let everything = Everything::new();
    let (_dir, index) = everything.filled();
    optimized(&index, &everything.sparse, two_threads());
    let searcher = searcher(&index);
    let column = searcher.segment_reader(0).fast_fields().u64("ord").unwrap();
    let topics: Vec<u64> = (0..searcher.segment_reader(0).max_doc())
        .map(|doc| column.first(doc).unwrap())
        .filter(|ord| ord % 10 != 9)
        .map(|ord| ord % 20)
        .collect();
    let borders = topics.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(borders < topics.len() / 4, "{borders} of {}", topics.len());
}

#[test]
fn little_memory_and_one_thread_lose_nothing_either() {
    let everything = Everything::new();
    let (_dir, index) = everything.filled();
    let before = Contents::read(&index);
    for memory_budget in [0, 2000, 50_000] {
        let options = OptimizeOptions {
            n_threads: 1,
            memory_budget,
            ..OptimizeOptions::default()
        };
        optimized(&index, &everything.sparse, options);
        assert_eq!(Contents::read(&index), before);
        assert_clean(&index);
    }
}

#[test]
fn segments_may_be_limited() {
    let everything = Everything::new();
    for reorder in [true, false] {
        let (_dir, index) = everything.filled();
        let before = Contents::read(&index);
        let query = by_vector(&index, &everything.sparse, 3);
        let options = OptimizeOptions {
            reorder,
            max_docs_per_segment: 400,
            ..two_threads()
        };
        let report = optimized(&index, &everything.sparse, options);
        assert_eq!(Contents::read(&index), before);
        assert_eq!(by_vector(&index, &everything.sparse, 3), query);
        assert_clean(&index);
        let sizes = index.searchable_segment_metas().unwrap();
        if reorder {
            assert_eq!(report.segments_after, 3);
            assert!(sizes.iter().all(|meta| meta.max_doc() <= 400));
        }
        assert!(sizes.iter().all(|meta| !meta.has_deletes()));
    }
}

#[test]
fn few_documents() {
    let everything = Everything::new();
    for reorder in [true, false] {
        let options = OptimizeOptions {
            reorder,
            ..two_threads()
        };
        for (sizes, deleted) in [
            (&[][..], 0),
            (&[1], 0),
            (&[1], 1),
            (&[2], 1),
            (&[1, 1], 0),
            (&[1, 1], 2),
            (&[3, 1], 3),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let index = create_in_dir(dir.path(), everything.schema.clone()).unwrap();
            everything.fill(&index, sizes, |ord| ord < deleted);
            let before = Contents::read(&index);
            for _ in 0..2 {
                let report = optimized(&index, &everything.sparse, options);
                assert_eq!(report.documents, sizes.iter().sum::<u64>() - deleted);
                assert_eq!(report.segments_after, u64::from(report.documents > 0));
                assert_eq!(Contents::read(&index), before);
                assert_clean(&index);
            }
        }
    }
}

/// A reader, a writer afterwards, and the index opened anew.
#[test]
fn life_goes_on() {
    let everything = Everything::new();
    let (dir, index) = everything.filled();
    let reader = index.reader().unwrap();
    let (early, query) = (
        reader.searcher(),
        LaconicQuery::new(&everything.sparse, vector_of(3)),
    );
    let top = || TopDocs::with_limit(50).order_by_score();
    let seen = early.search(&query, &top()).unwrap();
    optimized(&index, &everything.sparse, two_threads());
    assert_eq!(early.search(&query, &top()).unwrap(), seen);
    drop((early, reader));

    let index = open_in_dir(dir.path()).unwrap();
    let writer = BulkWriter::new(&index, &everything.sparse, None, MIN_MEMORY_BUDGET).unwrap();
    let mut writer = writer.without_merges();
    let id = |ord| Term::from_field_text(everything.field("id"), &id_of(ord));
    writer
        .replace(id(5), everything.document(5), &vector_of(6))
        .unwrap();
    writer
        .add(everything.document(2000), &vector_of(2000))
        .unwrap();
    writer.delete([id(3)]).unwrap();
    writer.commit(Some("later")).unwrap();
    writer.close().unwrap();
    let before = Contents::read(&index);
    let report = optimized(&index, &everything.sparse, two_threads());
    assert_eq!((report.segments_before, report.dropped_documents), (2, 2));
    assert_eq!(Contents::read(&index), before);
    assert_eq!(before.payload.as_deref(), Some("later"));
    // Only the files of one segment, and Tantivy's own.
    let files = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name());
    let stems: BTreeSet<_> = files
        .map(|name| name.into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "meta.json")
        .map(|name| name.split('.').next().unwrap().to_owned())
        .collect();
    assert_eq!(stems.len(), 1);
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let everything = Everything::new();
    let order = |n_threads| {
        let (_dir, index) = everything.filled();
        let options = OptimizeOptions {
            n_threads,
            ..OptimizeOptions::default()
        };
        optimized(&index, &everything.sparse, options);
        ids(searcher(&index).segment_reader(0))
    };
    assert_eq!(order(1), order(3));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let fields = Fields::with_bits(8);
    let index = Index::create_in_ram(fields.schema.clone());
    let refused = |index: &Index, field: &LaconicField, options| {
        optimize(index, field, options, &mut |_| {}).expect_err("refused")
    };
    let writer = plain_writer(&index);
    let error = refused(&index, &fields.laconic, two_threads());
    assert!(error.is_busy(), "{error}");
    drop(writer);

    let other = Fields::with_bits(6);
    let error = refused(&index, &other.laconic, two_threads());
    assert!(error.is_mismatch(), "{error}");

    let settings = IndexSettings {
        sort_by_field: Some(IndexSortByField {
            field: "ord".to_owned(),
            order: Order::Desc,
        }),
        ..IndexSettings::default()
    };
    let builder = Index::builder()
        .schema(fields.schema.clone())
        .settings(settings);
    let mut sorted = builder.create_in_ram().unwrap();
    register(&mut sorted).unwrap();
    let v = vector_of(1);
    fields.add_by_bulk(&sorted, (0..5).map(|ord| (ord, &v)));
    fields.add_by_bulk(&sorted, (3..8).map(|ord| (ord, &v)));
    let error = refused(&sorted, &fields.laconic, two_threads());
    assert!(
        error.is_invalid_input() && error.to_string().contains("sorted by `ord`"),
        "{error}"
    );
    // Tantivy can merge it.
    let no_reorder = OptimizeOptions {
        reorder: false,
        ..two_threads()
    };
    optimized(&sorted, &fields.laconic, no_reorder);
    let searcher = searcher(&sorted);
    assert_eq!(
        common::ords(searcher.segment_reader(0)),
        [7, 6, 5, 4, 4, 3, 3, 2, 1, 0]
    );
}

/// Whichever operation fails, the index is the old one or the new one, and it can be done again.
#[test]
fn failing_storage_leaves_an_index_whole() {
    let fields = Fields::with_bits(8);
    let vectors: Vec<_> = (0..60).map(vector_of).collect();
    let mut outcomes = (0, 0);
    for call in 1.. {
        let directory = FaultyDirectory::new();
        let index = fields.create(directory.clone());
        fields.add_by_bulk(&index, (0..40).map(|ord| (ord, &vectors[ord as usize])));
        fields.add_by_bulk(&index, (40..60).map(|ord| (ord, &vectors[ord as usize])));
        fields.delete(&index, [3, 41]);
        let live = live_ords(&index);
        let open = || -> Result<Index, Error> {
            let mut index = Index::open(directory.clone())?;
            register(&mut index)?;
            Ok(index)
        };
        let index = open().unwrap();
        directory.arm(Fault::FromCall(call));
        let outcome = optimize(&index, &fields.laconic, two_threads(), &mut |_| {});
        let has_failed = directory.failures() > 0;
        directory.arm(Fault::Never);
        drop(index);
        let index = open().unwrap();
        assert_eq!(live_ords(&index), live);
        assert_clean(&index);
        match outcome {
            Ok(_) => outcomes.0 += 1,
            Err(_) => outcomes.1 += 1,
        }
        optimize(&index, &fields.laconic, two_threads(), &mut |_| {}).unwrap();
        assert_eq!(live_ords(&index), live);
        assert_eq!(index.searchable_segment_ids().unwrap().len(), 1);
        if !has_failed {
            break;
        }
    }
    assert!(outcomes.1 > 20, "{outcomes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(common::cases(12)))]
    #[test]
    fn any_sizes_and_deletes(
        sizes in proptest::collection::vec(1u64..120, 0..5),
        divisor in 1u64..9,
        memory_budget in prop_oneof![Just(1usize << 20), 0usize..20_000],
        max_docs_per_segment in prop_oneof![Just(u32::MAX), 1u32..200],
    ) {
        let everything = Everything::new();
        let dir = tempfile::tempdir().unwrap();
        let index = create_in_dir(dir.path(), everything.schema.clone()).unwrap();
        everything.fill(&index, &sizes, |ord| ord % 9 >= divisor);
        let before = Contents::read(&index);
        let query = by_vector(&index, &everything.sparse, 3);
        let options = OptimizeOptions { reorder: true, n_threads: 2, memory_budget, max_docs_per_segment };
        optimized(&index, &everything.sparse, options);
        prop_assert_eq!(Contents::read(&index), before);
        prop_assert_eq!(by_vector(&index, &everything.sparse, 3), query);
        assert_clean(&index);
    }
}
