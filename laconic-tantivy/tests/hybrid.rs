//! Hybrid search returns, bit for bit, what scoring every part exhaustively returns.
//!
//! One case is a random collection with some twenty queries, each searched in eight ways and for
//! several sizes of the result: `LACONIC_CASES=10000 cargo test --release -p laconic-tantivy --test
//! hybrid` makes millions of comparisons.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a test may panic, and its numbers are small"
)]

mod common;

use std::collections::HashMap;
use std::ops::Bound;

use common::{
    Rng, assert_clean, assert_same_up_to_last_ties, cases, merge_all, plain_writer, searcher,
    vector,
};
use laconic_tantivy::{
    Approximation, Bm25, Bm25Query, BulkWriter, CachedFilter, HybridQuery, Identity, LaconicField,
    LaconicQuery, LaconicTopK, MIN_MEMORY_BUDGET, SparseVector, exhaustive_top_k, register,
};
use proptest::prelude::*;
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, EmptyQuery, Occur, PhraseQuery, Query, RangeQuery,
    TermQuery,
};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STRING, Schema, TEXT, TextFieldIndexing, TextOptions,
};
use tantivy::{DocAddress, Index, Score, Searcher, TantivyDocument, Term, doc};

struct Fields {
    schema: Schema,
    title: Field,
    body: Field,
    /// Without lengths.
    bare: Field,
    tag: Field,
    number: Field,
    laconic: LaconicField,
}

impl Fields {
    fn new() -> Fields {
        let mut schema = Schema::builder();
        let bare = TextFieldIndexing::default()
            .set_tokenizer("default")
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(false);
        Fields {
            title: schema.add_text_field("title", TEXT),
            body: schema.add_text_field("body", TEXT),
            bare: schema.add_text_field("bare", TextOptions::default().set_indexing_options(bare)),
            tag: schema.add_text_field("tag", STRING),
            number: schema.add_u64_field("number", FAST | INDEXED),
            laconic: LaconicField::add_to(&mut schema, "laconic", Identity::default()),
            schema: schema.build(),
        }
    }
}

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    n_docs: u64,
    n_words: u64,
    max_len: u64,
    n_terms: u64,
    ordered: bool,
    with_vectors: bool,
    with_bounds: bool,
    n_commits: u64,
    merged: bool,
    deleted: u64,
}

fn plan() -> impl Strategy<Value = Plan> {
    let text = (1u64..6000, 2u64..200, 1u64..60, 1u64..60);
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.8),
    );
    let life = (1u64..4, any::<bool>(), prop_oneof![Just(0), 0u64..2000]);
    (any::<u64>(), text, flags, life).prop_map(|(seed, text, flags, life)| Plan {
        seed,
        n_docs: text.0,
        n_words: text.1,
        max_len: text.2,
        n_terms: text.3,
        ordered: flags.0,
        with_vectors: flags.1,
        with_bounds: flags.2,
        n_commits: life.0,
        merged: life.1,
        deleted: life.2,
    })
}

impl Plan {
    /// Words of very different frequencies.
    fn word(&self, rng: &mut Rng, topic: u64) -> String {
        let spread = rng.unit() * rng.unit() * rng.unit();
        let word = (spread * self.n_words as f32) as u64;
        match rng.below(3) {
            0 => format!("w{}", (word + topic) % self.n_words),
            _ => format!("w{word}"),
        }
    }

    fn text(&self, rng: &mut Rng, topic: u64) -> String {
        // Lengths differ, and now and then a word is repeated more often than a byte counts.
        let n = rng.below(self.max_len) * if rng.below(20) == 0 { 5 } else { 1 };
        let mut words: Vec<String> = (0..n).map(|_| self.word(rng, topic)).collect();
        if rng.below(400) == 0 {
            words.extend(std::iter::repeat_n(
                "w0".to_owned(),
                250 + rng.below(20) as usize,
            ));
        }
        words.join(" ")
    }

    fn vector(&self, rng: &mut Rng, topic: u64, n: u64) -> SparseVector {
        let term = |rng: &mut Rng| match rng.below(3) {
            0 => rng.below(self.n_terms),
            _ => (topic * 7 + rng.below(1 + self.n_terms / 4)) % self.n_terms,
        };
        let pair = |rng: &mut Rng| (format!("t{}", term(rng)), 0.01 + rng.unit() * 3.0);
        let pairs: Vec<_> = (0..n).map(|_| pair(rng)).collect();
        vector(pairs)
    }

    fn topic(&self, rng: &mut Rng, doc: u64) -> u64 {
        match self.ordered {
            true => doc * 20 / self.n_docs,
            false => rng.below(20),
        }
    }

    fn index(&self, fields: &Fields, rng: &mut Rng) -> Index {
        let mut index = Index::create_in_ram(fields.schema.clone());
        if self.with_bounds {
            register(&mut index).unwrap();
        }
        let per_commit = self.n_docs.div_ceil(self.n_commits);
        let docs: Vec<u64> = (0..self.n_docs).collect();
        for docs in docs.chunks(per_commit as usize) {
            let writer = BulkWriter::new(&index, &fields.laconic, None, MIN_MEMORY_BUDGET).unwrap();
            let mut writer = writer.without_merges();
            for &doc in docs {
                let topic = self.topic(rng, doc);
                let document = self.document(fields, rng, doc, topic);
                let n = if self.with_vectors { rng.below(10) } else { 0 };
                writer.add(document, &self.vector(rng, topic, n)).unwrap();
            }
            writer.commit(None).unwrap();
            writer.close().unwrap();
        }
        self.delete(&index, fields, rng);
        if self.merged {
            merge_all(&index);
        }
        index
    }

    fn document(&self, fields: &Fields, rng: &mut Rng, doc: u64, topic: u64) -> TantivyDocument {
        // Tags of one document in 2, 4, 8 and so on.
        let tag = format!("tag{}", rng.next().trailing_zeros().min(12));
        doc!(
            fields.title => self.word(rng, topic),
            fields.body => self.text(rng, topic),
            fields.bare => self.text(rng, topic),
            fields.tag => tag,
            fields.number => doc,
        )
    }

    fn delete(&self, index: &Index, fields: &Fields, rng: &mut Rng) {
        let mut writer = plain_writer(index);
        for _ in 0..self.deleted {
            let doc = rng.below(self.n_docs);
            writer.delete_term(Term::from_field_u64(fields.number, doc));
        }
        writer.commit().unwrap();
        writer.wait_merging_threads().unwrap();
    }

    fn words(&self, fields: &Fields, rng: &mut Rng, field: Field) -> Bm25Query {
        let n = 1 + rng.below(6);
        let topic = rng.below(20);
        let word = |rng: &mut Rng| {
            let word = self.word(rng, topic);
            (Term::from_field_text(field, &word), 0.1 + rng.unit() * 2.0)
        };
        let words: Vec<_> = (0..n).map(|_| word(rng)).collect();
        let query = Bm25Query::new(words).unwrap();
        match rng.below(3) {
            0 => query,
            1 => query.with_parameters(Bm25::new(rng.unit() * 3.0, rng.unit()).unwrap()),
            _ => query
                .with_field_parameters(fields.body, Bm25::new(0.9, 0.4).unwrap())
                .with_field_parameters(fields.title, Bm25::new(0.0, 0.0).unwrap()),
        }
    }

    fn phrase(&self, fields: &Fields, rng: &mut Rng) -> Box<dyn Query> {
        let terms = (0..2).map(|_| Term::from_field_text(fields.body, &self.word(rng, 0)));
        Box::new(PhraseQuery::new(terms.collect()))
    }

    fn filter(&self, fields: &Fields, rng: &mut Rng) -> Box<dyn Query> {
        let number = |n| Term::from_field_u64(fields.number, n);
        match rng.below(6) {
            0 => Box::new(AllQuery),
            1 => Box::new(EmptyQuery),
            2 | 3 => {
                let tag = format!("tag{}", rng.below(8));
                let term = Term::from_field_text(fields.tag, &tag);
                Box::new(TermQuery::new(term, IndexRecordOption::Basic))
            }
            4 => {
                let start = rng.below(self.n_docs);
                let end = start + rng.below(self.n_docs);
                let (start, end) = (Bound::Included(number(start)), Bound::Excluded(number(end)));
                Box::new(RangeQuery::new(start, end))
            }
            _ => {
                let not = self.filter(fields, rng);
                let all: Box<dyn Query> = Box::new(AllQuery);
                Box::new(BooleanQuery::new(vec![
                    (Occur::Must, all),
                    (Occur::MustNot, not),
                ]))
            }
        }
    }

    fn query(&self, fields: &Fields, rng: &mut Rng) -> HybridQuery {
        let mut query = HybridQuery::new();
        if rng.below(5) > 0 {
            let (topic, n) = (rng.below(20), rng.below(30));
            let learned = LaconicQuery::new(&fields.laconic, self.vector(rng, topic, n));
            query = query.learned(learned, rng.unit() * 2.0).unwrap();
        }
        for field in [fields.body, fields.title, fields.bare] {
            if rng.below(2) > 0 {
                let words = self.words(fields, rng, field);
                query = query.words(words, rng.unit() * 2.0).unwrap();
            }
        }
        if rng.below(4) == 0 {
            query = query.clause(self.phrase(fields, rng), 1.5).unwrap();
        }
        if rng.below(2) == 0 {
            let filter = self.filter(fields, rng);
            query = query.filter(match rng.0 % 2 {
                0 => filter,
                _ => Box::new(CachedFilter::new(filter)),
            });
        }
        query
    }
}

fn bits(hits: &[(Score, DocAddress)]) -> Vec<(u32, DocAddress)> {
    let bits = |&(score, address): &(Score, DocAddress)| (score.to_bits(), address);
    hits.iter().map(bits).collect()
}

/// Every exact way to search for `k` documents, against the reference.
fn assert_all_ways_agree(searcher: &Searcher, query: &HybridQuery, k: usize) {
    let expected = exhaustive_top_k(searcher, query, k).unwrap();
    let exact_by_name = Approximation {
        query_terms: Some(1000),
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
        let found = way.search(searcher, query).unwrap();
        assert_eq!(bits(&found.hits), bits(&expected), "{way:?}");
    }
    let collector = TopDocs::with_limit(k).order_by_score();
    let found = searcher.search(query, &collector).unwrap();
    assert_same_up_to_last_ties(&found, &expected, "TopDocs");
    // Driven document by document, among other clauses.
    let driven = BooleanQuery::new(vec![
        (Occur::Must, Box::new(query.clone()) as Box<dyn Query>),
        (Occur::Should, Box::new(EmptyQuery)),
    ]);
    let found = searcher.search(&driven, &collector).unwrap();
    assert_same_up_to_last_ties(&found, &expected, "BooleanQuery");
}

/// Pages, by offset and behind the last hit, put together are the ranking.
fn assert_pages_join(searcher: &Searcher, query: &HybridQuery, rng: &mut Rng) {
    let all = exhaustive_top_k(searcher, query, usize::MAX).unwrap();
    let k = 1 + rng.below(40) as usize;
    let mut joined: Vec<(Score, DocAddress)> = Vec::new();
    for _ in 0..10 {
        let page = LaconicTopK::new(k).always_bounded();
        let by_offset = page.clone().offset(joined.len());
        let by_offset = by_offset.search(searcher, query).unwrap().hits;
        let behind = match joined.last() {
            Some(&(score, address)) => page.after(score, address),
            None => page,
        };
        let behind = behind.search(searcher, query).unwrap().hits;
        assert_eq!(bits(&by_offset), bits(&behind));
        joined.extend(behind);
    }
    assert_eq!(bits(&joined), bits(&all[..joined.len()]));
    assert_eq!(joined.len(), all.len().min(10 * k));
    if let Some((min_score, _)) = all.get(all.len() / 2) {
        let at_least = LaconicTopK::new(all.len()).min_score(*min_score);
        let found = at_least.search(searcher, query).unwrap().hits;
        let expected = all.iter().take_while(|(score, _)| score >= min_score);
        assert_eq!(bits(&found), bits(&expected.copied().collect::<Vec<_>>()));
    }
}

/// The sum of the parts as they score alone, in `f64`.
fn assert_is_the_sum_of_its_parts(
    searcher: &Searcher,
    parts: &[(&dyn Query, f32)],
    hits: &[(Score, DocAddress)],
) {
    let mut sums = HashMap::<DocAddress, f64>::new();
    for (query, factor) in parts {
        let everything = TopDocs::with_limit(1 << 20).order_by_score();
        for (score, address) in searcher.search(*query, &everything).unwrap() {
            *sums.entry(address).or_default() += f64::from(score) * f64::from(*factor);
        }
    }
    assert_eq!(sums.len(), hits.len());
    for (score, address) in hits {
        let expected = sums[address];
        let error = (f64::from(*score) - expected).abs();
        assert!(error <= 1e-5 * expected + 1e-5, "{score} is not {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(100)))]

    #[test]
    fn one_pass_equals_scoring_every_part_and_adding(plan in plan()) {
        let rng = &mut Rng(plan.seed | 1);
        let fields = Fields::new();
        let index = plan.index(&fields, rng);
        let searcher = searcher(&index);
        for _ in 0..20 {
            let query = plan.query(&fields, rng);
            for k in [1, 10, 100, 20_000] {
                assert_all_ways_agree(&searcher, &query, k);
            }
            assert_pages_join(&searcher, &query, rng);
            let n = searcher.search(&query, &Count).unwrap();
            prop_assert_eq!(n, exhaustive_top_k(&searcher, &query, usize::MAX).unwrap().len());
        }
        assert_clean(&index);
    }

    #[test]
    fn parts_score_as_they_do_alone(plan in plan()) {
        let rng = &mut Rng(plan.seed | 1);
        let fields = Fields::new();
        let index = plan.index(&fields, rng);
        let searcher = searcher(&index);
        let topic = rng.below(20);
        let learned = LaconicQuery::new(&fields.laconic, plan.vector(rng, topic, 20));
        let words: Vec<Term> = (0..4)
            .map(|_| Term::from_field_text(fields.body, &plan.word(rng, topic)))
            .collect();
        let mut distinct = words.clone();
        distinct.sort();
        distinct.dedup();
        let clause = |term: &Term| {
            let query = TermQuery::new(term.clone(), IndexRecordOption::WithFreqs);
            (Occur::Should, Box::new(query) as Box<dyn Query>)
        };
        let theirs = BooleanQuery::new(distinct.iter().map(clause).collect());
        let ours = Bm25Query::new(distinct.iter().map(|term| (term.clone(), 1.0))).unwrap();
        let of_query = Bm25Query::of_query(&theirs, &fields.schema).unwrap();
        prop_assert!(ours.terms().eq(of_query.terms()));
        let everything = LaconicTopK::new(1 << 20);
        let hits = everything.search(&searcher, &ours).unwrap().hits;
        assert_is_the_sum_of_its_parts(&searcher, &[(&theirs, 1.0)], &hits);

        let phrase = plan.phrase(&fields, rng);
        let query = HybridQuery::new()
            .learned(learned.clone(), 0.7).unwrap()
            .clause(Box::new(theirs.clone()), 0.3).unwrap()
            .clause(phrase.box_clone(), 2.0).unwrap();
        let hits = everything.search(&searcher, &query).unwrap().hits;
        let parts: [(&dyn Query, f32); 3] = [(&learned, 0.7), (&theirs, 0.3), (phrase.as_ref(), 2.0)];
        assert_is_the_sum_of_its_parts(&searcher, &parts, &hits);

        // What Tantivy does not let us look into is a clause like any other.
        let boosted = BoostQuery::new(Box::new(theirs.clone()), 0.3);
        let opaque = HybridQuery::new()
            .learned(learned.clone(), 0.7).unwrap()
            .clause(Box::new(boosted), 1.0).unwrap()
            .clause(phrase.box_clone(), 2.0).unwrap();
        let hits = everything.search(&searcher, &opaque).unwrap().hits;
        assert_is_the_sum_of_its_parts(&searcher, &parts, &hits);
    }
}

/// Deletes and new segments come between the queries that share a filter.
#[test]
fn a_remembered_filter_follows_the_index() {
    let rng = &mut Rng(77);
    let mut schema = Schema::builder();
    let laconic = LaconicField::add_to(&mut schema, "laconic", Identity::default());
    let number = schema.add_u64_field("number", INDEXED);
    let mut index = Index::create_in_ram(schema.build());
    register(&mut index).unwrap();
    let mut writer: tantivy::IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
    let below = |n| {
        let bound = |n| Term::from_field_u64(number, n);
        RangeQuery::new(Bound::Included(bound(0)), Bound::Excluded(bound(n)))
    };
    let filter = CachedFilter::new(Box::new(below(600)));
    let vector = SparseVector::from_pairs([("a", 1.0), ("b", 0.5)]).unwrap();
    let query = HybridQuery::from(LaconicQuery::new(&laconic, vector.clone()));
    let (remembering, plain) = (
        query.clone().filter(Box::new(filter.clone())),
        query.filter(Box::new(below(600))),
    );
    for round in 0..6 {
        for n in 0..200_u64 {
            let weights = [("a", rng.unit() + 0.1), ("b", rng.unit() + 0.1)];
            let vector = SparseVector::from_pairs(weights).unwrap();
            let mut document = TantivyDocument::default();
            document.add_u64(number, round * 200 + n);
            document.add_text(laconic.field(), vector.to_json());
            writer.add_document(document).unwrap();
        }
        for _ in 0..40 {
            writer.delete_term(Term::from_field_u64(number, rng.below(round * 200 + 200)));
        }
        writer.commit().unwrap();
        let searcher = searcher(&index);
        let expected = exhaustive_top_k(&searcher, &plain, 2_000).unwrap();
        for _ in 0..2 {
            for k in [1, 2_000] {
                let found = LaconicTopK::new(k).search(&searcher, &remembering).unwrap();
                let n = k.min(expected.len());
                assert_eq!(
                    bits(&found.hits),
                    bits(&expected[..n]),
                    "round {round}, k = {k}"
                );
            }
        }
    }
}

/// Large enough for everything that starts with size.
#[test]
fn large_segments_are_pruned_split_and_exact() {
    for ordered in [true, false] {
        let plan = Plan {
            seed: 11,
            n_docs: 140_000,
            n_words: 150,
            max_len: 12,
            n_terms: 60,
            ordered,
            with_vectors: true,
            with_bounds: true,
            n_commits: 1,
            // The writer's small budget makes several segments.
            merged: true,
            deleted: 300,
        };
        let rng = &mut Rng(plan.seed);
        let fields = Fields::new();
        let index = plan.index(&fields, rng);
        let searcher = searcher(&index);
        let mut n_pruned = 0;
        for _ in 0..8 {
            let query = plan.query(&fields, rng);
            for k in [1, 10, 100] {
                assert_all_ways_agree(&searcher, &query, k);
            }
            let work = LaconicTopK::new(10).search(&searcher, &query).unwrap().work;
            n_pruned += u32::from(work.blocks_evaluated > 0);
        }
        assert!(n_pruned > 2, "{n_pruned}");
    }
}
