//! Search returns exactly what evaluating every document in plain arithmetic returns: the same
//! documents, the same order, the same bits of every score.
//!
//! `LACONIC_CASES=1000000 cargo test --release -p laconic-tantivy --test exactness` for a night.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use common::{
    Fields, Model, Rng, cases, live_documents, merge, merge_all, ords, searcher, sort_hits, vector,
};
use laconic_fixtures::generate::{self, Vocabulary};
use laconic_tantivy::{ImpactQuantizer, LaconicQuery, SparseVector, exhaustive_top_k, register};
use proptest::prelude::*;
use tantivy::collector::{Count, DocSetCollector, TopDocs};
use tantivy::directory::RamDirectory;
use tantivy::query::{
    BooleanQuery, BoostQuery, EnableScoring, Occur, Query, QueryClone, Scorer, TermQuery,
};
use tantivy::schema::IndexRecordOption;
use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocAddress, DocId, Index, Searcher, SeekDangerResult, TERMINATED,
    Term,
};

// Strategies

/// Spelled so that the byte order of the terms is not the order of their numbers.
fn term(number: u32) -> String {
    match number % 3 {
        0 => format!("Ġ{number}"),
        1 => format!("{number}"),
        _ => format!("t{number}é"),
    }
}

/// Small numbers are frequent.
fn zipf(vocabulary: u32) -> impl Strategy<Value = u32> {
    (0.0f64..1.0).prop_map(move |u| (u * u * u * f64::from(vocabulary)) as u32)
}

/// Ordinary weights, those that vanish at 4 to 8 bits, those that are clipped, and whole steps.
fn document_weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => 0.0f32..4.0,
        1 => 0.0f32..0.02,
        1 => 3.9f32..50.0,
        2 => (1u8..=255).prop_map(|impact| f32::from(impact) / 64.0),
    ]
}

fn query_weight() -> impl Strategy<Value = f32> {
    prop_oneof![8 => 0.0f32..4.0, 1 => 1e-9f32..1e-6, 1 => 4.0f32..500.0, 1 => Just(1.0f32)]
}

fn document(vocabulary: u32, terms: Range<usize>) -> impl Strategy<Value = SparseVector> {
    let pairs = prop::collection::vec((zipf(vocabulary), document_weight()), terms);
    pairs.prop_map(|pairs| vector(pairs.into_iter().map(|(number, w)| (term(number), w))))
}

/// A tenth more terms than the vocabulary, so that some are unknown.
fn query(vocabulary: u32, terms: Range<usize>) -> impl Strategy<Value = SparseVector> {
    let pairs = prop::collection::vec(
        (zipf(vocabulary + vocabulary / 10 + 1), query_weight()),
        terms,
    );
    pairs.prop_map(|pairs| vector(pairs.into_iter().map(|(number, w)| (term(number), w))))
}

/// Terms that trip parsers over and weights at every edge, from the fixtures.
fn odd_document(vocabulary: Vocabulary) -> impl Strategy<Value = SparseVector> {
    generate::vector(vocabulary, 0..=20).prop_map(vector)
}

fn odd_query(vocabulary: Vocabulary) -> impl Strategy<Value = SparseVector> {
    let pair = (generate::term(vocabulary), query_weight());
    prop::collection::vec(pair, 1..20).prop_map(vector)
}

type Collection = (Vec<SparseVector>, Vec<SparseVector>);

/// Two terms in lists that cross blocks, few terms, the length of real vectors, and odd ones.
fn collection() -> impl Strategy<Value = Collection> {
    let sized = |vocabulary, documents, document_terms, query_terms| {
        (
            prop::collection::vec(document(vocabulary, document_terms), documents),
            prop::collection::vec(query(vocabulary, query_terms), 1..4),
        )
    };
    let odd = |vocabulary| {
        (
            prop::collection::vec(odd_document(vocabulary), 0..60),
            prop::collection::vec(odd_query(vocabulary), 1..4),
        )
    };
    prop_oneof![
        sized(2, 0..600, 0..3, 1..3),
        sized(12, 0..120, 0..6, 1..6),
        sized(600, 0..60, 0..40, 1..512),
        odd(Vocabulary::Odd),
        odd(Vocabulary::Large),
    ]
}

#[derive(Debug, Clone)]
enum Merge {
    Nothing,
    Everything,
    Every(usize),
}

/// How documents become an index.
#[derive(Debug, Clone)]
struct Layout {
    /// Commits end after these fractions of the documents.
    cuts: Vec<f64>,
    /// Whether the commits use the bulk writer, in turn.
    by_bulk: Vec<bool>,
    /// Every n-th document is deleted.
    delete_every: Option<usize>,
    merge: Merge,
    /// In files, and opened again.
    on_disk: bool,
    executor_threads: usize,
}

fn layout() -> impl Strategy<Value = Layout> {
    let merge = prop_oneof![
        Just(Merge::Nothing),
        Just(Merge::Everything),
        (2usize..4).prop_map(Merge::Every)
    ];
    (
        prop::collection::vec(0.0f64..1.0, 0..5),
        prop::collection::vec(any::<bool>(), 1..4),
        prop::option::of(1usize..8),
        merge,
        prop::bool::weighted(0.15),
        prop_oneof![4 => Just(1usize), 1 => Just(3usize)],
    )
        .prop_map(
            |(cuts, by_bulk, delete_every, merge, on_disk, executor_threads)| Layout {
                cuts,
                by_bulk,
                delete_every,
                merge,
                on_disk,
                executor_threads,
            },
        )
}

// Building

/// An index with the folder it lives in, if it lives in one.
struct Built {
    index: Index,
    _folder: Option<tempfile::TempDir>,
}

fn build(fields: &Fields, documents: &[SparseVector], layout: &Layout) -> Built {
    let folder = layout.on_disk.then(|| tempfile::tempdir().unwrap());
    let mut index = match &folder {
        Some(folder) => {
            laconic_tantivy::create_in_dir(folder.path(), fields.schema.clone()).unwrap()
        }
        None => fields.create(RamDirectory::create()),
    };
    add_in_commits(fields, &index, documents, layout);
    if let Some(n) = layout.delete_every {
        fields.delete(&index, (0..documents.len() as u64).step_by(n));
    }
    match layout.merge {
        Merge::Nothing => {}
        Merge::Everything => merge_all(&index),
        Merge::Every(n) => {
            let ids = index.searchable_segment_ids().unwrap();
            merge(&index, &ids.into_iter().step_by(n).collect::<Vec<_>>());
        }
    }
    if let Some(folder) = &folder {
        index = laconic_tantivy::open_in_dir(folder.path()).unwrap();
    }
    if layout.executor_threads > 1 {
        index
            .set_multithread_executor(layout.executor_threads)
            .unwrap();
    }
    Built {
        index,
        _folder: folder,
    }
}

fn add_in_commits(fields: &Fields, index: &Index, documents: &[SparseVector], layout: &Layout) {
    let mut ends: Vec<usize> = layout
        .cuts
        .iter()
        .map(|cut| (cut * documents.len() as f64) as usize)
        .collect();
    ends.push(documents.len());
    ends.sort_unstable();
    let mut start = 0;
    for (commit, end) in ends.into_iter().enumerate() {
        let part = (start as u64..).zip(&documents[start..end]);
        match layout.by_bulk[commit % layout.by_bulk.len()] {
            true => fields.add_by_bulk(index, part),
            false => fields.add_by_tokenizer(index, part),
        }
        start = end;
    }
}

// The model's answers

/// Every live match of `query`, best first, by the model.
fn expected_hits(
    searcher: &Searcher,
    documents: &[SparseVector],
    query: &SparseVector,
    quantizer: ImpactQuantizer,
) -> Vec<(f32, DocAddress)> {
    let model = Model::new(query, quantizer);
    let scored = live_documents(searcher)
        .into_iter()
        .filter_map(|(address, ord)| Some((model.score(&documents[ord as usize])?, address)));
    let mut hits: Vec<_> = scored.collect();
    sort_hits(&mut hits);
    hits
}

fn top(searcher: &Searcher, query: &dyn Query, k: usize) -> Vec<(f32, DocAddress)> {
    searcher
        .search(query, &TopDocs::with_limit(k).order_by_score())
        .unwrap()
}

/// Documents and bits of scores.
fn bits(hits: &[(f32, DocAddress)]) -> Vec<(u32, DocAddress)> {
    hits.iter()
        .map(|(score, address)| (score.to_bits(), *address))
        .collect()
}

/// Scores by document number, whatever the addresses.
fn scores_by_ord(index: &Index, query: &LaconicQuery) -> BTreeMap<u64, u32> {
    let searcher = searcher(index);
    let ords: HashMap<DocAddress, u64> = live_documents(&searcher).into_iter().collect();
    let hits = top(&searcher, query, ords.len().max(1));
    hits.into_iter()
        .map(|(score, address)| (ords[&address], score.to_bits()))
        .collect()
}

fn assert_top_k(searcher: &Searcher, query: &dyn Query, expected: &[(f32, DocAddress)]) {
    for k in [1, 10, 100, 1000] {
        let expected = &expected[..k.min(expected.len())];
        assert_eq!(bits(&top(searcher, query, k)), bits(expected), "k = {k}");
    }
}

fn assert_collectors_agree(searcher: &Searcher, query: &dyn Query, expected: &[(f32, DocAddress)]) {
    assert_eq!(searcher.search(query, &Count).unwrap(), expected.len());
    assert_eq!(query.count(searcher).unwrap(), expected.len());
    let found = searcher.search(query, &DocSetCollector).unwrap();
    assert_eq!(
        found,
        expected
            .iter()
            .map(|(_, address)| *address)
            .collect::<HashSet<_>>()
    );
    // Together, collectors are driven document by document and not by a threshold.
    let both = (Count, TopDocs::with_limit(10).order_by_score());
    let (count, hits) = searcher.search(query, &both).unwrap();
    assert_eq!(count, expected.len());
    assert_eq!(bits(&hits), bits(&expected[..expected.len().min(10)]));
}

fn assert_explained(searcher: &Searcher, query: &LaconicQuery, hit: (f32, DocAddress)) {
    let explanation = query.explain(searcher, hit.1).unwrap();
    assert_eq!(explanation.value().to_bits(), hit.0.to_bits());
    let json: serde_json::Value = serde_json::from_str(&explanation.to_pretty_json()).unwrap();
    let details = json["details"].as_array().unwrap();
    let sum: f64 = details
        .iter()
        .map(|detail| detail["value"].as_f64().unwrap())
        .sum();
    let score = f64::from(hit.0);
    assert!(
        (sum - score).abs() <= 1e-6 * score,
        "details sum to {sum}, the score is {score}"
    );

    let contributions = query.contributions(searcher, hit.1).unwrap();
    assert_eq!(contributions.len(), details.len());
    let shares: f64 = contributions.iter().map(|part| f64::from(part.share)).sum();
    assert!((shares - 1.0).abs() < 1e-5, "shares sum to {shares}");
    assert!(
        contributions
            .windows(2)
            .all(|w| w[0].contribution >= w[1].contribution)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(100)))]

    #[test]
    fn search_equals_brute_force(
        (documents, queries) in collection(), layout in layout(), number_of_bits in 4u8..=8,
    ) {
        let fields = Fields::with_bits(number_of_bits);
        let built = build(&fields, &documents, &layout);
        let searcher = searcher(&built.index);
        for query in queries {
            let quantizer = fields.laconic.identity().quantizer;
            let expected = expected_hits(&searcher, &documents, &query, quantizer);
            let query = LaconicQuery::new(&fields.laconic, query);
            let exhaustive = exhaustive_top_k(&searcher, &query, usize::MAX).unwrap();
            prop_assert_eq!(bits(&exhaustive), bits(&expected));
            assert_top_k(&searcher, &query, &expected);
            assert_collectors_agree(&searcher, &query, &expected);
            for hit in expected.iter().take(3).chain(expected.last()) {
                assert_explained(&searcher, &query, *hit);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(40)))]

    /// The scores of documents do not depend on their neighbours, nor on who wrote them.
    #[test]
    fn scores_survive_splitting_deleting_and_merging(
        (documents, queries) in collection(), one in layout(), other in layout(),
    ) {
        let fields = Fields::with_bits(8);
        let query = LaconicQuery::new(&fields.laconic, queries[0].clone());
        let whole = Layout { delete_every: None, ..one };
        let first = build(&fields, &documents, &whole);
        let second = build(&fields, &documents, &Layout { delete_every: None, ..other });
        let before = scores_by_ord(&first.index, &query);
        prop_assert_eq!(&before, &scores_by_ord(&second.index, &query));

        fields.delete(&first.index, (0..documents.len() as u64).step_by(3));
        let kept = before.into_iter().filter(|(ord, _)| ord % 3 != 0).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(&kept, &scores_by_ord(&first.index, &query));
        merge_all(&first.index);
        prop_assert_eq!(&kept, &scores_by_ord(&first.index, &query));
    }
}

// In company of other queries

/// The score of every match of `query`, by itself.
fn all_scores(searcher: &Searcher, query: &dyn Query) -> BTreeMap<DocAddress, f32> {
    let limit = (searcher.num_docs() as usize).max(1);
    top(searcher, query, limit)
        .into_iter()
        .map(|(score, address)| (address, score))
        .collect()
}

fn hits_of(scores: impl IntoIterator<Item = (DocAddress, f32)>) -> Vec<(f32, DocAddress)> {
    let mut hits: Vec<_> = scores
        .into_iter()
        .map(|(address, score)| (score, address))
        .collect();
    sort_hits(&mut hits);
    hits
}

fn boolean(clauses: &[(Occur, &dyn Query)]) -> BooleanQuery {
    BooleanQuery::new(
        clauses
            .iter()
            .map(|(occur, query)| (*occur, query.box_clone()))
            .collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(80)))]

    #[test]
    fn composes_with_tantivy_queries(
        (documents, queries) in collection(), layout in layout(),
        word in prop::sample::select(vec!["common", "red", "green", "blue", "absent"]),
        boost in 0.1f32..5.0,
    ) {
        use Occur::{Must, MustNot, Should};
        let fields = Fields::with_bits(8);
        let built = build(&fields, &documents, &layout);
        let searcher = searcher(&built.index);
        let laconic = LaconicQuery::new(&fields.laconic, queries[0].clone());
        let other = LaconicQuery::new(&fields.laconic, queries[queries.len() - 1].clone());
        let text = TermQuery::new(Term::from_field_text(fields.text, word), IndexRecordOption::WithFreqs);

        let quantizer = fields.laconic.identity().quantizer;
        let sparse: BTreeMap<DocAddress, f32> =
            expected_hits(&searcher, &documents, &queries[0], quantizer)
                .into_iter().map(|(score, address)| (address, score)).collect();
        let sparse_other = all_scores(&searcher, &other);
        let bm25 = all_scores(&searcher, &text);
        let sum = |a: &BTreeMap<DocAddress, f32>, b: &BTreeMap<DocAddress, f32>, address: &DocAddress| {
            a.get(address).copied().unwrap_or(0.0) + b.get(address).copied().unwrap_or(0.0)
        };
        let with = |required: &[&BTreeMap<DocAddress, f32>], b: &BTreeMap<DocAddress, f32>| {
            let in_all = sparse.keys().chain(b.keys()).filter(|a| required.iter().all(|r| r.contains_key(a)));
            let addresses: HashSet<DocAddress> = in_all.copied().collect();
            hits_of(addresses.into_iter().map(|address| (address, sum(&sparse, b, &address))))
        };
        let without_text = sparse.iter().filter(|(address, _)| !bm25.contains_key(address));
        let boosted = sparse.iter().map(|(address, score)| (*address, score * boost));

        for (clauses, expected) in [
            (vec![(Must, &laconic as &dyn Query), (Must, &text)], with(&[&sparse, &bm25], &bm25)),
            (vec![(Must, &text), (Should, &laconic)], with(&[&bm25], &bm25)),
            (vec![(Must, &laconic), (Should, &text)], with(&[&sparse], &bm25)),
            (vec![(Should, &laconic), (Should, &text)], with(&[], &bm25)),
            (vec![(Should, &laconic), (Should, &other)], with(&[], &sparse_other)),
            (vec![(Must, &laconic), (Must, &other)], with(&[&sparse, &sparse_other], &sparse_other)),
            (vec![(Must, &laconic), (MustNot, &text)], hits_of(without_text.map(|(a, s)| (*a, *s)))),
            (vec![(Must, &BoostQuery::new(laconic.box_clone(), boost))], hits_of(boosted)),
        ] {
            let query = boolean(&clauses);
            // Counting an intersection without deletes goes through `fill_bitset_block`.
            assert_top_k(&searcher, &query, &expected);
            assert_collectors_agree(&searcher, &query, &expected);
        }
    }
}

// The scorer by itself

#[derive(Debug, Clone)]
enum Step {
    Advance,
    Seek(u32),
    SeekDanger(u32),
    FillBuffer,
}

fn step() -> impl Strategy<Value = Step> {
    let distance = || prop_oneof![0u32..4, 0u32..200, 0u32..9000];
    prop_oneof![
        6 => Just(Step::Advance),
        4 => distance().prop_map(Step::Seek),
        2 => distance().prop_map(Step::SeekDanger),
        1 => Just(Step::FillBuffer),
    ]
}

/// A scorer beside the sorted list of what it has to give.
struct Walk<'a> {
    scorer: Box<dyn Scorer>,
    list: &'a [(DocId, f32)],
    /// Where in the list the scorer stands.
    at: usize,
}

impl Walk<'_> {
    fn doc(&self) -> DocId {
        self.list.get(self.at).map_or(TERMINATED, |(doc, _)| *doc)
    }

    fn go_to(&mut self, target: DocId) {
        self.at += self.list[self.at..].partition_point(|(doc, _)| *doc < target);
    }

    fn target(&self, distance: u32) -> DocId {
        self.doc().saturating_add(distance).min(TERMINATED)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Advance => {
                self.at = (self.at + 1).min(self.list.len());
                assert_eq!(self.scorer.advance(), self.doc());
            }
            Step::Seek(distance) => {
                let target = self.target(distance);
                self.go_to(target);
                assert_eq!(self.scorer.seek(target), self.doc());
            }
            Step::SeekDanger(distance) => self.seek_danger(self.target(distance)),
            Step::FillBuffer => self.fill_buffer(),
        }
    }

    /// Until it is found: in between the scorer may be in no valid state.
    fn seek_danger(&mut self, mut target: DocId) {
        self.go_to(target);
        while target < TERMINATED {
            match self.scorer.seek_danger(target) {
                SeekDangerResult::Found => {
                    assert_eq!(target, self.doc());
                    return;
                }
                SeekDangerResult::SeekLowerBound(bound) => {
                    assert!(target < bound && bound <= self.doc(), "{target} {bound}");
                    target = bound;
                }
            }
        }
        assert_eq!(self.scorer.seek(TERMINATED), TERMINATED);
        self.at = self.list.len();
    }

    fn fill_buffer(&mut self) {
        let mut buffer = [0; COLLECT_BLOCK_BUFFER_LEN];
        let n = self.scorer.fill_buffer(&mut buffer);
        let rest = &self.list[self.at..];
        let docs: Vec<DocId> = rest
            .iter()
            .take(buffer.len())
            .map(|(doc, _)| *doc)
            .collect();
        assert_eq!(buffer[..n], docs);
        self.at += n;
    }

    fn assert_in_step(&mut self, boost: f32) {
        assert_eq!(self.scorer.doc(), self.doc());
        if let Some((_, score)) = self.list.get(self.at) {
            let expected = (score * boost).to_bits();
            assert_eq!(self.scorer.score().to_bits(), expected);
            assert_eq!(self.scorer.score().to_bits(), expected, "asked twice");
        }
    }

    fn assert_stays_terminated(&mut self) {
        assert_eq!(self.scorer.seek(TERMINATED), TERMINATED);
        for _ in 0..3 {
            assert_eq!(self.scorer.advance(), TERMINATED);
            assert_eq!(self.scorer.seek(TERMINATED), TERMINATED);
            let result = self.scorer.seek_danger(TERMINATED);
            assert_eq!(result, SeekDangerResult::SeekLowerBound(TERMINATED));
            assert_eq!(
                self.scorer.fill_buffer(&mut [0; COLLECT_BLOCK_BUFFER_LEN]),
                0
            );
            assert_eq!(self.scorer.count_including_deleted(), 0);
            assert_eq!(self.scorer.doc(), TERMINATED);
        }
    }
}

/// Walks the scorer of every segment.
fn walk(
    searcher: &Searcher,
    documents: &[SparseVector],
    query: &LaconicQuery,
    quantizer: ImpactQuantizer,
    steps: &[Step],
) {
    let model = Model::new(query.vector(), quantizer);
    let weight = query
        .weight(EnableScoring::enabled_from_searcher(searcher))
        .unwrap();
    let boost = 1.5;
    for reader in searcher.segment_readers() {
        let scored = (0..).zip(ords(reader));
        let list: Vec<(DocId, f32)> = scored
            .filter_map(|(doc, ord)| Some((doc, model.score(&documents[ord as usize])?)))
            .collect();
        let scorer = || weight.scorer(reader, boost).unwrap();
        assert_eq!(scorer().count_including_deleted() as usize, list.len());
        assert!(scorer().size_hint() <= reader.max_doc());
        let mut walk = Walk {
            scorer: scorer(),
            list: &list,
            at: 0,
        };
        walk.assert_in_step(boost);
        for step in steps {
            walk.step(step);
            walk.assert_in_step(boost);
        }
        walk.assert_stays_terminated();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(100)))]

    #[test]
    fn scorer_walks_like_a_sorted_list(
        (documents, queries) in collection(), layout in layout(),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let fields = Fields::with_bits(8);
        let built = build(&fields, &documents, &layout);
        let searcher = searcher(&built.index);
        let quantizer = fields.laconic.identity().quantizer;
        for query in queries {
            let query = LaconicQuery::new(&fields.laconic, query);
            walk(&searcher, &documents, &query, quantizer, &steps);
        }
    }
}

/// Enough documents for several windows of the sweep and of the scorer, with lists of every
/// density, long gaps among them.
#[test]
fn segments_of_several_windows() {
    let mut rng = Rng(1);
    let documents: Vec<SparseVector> = (0..100_000u64)
        .map(|ord| sparse_in_places(ord, &mut rng))
        .collect();
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    fields.add_by_bulk(&index, (0..).zip(&documents));
    merge_all(&index);
    assert_eq!(index.searchable_segment_ids().unwrap().len(), 1);
    fields.delete(&index, (0..documents.len() as u64).step_by(1000));
    let searcher = searcher(&index);
    let quantizer = fields.laconic.identity().quantizer;
    for terms in [
        vec!["half"],
        vec!["rare"],
        vec!["clustered", "rare"],
        vec!["half", "rare", "clustered", "last", "no"],
    ] {
        let query = vector(terms.into_iter().zip([1.0, 0.3, 2.5, 0.7, 1.0]));
        let expected = expected_hits(&searcher, &documents, &query, quantizer);
        let query = LaconicQuery::new(&fields.laconic, query);
        assert_top_k(&searcher, &query, &expected);
        assert_collectors_agree(&searcher, &query, &expected);
        for seed in 0..10 {
            walk(
                &searcher,
                &documents,
                &query,
                quantizer,
                &random_steps(&mut Rng(seed)),
            );
        }
    }
}

fn sparse_in_places(ord: u64, rng: &mut Rng) -> SparseVector {
    let mut pairs = Vec::new();
    let mut with = |term, present: bool| {
        if present {
            pairs.push((term, 0.01 + 4.0 * rng.unit()));
        }
    };
    with(
        "half",
        ord.is_multiple_of(2) && !(20_000..70_000).contains(&ord),
    );
    with("rare", ord % 4_999 == 17);
    with("clustered", (33_000..33_500).contains(&ord) || ord > 99_000);
    with("last", ord == 99_999);
    vector(pairs)
}

fn random_steps(rng: &mut Rng) -> Vec<Step> {
    let step = |rng: &mut Rng| match rng.below(7) {
        0..=2 => Step::Advance,
        3 => Step::Seek(rng.below(5) as u32),
        4 => Step::Seek(rng.below(10_000) as u32),
        5 => Step::SeekDanger(rng.below(3_000) as u32),
        _ => Step::FillBuffer,
    };
    (0..200).map(|_| step(rng)).collect()
}

/// Nothing to find is an answer, not a failure.
#[test]
fn empty_queries_and_empty_indices() {
    let fields = Fields::with_bits(8);
    let mut index = fields.create(RamDirectory::create());
    let some = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
    let none = LaconicQuery::new(&fields.laconic, SparseVector::default());
    assert!(top(&searcher(&index), &some, 10).is_empty());
    fields.add_by_bulk(
        &index,
        [(0, &vector([("a", 1.0)])), (1, &SparseVector::default())],
    );
    register(&mut index).unwrap();
    assert_eq!(top(&searcher(&index), &some, 10).len(), 1);
    assert_collectors_agree(&searcher(&index), &none, &[]);
    assert!(
        none.explain(&searcher(&index), DocAddress::new(0, 0))
            .is_err()
    );
    assert!(
        some.explain(&searcher(&index), DocAddress::new(0, 1))
            .is_err()
    );
}

/// An address that no document has is answered, not guessed.
#[test]
fn contributions_of_a_document_that_is_not_there() {
    let fields = Fields::with_bits(8);
    let index = fields.create(RamDirectory::create());
    fields.add_by_bulk(&index, [(0, &vector([("a", 1.0)]))]);
    let query = LaconicQuery::new(&fields.laconic, vector([("a", 1.0)]));
    let searcher = searcher(&index);
    for address in [
        DocAddress::new(1, 0),
        DocAddress::new(0, 1),
        DocAddress::new(0, TERMINATED),
    ] {
        let error = query
            .contributions(&searcher, address)
            .expect_err("no such document");
        assert!(error.is_invalid_input(), "{address:?}: {error}");
    }
}
