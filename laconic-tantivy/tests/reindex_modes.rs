//! Indexes that a splice might be thought not to fit: older formats, sorted ones, ones with files
//! of another program's plugin. And the ways of carrying an index over that are no copies.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "common/foreign.rs"]
mod foreign;
#[path = "common/marker.rs"]
mod marker;

use std::ops::ControlFlow;
use std::path::Path;

use common::{assert_clean, plain_writer, searcher, vector};
use faulty::{Fault, FaultyDirectory};
use foreign::{Foreign, Lists, norms, postings};
use laconic_tantivy::{
    Error, Identity, LaconicField, LaconicQuery, LaconicTopK, ReindexMode, Reindexer, SparseVector,
    UnitDocuments, UnitVectors, register,
};
use marker::{MarkerPlugin, marks};
use tantivy::directory::{Directory, RamDirectory};
use tantivy::query::AllQuery;
use tantivy::schema::{FAST, Field, IndexRecordOption, STORED, STRING, Schema, TEXT};
use tantivy::{
    Document, Index, IndexSettings, IndexSortByField, Order, SegmentReader, TantivyDocument, Term,
    doc,
};

const FIELD: &str = "laconic";
const REWRITE: ReindexMode = ReindexMode::Rewrite {
    memory_budget: 64 << 20,
};

fn go_on(_: laconic_tantivy::ReindexProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn vector_of(ord: u64) -> SparseVector {
    vector([
        (format!("t{}", ord % 7), 0.5),
        ("all".to_owned(), 0.1 + (ord % 50) as f32 / 25.0),
    ])
}

/// Every document gets the vector of its number.
fn give(documents: &UnitDocuments<'_>, vectors: &mut UnitVectors<'_>) -> Result<(), Error> {
    let ords = documents.reader().fast_fields().u64("ord")?;
    for doc in documents.live() {
        vectors.push(doc, &vector_of(ords.first(doc).unwrap_or(0)))?;
    }
    Ok(())
}

fn reindexer(source: &Index, mode: ReindexMode) -> Reindexer {
    Reindexer::new(source, FIELD, Identity::default())
        .unit_docs(16)
        .mode(mode)
}

fn reindex(source: &Index, mode: ReindexMode) -> (Index, RamDirectory) {
    let target = RamDirectory::create();
    let job = reindexer(source, mode)
        .begin(RamDirectory::create())
        .unwrap();
    job.work(|_| true, &mut give, &mut go_on).unwrap();
    let report = job.assemble(target.clone(), &mut go_on).unwrap();
    let mut index = Index::open(target.clone()).unwrap();
    let segments = index.searchable_segment_metas().unwrap();
    assert_eq!(report.segments as usize, segments.len());
    register(&mut index).unwrap();
    assert_clean(&index);
    assert_vectors(&index);
    (index, target)
}

fn refused(source: &Index, mode: ReindexMode, parts: &[&str]) {
    let error = reindexer(source, mode).begin(RamDirectory::create());
    let error = error.err().unwrap();
    assert!(error.is_invalid_input(), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// Every document is found with the score of its own vector.
fn assert_vectors(index: &Index) {
    let field = LaconicField::find(&index.schema(), FIELD).unwrap();
    let query = LaconicQuery::new(&field, vector([("all", 1.0)]));
    let searcher = searcher(index);
    let top = LaconicTopK::new(10_000).search(&searcher, &query).unwrap();
    let n_docs = live_ords(index).len();
    assert_eq!(top.hits.len(), n_docs);
    assert!(n_docs > 0);
    for (score, address) in top.hits {
        let reader = searcher.segment_reader(address.segment_ord);
        let ords = reader.fast_fields().u64("ord").unwrap();
        let ord = ords.first(address.doc_id).unwrap();
        let expected = vector_of(ord).weight("all").unwrap();
        assert!((score - expected).abs() < 0.07, "{ord}: {score} {expected}");
    }
}

/// Numbers of the live documents, in the index's order.
fn live_ords(index: &Index) -> Vec<u64> {
    let segments = index.searchable_segments().unwrap();
    let readers = segments.iter().map(|s| SegmentReader::open(s).unwrap());
    let of_segment = |reader: SegmentReader| {
        let ords = reader.fast_fields().u64("ord").unwrap();
        let docs: Vec<_> = reader.doc_ids_alive().collect();
        docs.into_iter().map(move |doc| ords.first(doc).unwrap())
    };
    readers.flat_map(of_segment).collect()
}

/// What the fields hold, segment by segment: lists, norms, stored documents.
type Content = Vec<(Vec<Lists>, Vec<Vec<u8>>, Vec<String>)>;

fn content(index: &Index, schema: &Schema) -> Content {
    let segments = index.searchable_segments().unwrap();
    let readers = segments.iter().map(|s| SegmentReader::open(s).unwrap());
    let of_segment = |reader: SegmentReader| {
        let indexed = schema.fields().filter(|(_, entry)| entry.is_indexed());
        let lists = indexed.map(|(field, entry)| {
            let option = entry.field_type().get_index_record_option();
            let is_text = matches!(entry.field_type(), tantivy::schema::FieldType::Str(_));
            let option = option.filter(|_| is_text);
            postings(
                &reader,
                field,
                option.unwrap_or(IndexRecordOption::WithFreqs),
            )
        });
        let lists = lists.collect();
        let normed = schema.fields().filter(|(_, entry)| entry.has_fieldnorms());
        let norms = normed.map(|(field, _)| norms(&reader, field)).collect();
        let store = reader.get_store_reader(2).unwrap();
        let stored = reader.doc_ids_alive();
        let stored = stored.map(|doc| {
            let document: TantivyDocument = store.get(doc).unwrap();
            document.to_json(&index.schema())
        });
        (lists, norms, stored.collect())
    };
    readers.map(of_segment).collect()
}

/// The same as Tantivy's own merge of each segment.
#[test]
fn purged_segments_are_what_merges_would_make() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let (purged, directory) = reindex(&source, ReindexMode::Purge);
    let merged = foreign.index();
    let mut writer = plain_writer(&merged);
    for id in merged.searchable_segment_ids().unwrap() {
        writer.merge(&[id]).wait().unwrap();
    }
    drop(writer);
    let metas = purged.searchable_segment_metas().unwrap();
    assert_eq!(metas.len(), 3);
    assert!(metas.iter().all(|meta| !meta.has_deletes()));
    assert_eq!(live_ords(&purged), live_ords(&source));
    let schema = foreign.schema();
    assert!(content(&purged, &schema) == content(&merged, &schema));
    let count = |index: &Index| searcher(index).search(&AllQuery, &tantivy::collector::Count);
    assert_eq!(count(&purged).unwrap(), count(&merged).unwrap());
    // What was made for the time being is gone, and making it again makes the same files.
    let (again, others) = reindex(&source, ReindexMode::Purge);
    let mut managed: Vec<_> = again.directory().list_managed_files().into_iter().collect();
    managed.sort();
    assert!(managed.len() > 20);
    for path in managed {
        assert_eq!(
            directory.atomic_read(&path).unwrap(),
            others.atomic_read(&path).unwrap(),
            "{}",
            path.display()
        );
    }
}

/// An index whose documents are stored as a whole.
struct Stored {
    schema: Schema,
    ord: Field,
    id: Field,
    body: Field,
}

impl Stored {
    fn new() -> Stored {
        let mut schema = Schema::builder();
        Stored {
            ord: schema.add_u64_field("ord", FAST | STORED),
            id: schema.add_text_field("id", STRING | STORED),
            body: schema.add_text_field("body", TEXT | STORED),
            schema: schema.build(),
        }
    }

    /// Segments of these documents.
    fn index(&self, segments: &[&[u64]], settings: IndexSettings) -> Index {
        let index = Index::create(RamDirectory::create(), self.schema.clone(), settings).unwrap();
        let mut writer = plain_writer(&index);
        for segment in segments {
            for &ord in *segment {
                writer.add_document(self.document(ord)).unwrap();
            }
            writer.commit().unwrap();
        }
        index
    }

    fn document(&self, ord: u64) -> TantivyDocument {
        let text = format!("one two w{} one", ord % 5);
        doc!(self.ord => ord, self.id => format!("id{ord}"), self.body => text)
    }

    fn delete(&self, index: &Index, ords: impl IntoIterator<Item = u64>) {
        let mut writer = plain_writer(index);
        for ord in ords {
            writer.delete_term(Term::from_field_text(self.id, &format!("id{ord}")));
        }
        writer.commit().unwrap();
    }
}

/// As if the documents that were not deleted had been indexed by their own program.
#[test]
fn rewritten_documents_are_indexed_as_at_first() {
    let stored = Stored::new();
    let ords: Vec<u64> = (0..150).collect();
    let (first, second) = ords.split_at(100);
    let source = stored.index(&[first, second], IndexSettings::default());
    stored.delete(&source, (0..150).filter(|ord| ord % 7 == 3 || *ord < 40));
    let is_live = |ord: &&u64| *ord % 7 != 3 && **ord >= 40;
    let [first, second] =
        [first, second].map(|ords| ords.iter().filter(is_live).copied().collect::<Vec<_>>());
    let (index, _) = reindex(&source, REWRITE);
    let expected = stored.index(&[&first, &second], IndexSettings::default());
    assert!(content(&index, &stored.schema) == content(&expected, &stored.schema));
    let metas = index.load_metas().unwrap();
    assert!(metas.segments.iter().all(|meta| !meta.has_deletes()));
    // A segment for each unit that has documents; two of sixteen have none.
    let little = ReindexMode::Rewrite { memory_budget: 1 };
    let (index, target) = reindex(&source, little);
    let n_segments = index.searchable_segment_ids().unwrap().len();
    assert_eq!(n_segments, 100usize.div_ceil(16) + 50usize.div_ceil(16) - 2);
    let (_, again) = reindex(&source, little);
    let meta = |directory: &RamDirectory| directory.atomic_read(Path::new("meta.json")).unwrap();
    assert_eq!(meta(&target), meta(&again));
    assert_eq!(live_ords(&index), live_ords(&source));
}

#[test]
fn what_a_rewrite_would_lose_is_named() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let lost = "`ord`, `body`, `unstored`, `date`, `ip`, `price`";
    refused(&source, REWRITE, &[lost, "not stored"]);
    // The tokenizer of a program that is not running.
    let mut schema = Schema::builder();
    let own = tantivy::schema::TextFieldIndexing::default().set_tokenizer("of the program");
    let own = tantivy::schema::TextOptions::default().set_indexing_options(own);
    schema.add_text_field("body", own.set_stored());
    let source = Index::create_in_ram(schema.build());
    refused(&source, REWRITE, &["of the program", "`body`"]);
    Foreign::register_tokenizer(&source);
    assert!(
        reindexer(&source, REWRITE)
            .begin(RamDirectory::create())
            .is_ok()
    );
    // A job is gone on with in the mode it was begun in.
    let folder = RamDirectory::create();
    reindexer(&source, REWRITE).begin(folder.clone()).unwrap();
    let error = reindexer(&source, ReindexMode::Copy).begin(folder);
    let error = error.err().unwrap();
    assert!(
        error.is_mismatch() && error.to_string().contains("mode"),
        "{error}"
    );
}

/// Files of a plugin that is not there are taken along; its program goes on with them.
#[test]
fn files_of_an_unknown_plugin_are_copied() {
    let stored = Stored::new();
    let directory = RamDirectory::create();
    let with_plugin = Index::builder()
        .schema(stored.schema.clone())
        .register_plugin(MarkerPlugin::shared())
        .open_or_create(directory.clone())
        .unwrap();
    let mut writer = plain_writer(&with_plugin);
    for ords in [0..40, 40..60] {
        for ord in ords {
            writer.add_document(stored.document(ord)).unwrap();
        }
        writer.commit().unwrap();
    }
    drop(writer);
    stored.delete(&with_plugin, [7, 41]);
    let marked = marks(&with_plugin);
    assert_eq!(marked.len(), 2);

    let unknown = Index::open(directory).unwrap();
    for mode in [ReindexMode::Purge, REWRITE] {
        refused(&unknown, mode, &["plugin"]);
    }
    let (index, target) = reindex(&unknown, ReindexMode::Copy);
    assert_eq!(marks(&index), marked);
    let job = reindexer(&unknown, ReindexMode::Copy).begin(RamDirectory::create());
    assert_eq!(job.unwrap().copied_plugins().unwrap(), ["marker"]);
    let extensions = index.load_metas().unwrap().persisted_custom_extensions;
    assert_eq!(extensions, ["marker", "laconic"]);
    // Its program writes and merges.
    let mut index = Index::open(target).unwrap();
    index.register_plugin(MarkerPlugin::shared());
    register(&mut index).unwrap();
    common::merge_all(&index);
    assert_clean(&index);
    assert_eq!(marks(&index).len(), 1);
    assert_vectors(&index);
    // A rewrite works where the plugin is there.
    let (rewritten, _) = reindex(&with_plugin, REWRITE);
    assert_eq!(marks(&rewritten).len(), 2);
    refused(&with_plugin, ReindexMode::Purge, &["plugin"]);
}

/// The documents of a segment stand in their order already; nothing remembers another.
#[test]
fn a_sorted_index_stays_sorted() {
    let stored = Stored::new();
    let settings = IndexSettings {
        sort_by_field: Some(IndexSortByField {
            field: "ord".to_owned(),
            order: Order::Desc,
        }),
        ..IndexSettings::default()
    };
    let source = stored.index(&[&[3, 9, 1, 7], &[2, 8, 4]], settings);
    let before = live_ords(&source);
    assert!(before.starts_with(&[9, 7, 3, 1]), "{before:?}");
    for mode in [ReindexMode::Copy, ReindexMode::Purge, REWRITE] {
        let (index, _) = reindex(&source, mode);
        assert_eq!(live_ords(&index), before, "{mode:?}");
        assert_eq!(index.settings(), source.settings());
        let same = content(&index, &stored.schema) == content(&source, &stored.schema);
        assert!(same, "{mode:?}");
        let field = LaconicField::find(&index.schema(), FIELD).unwrap();
        let mut writer = plain_writer(&index);
        let mut document = stored.document(5);
        document.add_text(field.field(), vector_of(5).to_json());
        writer.add_document(document).unwrap();
        writer.commit().unwrap();
        drop(writer);
        common::merge_all(&index);
        assert_eq!(live_ords(&index), [9, 8, 7, 5, 4, 3, 2, 1]);
        assert_clean(&index);
        assert_vectors(&index);
    }
}

/// Files that Tantivy 0.22 to 0.24 wrote, taken from Tantivy's own tests of compatibility.
#[test]
fn files_of_format_6_are_spliced_and_rewritten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tantivy-format-6");
    let source = Index::open_in_dir(folder).unwrap();
    for mode in [ReindexMode::Copy, REWRITE] {
        let target = RamDirectory::create();
        let job = reindexer(&source, mode)
            .begin(RamDirectory::create())
            .unwrap();
        let give = &mut |documents: &UnitDocuments<'_>, vectors: &mut UnitVectors<'_>| {
            for doc in documents.live() {
                vectors.push(doc, &vector_of(1))?;
            }
            Ok::<(), Error>(())
        };
        job.work(|_| true, give, &mut go_on).unwrap();
        assert_eq!(
            job.assemble(target.clone(), &mut go_on).unwrap().documents,
            1
        );
        let mut index = Index::open(target).unwrap();
        register(&mut index).unwrap();
        assert_clean(&index);
        let schema = source.schema();
        let stored = |index: &Index| {
            let searcher = searcher(index);
            let address = tantivy::DocAddress::new(0, 0);
            let document: TantivyDocument = searcher.doc(address).unwrap();
            document.to_json(&schema)
        };
        assert_eq!(stored(&index), stored(&source));
        let label = schema.get_field("label").unwrap();
        let term = Term::from_field_text(label, "dateformat");
        let query = tantivy::query::TermQuery::new(term, IndexRecordOption::WithFreqs);
        let found = searcher(&index).search(&query, &tantivy::collector::Count);
        assert_eq!(found.unwrap(), 1);
    }
}

/// Whichever write fails, the job goes on to the same files in every mode.
#[test]
fn failing_storage_loses_nothing_in_any_mode() {
    let stored = Stored::new();
    let ords: Vec<u64> = (0..40).collect();
    let source = stored.index(&[&ords], IndexSettings::default());
    stored.delete(&source, [3, 20]);
    let little = ReindexMode::Rewrite { memory_budget: 1 };
    for mode in [ReindexMode::Purge, little] {
        let run = |disk: &FaultyDirectory| {
            let job = reindexer(&source, mode).begin(disk.clone())?;
            job.work(|_| true, &mut give, &mut go_on)?;
            job.assemble(disk.clone(), &mut go_on)
        };
        let whole = FaultyDirectory::new();
        run(&whole).unwrap();
        let expected = files(&whole);
        for n in 1.. {
            let disk = FaultyDirectory::new();
            disk.arm(Fault::AtCall(n));
            let broken = run(&disk);
            if disk.failures() == 0 {
                assert!(n > 40, "{n}");
                break;
            }
            assert!(broken.is_err(), "{mode:?} {n}");
            disk.arm(Fault::Never);
            run(&disk).unwrap();
            assert_eq!(files(&disk), expected, "{mode:?} {n}");
        }
    }
}

/// What `meta.json` lists, with its bytes.
fn files(disk: &FaultyDirectory) -> Vec<(String, Vec<u8>)> {
    let index = Index::open(disk.clone()).unwrap();
    let mut paths: Vec<_> = index.directory().list_managed_files().into_iter().collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let file = disk.open_read(path).unwrap().read_bytes().unwrap();
        (path.display().to_string(), file.to_vec())
    };
    paths.iter().map(read).collect()
}
