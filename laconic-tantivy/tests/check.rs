//! `check` finds damage: every damage of bytes that a checksum covers, whatever else it says, and
//! without taking the process down. `--nocapture` prints the shares found.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use common::{Fields, Rng, assert_clean, live_documents, plain_writer, searcher, vector};
use laconic_tantivy::{
    BulkWriter, CheckReport, Error, LaconicQuery, MIN_MEMORY_BUDGET, SparseVector, check,
    exhaustive_top_k, register,
};
use tantivy::Index;
use tantivy::collector::TopDocs;
use tantivy::directory::{Directory, ManagedDirectory, RamDirectory, TerminatingWrite};

/// The files of an index.
type Files = BTreeMap<PathBuf, Vec<u8>>;

const META: &str = "meta.json";
const MANAGED: &str = ".managed.json";

/// An index of two segments with deletes, and its files.
fn sound_index() -> (Fields, Files) {
    let fields = Fields::with_bits(8);
    let directory = RamDirectory::create();
    let index = fields.create(directory.clone());
    let vectors = vectors(240);
    for part in [0..160, 160..240] {
        let documents = part.map(|ord: u64| (ord, &vectors[usize::try_from(ord).unwrap()]));
        fields.add_by_bulk(&index, documents);
    }
    fields.delete(&index, [0, 17, 200]);
    (fields, files(&index, &directory))
}

fn vectors(n: u64) -> Vec<SparseVector> {
    let mut rng = Rng(5);
    let terms = |n: u64| {
        [
            ("all".to_owned(), 1.0),
            (format!("rare{}", n % 50), 0.5),
            (format!("some{}", n % 3), 2.0),
        ]
    };
    (0..n)
        .map(|n| vector(terms(n).map(|(term, weight)| (term, weight + rng.unit()))))
        .collect()
}

/// The files of the last commit, from the segments and not from the managed list.
fn files(index: &Index, directory: &RamDirectory) -> Files {
    let segments = index.searchable_segment_metas().unwrap();
    let managed = index.directory().list_managed_files();
    let is_of = |path: &Path| {
        segments
            .iter()
            .any(|segment| path.to_string_lossy().contains(&segment.id().uuid_string()))
    };
    let in_segments = managed.into_iter().filter(|path| is_of(path));
    let paths = in_segments.chain([META.into(), MANAGED.into()]);
    let read = |path: PathBuf| Some((path.clone(), directory.atomic_read(&path).ok()?));
    paths.filter_map(read).collect()
}

fn directory_of(files: &Files) -> RamDirectory {
    let directory = RamDirectory::create();
    for (path, bytes) in files {
        directory.atomic_write(path, bytes).unwrap();
    }
    directory
}

fn open(files: &Files) -> Result<Index, Error> {
    let mut index = Index::open(directory_of(files))?;
    register(&mut index)?;
    Ok(index)
}

fn check_files(files: &Files) -> Result<CheckReport, Error> {
    check(&open(files)?, &mut |_, _| {})
}

/// What was found: at opening, by `check`, or not at all.
fn is_found(files: &Files) -> bool {
    check_files(files).map_or(true, |report| !report.is_clean())
}

fn extension(path: &Path) -> String {
    path.extension().unwrap().to_string_lossy().into_owned()
}

/// Bytes of the footer that Tantivy appends: JSON, its length, a magic number.
fn footer_len(bytes: &[u8]) -> usize {
    let length: [u8; 4] = bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap();
    8 + usize::try_from(u32::from_le_bytes(length)).unwrap()
}

/// About `n` places in `0..len`, evenly spread, the ends among them.
fn places(len: usize, n: usize) -> BTreeSet<usize> {
    let spread = (0..n).map(|i| i * len / n);
    spread
        .chain([len.saturating_sub(1)])
        .filter(|place| *place < len)
        .collect()
}

fn flips(bytes: &[u8], range: std::ops::Range<usize>, n: usize) -> Vec<Vec<u8>> {
    let flip = |place: usize| {
        let mut damaged = bytes.to_vec();
        damaged[range.start + place] ^= 1 << (place % 8);
        damaged
    };
    places(range.len(), n).into_iter().map(flip).collect()
}

/// Lucene's damages but deletion, and cuts.
fn maulings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let cut = |len: usize| bytes[..len].to_vec();
    let mut damaged: Vec<_> = places(bytes.len(), 20).into_iter().map(cut).collect();
    damaged.push(vec![0; bytes.len()]);
    let mut half_zero = bytes.to_vec();
    half_zero[bytes.len() / 2..].fill(0);
    damaged.push(half_zero);
    damaged.push([bytes, b"\0"].concat());
    damaged
}

/// Tells how many of `damages` to the file at `path` are found.
fn share_found(files: &Files, path: &Path, damages: &[Vec<u8>]) -> (usize, usize) {
    let with = |damage: &Vec<u8>| {
        let mut damaged = files.clone();
        damaged.insert(path.to_owned(), damage.clone());
        damaged
    };
    let found = damages
        .iter()
        .filter(|damage| is_found(&with(damage)))
        .count();
    (found, damages.len())
}

/// The files of segments, in a stable order.
fn segment_files(files: &Files) -> Vec<PathBuf> {
    files
        .keys()
        .filter(|path| ![Path::new(META), Path::new(MANAGED)].contains(&path.as_path()))
        .cloned()
        .collect()
}

thread_local! {
    static EXPECTS_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Damage makes Tantivy panic, which `check` catches; the messages of this thread are noise.
fn without_panic_messages(test: impl FnOnce()) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTS_PANICS.get() {
                usual(info);
            }
        }));
    });
    EXPECTS_PANICS.set(true);
    let result = catch_unwind(AssertUnwindSafe(test));
    EXPECTS_PANICS.set(false);
    if let Err(failure) = result {
        println!("failed: {:?}", failure.downcast_ref::<String>());
        std::panic::resume_unwind(failure);
    }
}

#[test]
fn a_sound_index_is_clean() {
    let (_, files) = sound_index();
    let kinds: BTreeSet<String> = segment_files(&files)
        .iter()
        .map(|path| extension(path))
        .collect();
    let all = ["del", "fast", "fieldnorm", "idx", "pos", "store", "term"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    let mut steps = Vec::new();
    let report = check(&open(&files).unwrap(), &mut |done, total| {
        steps.push((done, total))
    })
    .unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(steps, [(1, 2), (2, 2)]);
    assert_eq!((report.segments, report.documents), (2, 240));
    assert_eq!(report.files, segment_files(&files).len() as u64);
    assert!(report.postings > 240 * 5);
}

#[test]
fn every_damage_of_covered_bytes_is_found() {
    without_panic_messages(|| {
        let (_, files) = sound_index();
        let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for path in segment_files(&files) {
            let bytes = &files[&path];
            let covered = bytes.len() - footer_len(bytes);
            let mut damages = flips(bytes, 0..covered, 200);
            damages.extend(maulings(bytes));
            let (found, of) = share_found(&files, &path, &damages);
            let row = table.entry(extension(&path)).or_default();
            *row = (row.0 + found, row.1 + of);

            let mut missing = files.clone();
            missing.remove(&path);
            assert!(is_found(&missing), "{} is missing", path.display());
        }
        for (kind, (found, of)) in &table {
            println!(".{kind}: {found} of {of} damages found");
        }
        assert!(table.values().all(|(found, of)| found == of), "{table:?}");
    });
}

/// Tantivy's footer does not cover itself. What gets past `check` there changes no answer.
#[test]
fn damage_of_footers_is_found_or_harmless() {
    without_panic_messages(|| {
        let (fields, files) = sound_index();
        let answer = answer(&fields, &files);
        let (mut found, mut all) = (0, 0);
        for path in segment_files(&files) {
            let bytes = &files[&path];
            for damage in flips(bytes, bytes.len() - footer_len(bytes)..bytes.len(), 100) {
                let mut damaged = files.clone();
                damaged.insert(path.clone(), damage);
                all += 1;
                match is_found(&damaged) {
                    true => found += 1,
                    false => assert_eq!(
                        self::answer(&fields, &damaged),
                        answer,
                        "{}",
                        path.display()
                    ),
                }
            }
        }
        println!("footers: {found} of {all} flipped bits found, the others harmless");
        assert!(found * 2 > all, "{found} of {all}");
    });
}

/// Hits of a search over everything, with the documents' numbers and stored ids.
fn answer(fields: &Fields, files: &Files) -> Vec<(u32, u64)> {
    let searcher = searcher(&open(files).unwrap());
    let live: BTreeMap<_, _> = live_documents(&searcher).into_iter().collect();
    let query = vector([("all", 1.0), ("some1", 0.3), ("rare7", 2.0)]);
    let query = LaconicQuery::new(&fields.laconic, query);
    let hits = searcher
        .search(&query, &TopDocs::with_limit(1000).order_by_score())
        .unwrap();
    for (_, address) in &hits {
        searcher.doc::<tantivy::TantivyDocument>(*address).unwrap();
    }
    hits.into_iter()
        .map(|(score, address)| (score.to_bits(), live[&address]))
        .collect()
}

/// `meta.json` has no checksum. Damage that is not found must leave the number of documents as it
/// was: never a part of the index for the whole.
#[test]
fn damage_of_meta_json_is_refused_or_keeps_the_documents() {
    without_panic_messages(|| {
        let (_, files) = sound_index();
        let bytes = files[Path::new(META)].clone();
        let mut damages = flips(&bytes, 0..bytes.len(), 1500);
        damages.extend(maulings(&bytes));
        let (mut found, all) = (0, damages.len());
        for damage in damages {
            let mut damaged = files.clone();
            damaged.insert(META.into(), damage.clone());
            if is_found(&damaged) {
                found += 1;
            } else {
                let n_docs = searcher(&open(&damaged).unwrap()).num_docs();
                assert_eq!(n_docs, 237, "{}", String::from_utf8_lossy(&damage));
            }
        }
        println!("meta.json: {found} of {all} damages found, the others keep the documents");
        assert!(found * 2 > all, "{found} of {all}");
    });
}

/// Tantivy's own check believes `.managed.json` and skips what it does not name.
#[test]
fn an_emptied_managed_list_hides_nothing() {
    without_panic_messages(|| {
        let (_, mut files) = sound_index();
        files.insert(MANAGED.into(), b"[]".to_vec());
        assert!(
            !is_found(&files),
            "the list is not needed to read the index"
        );
        for path in segment_files(&files) {
            let bytes = &files[&path];
            let covered = bytes.len() - footer_len(bytes);
            let (found, of) = share_found(&files, &path, &flips(bytes, 0..covered, 10));
            assert_eq!(found, of, "{}", path.display());
        }
    });
}

/// Whatever the managed list holds, opening and checking end in an answer.
#[test]
fn a_damaged_managed_list_does_no_harm() {
    without_panic_messages(|| {
        let (_, files) = sound_index();
        let bytes = files[Path::new(MANAGED)].clone();
        let mut damages = flips(&bytes, 0..bytes.len(), 100);
        damages.extend(maulings(&bytes));
        for damage in damages {
            let mut damaged = files.clone();
            damaged.insert(MANAGED.into(), damage);
            if let Ok(report) = check_files(&damaged) {
                assert!(report.is_clean(), "{:?}", report.problems);
            }
        }
    });
}

/// A faulty writer damages posting lists and seals them with a right checksum: what the contents
/// mean gives most of it away. (Tantivy's other files are not ours to judge, and the lengths in
/// its document store are allocated as they stand.)
#[test]
fn damaged_posting_lists_with_a_right_checksum_are_found_by_meaning() {
    without_panic_messages(|| {
        let (_, files) = sound_index();
        let inverted_index = ["idx", "term"];
        let of_postings = |path: &PathBuf| inverted_index.contains(&&*extension(path));
        for path in segment_files(&files).into_iter().filter(of_postings) {
            let bytes = &files[&path];
            let body = &bytes[..bytes.len() - footer_len(bytes)];
            let damages: Vec<_> = flips(body, 0..body.len(), 200)
                .iter()
                .map(|b| sealed(b))
                .collect();
            let (found, of) = share_found(&files, &path, &damages);
            println!(
                ".{} with a right checksum: {found} of {of} found",
                extension(&path)
            );
            assert!(found * 3 > of, "{found} of {of}");
        }
    });
}

/// The body with the footer that Tantivy would write for it.
fn sealed(body: &[u8]) -> Vec<u8> {
    let directory = RamDirectory::create();
    let managed = ManagedDirectory::wrap(Box::new(directory.clone())).unwrap();
    let mut write = managed.open_write(Path::new("file")).unwrap();
    write.write_all(body).unwrap();
    write.terminate().unwrap();
    directory.atomic_read(Path::new("file")).unwrap()
}

/// Two vectors in one document add up to impacts that no quantizer makes: `check` names them, and
/// search bounds them.
#[test]
fn impacts_above_the_range_are_reported() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = plain_writer(&index);
    let one = vector([("a", 3.5), ("b", 0.5)]).to_json();
    let mut document = fields.document(0);
    document.add_text(fields.laconic.field(), &one);
    document.add_text(fields.laconic.field(), &one);
    writer.add_document(document).unwrap();
    writer.commit().unwrap();

    let report = check(&index, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    let problem = &report.problems[0];
    assert!(problem.place.contains("`laconic`"), "{}", problem.place);
    assert!(
        problem.fault.contains("`a`") && problem.fault.contains("448"),
        "{}",
        problem.fault
    );

    let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
    let searcher = searcher(&index);
    let hits = searcher
        .search(&query, &TopDocs::with_limit(1).order_by_score())
        .unwrap();
    assert_eq!(hits, exhaustive_top_k(&searcher, &query, 1).unwrap());
    assert_eq!(hits[0].0, 255.0 / 64.0);
}

/// Thousands of broken postings make a report of a few lines.
#[test]
fn reports_stay_short() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = plain_writer(&index);
    let pairs = (0..500).map(|n| (format!("t{n}"), 3.5));
    let text = vector(pairs).to_json();
    let mut document = fields.document(0);
    document.add_text(fields.laconic.field(), &text);
    document.add_text(fields.laconic.field(), &text);
    writer.add_document(document).unwrap();
    writer.commit().unwrap();
    let n_problems = check(&index, &mut |_, _| {}).unwrap().problems.len();
    assert!((1..=20).contains(&n_problems), "{n_problems}");
}

/// Checking looks at the last commit, while a writer is at work on the next.
#[test]
fn checking_beside_a_writer() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    let mut writer = BulkWriter::new(&index, &fields.laconic, None, MIN_MEMORY_BUDGET).unwrap();
    writer
        .add(fields.document(0), &vector([("a", 1.0)]))
        .unwrap();
    writer.commit(None).unwrap();
    writer
        .replace(fields.id_term(0), fields.document(0), &vector([("a", 2.0)]))
        .unwrap();
    writer
        .replace(fields.id_term(0), fields.document(0), &vector([("a", 3.0)]))
        .unwrap();
    assert_clean(&index);
    assert_eq!(check(&index, &mut |_, _| {}).unwrap().documents, 1);
}

/// Commits and background merges of another process replace files under a running check: that is
/// no damage. (An `Index` of its own stands for the process: Tantivy spares the files that the
/// writer's own `Index` knows to be in use.)
#[test]
fn checking_beside_commits_and_merges() {
    let fields = Fields::with_bits(8);
    let directory = RamDirectory::create();
    let index = fields.create(directory.clone());
    let elsewhere = Index::open(directory).unwrap();
    let mut n_checks = 0;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut writer =
                BulkWriter::new(&index, &fields.laconic, None, MIN_MEMORY_BUDGET).unwrap();
            for round in 0..100 {
                for ord in [round % 7, 7 + round] {
                    let vector = vector([("a", 1.0)]);
                    writer
                        .replace(fields.id_term(ord), fields.document(ord), &vector)
                        .unwrap();
                }
                writer.commit(None).unwrap();
            }
            writer.close().unwrap();
        });
        while !writing.is_finished() {
            assert_clean(&elsewhere);
            n_checks += 1;
        }
    });
    assert!(n_checks > 0);
    assert_clean(&index);
}
