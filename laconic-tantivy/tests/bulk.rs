//! The bulk writer makes the index that Tantivy's own writer makes, and its adds, replacements,
//! deletes, commits and rollbacks do what a plain list of documents says.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use common::{
    Fields, Model, Rng, assert_clean, id_of, live_documents, live_ords, merge_all, plain_writer,
    searcher, vector,
};
use laconic_tantivy::{
    BulkWriter, Identity, LaconicField, LaconicQuery, MIN_MEMORY_BUDGET, ModelIdentity,
    SparseVector, create_in_dir, open_in_dir, register,
};
use tantivy::collector::TopDocs;
use tantivy::directory::{CompositeFile, RamDirectory};
use tantivy::index::SegmentComponent;
use tantivy::postings::Postings;
use tantivy::schema::{
    BytesOptions, FAST, Facet, FacetOptions, Field, INDEXED, IndexRecordOption, STORED, STRING,
    Schema, TEXT, Value,
};
use tantivy::{
    DateTime, DocAddress, DocSet, Document, Index, IndexSettings, IndexSortByField, Order,
    SegmentReader, TERMINATED, TantivyDocument, Term, doc,
};

/// Every kind of field that Tantivy has, the laconic one among them.
struct Everything {
    schema: Schema,
    laconic: LaconicField,
}

impl Everything {
    fn new() -> Everything {
        let mut b = Schema::builder();
        b.add_text_field("id", STRING | STORED);
        b.add_text_field("text", TEXT | STORED);
        b.add_json_field("json", TEXT | STORED | FAST);
        b.add_u64_field("number", FAST | INDEXED | STORED);
        let laconic = LaconicField::add_to(&mut b, "laconic", Identity::default());
        b.add_date_field("date", FAST | INDEXED | STORED);
        b.add_facet_field("facet", FacetOptions::default());
        b.add_bytes_field("bytes", BytesOptions::default() | INDEXED | FAST | STORED);
        b.add_f64_field("real", FAST | INDEXED);
        b.add_bool_field("flag", FAST | INDEXED | STORED);
        b.add_ip_addr_field("ip", FAST | INDEXED);
        b.add_text_field("words", TEXT | FAST);
        b.add_text_field("kept", STORED);
        Everything {
            schema: b.build(),
            laconic,
        }
    }

    fn create(&self) -> Index {
        let mut index = Index::create_in_ram(self.schema.clone());
        register(&mut index).unwrap();
        index
    }

    fn field(&self, name: &str) -> Field {
        self.schema.get_field(name).unwrap()
    }

    /// A document whose fields are sometimes missing and sometimes there twice.
    fn document(&self, n: u64) -> TantivyDocument {
        let mut d = TantivyDocument::default();
        d.add_text(self.field("id"), id_of(n));
        for part in 0..n % 3 {
            d.add_text(
                self.field("text"),
                format!("{} {part} sparse index", common::text_of(n)),
            );
        }
        if n.is_multiple_of(2) {
            let json =
                format!(r#"{{"name": "n{n}", "nested": {{"size": {n}}}, "list": [1, "two"]}}"#);
            let object = serde_json::from_str::<serde_json::Value>(&json).unwrap();
            let object = object.as_object().unwrap().clone();
            d.add_object(
                self.field("json"),
                object.into_iter().map(|(k, v)| (k, v.into())).collect(),
            );
        }
        d.add_u64(self.field("number"), n * n);
        d.add_date(
            self.field("date"),
            DateTime::from_timestamp_secs(i64::try_from(n).unwrap() * 86_400),
        );
        d.add_facet(
            self.field("facet"),
            Facet::from(&format!("/kind/{}", n % 4)),
        );
        d.add_bytes(self.field("bytes"), &n.to_le_bytes());
        d.add_f64(self.field("real"), n as f64 / 3.0);
        d.add_bool(self.field("flag"), n.is_multiple_of(5));
        d.add_ip_addr(self.field("ip"), Ipv6Addr::from(u128::from(n) << 64));
        d.add_text(self.field("words"), format!("word{} same", n % 9));
        d.add_text(self.field("kept"), format!("only stored {n}"));
        d
    }
}

fn vectors(n: u64) -> Vec<SparseVector> {
    let mut rng = Rng(7);
    let one = |rng: &mut Rng| {
        let n_terms = rng.below(40);
        vector((0..n_terms).map(|_| (format!("Ġt{}", rng.below(200)), 4.5 * rng.unit())))
    };
    (0..n)
        .map(|n| {
            if n % 11 == 0 {
                SparseVector::default()
            } else {
                one(&mut rng)
            }
        })
        .collect()
}

/// A term, its document frequency, and its postings: document, frequency, positions.
type TermPostings = (Vec<u8>, u32, Vec<(u32, u32, Vec<u32>)>);

fn postings_of(
    reader: &SegmentReader,
    field: Field,
    option: IndexRecordOption,
) -> Vec<TermPostings> {
    let inverted_index = reader.inverted_index(field).unwrap();
    let mut stream = inverted_index.terms().stream().unwrap();
    let mut terms = Vec::new();
    while stream.advance() {
        let info = stream.value().clone();
        let mut postings = inverted_index
            .read_postings_from_terminfo(&info, option)
            .unwrap();
        let mut list = Vec::new();
        while postings.doc() != TERMINATED {
            let mut positions = Vec::new();
            if option.has_positions() {
                postings.positions(&mut positions);
            }
            list.push((postings.doc(), postings.term_freq(), positions));
            postings.advance();
        }
        terms.push((stream.key().to_vec(), info.doc_freq, list));
    }
    terms
}

fn only_segment(index: &Index) -> SegmentReader {
    let searcher = searcher(index);
    assert_eq!(searcher.segment_readers().len(), 1);
    searcher.segment_reader(0).clone()
}

fn file(reader: &SegmentReader, component: SegmentComponent) -> Vec<u8> {
    reader
        .open_read(component)
        .unwrap()
        .read_bytes()
        .unwrap()
        .to_vec()
}

/// The bytes of one field in one file of the inverted index.
fn section(reader: &SegmentReader, component: SegmentComponent, field: Field) -> Option<Vec<u8>> {
    let composite = CompositeFile::open(&reader.open_read(component).unwrap()).unwrap();
    composite
        .open_read(field)
        .map(|section| section.read_bytes().unwrap().to_vec())
}

#[test]
fn both_paths_write_the_same_segment() {
    use SegmentComponent as C;
    let everything = Everything::new();
    let vectors = vectors(300);
    let by_tokenizer = everything.create();
    let mut writer = plain_writer(&by_tokenizer);
    for (n, vector) in (0u64..).zip(&vectors) {
        let mut document = everything.document(n);
        document.add_text(everything.laconic.field(), vector.to_json());
        writer.add_document(document).unwrap();
    }
    writer.commit().unwrap();

    let by_bulk = everything.create();
    let mut writer = bulk_writer(&by_bulk, &everything.laconic);
    for (n, vector) in (0u64..).zip(&vectors) {
        writer.add(everything.document(n), vector).unwrap();
    }
    writer.commit(None).unwrap();

    let (plain, bulk) = (only_segment(&by_tokenizer), only_segment(&by_bulk));
    for (field, entry) in everything
        .schema
        .fields()
        .filter(|(_, entry)| entry.is_indexed())
    {
        let name = entry.name();
        // Numbers in JSON have no positions to ask for; the bytes below are compared all the same.
        let option = match name {
            "json" => IndexRecordOption::WithFreqs,
            _ => entry.field_type().get_index_record_option().unwrap(),
        };
        let terms = postings_of(&bulk, field, option);
        assert!(!terms.is_empty(), "{name}");
        assert_eq!(terms, postings_of(&plain, field, option), "{name}");
        let tokens =
            |reader: &SegmentReader| reader.inverted_index(field).unwrap().total_num_tokens();
        assert_eq!(tokens(&bulk), tokens(&plain), "{name}");
        for component in [C::Terms, C::Postings, C::Positions] {
            let of = |reader| section(reader, component.clone(), field);
            assert_eq!(of(&bulk), of(&plain), "{name} in {component}");
        }
    }
    for component in [C::FieldNorms, C::FastFields, C::Store] {
        assert_eq!(
            file(&bulk, component.clone()),
            file(&plain, component.clone()),
            "{component}"
        );
    }
    assert_clean(&by_bulk);
}

#[test]
fn totals_say_what_was_written() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = bulk_writer(&index, &fields.laconic);
    let vectors = [
        vector([("a", 1.0), ("vanishes", 0.001), ("clipped", 9.0)]),
        vector([("vanishes", 0.001)]),
        SparseVector::default(),
    ];
    for (ord, vector) in (0..).zip(&vectors) {
        writer.add(fields.document(ord), vector).unwrap();
    }
    writer.commit(None).unwrap();
    let totals = writer.totals();
    assert_eq!(
        (totals.documents, totals.postings, totals.empty_documents),
        (3, 2, 2)
    );
    assert_eq!(
        (
            totals.loss.weights,
            totals.loss.vanished,
            totals.loss.clipped
        ),
        (4, 2, 1)
    );
    assert_eq!(totals.segments, 1);
}

fn bulk_writer(index: &Index, laconic: &LaconicField) -> BulkWriter {
    BulkWriter::new(index, laconic, None, MIN_MEMORY_BUDGET)
        .unwrap()
        .without_merges()
}

/// The scores of `query` by document number.
fn scores(index: &Index, laconic: &LaconicField, query: &SparseVector) -> Vec<(u64, f32)> {
    let searcher = searcher(index);
    let query = LaconicQuery::new(laconic, query.clone());
    let collector = TopDocs::with_limit(1_000_000).order_by_score();
    let hits = searcher.search(&query, &collector).unwrap();
    let ord_of: std::collections::HashMap<_, _> = live_documents(&searcher).into_iter().collect();
    let mut scores: Vec<_> = hits
        .into_iter()
        .map(|(score, doc)| (ord_of[&doc], score))
        .collect();
    scores.sort_by_key(|(ord, _)| *ord);
    scores
}

fn expected_scores<'a>(
    documents: impl IntoIterator<Item = (u64, &'a SparseVector)>,
    laconic: &LaconicField,
    query: &SparseVector,
) -> Vec<(u64, f32)> {
    let model = Model::new(query, laconic.identity().quantizer);
    documents
        .into_iter()
        .filter_map(|(ord, vector)| Some((ord, model.score(vector)?)))
        .collect()
}

/// The budget counts the impacts and what the other fields take, which is 10 MB before the first
/// document.
#[test]
fn a_full_budget_ends_the_segment() {
    let budgeted = |index: &Index, laconic: &LaconicField, budget| {
        BulkWriter::new(index, laconic, None, budget)
            .unwrap()
            .without_merges()
    };
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut rng = Rng(3);
    let vectors: Vec<SparseVector> = (0..3_000)
        .map(|_| {
            vector((0..512).map(|_| (format!("t{}", rng.below(30_000)), 0.1 + 3.0 * rng.unit())))
        })
        .collect();
    let mut writer = budgeted(&index, &fields.laconic, 23_000_000);
    for (ord, vector) in (0..).zip(&vectors) {
        writer.add(fields.document(ord), vector).unwrap();
    }
    writer.commit(None).unwrap();
    let segments = index.searchable_segment_ids().unwrap().len();
    assert!((2..=6).contains(&segments), "{segments} segments");
    assert_eq!(writer.totals().segments as usize, segments);
    let query = vector((0..50).map(|n| (format!("t{}", n * 601), 1.0)));
    let expected = expected_scores((0..).zip(&vectors), &fields.laconic, &query);
    assert!(!expected.is_empty());
    assert_eq!(scores(&index, &fields.laconic, &query), expected);

    let mut builder = Schema::builder();
    let blob = builder.add_bytes_field("blob", STORED);
    let laconic = LaconicField::add_to(&mut builder, "laconic", Identity::default());
    let index = Index::create_in_ram(builder.build());
    let mut writer = budgeted(&index, &laconic, 60_000_000);
    for _ in 0..64 {
        let noise: Vec<u8> = (0..1 << 17)
            .flat_map(|_| rng.next().to_le_bytes())
            .collect();
        writer
            .add(doc!(blob => noise), &vector([("a", 1.0)]))
            .unwrap();
    }
    writer.commit(None).unwrap();
    let segments = index.searchable_segment_ids().unwrap().len();
    assert!(
        (3..=16).contains(&segments),
        "64 MiB stored in {segments} segments"
    );
}

/// Threads change how many segments there are, and nothing else.
#[test]
fn threads_write_the_same_documents() {
    let fields = Fields::with_bits(8);
    let mut rng = Rng(17);
    let mut one = || vector((0..200).map(|_| (format!("t{}", rng.below(9_000)), 3.0 * rng.unit())));
    let vectors: Vec<SparseVector> = (0..6_000).map(|_| one()).collect();
    let query = vector((0..50).map(|n| (format!("t{}", n * 101), 1.0)));
    // Every third of the first 3,000 documents is replaced by a later one.
    let is_replaced = |ord: u64| ord < 3_000 && ord.is_multiple_of(3);
    let kept = (0..).zip(&vectors).filter(|(ord, _)| !is_replaced(*ord));
    let expected = expected_scores(kept, &fields.laconic, &query);
    for n_threads in [1, 2, 3, 5] {
        let index = fields.create(RamDirectory::create());
        let budget = 5 * (MIN_MEMORY_BUDGET + 2_000_000);
        let mut writer = BulkWriter::new(&index, &fields.laconic, None, budget)
            .unwrap()
            .without_merges()
            .with_threads(n_threads);
        for (ord, vector) in (0..).zip(&vectors) {
            match ord {
                0..3_000 => writer.add(fields.document(ord), vector),
                _ if is_replaced(ord - 3_000) => {
                    let id = fields.id_term(ord - 3_000);
                    writer.replace(id, fields.document(ord), vector)
                }
                _ => writer.replace(fields.id_term(ord), fields.document(ord), vector),
            }
            .unwrap();
        }
        writer.commit(None).unwrap();
        assert_eq!(writer.totals().documents, 6_000);
        let segments = index.searchable_segment_ids().unwrap().len();
        assert_eq!(writer.totals().segments as usize, segments);
        assert!(segments >= 2 * n_threads, "{segments} segments");
        assert_eq!(scores(&index, &fields.laconic, &query), expected);
        assert_clean(&index);
    }
}

/// Every kind of field follows its document into the new order.
#[test]
fn reordering_changes_the_order_and_nothing_else() {
    let everything = Everything::new();
    // Two topics, in turn.
    let vectors: Vec<_> = (0..400u64)
        .map(|n| {
            let terms = (0..12).map(|i| format!("topic{}term{}", n % 2, (n / 2 + i) % 30));
            vector(terms.map(|term| (term, 0.1 + (n % 40) as f32 / 20.0)))
        })
        .collect();
    let write = |reorder: bool, n_threads| {
        let index = everything.create();
        let budget = 4 * MIN_MEMORY_BUDGET;
        let mut writer = BulkWriter::new(&index, &everything.laconic, None, budget)
            .unwrap()
            .without_merges()
            .with_threads(n_threads);
        if reorder {
            writer = writer.with_reordering().unwrap();
        }
        for (n, vector) in (0..).zip(&vectors) {
            writer.add(everything.document(n), vector).unwrap();
        }
        writer.commit(None).unwrap();
        assert_clean(&index);
        index
    };
    let plain = write(false, 1);
    for n_threads in [1, 2] {
        let reordered = write(true, n_threads);
        assert_eq!(
            documents_by_number(&everything, &reordered),
            documents_by_number(&everything, &plain)
        );
        let reader = searcher(&reordered);
        let numbers = reader
            .segment_reader(0)
            .fast_fields()
            .u64("number")
            .unwrap();
        let n_docs = reader.segment_reader(0).max_doc();
        let parity = |doc| numbers.first(doc).unwrap().isqrt() % 2;
        let changes = (1..n_docs)
            .filter(|&doc| parity(doc) != parity(doc - 1))
            .count();
        assert!(changes < 40, "{changes} changes of topic");
    }
}

/// For each document by its number: what is stored of it, its terms in every indexed field with
/// frequencies, and its values in the fast fields.
fn documents_by_number(everything: &Everything, index: &Index) -> BTreeMap<u64, Vec<String>> {
    let mut documents: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let searcher = searcher(index);
    for (ord, reader) in (0..).zip(searcher.segment_readers()) {
        let fast = reader.fast_fields();
        let numbers = fast.u64("number").unwrap();
        let number = |doc| numbers.first(doc).unwrap();
        for doc in 0..reader.max_doc() {
            let stored: TantivyDocument = searcher.doc(DocAddress::new(ord, doc)).unwrap();
            let entry = documents.entry(number(doc)).or_default();
            entry.push(stored.to_json(&everything.schema));
            let column = fast.str("words").unwrap().unwrap();
            let mut words = String::new();
            for ord in column.term_ords(doc) {
                column.ord_to_str(ord, &mut words).unwrap();
            }
            entry.push(format!(
                "{:?} {:?} {:?} {:?} {:?}",
                fast.f64("real").unwrap().first(doc),
                fast.bool("flag").unwrap().first(doc),
                fast.date("date").unwrap().first(doc),
                fast.ip_addr("ip").unwrap().first(doc),
                words,
            ));
        }
        for (field, entry) in everything.schema.fields().filter(|(_, e)| e.is_indexed()) {
            let option = match entry.name() {
                "json" => IndexRecordOption::WithFreqs,
                _ => entry.field_type().get_index_record_option().unwrap(),
            };
            let norms = reader.get_fieldnorms_reader(field).ok();
            for (term, _, postings) in postings_of(reader, field, option) {
                for (doc, freq, positions) in postings {
                    let norm = norms.as_ref().map(|norms| norms.fieldnorm(doc));
                    let posting =
                        format!("{} {term:?} {freq} {positions:?} {norm:?}", entry.name());
                    documents.get_mut(&number(doc)).unwrap().push(posting);
                }
            }
        }
    }
    documents
}

#[test]
fn a_thread_that_fails_is_reported() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = BulkWriter::new(&index, &fields.laconic, None, 4 * MIN_MEMORY_BUDGET)
        .unwrap()
        .with_threads(2);
    let one = vector([("a", 1.0)]);
    writer.add(fields.document(0), &one).unwrap();
    writer.commit(None).unwrap();
    for ord in 1..65 {
        writer.add(fields.document(ord), &one).unwrap();
    }
    let fault = (0..10_000)
        .map(|_| writer.add(doc!(fields.ord => "not a number"), &one))
        .find_map(Result::err)
        .expect("reported long before the commit");
    assert!(fault.to_string().contains("ord"), "{fault}");
    assert!(writer.commit(None).is_err());
    writer.rollback().unwrap();
    // The first batch stays here.
    for ord in 1..65 {
        writer.add(fields.document(ord), &one).unwrap();
    }
    writer
        .add(doc!(fields.ord => "not a number"), &one)
        .unwrap();
    assert!(writer.commit(None).is_err(), "reported by the commit");
    writer.rollback().unwrap();
    writer.add(fields.document(3), &one).unwrap();
    writer.commit(None).unwrap();
    assert_eq!(live_ords(&index), [0, 3].into());
    assert_clean(&index);
}

#[test]
fn replace_reaches_earlier_documents_and_no_later_ones() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = bulk_writer(&index, &fields.laconic);
    let weigh = |weight| vector([("a", weight)]);
    // In each scenario document 0 ends with weight 2, beside untouched documents 1 and up.
    let put = |writer: &mut BulkWriter, ord: u64, weight| {
        writer
            .replace(fields.id_term(ord), fields.document(ord), &weigh(weight))
            .unwrap();
    };
    let assert_holds = |expected: &[(u64, f32)]| {
        assert_eq!(scores(&index, &fields.laconic, &weigh(1.0)), expected);
        assert_clean(&index);
    };

    put(&mut writer, 0, 1.0); // twice in one commit
    put(&mut writer, 1, 1.0);
    put(&mut writer, 0, 2.0);
    writer.commit(None).unwrap();
    assert_holds(&[(0, 2.0), (1, 1.0)]);

    put(&mut writer, 0, 3.0); // across commits, and thrice in a batch
    put(&mut writer, 0, 1.0);
    put(&mut writer, 0, 2.0);
    writer.commit(None).unwrap();
    assert_holds(&[(0, 2.0), (1, 1.0)]);

    writer.add(fields.document(0), &weigh(3.0)).unwrap(); // after plain adds
    writer.add(fields.document(0), &weigh(3.5)).unwrap();
    put(&mut writer, 0, 2.0);
    writer.commit(None).unwrap();
    assert_holds(&[(0, 2.0), (1, 1.0)]);

    put(&mut writer, 0, 2.0); // before a plain add of the same id: both stay
    writer.add(fields.document(0), &weigh(1.5)).unwrap();
    writer.commit(None).unwrap();
    let both: Vec<f32> = scores(&index, &fields.laconic, &weigh(1.0))
        .iter()
        .map(|s| s.1)
        .collect();
    assert_eq!(both.len(), 3);

    put(&mut writer, 0, 2.0); // and the next replacement takes both
    writer.commit(None).unwrap();
    assert_holds(&[(0, 2.0), (1, 1.0)]);
}

#[test]
fn delete_reaches_earlier_documents_and_no_later_ones() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = bulk_writer(&index, &fields.laconic);
    let weigh = |weight| vector([("a", weight)]);
    for ord in 0..10 {
        writer.add(fields.document(ord), &weigh(1.0)).unwrap();
    }
    writer.commit(None).unwrap();
    writer.add(fields.document(10), &weigh(1.0)).unwrap();
    writer
        .delete([0, 5, 10, 99].map(|ord| fields.id_term(ord)))
        .unwrap();
    writer.add(fields.document(5), &weigh(2.0)).unwrap();
    writer.delete([]).unwrap();
    writer.commit(None).unwrap();
    let found = scores(&index, &fields.laconic, &weigh(1.0));
    let expected = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|ord| (ord, if ord == 5 { 2.0 } else { 1.0 }));
    assert_eq!(found, expected);

    writer
        .delete((0..11).map(|ord| fields.id_term(ord)))
        .unwrap();
    writer.commit(None).unwrap();
    assert!(live_ords(&index).is_empty());
    assert_clean(&index);
}

#[test]
fn payload_and_rollback() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = bulk_writer(&index, &fields.laconic);
    let one = vector([("a", 1.0)]);
    writer.add(fields.document(0), &one).unwrap();
    writer.commit(Some("input at byte 17")).unwrap();
    let payload = || index.load_metas().unwrap().payload;
    assert_eq!(payload().as_deref(), Some("input at byte 17"));

    writer.add(fields.document(1), &one).unwrap();
    writer
        .replace(fields.id_term(0), fields.document(2), &one)
        .unwrap();
    writer.delete([fields.id_term(0)]).unwrap();
    writer.rollback().unwrap();
    assert_eq!(live_ords(&index), [0].into());
    writer.add(fields.document(3), &one).unwrap();
    writer.commit(None).unwrap();
    assert_eq!(
        live_ords(&index),
        [0, 3].into(),
        "nothing rolled back came through"
    );
    assert_eq!(payload(), None);

    writer.add(fields.document(4), &one).unwrap();
    writer.close().unwrap();
    assert_eq!(live_ords(&index), [0, 3].into(), "closing does not commit");
    assert_clean(&index);
}

#[test]
fn a_commit_without_changes_is_a_commit() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = bulk_writer(&index, &fields.laconic);
    writer.commit(Some("nothing yet")).unwrap();
    assert_eq!(
        index.load_metas().unwrap().payload.as_deref(),
        Some("nothing yet")
    );
    assert!(index.searchable_segment_ids().unwrap().is_empty());
    assert_eq!(writer.totals(), laconic_tantivy::BulkTotals::default());
}

#[test]
fn refusals() {
    let model = |name: &str| ModelIdentity::new(name, "preset").unwrap();
    let fields = Fields::new(Identity {
        model: Some(model("ours")),
        ..Identity::default()
    });
    let index = fields.create(RamDirectory::create());
    let new = |model: Option<&ModelIdentity>, budget| {
        BulkWriter::new(&index, &fields.laconic, model, budget).map(|_| ())
    };
    assert!(
        new(None, MIN_MEMORY_BUDGET - 1)
            .expect_err("budget")
            .is_invalid_input()
    );
    let mismatch = new(Some(&model("theirs")), MIN_MEMORY_BUDGET).expect_err("model");
    assert!(mismatch.is_mismatch(), "{mismatch}");

    let mut writer = bulk_writer(&index, &fields.laconic);
    assert!(
        new(Some(&model("ours")), MIN_MEMORY_BUDGET)
            .expect_err("second writer")
            .is_busy()
    );
    let one = vector([("a", 1.0)]);
    let with_value = doc!(fields.laconic.field() => "{}");
    let error = writer
        .add(with_value.clone(), &one)
        .expect_err("vector given twice");
    assert!(
        error.is_invalid_input() && error.to_string().contains("`laconic`"),
        "{error}"
    );
    let error = writer
        .replace(fields.id_term(0), with_value, &one)
        .expect_err("given twice");
    assert!(error.is_invalid_input());
    writer.add(fields.document(0), &one).unwrap();
    writer.commit(None).unwrap();
    assert_eq!(
        live_ords(&index),
        [0].into(),
        "a refused document does not spoil the session"
    );

    let elsewhere = Fields::with_bits(5);
    let error = BulkWriter::new(&index, &elsewhere.laconic, None, MIN_MEMORY_BUDGET);
    assert!(error.map(|_| ()).expect_err("other bits").is_mismatch());
}

/// A document of the wrong type makes the writer unusable until it rolls back.
#[test]
fn a_failed_writer_says_so_until_rollback() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = bulk_writer(&index, &fields.laconic);
    let one = vector([("a", 1.0)]);
    writer.add(fields.document(0), &one).unwrap();
    writer.commit(None).unwrap();
    writer.add(fields.document(1), &one).unwrap();
    writer
        .add(doc!(fields.ord => "not a number"), &one)
        .expect_err("wrong type");
    for refused in [
        writer.add(fields.document(2), &one),
        writer.replace(fields.id_term(2), fields.document(2), &one),
        writer.delete([fields.id_term(0)]),
        writer.commit(None).map(|_| ()),
    ] {
        assert!(refused.expect_err("dead").to_string().contains("rollback"));
    }
    writer.rollback().unwrap();
    writer.add(fields.document(3), &one).unwrap();
    writer.commit(None).unwrap();
    assert_eq!(live_ords(&index), [0, 3].into());
    assert_clean(&index);
}

/// Documents of a sorted index change places when their segment is finished; their impacts have
/// to follow them.
#[test]
fn impacts_follow_a_sort_by_field() {
    let fields = Fields::with_bits(8);
    let mut rng = Rng(11);
    let vectors: Vec<SparseVector> = (0..500)
        .map(|_| vector((0..8).map(|_| (format!("t{}", rng.below(40)), 4.0 * rng.unit()))))
        .collect();
    for order in [Order::Asc, Order::Desc] {
        let sort_by_field = Some(IndexSortByField {
            field: "ord".to_owned(),
            order,
        });
        let settings = IndexSettings {
            sort_by_field,
            ..IndexSettings::default()
        };
        let index = Index::create(RamDirectory::create(), fields.schema.clone(), settings).unwrap();
        for half in [0, 1] {
            let mut shuffled: Vec<u64> = (0..500).filter(|ord| ord % 2 == half).collect();
            shuffled.sort_by_key(|ord| ord * 7919 % 500);
            let documents = shuffled
                .into_iter()
                .map(|ord| (ord, &vectors[ord as usize]));
            fields.add_by_bulk(&index, documents);
        }
        for merged in [false, true] {
            if merged {
                merge_all(&index);
            }
            for reader in searcher(&index).segment_readers() {
                let ords = common::ords(reader);
                assert!(ords.is_sorted_by(|a, b| if order == Order::Asc { a < b } else { a > b }));
            }
            let query = vector((0..12).map(|n| (format!("t{n}"), 1.0 + n as f32)));
            let expected = expected_scores((0..).zip(&vectors), &fields.laconic, &query);
            assert_eq!(scores(&index, &fields.laconic, &query), expected);
            assert_clean(&index);
        }
    }
}

/// A program that has never heard of laconic keeps the index as it is: identity, postings and
/// scores survive its commits and merges.
#[test]
fn plain_tantivy_programs_do_no_harm() {
    let model = ModelIdentity::new("org/model@3f9a", "preset one").unwrap();
    let identity = Identity {
        model: Some(model),
        ..Identity::default()
    };
    let fields = Fields::new(identity.clone());
    let folder = tempfile::tempdir().unwrap();
    let mut index = Index::create_in_dir(folder.path(), fields.schema.clone()).unwrap();
    register(&mut index).unwrap();
    let vectors = vectors(60);
    for part in [0..20, 20..40, 40..60] {
        fields.add_by_bulk(&index, part.map(|ord: u64| (ord, &vectors[ord as usize])));
    }
    drop(index);

    let plain = Index::open_in_dir(folder.path()).unwrap();
    let mut writer = plain_writer(&plain);
    writer.delete_term(fields.id_term(7));
    writer.commit().unwrap();
    writer.wait_merging_threads().unwrap();
    merge_all(&plain);
    // Tantivy asks for the tokenizer even if the document has no vector.
    let mut writer = plain_writer(&plain);
    writer.add_document(fields.document(60)).unwrap();
    assert!(writer.commit().is_err());
    drop(writer);
    drop(plain);

    let index = open_in_dir(folder.path()).unwrap();
    let laconic = LaconicField::find(&index.schema(), "laconic").unwrap();
    assert_eq!(laconic.identity(), &identity);
    assert_eq!(live_ords(&index).len(), 59);
    let query = vector((0..30).map(|n| (format!("Ġt{n}"), 1.0)));
    let kept = (0..).zip(&vectors).filter(|(ord, _)| *ord != 7);
    assert_eq!(
        scores(&index, &laconic, &query),
        expected_scores(kept, &laconic, &query)
    );
    assert_clean(&index);
}

/// An index with bounds can be searched, but not written, by a program that knows nothing of
/// them: Tantivy insists on every component.
#[test]
fn plain_tantivy_programs_may_not_drop_the_bounds() {
    let fields = Fields::new(Identity::default());
    let folder = tempfile::tempdir().unwrap();
    let index = create_in_dir(folder.path(), fields.schema.clone()).unwrap();
    let vectors = vectors(20);
    fields.add_by_bulk(&index, (0..).zip(&vectors));
    drop(index);

    let mut plain = Index::open_in_dir(folder.path()).unwrap();
    let writer = plain.writer_with_num_threads::<TantivyDocument>(1, MIN_MEMORY_BUDGET);
    assert!(writer.is_err());
    let query = vector((0..30).map(|n| (format!("Ġt{n}"), 1.0)));
    let expected = expected_scores((0..).zip(&vectors), &fields.laconic, &query);
    assert_eq!(scores(&plain, &fields.laconic, &query), expected);

    register(&mut plain).unwrap();
    let mut writer = plain_writer(&plain);
    writer.delete_term(fields.id_term(7));
    writer.commit().unwrap();
    writer.wait_merging_threads().unwrap();
    merge_all(&plain);
    assert_clean(&plain);
    assert_eq!(live_ords(&plain).len(), 19);
}

/// After `register`, an index opened by plain Tantivy calls takes vectors as text.
#[test]
fn plain_add_document_after_register() {
    let fields = Fields::with_bits(6);
    let directory = RamDirectory::create();
    drop(fields.create(directory.clone()));
    let mut index = Index::open(directory).unwrap();
    let registered = register(&mut index).unwrap();
    assert_eq!(registered, std::slice::from_ref(&fields.laconic));
    let vectors = vectors(50);
    fields.add_by_tokenizer(&index, (0..).zip(&vectors));
    let query = vector((0..30).map(|n| (format!("Ġt{n}"), 1.0)));
    let expected = expected_scores((0..).zip(&vectors), &fields.laconic, &query);
    assert_eq!(scores(&index, &fields.laconic, &query), expected);
    assert_clean(&index);
}

/// The stored text of a laconic field that is `STORED` is the plain writer's affair; what the
/// bulk writer stores of a document is all its other fields.
#[test]
fn stored_fields_come_back() {
    let everything = Everything::new();
    let index = everything.create();
    let mut writer = bulk_writer(&index, &everything.laconic);
    writer
        .add(everything.document(4), &vector([("a", 1.0)]))
        .unwrap();
    writer.commit(None).unwrap();
    let searcher = searcher(&index);
    let hit = LaconicQuery::new(&everything.laconic, vector([("a", 1.0)]));
    let hits = searcher
        .search(&hit, &TopDocs::with_limit(1).order_by_score())
        .unwrap();
    let document: TantivyDocument = searcher.doc(hits[0].1).unwrap();
    let kept = document.get_first(everything.field("kept")).unwrap();
    assert_eq!(kept.as_str(), Some("only stored 4"));
    let id = Term::from_field_text(everything.field("id"), &id_of(4));
    assert_eq!(searcher.doc_freq(&id).unwrap(), 1);
}
