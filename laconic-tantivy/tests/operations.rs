//! Random operations on an index against a plain list: what a commit holds, what a rollback
//! drops, what replacing and deleting reach, whatever merges in between.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::collections::BTreeMap;

use common::{
    Fields, Model, assert_clean, cases, id_of, live_documents, merge_all, searcher, vector,
};
use laconic_tantivy::{
    BulkWriter, LaconicQuery, MIN_MEMORY_BUDGET, SparseVector, exhaustive_top_k, register,
};
use proptest::prelude::*;
use tantivy::directory::RamDirectory;
use tantivy::{Index, TantivyDocument, doc};

#[derive(Debug, Clone)]
enum Operation {
    Add(u64),
    Replace(u64),
    Delete(Vec<u64>),
    Commit(Option<u32>),
    Rollback,
    /// Close, open the directory anew, and write on; with background merges or without.
    Reopen {
        merges: bool,
    },
    /// By a program that has only Tantivy.
    MergeAll,
}

fn operation() -> impl Strategy<Value = Operation> {
    let id = || 0u64..6;
    prop_oneof![
        5 => id().prop_map(Operation::Add),
        8 => id().prop_map(Operation::Replace),
        2 => prop::collection::vec(id(), 0..4).prop_map(Operation::Delete),
        4 => prop::option::of(any::<u32>()).prop_map(Operation::Commit),
        1 => Just(Operation::Rollback),
        1 => any::<bool>().prop_map(|merges| Operation::Reopen { merges }),
        1 => Just(Operation::MergeAll),
    ]
}

/// Documents by their number, each with its id. Numbers are never used twice.
type Documents = BTreeMap<u64, u64>;

struct World {
    fields: Fields,
    directory: RamDirectory,
    writer: Option<BulkWriter>,
    merges: bool,
    /// Of the next writers.
    n_threads: usize,
    next_ord: u64,
    committed: Documents,
    pending: Documents,
    payload: Option<String>,
}

/// A different vector for each document, over a few shared terms.
fn vector_of(ord: u64) -> SparseVector {
    let weight = |factor: u64| 0.02 + (ord * factor % 255) as f32 / 64.0;
    vector([
        ("all".to_owned(), weight(7)),
        (format!("odd{}", ord % 2), weight(3)),
        (format!("only{ord}"), 1.0),
    ])
}

impl World {
    fn new() -> World {
        let fields = Fields::with_bits(8);
        let directory = RamDirectory::create();
        fields.create(directory.clone());
        World {
            fields,
            directory,
            writer: None,
            merges: true,
            n_threads: 1,
            next_ord: 0,
            committed: Documents::new(),
            pending: Documents::new(),
            payload: None,
        }
    }

    /// A fresh view of the directory: an `Index` reads some of its state only once.
    fn index(&self) -> Index {
        let mut index = Index::open(self.directory.clone()).unwrap();
        register(&mut index).unwrap();
        index
    }

    fn writer(&mut self) -> &mut BulkWriter {
        if self.writer.is_none() {
            let index = self.index();
            let budget = 4 * MIN_MEMORY_BUDGET;
            let writer = BulkWriter::new(&index, &self.fields.laconic, None, budget)
                .unwrap()
                .with_threads(self.n_threads);
            self.writer = Some(if self.merges {
                writer
            } else {
                writer.without_merges()
            });
        }
        self.writer.as_mut().unwrap()
    }

    /// Drops what was not committed.
    fn close(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.close().unwrap();
        }
        self.pending = self.committed.clone();
    }

    fn document(&mut self, id: u64) -> (u64, TantivyDocument) {
        let ord = self.next_ord;
        self.next_ord += 1;
        (
            ord,
            doc!(self.fields.ord => ord, self.fields.id => id_of(id), self.fields.text => "x"),
        )
    }

    fn run(&mut self, operation: &Operation) {
        match operation {
            Operation::Add(id) => {
                let (ord, document) = self.document(*id);
                self.writer().add(document, &vector_of(ord)).unwrap();
                self.pending.insert(ord, *id);
            }
            Operation::Replace(id) => {
                let (ord, document) = self.document(*id);
                let term = self.fields.id_term(*id);
                self.writer()
                    .replace(term, document, &vector_of(ord))
                    .unwrap();
                self.pending.retain(|_, other| other != id);
                self.pending.insert(ord, *id);
            }
            Operation::Delete(ids) => {
                let terms: Vec<_> = ids.iter().map(|id| self.fields.id_term(*id)).collect();
                self.writer().delete(terms).unwrap();
                self.pending.retain(|_, id| !ids.contains(id));
            }
            Operation::Commit(payload) => {
                self.payload = payload.map(|n| n.to_string());
                let payload = self.payload.clone();
                self.writer().commit(payload.as_deref()).unwrap();
                self.committed = self.pending.clone();
            }
            Operation::Rollback => {
                self.writer().rollback().unwrap();
                self.pending = self.committed.clone();
            }
            Operation::Reopen { merges } => {
                self.close();
                self.merges = *merges;
                self.n_threads = 1 + self.n_threads % 3;
            }
            Operation::MergeAll => {
                self.close();
                merge_all(&self.index());
            }
        }
    }

    fn assert_as_predicted(&self) {
        let index = self.index();
        assert_eq!(index.load_metas().unwrap().payload, self.payload);
        assert_clean(&index);
        let searcher = searcher(&index);
        let live: BTreeMap<_, _> = live_documents(&searcher).into_iter().collect();
        let mut found: Vec<u64> = live.values().copied().collect();
        found.sort_unstable();
        assert_eq!(found, self.committed.keys().copied().collect::<Vec<_>>());

        let query = vector([("all", 1.0), ("odd1", 0.37), ("absent", 1.0)]);
        let model = Model::new(&query, self.fields.laconic.identity().quantizer);
        let query = LaconicQuery::new(&self.fields.laconic, query);
        let hits = exhaustive_top_k(&searcher, &query, usize::MAX).unwrap();
        let mut scores: Vec<_> = hits
            .iter()
            .map(|(score, doc)| (live[doc], *score))
            .collect();
        scores.sort_by_key(|(ord, _)| *ord);
        let expected = self
            .committed
            .keys()
            .map(|&ord| (ord, model.score(&vector_of(ord)).unwrap()));
        assert_eq!(scores, expected.collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn operations_match_a_plain_list(
        operations in prop::collection::vec(operation(), 1..60),
        n_threads in 1usize..4,
    ) {
        let mut world = World::new();
        world.n_threads = n_threads;
        for operation in &operations {
            world.run(operation);
            if !matches!(operation, Operation::Add(_) | Operation::Replace(_)) {
                world.assert_as_predicted();
            }
        }
        world.close();
        world.assert_as_predicted();
    }
}

/// More commits than Tantivy's merge policy leaves alone, with replacements of documents that
/// are being merged in the background.
#[test]
fn replacements_reach_documents_under_merge() {
    let mut world = World::new();
    for round in 0..40 {
        for id in 0..6 {
            if (id + round) % 3 != 0 {
                world.run(&Operation::Replace(id));
            }
        }
        world.run(&Operation::Add(round % 6));
        world.run(&Operation::Commit(None));
        world.assert_as_predicted();
    }
    world.close();
    world.assert_as_predicted();
    let segments = world.index().searchable_segment_ids().unwrap().len();
    assert!(segments < 20, "{segments} segments: nothing was merged");
}
