//! Hybrid search: learned-sparse impacts and BM25 together, as one ranking.

use anyhow::Result;
use laconic_tantivy::{
    FusedHit, Fusion, FusionPart, HybridQuery, LaconicQuery, RankedList, SparseVector,
    complete_lists,
};
use tantivy::query::{ConstScoreQuery, EnableScoring, Query, Weight};
use tantivy::{DocAddress, DocSet, Score, Searcher, TERMINATED};

use crate::corpus::Found;
use crate::paging::Page;
use crate::retrieval::{MAX_K, Question, Retriever};

/// The two lists, in the order in which [`FusionPart`]s come.
pub const LISTS: [&str; 2] = ["sparse", "bm25"];

/// How the two rankings become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hybrid {
    /// The formula.
    pub fusion: Fusion,
    /// Weights of the learned-sparse and the BM25 list.
    pub weights: [f64; 2],
    /// Documents fetched per list; [`candidates`](Hybrid::candidates) if not given.
    pub candidates: Option<usize>,
    /// Whether a document that only one list holds is scored by the other, too.
    pub rescore_missing: bool,
    /// Whether hits of a [weighted sum](Fusion::WeightedSum) are to tell what each list adds,
    /// which takes a search for each list more. Other fusions always do.
    pub with_parts: bool,
}

impl Default for Hybrid {
    /// The plain sum.
    fn default() -> Hybrid {
        Hybrid {
            fusion: Fusion::WeightedSum,
            weights: [1.0; 2],
            candidates: None,
            rescore_missing: false,
            with_parts: false,
        }
    }
}

/// A document of one searcher, known by its id. Fused hits of equal score come in order of ids.
pub(crate) type Candidate = (String, DocAddress);

impl Hybrid {
    /// Documents fetched per list for `k` hits of the result: 10 for each, at least 100. They do
    /// not depend on the page asked for, or else every page would be of another ranking.
    pub fn candidates(&self, k: usize) -> usize {
        self.candidates
            .unwrap_or_else(|| k.saturating_mul(10).clamp(100, MAX_K))
    }

    /// True if the scores are Σ weight × score whatever was retrieved, so that score and address
    /// tell a place in the ranking. Other fused scores belong to the lists they were made from.
    pub fn ranks_by_score(&self) -> bool {
        self.fusion == Fusion::WeightedSum
    }

    /// A page of the fused ranking, without the document of id `excluded`.
    pub(crate) fn page(
        &self,
        retriever: &Retriever<'_>,
        question: &Question,
        page: &Page,
        excluded: Option<&str>,
    ) -> Result<Vec<Found>> {
        let sides = AskedSides::of(retriever, question)?;
        if self.ranks_by_score() {
            let mut found = retriever.search(&self.sum(&sides)?, page)?;
            if self.with_parts {
                self.add_parts(retriever, &sides, page, &mut found)?;
            }
            return Ok(found);
        }
        let mut lists = sides.retrieve(retriever, self.candidates(page.k), excluded)?;
        if self.rescore_missing {
            sides.complete(&retriever.searcher, &mut lists)?;
        }
        let fused = self.fusion.fuse(&self.weighted(lists)?, page.depth())?;
        Ok(
            page.cut(fused.into_iter().map(found).collect(), |hit: &Found| {
                hit.score
            }),
        )
    }

    /// Σ weight × score in one pass: every document that either side matches takes part, none of
    /// them through lists of candidates.
    pub(crate) fn sum(&self, sides: &AskedSides) -> Result<HybridQuery> {
        #[expect(clippy::cast_possible_truncation, reason = "scores are of 32 bits too")]
        let [sparse, bm25] = self.weights.map(|weight| weight as Score);
        let query = sides.bm25.clone().scaled(bm25)?;
        Ok(sides.filtered(query.learned(sides.sparse.clone(), sparse)?))
    }

    fn weighted(
        &self,
        lists: [RankedList<Candidate>; 2],
    ) -> Result<Vec<RankedList<Candidate>>, laconic_tantivy::Error> {
        let lists = lists.into_iter().zip(self.weights);
        lists
            .map(|(list, weight)| list.with_weight(weight))
            .collect()
    }

    /// Tells what each list adds to hits of a weighted sum: the rank if the list's candidates
    /// hold the document, and the score however far down it is.
    fn add_parts(
        &self,
        retriever: &Retriever<'_>,
        sides: &AskedSides,
        page: &Page,
        hits: &mut [Found],
    ) -> Result<()> {
        let lists = sides.retrieve(retriever, self.candidates(page.k), None)?;
        let addresses: Vec<DocAddress> = hits.iter().map(|hit| hit.address).collect();
        for ((list, query), weight) in lists.iter().zip(sides.queries()).zip(self.weights) {
            let scores = scores_of(&retriever.searcher, query, &addresses)?;
            for (hit, score) in hits.iter_mut().zip(scores) {
                let mut ranks = list.retrieved().iter().zip(1..);
                let rank = ranks.find(|((candidate, _), _)| candidate.1 == hit.address);
                let value = score.map_or(0.0, f64::from);
                hit.parts.push(FusionPart {
                    rank: rank.map(|(_, rank)| rank),
                    score,
                    is_rescored: rank.is_none() && score.is_some(),
                    normalized: value,
                    weight,
                    contribution: weight * value,
                });
            }
        }
        Ok(())
    }
}

/// What a question asks of each side; made once per question, for encoding is slow.
pub(crate) struct AskedSides {
    sparse: LaconicQuery,
    bm25: HybridQuery,
    /// What the text of the question demands, beside the filter of the search.
    filter: Option<Box<dyn Query>>,
}

impl AskedSides {
    pub(crate) fn of(retriever: &Retriever<'_>, question: &Question) -> Result<AskedSides> {
        let parsed = retriever.parsed(question)?;
        let is_filter_alone =
            parsed.words.is_empty() && parsed.clauses.is_empty() && parsed.text.trim().is_empty();
        let sparse = match question.vector {
            Some(_) => retriever.sparse_query(question)?,
            None if parsed.text.trim().is_empty() => {
                LaconicQuery::new(retriever.corpus.require_laconic()?, SparseVector::default())
            }
            None => retriever.encoded_query(&parsed.text)?,
        };
        let words = retriever.words(parsed.words)?;
        let mut bm25 = HybridQuery::new().words(words, 1.0)?;
        for clause in parsed.clauses {
            bm25 = bm25.clause(clause, 1.0)?;
        }
        if let (Some(filter), true) = (&parsed.filter, is_filter_alone) {
            // All that pass are as good.
            let all = ConstScoreQuery::new(filter.box_clone(), 1.0);
            bm25 = bm25.clause(Box::new(all), 1.0)?;
        }
        Ok(AskedSides {
            sparse,
            bm25,
            filter: parsed.filter,
        })
    }

    fn queries(&self) -> [&dyn Query; 2] {
        [&self.sparse, &self.bm25]
    }

    fn filtered(&self, query: HybridQuery) -> HybridQuery {
        match &self.filter {
            Some(filter) => query.filter(filter.box_clone()),
            None => query,
        }
    }

    /// The best `n_candidates` of each side, without the document of id `excluded`.
    pub(crate) fn retrieve(
        &self,
        retriever: &Retriever<'_>,
        n_candidates: usize,
        excluded: Option<&str>,
    ) -> Result<[RankedList<Candidate>; 2]> {
        // One more, for the document left out may be among them.
        let depth = n_candidates.saturating_add(usize::from(excluded.is_some()));
        let page = Page::first(depth);
        let list = |name: &str, found: Vec<Found>| {
            let found = found.into_iter();
            let others = found.filter(|hit| Some(hit.id.as_str()) != excluded);
            let others = others.take(n_candidates);
            RankedList::new(name, others.map(|hit| ((hit.id, hit.address), hit.score)))
        };
        let sparse = self.filtered(self.sparse.clone().into());
        let sparse = retriever.search(&sparse, &page)?;
        let bm25 = retriever.search(&self.filtered(self.bm25.clone()), &page)?;
        Ok([list(LISTS[0], sparse)?, list(LISTS[1], bm25)?])
    }

    /// Has each side score the candidates of the other.
    pub(crate) fn complete(
        &self,
        searcher: &Searcher,
        lists: &mut [RankedList<Candidate>; 2],
    ) -> Result<()> {
        complete_lists(lists, |idx, candidates| {
            let addresses = candidates.iter().map(|(_, address)| *address);
            scores_of(
                searcher,
                self.queries()[idx],
                &addresses.collect::<Vec<_>>(),
            )
        })
    }
}

/// The scores of some documents, `None` for those that do not match.
fn scores_of(
    searcher: &Searcher,
    query: &dyn Query,
    addresses: &[DocAddress],
) -> Result<Vec<Option<Score>>> {
    let weight = query.weight(EnableScoring::enabled_from_searcher(searcher))?;
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_unstable_by_key(|idx| addresses[*idx]);
    let mut scores = vec![None; addresses.len()];
    for of_segment in order.chunk_by(|a, b| addresses[*a].segment_ord == addresses[*b].segment_ord)
    {
        score_segment(
            searcher,
            weight.as_ref(),
            addresses,
            of_segment,
            &mut scores,
        )?;
    }
    Ok(scores)
}

/// As [`scores_of`], for documents of one segment, ascending.
fn score_segment(
    searcher: &Searcher,
    weight: &dyn Weight,
    addresses: &[DocAddress],
    order: &[usize],
    scores: &mut [Option<Score>],
) -> Result<()> {
    let Some(first) = order.first() else {
        return Ok(());
    };
    let reader = searcher.segment_reader(addresses[*first].segment_ord);
    let mut scorer = weight.scorer(reader, 1.0)?;
    for idx in order {
        let doc = addresses[*idx].doc_id;
        if scorer.doc() != TERMINATED && scorer.doc() < doc {
            scorer.seek(doc);
        }
        if scorer.doc() == doc {
            scores[*idx] = Some(scorer.score());
        }
    }
    Ok(())
}

fn found(hit: FusedHit<Candidate>) -> Found {
    let (id, address) = hit.id;
    #[expect(clippy::cast_possible_truncation, reason = "scores are of 32 bits")]
    let score = hit.score as Score;
    Found {
        id,
        score,
        address,
        parts: hit.parts,
    }
}
