//! Failing storage: whichever operation fails, the last commit stays whole, and the session can
//! be run again to the result of an undisturbed one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::{Fields, assert_clean, live_documents, plain_writer, searcher, vector};
use faulty::{Fault, FaultyDirectory};
use laconic_tantivy::{
    BulkWriter, Error, LaconicQuery, MIN_MEMORY_BUDGET, SparseVector, exhaustive_top_k, register,
};
use tantivy::Index;

/// What an index holds: payload, and the score of each document by number.
type Contents = (Option<String>, BTreeMap<u64, u32>);

struct Disk {
    fields: Fields,
    directory: FaultyDirectory,
    n_threads: usize,
}

impl Disk {
    /// An index with one commit, two segments and a delete.
    fn new() -> Disk {
        Disk::with_threads(1)
    }

    fn with_threads(n_threads: usize) -> Disk {
        let disk = Disk {
            fields: Fields::with_bits(8),
            directory: FaultyDirectory::new(),
            n_threads,
        };
        let index = disk.fields.create(disk.directory.clone());
        let mut writer = disk.writer(&index).unwrap();
        disk.add(&mut writer, 0..30).unwrap();
        disk.replace(&mut writer, [3, 4, 3]).unwrap();
        writer.commit(Some("first")).unwrap();
        writer.close().unwrap();
        disk
    }

    fn open(&self) -> Result<Index, Error> {
        let mut index = Index::open(self.directory.clone())?;
        register(&mut index)?;
        Ok(index)
    }

    fn writer(&self, index: &Index) -> Result<BulkWriter, Error> {
        let budget = self.n_threads * MIN_MEMORY_BUDGET + (4 << 20);
        let writer = BulkWriter::new(index, &self.fields.laconic, None, budget)?;
        Ok(writer.without_merges().with_threads(self.n_threads))
    }

    fn add(&self, writer: &mut BulkWriter, ords: std::ops::Range<u64>) -> Result<(), Error> {
        ords.into_iter()
            .try_for_each(|ord| writer.add(self.fields.document(ord), &vector_of(ord, 1)))
    }

    fn replace<const N: usize>(
        &self,
        writer: &mut BulkWriter,
        ords: [u64; N],
    ) -> Result<(), Error> {
        ords.into_iter().try_for_each(|ord| {
            let id = self.fields.id_term(ord);
            writer.replace(id, self.fields.document(ord), &vector_of(ord, 2))
        })
    }

    /// The session under test: several segments, replacements in old and new ones, deletes.
    fn session(&self, writer: &mut BulkWriter) -> Result<(), Error> {
        self.add(writer, 30..40)?;
        self.replace(writer, [5, 31, 50, 5])?;
        writer.delete([7, 32].map(|ord| self.fields.id_term(ord)))?;
        self.add(writer, 60..65)?;
        writer.commit(Some("second"))?;
        Ok(())
    }

    fn contents(&self) -> Contents {
        let index = self.open().unwrap();
        assert_clean(&index);
        let searcher = searcher(&index);
        let ord_of: BTreeMap<_, _> = live_documents(&searcher).into_iter().collect();
        let query = LaconicQuery::new(&self.fields.laconic, vector([("all", 1.0)]));
        let hits = exhaustive_top_k(&searcher, &query, usize::MAX).unwrap();
        assert_eq!(hits.len(), ord_of.len(), "every document has the term");
        let scores = hits
            .into_iter()
            .map(|(score, address)| (ord_of[&address], score.to_bits()));
        (index.load_metas().unwrap().payload, scores.collect())
    }

    /// No file is left but those of the last commit.
    fn assert_no_leftovers(&self) {
        let index = self.open().unwrap();
        let living = index.load_metas().unwrap().list_segment_files();
        let others: Vec<PathBuf> = self
            .directory
            .paths()
            .into_iter()
            .filter(|path| !living.contains(path))
            .filter(|path| !["meta.json", ".managed.json"].contains(&&*path.to_string_lossy()))
            .collect();
        assert_eq!(others, Vec::<PathBuf>::new());
    }
}

fn vector_of(ord: u64, version: u64) -> SparseVector {
    vector([
        ("all".to_owned(), (ord * 3 + version) as f32 / 64.0),
        (format!("t{}", ord % 7), 1.0),
    ])
}

fn undisturbed() -> (Contents, Contents) {
    let disk = Disk::new();
    let before = disk.contents();
    let index = disk.open().unwrap();
    let mut writer = disk.writer(&index).unwrap();
    disk.session(&mut writer).unwrap();
    writer.close().unwrap();
    let after = disk.contents();
    assert_ne!(before, after);
    (before, after)
}

/// How a user goes on after an error.
#[derive(Debug, Clone, Copy)]
enum Recovery {
    Rollback,
    Reopen,
}

/// Runs the session under `fault`, then again without. Returns whether the fault occurred.
fn disturbed(fault: Fault, recovery: Recovery, contents: &(Contents, Contents)) -> bool {
    disturbed_on(&Disk::new(), fault, recovery, contents)
}

fn disturbed_on(
    disk: &Disk,
    fault: Fault,
    recovery: Recovery,
    (before, after): &(Contents, Contents),
) -> bool {
    disk.directory.arm(fault);
    let mut writer = disk.open().and_then(|index| disk.writer(&index)).ok();
    let session = |writer: &mut BulkWriter| disk.session(writer).map_err(|e| e.to_string());
    let result = writer.as_mut().map_or(Err("no writer".to_owned()), session);
    let failed = disk.directory.failures() > 0;
    disk.directory.arm(Fault::Never);

    let found = disk.contents();
    match &result {
        Ok(()) => assert_eq!(&found, after, "{fault:?}"),
        // The only error after the point of no return is that of the last sync.
        Err(_) => assert!(found == *before || found == *after, "{fault:?}: {found:?}"),
    }
    assert!(failed || result.is_ok(), "{fault:?}: {result:?}");
    recover(disk, writer, recovery, found == *after);
    assert_eq!(&disk.contents(), after, "{fault:?}, {recovery:?}");
    disk.assert_no_leftovers();
    failed
}

/// Goes on as a user would: the payload tells whether the commit arrived.
fn recover(disk: &Disk, writer: Option<BulkWriter>, recovery: Recovery, arrived: bool) {
    let mut writer = match (writer, recovery) {
        (Some(mut writer), Recovery::Rollback) => {
            writer.rollback().unwrap();
            writer
        }
        (writer, _) => {
            drop(writer);
            disk.writer(&disk.open().unwrap()).unwrap()
        }
    };
    match arrived {
        true => writer.commit(Some("second")).map(|_| ()).unwrap(),
        false => disk.session(&mut writer).unwrap(),
    }
    writer.close().unwrap();
}

/// Each way in turn; the other test below pairs them the other way round.
fn recovery(n: u64) -> Recovery {
    if n.is_multiple_of(2) {
        Recovery::Rollback
    } else {
        Recovery::Reopen
    }
}

#[test]
fn the_nth_operation_fails() {
    let contents = undisturbed();
    let fails = |n: &u64| disturbed(Fault::AtCall(*n), recovery(*n), &contents);
    let n = (1..).take_while(fails).count();
    println!("{n} operations failed in turn");
    assert!(n > 50, "only {n} operations can fail");
}

/// The session on two threads: an error on one of them reaches the caller.
#[test]
fn the_nth_operation_fails_on_a_thread() {
    let contents = undisturbed();
    let fails = |n: &u64| {
        let disk = Disk::with_threads(2);
        disturbed_on(&disk, Fault::AtCall(*n), recovery(*n), &contents)
    };
    let n = (1..).step_by(5).take_while(fails).count();
    assert!(n > 10, "only {n} operations were tried");
}

#[test]
fn everything_fails_from_the_nth_operation() {
    let contents = undisturbed();
    let fails = |n: &u64| disturbed(Fault::FromCall(*n), recovery(*n + 1), &contents);
    let n = (1..).take_while(fails).count();
    assert!(n > 50, "only {n} operations can fail");
}

#[test]
fn the_disk_is_full() {
    let contents = undisturbed();
    let fails =
        |step: &u64| disturbed(Fault::DiskFullAfter(step * 512), recovery(*step), &contents);
    let n = (0..).take_while(fails).count();
    println!("{n} sizes of disk were too small");
    assert!(n > 20, "only {n} sizes were too small");
}

/// Merging by Tantivy's writer: the result of a merge appears whole or not at all.
#[test]
fn the_nth_operation_of_a_merge_fails() {
    let merge = |disk: &Disk| -> tantivy::Result<()> {
        let index = disk.open().unwrap();
        let ids = index.searchable_segment_ids()?;
        let mut writer = plain_writer(&index);
        writer.merge(&ids).wait()?;
        writer.wait_merging_threads()
    };
    let before = Disk::new().contents();
    let fails = |n: &u64| {
        let disk = Disk::new();
        disk.directory.arm(Fault::AtCall(*n));
        let result = merge(&disk);
        let failed = disk.directory.failures() > 0;
        disk.directory.arm(Fault::Never);
        assert!(failed || result.is_ok());
        assert_eq!(disk.contents().1, before.1);
        merge(&disk).unwrap();
        assert_eq!(disk.contents().1, before.1);
        assert_eq!(
            disk.open().unwrap().searchable_segment_ids().unwrap().len(),
            1
        );
        failed
    };
    assert!((1..).take_while(fails).count() > 20);
}

/// A rollback that fails can be tried again, or the index opened anew: nothing panics, nothing
/// pretends to work.
#[test]
fn rolling_back_fails() {
    let (before, after) = undisturbed();
    for fault in [
        Fault::ReadingMeta,
        Fault::AtCall(1),
        Fault::AtCall(2),
        Fault::AtCall(3),
    ] {
        let disk = Disk::new();
        let mut writer = disk.writer(&disk.open().unwrap()).unwrap();
        disk.add(&mut writer, 100..110).unwrap();
        writer.delete([disk.fields.id_term(100)]).unwrap();
        disk.directory.arm(fault);
        let result = writer.rollback();
        disk.directory.arm(Fault::Never);
        if result.is_err() {
            assert!(disk.session(&mut writer).is_err(), "{fault:?}");
            let again = writer.rollback();
            assert_eq!(
                again.is_err(),
                fault == Fault::ReadingMeta,
                "{fault:?}: {again:?}"
            );
        }
        drop(writer);
        assert_eq!(disk.contents(), before);
        disk.session(&mut disk.writer(&disk.open().unwrap()).unwrap())
            .unwrap();
        assert_eq!(disk.contents(), after);
    }
}
