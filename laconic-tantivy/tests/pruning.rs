//! Pruned search returns, bit for bit, what the exhaustive reference returns.
//!
//! One case is a random collection with about a hundred comparisons (queries, sizes of the result,
//! ways to search), so `LACONIC_CASES=10000 cargo test --release -p laconic-tantivy --test pruning`
//! makes a million.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::path::Path;

use common::{
    Fields, Rng, assert_clean, assert_same_up_to_last_ties, cases, merge_all, searcher, vector,
};
use laconic_tantivy::{
    Approximation, BoundsPlugin, BulkWriter, LaconicQuery, LaconicTopK, MIN_MEMORY_BUDGET,
    SparseVector, TopHits, check, create_in_dir, exhaustive_top_k, register,
};
use proptest::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::index::SegmentComponent;
use tantivy::{DocAddress, Index, Searcher, TantivyDocument};

/// A collection in which terms go together, in an order that keeps together what goes together,
/// or not.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    n_docs: u64,
    n_terms: u64,
    n_topics: u64,
    topic_terms: u64,
    doc_terms: u64,
    /// One term in so many is anyone's.
    common_one_in: u64,
    shuffled: bool,
    n_commits: u64,
    merged: bool,
    deleted: u64,
    bits: u8,
    min_postings: u32,
    share: f32,
    by_tokenizer: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let sizes = (any::<u64>(), 1u64..9000, 1u64..60, 1u64..40, any::<bool>());
    let life = (1u64..4, any::<bool>(), 0u64..50, any::<bool>());
    let bounds = (4u8..=8, 1u32..300, prop_oneof![0.01f32..0.3, Just(4.0)]);
    (sizes, life, bounds).prop_map(|(sizes, life, bounds)| {
        let (seed, n_docs, n_terms, n_topics, shuffled) = sizes;
        let (n_commits, merged, deleted, by_tokenizer) = life;
        let (bits, min_postings, share) = bounds;
        Plan {
            seed,
            n_docs,
            n_terms,
            n_topics,
            topic_terms: 1 + n_terms / 4,
            doc_terms: 9,
            common_one_in: 3,
            shuffled,
            n_commits,
            merged,
            deleted,
            bits,
            min_postings,
            share,
            // Repeating tokens is slow.
            by_tokenizer: by_tokenizer && n_docs < 600,
        }
    })
}

impl Plan {
    fn vector(&self, rng: &mut Rng, topic: u64, n_terms: u64, scale: f32) -> SparseVector {
        let pairs = (0..n_terms).map(|_| {
            let term = match rng.below(self.common_one_in) {
                0 => rng.below(self.n_terms),
                _ => (topic * 7 + rng.below(self.topic_terms)) % self.n_terms,
            };
            let weight = rng.unit() * rng.unit() * scale;
            (format!("t{term}"), weight.max(0.001))
        });
        vector(pairs.collect::<Vec<_>>())
    }

    fn documents(&self, rng: &mut Rng) -> Vec<SparseVector> {
        let topic = |doc: u64, rng: &mut Rng| match self.shuffled {
            true => rng.below(self.n_topics),
            false => doc * self.n_topics / self.n_docs,
        };
        let documents = (0..self.n_docs).map(|doc| {
            let topic = topic(doc, rng);
            let n_terms = rng.below(self.doc_terms);
            self.vector(rng, topic, n_terms, 4.5)
        });
        documents.collect()
    }

    fn index(&self, fields: &Fields, documents: &[SparseVector]) -> Index {
        let plugin = BoundsPlugin::default()
            .min_postings(self.min_postings)
            .share(self.share);
        let mut index = Index::builder()
            .schema(fields.schema.clone())
            .register_plugin(plugin.shared())
            .create_in_ram()
            .unwrap();
        register(&mut index).unwrap();
        let per_commit = documents.len().div_ceil(self.n_commits as usize);
        for (start, part) in (0..).step_by(per_commit).zip(documents.chunks(per_commit)) {
            match self.by_tokenizer {
                true => fields.add_by_tokenizer(&index, (start..).zip(part)),
                false => fields.add_by_bulk(&index, (start..).zip(part)),
            }
        }
        fields.delete(&index, (0..self.deleted).map(|n| n * 31 % self.n_docs));
        if self.merged {
            merge_all(&index);
        }
        index
    }
}

fn bits(hits: &[(f32, DocAddress)]) -> Vec<(u32, DocAddress)> {
    let bits = |&(score, address): &(f32, DocAddress)| (score.to_bits(), address);
    hits.iter().map(bits).collect()
}

fn search(top_k: &LaconicTopK, searcher: &Searcher, query: &LaconicQuery) -> TopHits {
    top_k.search(searcher, query).unwrap()
}

/// Every exact way to search for `k` documents, against the reference.
fn assert_all_ways_agree(searcher: &Searcher, query: &LaconicQuery, k: usize) {
    let reference = exhaustive_top_k(searcher, query, k).unwrap();
    let expected = bits(&reference);
    let exact_by_name = Approximation {
        query_terms: Some(query.vector().len().max(1)),
        overestimate: Some(1.0),
        max_documents: Some(1 << 40),
    };
    let ways = [
        LaconicTopK::new(k),
        LaconicTopK::new(k).always_bounded(),
        LaconicTopK::new(k).always_bounded().threads(3),
        LaconicTopK::new(k).exhaustive(),
        LaconicTopK::new(k).approximate(exact_by_name),
    ];
    for way in ways {
        let found = bits(&search(&way, searcher, query).hits);
        assert_eq!(found, expected, "{way:?}");
    }
    if k > 0 {
        let collector = TopDocs::with_limit(k).order_by_score();
        let found = searcher.search(query, &collector).unwrap();
        assert_same_up_to_last_ties(&found, &reference, "TopDocs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(60)))]

    #[test]
    fn pruned_equals_exhaustive(plan in plan(), query_terms in 0u64..40) {
        let rng = &mut Rng(plan.seed | 1);
        let fields = Fields::with_bits(plan.bits);
        let documents = plan.documents(rng);
        let index = plan.index(&fields, &documents);
        assert_clean(&index);
        let searcher = searcher(&index);
        for _ in 0..3 {
            let topic = rng.below(plan.n_topics);
            let query = plan.vector(rng, topic, query_terms, 3.0);
            let query = LaconicQuery::new(&fields.laconic, query);
            for k in [0, 1, 2, 10, 100, 1000, 20_000] {
                assert_all_ways_agree(&searcher, &query, k);
            }
        }
    }
}

/// An ordered collection that is large enough for everything that starts with size.
fn large() -> (Fields, Plan, Index) {
    let plan = Plan {
        seed: 5,
        n_docs: 150_000,
        n_terms: 700,
        n_topics: 300,
        topic_terms: 30,
        doc_terms: 40,
        common_one_in: 6,
        shuffled: false,
        n_commits: 1,
        merged: false,
        deleted: 40,
        bits: 8,
        min_postings: 256,
        share: 0.25,
        by_tokenizer: false,
    };
    let fields = Fields::with_bits(plan.bits);
    let mut index = Index::builder()
        .schema(fields.schema.clone())
        .register_plugin(BoundsPlugin::default().min_postings(256).shared())
        .create_in_ram()
        .unwrap();
    register(&mut index).unwrap();
    let documents = plan.documents(&mut Rng(plan.seed));
    let mut writer =
        BulkWriter::new(&index, &fields.laconic, None, 20 * MIN_MEMORY_BUDGET).unwrap();
    for (ord, document) in (0..).zip(&documents) {
        writer.add(fields.document(ord), document).unwrap();
    }
    writer.commit(None).unwrap();
    writer.close().unwrap();
    fields.delete(&index, (0..plan.deleted).map(|n| n * 31));
    (fields, plan, index)
}

#[test]
fn large_ordered_segments_are_pruned_split_and_exact() {
    let (fields, plan, index) = large();
    let searcher = searcher(&index);
    assert_eq!(searcher.segment_readers().len(), 1);
    let rng = &mut Rng(77);
    for n_terms in [1, 20, 40, 200] {
        let topic = rng.below(plan.n_topics);
        let query = plan.vector(rng, topic, n_terms, 3.0);
        let query = LaconicQuery::new(&fields.laconic, query);
        for k in [1, 10, 1000] {
            assert_all_ways_agree(&searcher, &query, k);
        }
        let work = search(&LaconicTopK::new(10).always_bounded(), &searcher, &query).work;
        // A sweep passes over blocks that were evaluated before it.
        assert!(work.blocks_evaluated <= work.blocks + 32, "{work:?}");
        let exhaustive = search(&LaconicTopK::new(10).exhaustive(), &searcher, &query).work;
        assert_eq!(exhaustive.postings_scored, exhaustive.postings);
    }
}

#[test]
fn what_cannot_win_is_not_scored() {
    let fields = Fields::with_bits(8);
    let folder = tempfile::tempdir().unwrap();
    let index = create_in_dir(folder.path(), fields.schema.clone()).unwrap();
    let (dull, best) = (vector([("a", 0.25)]), vector([("a", 3.0)]));
    let documents = (0..150_000).map(|ord| (ord, if ord == 77_777 { &best } else { &dull }));
    let mut writer =
        BulkWriter::new(&index, &fields.laconic, None, 20 * MIN_MEMORY_BUDGET).unwrap();
    for (_, document) in documents {
        writer.add(TantivyDocument::default(), document).unwrap();
    }
    writer.commit(None).unwrap();
    writer.close().unwrap();
    let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
    let found = search(&LaconicTopK::new(1), &searcher(&index), &query);
    assert_eq!(found.hits, [(3.0, DocAddress::new(0, 77_777))]);
    assert_eq!(found.work.postings, 150_000);
    assert!(found.work.postings_scored < 200, "{:?}", found.work);
}

#[test]
fn approximations_keep_their_word() {
    let (fields, plan, index) = large();
    let searcher = searcher(&index);
    let rng = &mut Rng(99);
    let query = plan.vector(rng, 17, 40, 3.0);
    let query = LaconicQuery::new(&fields.laconic, query);
    let exact = exhaustive_top_k(&searcher, &query, 10).unwrap();
    let approximate = |approximation| {
        let top_k = LaconicTopK::new(10)
            .always_bounded()
            .approximate(approximation);
        search(&top_k, &searcher, &query)
    };

    let factor = 1.3;
    let found = approximate(Approximation {
        overestimate: Some(factor),
        ..Approximation::default()
    });
    let last = found.hits.last().unwrap().0;
    for hit in &exact {
        assert!(
            found.hits.contains(hit) || hit.0 <= last * factor,
            "{hit:?}"
        );
    }

    let found = approximate(Approximation {
        max_documents: Some(640),
        ..Approximation::default()
    });
    assert!(found.work.blocks_evaluated <= 10, "{:?}", found.work);
    assert_eq!(found.hits.len(), 10);
    assert!(exact.contains(&found.hits[0]), "{found:?}");

    // Scores of what is found are exact, whatever found it.
    let found = approximate(Approximation {
        query_terms: Some(8),
        ..Approximation::default()
    });
    let all = exhaustive_top_k(&searcher, &query, usize::MAX).unwrap();
    assert!(found.hits.iter().all(|hit| all.contains(hit)));

    let below_one = Approximation {
        overestimate: Some(0.9),
        ..Approximation::default()
    };
    let top_k = LaconicTopK::new(10).approximate(below_one);
    assert!(
        top_k
            .search(&searcher, &query)
            .unwrap_err()
            .is_invalid_input()
    );
}

/// Bounds whose file is sound but whose contents are not the postings' are found by `check`.
#[test]
fn check_compares_bounds_with_postings() {
    let fields = Fields::with_bits(8);
    let folder = tempfile::tempdir().unwrap();
    let documents = |weight| (0..3000).map(move |_| vector([("a", weight), ("b", 0.5)]));
    let file = |weight| {
        let folder = folder.path().join(format!("{weight}"));
        let index = create_in_dir(&folder, fields.schema.clone()).unwrap();
        let documents: Vec<_> = documents(weight).collect();
        fields.add_by_bulk(&index, (0..).zip(&documents));
        let metas = index.searchable_segment_metas().unwrap();
        let path = metas[0].relative_path(SegmentComponent::Custom("laconic".into()));
        (index, folder.join(path))
    };
    let (low, low_file) = file(1.0);
    let (high, high_file) = file(2.0);
    assert_clean(&low);
    assert_clean(&high);
    std::fs::copy(low_file, high_file).unwrap();
    let report = check(&high, &mut |_, _| {}).unwrap();
    let mut faults = report.problems.iter().map(|problem| &problem.fault);
    assert!(
        faults.any(|fault| fault.starts_with("superblock bounds of `a`")),
        "{report:?}"
    );
}

/// Postings and bounds are read without Tantivy's help: damage gives an error or wrong numbers,
/// never a panic. (`check` finds it: see `check.rs`.)
#[test]
fn damaged_postings_and_bounds_do_not_panic() {
    let fields = Fields::with_bits(8);
    let plan = Plan {
        seed: 3,
        n_docs: 3000,
        n_terms: 40,
        n_topics: 10,
        topic_terms: 8,
        doc_terms: 20,
        common_one_in: 4,
        shuffled: false,
        n_commits: 1,
        merged: false,
        deleted: 0,
        bits: 8,
        min_postings: 16,
        share: 4.0,
        by_tokenizer: false,
    };
    let folder = tempfile::tempdir().unwrap();
    let plugin = BoundsPlugin::default().min_postings(16).share(4.0);
    let mut index = Index::builder()
        .schema(fields.schema.clone())
        .register_plugin(plugin.shared())
        .create_in_dir(folder.path())
        .unwrap();
    register(&mut index).unwrap();
    let rng = &mut Rng(7);
    let documents = plan.documents(rng);
    fields.add_by_bulk(&index, (0..).zip(&documents));
    let query = LaconicQuery::new(&fields.laconic, plan.vector(rng, 3, 30, 3.0));
    let metas = index.searchable_segment_metas().unwrap();
    for component in [
        SegmentComponent::Custom("laconic".into()),
        SegmentComponent::Postings,
    ] {
        let path = folder.path().join(metas[0].relative_path(component));
        let sound = std::fs::read(&path).unwrap();
        for _ in 0..cases(300) {
            let mut damaged = sound.clone();
            for _ in 0..=rng.below(4) {
                // The end belongs to Tantivy, which does panic.
                let at = rng.below(sound.len() as u64 * 9 / 10) as usize;
                damaged[at] = rng.next() as u8;
            }
            replace_file(&path, &damaged);
            let reopened = Index::open_in_dir(folder.path()).unwrap();
            let searcher = searcher(&reopened);
            for k in [3, 500] {
                let ways = [LaconicTopK::new(k).always_bounded(), LaconicTopK::new(k)];
                for way in ways {
                    if let Ok(found) = way.search(&searcher, &query) {
                        assert!(found.hits.iter().all(|(score, _)| score.is_finite()));
                    }
                }
            }
        }
        replace_file(&path, &sound);
    }
}

/// Not in place: threads of the index opened before may still have the file mapped.
fn replace_file(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}
