//! A laconic field for indexes that know nothing of us: nothing else changes, the field is that of
//! the bulk writer, and whatever interrupts the job, it goes on to the same bytes.
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

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{assert_clean, cases, plain_writer, searcher, vector};
use faulty::{Fault, FaultyDirectory};
use foreign::Foreign;
use laconic_tantivy::{
    BulkWriter, Error, Identity, ImpactQuantizer, LaconicField, LaconicQuery, LaconicTopK,
    MIN_MEMORY_BUDGET, ModelIdentity, ReindexJob, ReindexPlan, Reindexer, SparseVector,
    UnitDocuments, UnitVectors, exhaustive_top_k, register,
};
use proptest::prelude::*;
use tantivy::directory::{Directory, RamDirectory};
use tantivy::{DocAddress, Index, TantivyDocument, doc};

const FIELD: &str = "laconic";

fn identity() -> Identity {
    Identity {
        quantizer: ImpactQuantizer::with_bits(8).unwrap(),
        model: Some(ModelIdentity::new("m@1", "p@2").unwrap()),
    }
}

/// The vector of the document with this number.
fn vector_of(ord: u64) -> SparseVector {
    if ord % 11 == 5 {
        return SparseVector::default();
    }
    let many = (0..ord % 9).map(|n| (format!("t{}", (ord * 7 + n * n) % 40), 0.1 + n as f32 / 8.0));
    vector(many.chain([("all".to_owned(), 0.02 * (1 + ord % 190) as f32)]))
}

fn go_on(_: laconic_tantivy::ReindexProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Gives every live document the vector of its number; counts them.
fn give(
    n_given: &mut u64,
) -> impl FnMut(&UnitDocuments<'_>, &mut UnitVectors<'_>) -> Result<(), Error> {
    move |documents, vectors| {
        let ords = documents.reader().fast_fields().u64("ord")?;
        for doc in documents.live() {
            vectors.push(doc, &vector_of(ords.first(doc).unwrap()))?;
            *n_given += 1;
        }
        Ok(())
    }
}

fn reindexer(source: &Index) -> Reindexer {
    Reindexer::new(source, FIELD, identity())
        .unit_docs(16)
        .recipe("by number")
}

/// The whole job in one go.
fn reindex(source: &Index, reindexer: Reindexer) -> (Index, RamDirectory) {
    let target = RamDirectory::create();
    let job = reindexer.begin(RamDirectory::create()).unwrap();
    let mut n_given = 0;
    let report = job
        .work(|_| true, &mut give(&mut n_given), &mut go_on)
        .unwrap();
    assert_eq!(report.documents, n_given);
    let assembled = job.assemble(target.clone(), &mut go_on).unwrap();
    assert_eq!(assembled.documents, n_given);
    assert_eq!(
        (assembled.postings, report.resumed_units),
        (report.postings, 0)
    );
    assert_eq!(
        assembled.segments as usize,
        source.searchable_segment_ids().unwrap().len()
    );
    (open(target.clone()), target)
}

fn open(directory: impl Directory) -> Index {
    let mut index = Index::open(directory).unwrap();
    register(&mut index).unwrap();
    index
}

/// Every file of the last commit, and what manages them.
fn files(index: &Index) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut paths = index.load_metas().unwrap().list_segment_files();
    paths.extend(["meta.json", ".managed.json"].map(PathBuf::from));
    let directory = index.directory();
    let present = paths
        .into_iter()
        .filter(|path| directory.exists(path).unwrap());
    let read = |path: PathBuf| {
        let bytes = match path.extension().is_some_and(|ext| ext == "json") {
            true => directory.atomic_read(&path).unwrap(),
            false => directory
                .open_read(&path)
                .unwrap()
                .read_bytes()
                .unwrap()
                .to_vec(),
        };
        (path, bytes)
    };
    present.map(read).collect()
}

/// Score and number of every document that a query finds, deleted ones not among them.
fn ranking(index: &Index, query: &SparseVector) -> Vec<(u32, u64)> {
    let searcher = searcher(index);
    let field = LaconicField::find(&index.schema(), FIELD).unwrap();
    let query = LaconicQuery::new(&field, query.clone());
    let ord = |address: DocAddress| {
        let reader = searcher.segment_reader(address.segment_ord);
        reader
            .fast_fields()
            .u64("ord")
            .unwrap()
            .first(address.doc_id)
            .unwrap()
    };
    let exact = exhaustive_top_k(&searcher, &query, usize::MAX).unwrap();
    let top = LaconicTopK::new(exact.len().max(1));
    let pruned = top.search(&searcher, &query).unwrap();
    assert_eq!(pruned.hits, exact);
    let mut found: Vec<_> = exact
        .into_iter()
        .map(|(score, address)| (score.to_bits(), ord(address)))
        .collect();
    found.sort_unstable();
    found
}

/// What the bulk writer makes of the same vectors.
fn by_bulk(ords: impl IntoIterator<Item = u64>) -> Index {
    let mut schema = tantivy::schema::Schema::builder();
    let ord_field = schema.add_u64_field("ord", tantivy::schema::FAST);
    let field = LaconicField::add_to(&mut schema, FIELD, identity());
    let mut index = Index::create_in_ram(schema.build());
    register(&mut index).unwrap();
    let model = identity().model;
    let mut writer = BulkWriter::new(&index, &field, model.as_ref(), MIN_MEMORY_BUDGET).unwrap();
    for ord in ords {
        writer.add(doc!(ord_field => ord), &vector_of(ord)).unwrap();
    }
    writer.commit(None).unwrap();
    writer.close().unwrap();
    index
}

fn assert_field_is_that_of_the_bulk_writer(index: &Index) {
    let expected = by_bulk(common::live_ords(index));
    let queries = [
        vec!["all"],
        vec!["t3"],
        vec!["t0", "t7", "t11", "all", "nowhere"],
    ];
    for terms in queries {
        let query = vector(terms.into_iter().zip([1.0, 0.5, 0.25, 2.0, 1.0]));
        assert_eq!(ranking(index, &query), ranking(&expected, &query));
    }
}

#[test]
fn every_other_field_stays_what_it_was() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let before = files(&source);
    let (index, _) = reindex(&source, reindexer(&source));
    assert_clean(&index);
    foreign.assert_same(&source, &index);
    assert_field_is_that_of_the_bulk_writer(&index);
    let (old, new) = (source.load_metas().unwrap(), index.load_metas().unwrap());
    assert_eq!(old.payload, new.payload);
    assert_eq!(
        (old.opstamp, old.index_settings),
        (new.opstamp, new.index_settings)
    );
    assert_eq!(files(&source), before, "the source was written to");
    // What has no section per field is copied as it is.
    let after = files(&index);
    for (path, bytes) in &before {
        let extension = path.extension().unwrap().to_string_lossy();
        if ["fieldnorm", "fast", "store", "del"].contains(&&*extension) {
            assert_eq!(&after[path], bytes, "{}", path.display());
        }
    }
}

/// The same at a size at which lists have many blocks and stores many pages.
#[test]
fn two_hundred_thousand_documents() {
    let foreign = Foreign::new();
    let deleted: Vec<u64> = (0..200_000).filter(|ord| ord % 37 == 6).collect();
    let commits = [0..80_000, 80_000..81_000, 81_000..150_000, 150_000..200_000];
    let source = foreign.fill_with(RamDirectory::create(), &commits, &deleted);
    let before = files(&source);
    let (index, _) = reindex(&source, reindexer(&source).unit_docs(10_000));
    assert_clean(&index);
    foreign.assert_same(&source, &index);
    assert_field_is_that_of_the_bulk_writer(&index);
    assert_eq!(common::live_ords(&index).len(), 200_000 - deleted.len());
    assert!(files(&source) == before, "the source was written to");
}

/// The new index lives on: documents are added, deleted, merged, and found.
#[test]
fn the_new_index_can_be_written_to() {
    let foreign = Foreign::new();
    let (index, _) = reindex(&foreign.index(), reindexer(&foreign.index()));
    let before = ranking(&index, &vector([("all", 1.0)]));
    let field = LaconicField::find(&index.schema(), FIELD).unwrap();
    Foreign::register_tokenizer(&index);
    let mut writer = plain_writer(&index);
    let mut document = foreign.document(9000);
    document.add_text(field.field(), vector([("all", 3.0)]).to_json());
    writer.add_document(document).unwrap();
    writer.commit().unwrap();
    drop(writer);
    common::merge_all(&index);
    assert_clean(&index);
    let after = ranking(&index, &vector([("all", 1.0)]));
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.iter().all(|hit| after.contains(hit)));
}

#[test]
fn a_second_field_and_a_replaced_one() {
    let foreign = Foreign::new();
    let (first, directory) = reindex(&foreign.index(), reindexer(&foreign.index()));
    let query = vector([("all", 1.0), ("t3", 1.0)]);
    let refused = reindexer(&first)
        .begin(RamDirectory::create())
        .err()
        .unwrap();
    assert!(refused.is_invalid_input(), "{refused}");
    assert!(refused.to_string().contains("already"), "{refused}");

    let plain = Index::open(directory).unwrap();
    let second = Reindexer::new(&plain, "other", Identity::default());
    let (second, _) = reindex(&first, second);
    assert_clean(&second);
    assert_eq!(ranking(&second, &query), ranking(&first, &query));
    assert_eq!(LaconicField::all(&second.schema()).unwrap().len(), 2);

    let quantizer = ImpactQuantizer::with_bits(6).unwrap();
    let new = Identity {
        quantizer,
        model: None,
    };
    let replacing = Reindexer::new(&second, FIELD, new.clone()).replace(true);
    let (third, _) = reindex(&second, replacing);
    assert_clean(&third);
    let (old_schema, schema) = (second.schema(), third.schema());
    assert_eq!(LaconicField::find(&schema, FIELD).unwrap().identity(), &new);
    assert_eq!(
        schema.get_field(FIELD).unwrap(),
        old_schema.get_field(FIELD).unwrap()
    );
    assert_eq!(schema.fields().count(), old_schema.fields().count());
    assert_ne!(ranking(&third, &query), ranking(&first, &query));
    let back = Reindexer::new(&third, FIELD, identity()).replace(true);
    let (back, _) = reindex(&third, back);
    assert_eq!(files(&back).len(), files(&second).len());
    for (path, bytes) in files(&second) {
        // The sections of the fields have changed places.
        if path.extension().is_some_and(|ext| ext == "laconic") {
            assert_eq!(files(&back)[&path].len(), bytes.len());
        }
    }
    assert_eq!(ranking(&back, &query), ranking(&first, &query));
}

/// Whichever operation fails, the job goes on to the bytes of an unbroken run, and no document
/// of a finished unit is asked for again.
#[test]
fn failing_storage_loses_nothing() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let n_live = source
        .load_metas()
        .unwrap()
        .segments
        .iter()
        .map(|s| u64::from(s.num_docs()))
        .sum::<u64>();
    let (unbroken, _) = reindex(&source, reindexer(&source));
    let expected = files(&unbroken);
    let run = |disk: &FaultyDirectory, n_given: &mut u64| -> Result<u64, Error> {
        let job = reindexer(&source).begin(disk.clone())?;
        let report = job.work(|_| true, &mut give(n_given), &mut go_on)?;
        job.assemble(disk.clone(), &mut go_on)?;
        Ok(report.resumed_documents)
    };
    let faults: [fn(u64) -> Fault; 3] = [Fault::AtCall, Fault::FromCall, |n| {
        Fault::DiskFullAfter(n * 997)
    }];
    for fault in faults {
        for n in 1.. {
            let disk = FaultyDirectory::new();
            disk.arm(fault(n));
            let mut n_given = 0;
            let broken = run(&disk, &mut n_given);
            let failed = disk.failures() > 0;
            assert_eq!(broken.is_err(), failed, "{:?}", fault(n));
            disk.arm(Fault::Never);
            let before = n_given;
            let resumed = run(&disk, &mut n_given).unwrap();
            assert_eq!(n_given - before + resumed, n_live);
            // The unit at hand, at the most, is done twice.
            assert!(n_given <= n_live + 16, "{n_given} of {n_live}");
            assert_eq!(files(&open(disk)), expected, "{:?}", fault(n));
            if !failed {
                break;
            }
        }
    }
}

fn begun(source: &Index) -> (ReindexJob, RamDirectory) {
    let directory = RamDirectory::create();
    let job = reindexer(source).begin(directory.clone()).unwrap();
    job.work(|_| true, &mut give(&mut 0), &mut go_on).unwrap();
    (job, directory)
}

fn piece(number: u32) -> PathBuf {
    PathBuf::from(format!("unit-{number:08}.piece"))
}

/// Every way in which a piece can be wrong is found before anything is written, and mended by
/// working again.
#[test]
fn pieces_that_do_not_belong_are_refused_and_redone() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let (unbroken, _) = reindex(&source, reindexer(&source));
    let (_, others) = {
        let directory = RamDirectory::create();
        let other = reindexer(&source)
            .recipe("otherwise")
            .begin(directory.clone())
            .unwrap();
        other.work(|_| true, &mut give(&mut 0), &mut go_on).unwrap();
        (other, directory)
    };
    let whole = |directory: &RamDirectory, number| directory.atomic_read(&piece(number)).unwrap();
    let (_, sound) = begun(&source);
    let mut flipped = whole(&sound, 2);
    flipped[150] ^= 1;
    let mut cut = whole(&sound, 2);
    cut.truncate(cut.len() - 3);
    let wrong: [(Vec<u8>, &str); 6] = [
        (flipped, "checksum"),
        (cut, "checksum"),
        (Vec::new(), "cut short"),
        (vec![7; 1000], "not a piece"),
        (whole(&others, 2), "another plan"),
        (whole(&sound, 1), "another unit"),
    ];
    for (bytes, why) in wrong {
        let (job, directory) = begun(&source);
        directory.atomic_write(&piece(2), &bytes).unwrap();
        let target = RamDirectory::create();
        let error = job.assemble(target.clone(), &mut go_on).err().unwrap();
        assert!(
            error.is_corrupt() && error.to_string().contains(why),
            "{error}"
        );
        assert!(error.to_string().contains("unit 2"), "{error}");
        assert!(!target.exists(Path::new("meta.json")).unwrap());
        let mut n_given = 0;
        let report = job
            .work(|_| true, &mut give(&mut n_given), &mut go_on)
            .unwrap();
        assert_eq!((report.units, report.redone_units), (1, 1));
        assert!(n_given <= 16);
        job.assemble(target.clone(), &mut go_on).unwrap();
        assert_eq!(files(&open(target)), files(&unbroken));
    }
    let (job, directory) = begun(&source);
    directory.delete(&piece(3)).unwrap();
    directory.delete(&piece(1)).unwrap();
    let error = job
        .assemble(RamDirectory::create(), &mut go_on)
        .err()
        .unwrap();
    assert!(error.is_invalid_input(), "{error}");
    assert!(
        error.to_string().contains("2 of") && error.to_string().contains("unit 1"),
        "{error}"
    );
}

/// Every byte of a piece counts.
#[test]
fn any_flipped_bit_of_a_piece_is_found() {
    let foreign = Foreign::new();
    let (job, directory) = begun(&foreign.index());
    let sound = directory.atomic_read(&piece(0)).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        directory.atomic_write(&piece(0), &bytes).unwrap();
        let error = job
            .assemble(RamDirectory::create(), &mut go_on)
            .err()
            .unwrap();
        assert!(error.is_corrupt(), "byte {at}: {error}");
    }
}

#[test]
fn a_job_is_gone_on_with_as_it_was_begun() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let (_, directory) = begun(&source);
    let other_model = Identity {
        model: Some(ModelIdentity::new("m@2", "p@2").unwrap()),
        ..identity()
    };
    let others = [
        (reindexer(&source).recipe("otherwise"), "in another way"),
        (reindexer(&source).unit_docs(17), "another size"),
        (
            Reindexer::new(&source, FIELD, other_model).unit_docs(16),
            "another model",
        ),
        (
            Reindexer::new(&source, "other", identity()).unit_docs(16),
            "another name",
        ),
    ];
    for (other, why) in others {
        let error = other.begin(directory.clone()).err().unwrap();
        assert!(
            error.is_mismatch() && error.to_string().contains(why),
            "{error}"
        );
    }
    let moved = reindexer(&source)
        .location("elsewhere")
        .begin(directory.clone());
    assert_eq!(
        moved
            .unwrap()
            .work(|_| true, &mut give(&mut 0), &mut go_on)
            .unwrap()
            .units,
        0
    );

    let none = ReindexJob::open(&source, RamDirectory::create())
        .err()
        .unwrap();
    assert!(none.is_invalid_input(), "{none}");
    let plan = ReindexPlan::read(&directory).unwrap();
    assert_eq!(ReindexPlan::from_json(&plan.to_json()).unwrap(), plan);
    let newer = plan.to_json().replace("\"version\": 1", "\"version\": 2");
    assert!(ReindexPlan::from_json(&newer).err().unwrap().is_mismatch());
    assert!(ReindexPlan::from_json("{}").err().unwrap().is_corrupt());
}

/// A commit between plan and end is noticed wherever it falls.
#[test]
fn a_source_that_changes_is_refused() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let (job, directory) = begun(&source);
    let mut writer = plain_writer(&source);
    writer.add_document(foreign.document(1000)).unwrap();
    writer.commit().unwrap();
    let errors = [
        job.work(|_| true, &mut give(&mut 0), &mut go_on)
            .err()
            .unwrap(),
        job.assemble(RamDirectory::create(), &mut go_on)
            .err()
            .unwrap(),
        ReindexJob::open(&source, directory.clone()).err().unwrap(),
        reindexer(&source).begin(directory).err().unwrap(),
    ];
    for error in errors {
        assert!(
            error.is_mismatch() && error.to_string().contains("source"),
            "{error}"
        );
    }

    let job = reindexer(&source).begin(RamDirectory::create()).unwrap();
    let mut commits = 0;
    let mut change = |documents: &UnitDocuments<'_>, vectors: &mut UnitVectors<'_>| {
        if commits == 0 {
            writer.add_document(foreign.document(1001)).unwrap();
            writer.commit().unwrap();
            commits += 1;
        }
        give(&mut 0)(documents, vectors)
    };
    let error = job.work(|_| true, &mut change, &mut go_on).err().unwrap();
    assert!(error.is_mismatch(), "{error}");
}

/// Damage in the source does not get a new checksum.
#[test]
fn a_damaged_source_is_refused() {
    let foreign = Foreign::new();
    let directory = RamDirectory::create();
    foreign.fill(directory.clone());
    let source = Index::open(directory.clone()).unwrap();
    let segment = source.searchable_segment_metas().unwrap().remove(0);
    for component in ["store", "fast", "term", "idx", "pos", "fieldnorm"] {
        let path = PathBuf::from(format!("{}.{component}", segment.id().uuid_string()));
        let sound = directory.atomic_read(&path).unwrap();
        let mut bytes = sound.clone();
        bytes[sound.len() / 5] ^= 4;
        let (job, _) = begun(&source);
        directory.atomic_write(&path, &bytes).unwrap();
        let target = RamDirectory::create();
        let error = job.assemble(target.clone(), &mut go_on).err().unwrap();
        assert!(error.is_corrupt(), "{component}: {error}");
        directory.atomic_write(&path, &sound).unwrap();
    }
}

/// The format's version stands at the end of every file, outside its checksum.
fn set_format(directory: &RamDirectory, index: &Index, version: &str) {
    for path in index.load_metas().unwrap().list_segment_files() {
        let Ok(mut bytes) = directory.atomic_read(&path) else {
            continue;
        };
        let key = b"index_format_version\":";
        let at = bytes
            .windows(key.len())
            .rposition(|window| window == key)
            .unwrap();
        bytes[at + key.len()] = version.as_bytes()[0];
        directory.atomic_write(&path, &bytes).unwrap();
    }
}

#[test]
fn an_older_format_is_taken_if_tantivy_reads_it() {
    let foreign = Foreign::new();
    let directory = RamDirectory::create();
    let written = foreign.fill(directory.clone());
    let (expected, _) = reindex(&written, reindexer(&written));
    set_format(&directory, &written, "6");
    let (index, _) = reindex(&written, reindexer(&written));
    assert_clean(&index);
    assert_eq!(files(&index), files(&expected));
    for unreadable in ["3", "8"] {
        set_format(&directory, &written, unreadable);
        let error = reindexer(&written)
            .begin(RamDirectory::create())
            .err()
            .unwrap();
        assert!(error.is_corrupt(), "{error}");
        assert!(error.to_string().contains("version"), "{error}");
    }
}

#[test]
fn the_caller_can_stop_at_any_report_and_go_on() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let (unbroken, _) = reindex(&source, reindexer(&source));
    let (directory, target) = (RamDirectory::create(), RamDirectory::create());
    for n in 1.. {
        let mut n_reports = 0;
        let mut stop = |progress: laconic_tantivy::ReindexProgress| {
            assert!(progress.done <= progress.total, "{progress:?}");
            n_reports += 1;
            match n_reports == n {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let job = reindexer(&source).begin(directory.clone()).unwrap();
        let outcome = job
            .work(|_| true, &mut give(&mut 0), &mut stop)
            .and_then(|_| job.assemble(target.clone(), &mut stop));
        match outcome {
            Ok(_) => break,
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    assert_eq!(files(&open(target)), files(&unbroken));
}

#[test]
fn vectors_are_taken_for_live_documents_in_order_only() {
    let foreign = Foreign::new();
    let source = foreign.index();
    let job = reindexer(&source).begin(RamDirectory::create()).unwrap();
    let vector = vector_of(1);
    let mut wrong = |documents: &UnitDocuments<'_>, vectors: &mut UnitVectors<'_>| {
        let live: Vec<_> = documents.live().collect();
        let deleted = (0..live[live.len() - 1])
            .find(|doc| !live.contains(doc))
            .unwrap();
        for doc in [deleted, 16, u32::MAX] {
            assert!(vectors.push(doc, &vector).err().unwrap().is_invalid_input());
        }
        vectors.push(live[1], &vector)?;
        assert!(
            vectors
                .push(live[1], &vector)
                .err()
                .unwrap()
                .is_invalid_input()
        );
        vectors.push(live[0], &vector)
    };
    let error = job
        .work(|unit| unit == 0, &mut wrong, &mut go_on)
        .err()
        .unwrap();
    assert!(error.is_invalid_input(), "{error}");
}

#[test]
fn an_empty_index_and_one_without_segments() {
    let foreign = Foreign::new();
    let source = Index::create_in_ram(foreign.schema());
    let (index, _) = reindex(&source, reindexer(&source));
    assert_clean(&index);
    Foreign::register_tokenizer(&source);
    let mut writer = plain_writer(&source);
    writer.add_document(foreign.document(0)).unwrap();
    writer.add_document(TantivyDocument::default()).unwrap();
    writer.commit().unwrap();
    // A document without a number has no vector.
    let job = reindexer(&source).begin(RamDirectory::create()).unwrap();
    let none = &mut |_: &UnitDocuments<'_>, _: &mut UnitVectors<'_>| Ok::<(), Error>(());
    let report = job.work(|_| true, none, &mut go_on).unwrap();
    assert_eq!(
        (report.documents, report.empty_documents, report.postings),
        (2, 2, 0)
    );
    let target = RamDirectory::create();
    job.assemble(target.clone(), &mut go_on).unwrap();
    assert_clean(&open(target));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(24)))]

    /// Units of any size, done in any order by any number of workers, make the same files.
    #[test]
    fn units_of_any_size_make_the_same_index(
        unit_docs in 1u32..120,
        n_workers in 1u32..5,
        backwards: bool,
    ) {
        let foreign = Foreign::new();
        let source = foreign.index();
        let (expected, _) = reindex(&source, reindexer(&source).unit_docs(10_000));
        let (directory, target) = (RamDirectory::create(), RamDirectory::create());
        let begun = reindexer(&source).unit_docs(unit_docs).begin(directory.clone()).unwrap();
        let n_units = begun.plan().n_units();
        prop_assert_eq!(begun.plan().units().count(), n_units as usize);
        let mut n_given = 0;
        for worker in 0..n_workers {
            let number = if backwards { n_workers - 1 - worker } else { worker };
            let job = ReindexJob::open(&source, directory.clone()).unwrap();
            let mine = |unit| unit % n_workers == number;
            job.work(mine, &mut give(&mut n_given), &mut go_on).unwrap();
        }
        prop_assert_eq!(n_given, begun.plan().n_docs());
        begun.assemble(target.clone(), &mut go_on).unwrap();
        prop_assert_eq!(files(&open(target)), files(&expected));
    }
}
