//! The floor to compare with: every posting of every query term added into dense accumulators,
//! a window of documents at a time, and a binary heap of the best. Over Tantivy's own posting
//! lists, with nothing from `laconic-tantivy` but the field.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use laconic_tantivy::{ImpactQuantizer, SparseVector};
use tantivy::postings::BlockSegmentPostings;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentReader, Term};

/// Documents per window: accumulators that fit the second-level cache.
const WINDOW: u32 = 1 << 15;
/// Documents whose largest sum is looked at first.
const GROUP: usize = 64;

/// A query in integers.
#[derive(Debug, Clone)]
pub(super) struct PlainQuery {
    pub(super) field: Field,
    /// Terms with their query weights in fixed point.
    pub(super) terms: Vec<(Term, u32)>,
    /// Score of a sum of one.
    pub(super) unit: f32,
}

impl PlainQuery {
    /// As many fractional bits, up to 24, as leave room for the largest sum: the second
    /// description of what laconic's scores are, to which `--verify` holds the first.
    pub(super) fn new(field: Field, vector: &SparseVector, quantizer: ImpactQuantizer) -> Self {
        let max_impact = f64::from(quantizer.max_impact());
        let rounded = |factor: f64| {
            let weights = vector.iter().map(move |(_, weight)| f64::from(weight));
            weights.map(move |weight| (weight * factor).round().max(1.0))
        };
        let fits =
            |factor: f64| rounded(factor).sum::<f64>() * max_impact <= f64::from(0xff00_0000u32);
        let mut factor = f64::from(1u32 << 24);
        while factor > 1.0 && !fits(factor) {
            factor /= 2.0;
        }
        let terms = vector.iter().zip(rounded(factor));
        let terms = terms
            .map(|((term, _), weight)| (Term::from_field_text(field, term), whole(weight)))
            .collect();
        #[expect(clippy::cast_possible_truncation, reason = "a power of two")]
        let unit = (1.0 / (factor * f64::from(quantizer.scale()))) as f32;
        PlainQuery { field, terms, unit }
    }

    #[expect(clippy::cast_precision_loss, reason = "the one rounding of a score")]
    pub(super) fn score(&self, sum: u32) -> Score {
        sum as f32 * self.unit
    }

    /// The `k` best documents.
    pub(super) fn search(
        &self,
        searcher: &Searcher,
        k: usize,
    ) -> tantivy::Result<Vec<(Score, DocAddress)>> {
        let mut best = Best {
            k,
            heap: BinaryHeap::with_capacity(k + 1),
        };
        let mut sums = vec![0; WINDOW as usize];
        for (segment_ord, reader) in (0..).zip(searcher.segment_readers()) {
            let mut lists = self.lists(reader)?;
            for start in (0..reader.max_doc()).step_by(WINDOW as usize) {
                for list in &mut lists {
                    list.accumulate(start, &mut sums);
                }
                best.collect(segment_ord, start, &sums);
                sums.fill(0);
            }
        }
        let hits = best.heap.into_sorted_vec().into_iter();
        Ok(hits
            .map(|Reverse((sum, Reverse(address)))| (self.score(sum), address))
            .collect())
    }

    fn lists(&self, reader: &SegmentReader) -> tantivy::Result<Vec<List>> {
        let inverted_index = reader.inverted_index(self.field)?;
        let mut lists = Vec::with_capacity(self.terms.len());
        for (term, query_weight) in &self.terms {
            let option = IndexRecordOption::WithFreqs;
            if let Some(postings) = inverted_index.read_block_postings(term, option)? {
                lists.push(List {
                    postings,
                    idx: 0,
                    query_weight: *query_weight,
                });
            }
        }
        Ok(lists)
    }
}

/// A position in a posting list.
struct List {
    postings: BlockSegmentPostings,
    idx: usize,
    query_weight: u32,
}

impl List {
    /// Adds what lies in the window; the list stands at its start or later.
    fn accumulate(&mut self, start: DocId, sums: &mut [u32]) {
        let end = start + WINDOW;
        loop {
            let docs = self.postings.docs().get(self.idx..).unwrap_or_default();
            let freqs = self.postings.freqs().get(self.idx..).unwrap_or_default();
            let Some(&last) = docs.last() else { return };
            let n = match last < end {
                true => docs.len(),
                false => docs.partition_point(|&doc| doc < end),
            };
            for (&doc, &freq) in docs[..n].iter().zip(freqs) {
                if let Some(sum) = sums.get_mut((doc - start) as usize) {
                    *sum += freq * self.query_weight;
                }
            }
            if n < docs.len() {
                self.idx += n;
                return;
            }
            self.postings.advance();
            self.idx = 0;
        }
    }
}

/// A sum and a document; of equal sums the first document is the better.
type Hit = (u32, Reverse<DocAddress>);

/// The best so far, the worst of them on top.
struct Best {
    k: usize,
    heap: BinaryHeap<Reverse<Hit>>,
}

impl Best {
    fn collect(&mut self, segment_ord: u32, start: DocId, sums: &[u32]) {
        let mut threshold = self.threshold();
        for (group_start, group) in (start..).step_by(GROUP).zip(sums.chunks(GROUP)) {
            if group.iter().fold(0, |max, &sum| max.max(sum)) <= threshold {
                continue;
            }
            for (doc, &sum) in (group_start..).zip(group) {
                if sum > threshold {
                    let address = DocAddress::new(segment_ord, doc);
                    self.heap.push(Reverse((sum, Reverse(address))));
                    if self.heap.len() > self.k {
                        self.heap.pop();
                    }
                    threshold = self.threshold();
                }
            }
        }
    }

    fn threshold(&self) -> u32 {
        match self.heap.peek() {
            Some(Reverse((sum, _))) if self.heap.len() == self.k => *sum,
            _ => 0,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number that fits, or saturates"
)]
fn whole(rounded: f64) -> u32 {
    rounded as u32
}
