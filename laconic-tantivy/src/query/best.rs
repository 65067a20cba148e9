//! [`Best`]: the `k` best documents so far, and the smallest sum that still matters.

use std::cmp::{Ordering, Reverse};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use tantivy::{DocAddress, DocId, Score, SegmentOrdinal};

use super::collect::{Collect, for_each_at_least};
use super::filter::Admission;
use super::fixed_point::ScoreOf;

/// Where one in so many documents passes a filter, those that do are looked at one by one.
const FEW: u32 = 2;

/// A document of the result; larger is better: higher score, then lower address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hit {
    /// Bits of the score: scores are positive, so they are ordered like their bits.
    score: u32,
    segment: SegmentOrdinal,
    doc: DocId,
}

impl Ord for Hit {
    fn cmp(&self, other: &Hit) -> Ordering {
        let key = |hit: &Hit| (hit.score, Reverse((hit.segment, hit.doc)));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Hit) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Collects documents by their sums. What it returns does not depend on the order in which
/// documents come, as long as each comes once.
pub(crate) struct Best<'a> {
    k: usize,
    score_of: ScoreOf,
    /// The threshold of all threads of a search.
    shared: &'a AtomicU32,
    segment: SegmentOrdinal,
    admission: Admission<'a>,
    /// At least the `k` best so far, once there are as many; fewer than `capacity`.
    hits: Vec<Hit>,
    capacity: usize,
    /// The `k`-th best so far; what is not better is out.
    worst: Option<Hit>,
    /// No smaller sum can get in.
    min_sum: u32,
    /// Only what comes after this can get in.
    after: Option<Hit>,
}

impl<'a> Best<'a> {
    /// An empty result of `k` documents, `k` at least 1. `shared` is the threshold of all threads
    /// of a search, 1 at first.
    pub(crate) fn new(k: usize, score_of: ScoreOf, shared: &'a AtomicU32) -> Best<'a> {
        Best {
            k,
            score_of,
            shared,
            segment: 0,
            admission: Admission::default(),
            hits: Vec::new(),
            // Pruning at twice `k` costs a constant per hit; a small `k` wants a sharp threshold.
            capacity: k.saturating_mul(2).max(16),
            worst: None,
            min_sum: 1,
            after: None,
        }
    }

    /// Only documents that come after this one.
    pub(crate) fn start_after(&mut self, score: Score, address: DocAddress) {
        self.after = Some(Hit {
            score: score.to_bits(),
            segment: address.segment_ord,
            doc: address.doc_id,
        });
    }

    /// Only documents with at least this score.
    pub(crate) fn start_at_score(&mut self, min_score: Score) {
        let min_sum = self.score_of.smallest_sum_above(min_score.next_down());
        self.min_sum = self.min_sum.max(min_sum.unwrap_or(u32::MAX));
    }

    /// From here on, documents are of this segment.
    pub(crate) fn enter_segment(&mut self, segment: SegmentOrdinal, admission: Admission<'a>) {
        self.segment = segment;
        self.admission = admission;
    }

    /// Ends with the current segment.
    ///
    /// # Errors
    /// What went wrong in its filter.
    pub(crate) fn leave_segment(&mut self) -> tantivy::Result<()> {
        self.admission.take_error().map_or(Ok(()), Err)
    }

    /// Takes over the documents of another thread.
    pub(crate) fn merge(&mut self, other: Best<'_>) {
        for hit in other.hits {
            self.push(hit);
        }
    }

    /// Offers a document of the current segment.
    #[inline]
    pub(crate) fn offer(&mut self, doc: DocId, sum: u32) {
        self.push(Hit {
            score: self.score_of.score(sum).to_bits(),
            segment: self.segment,
            doc,
        });
    }

    #[inline]
    fn push(&mut self, hit: Hit) {
        if self.worst.is_none_or(|worst| hit > worst) && self.after.is_none_or(|after| hit < after)
        {
            self.hits.push(hit);
            if self.hits.len() >= self.capacity {
                self.settle();
            }
        }
    }

    /// Drops all but the `k` best and sharpens the threshold.
    fn settle(&mut self) {
        if self.hits.len() < self.k {
            return;
        }
        let better_first = |a: &Hit, b: &Hit| b.cmp(a);
        let (_, worst, _) = self.hits.select_nth_unstable_by(self.k - 1, better_first);
        let worst = *worst;
        self.hits.truncate(self.k);
        if self.worst.is_none_or(|before| worst > before) {
            self.worst = Some(worst);
            let score = Score::from_bits(worst.score);
            let min_sum = self.score_of.smallest_sum_near(score);
            self.shared.fetch_max(min_sum, Relaxed);
            self.min_sum = self.min_sum.max(min_sum);
        }
    }

    /// Offers the documents whose sums lie between `low` and `high`, both included.
    fn collect_between(&mut self, start: DocId, sums: &[u32], low: u32, high: u32) {
        let few = self.admission.docs_per_admitted >= FEW;
        if let Some(mask) = self.admission.mask().filter(|_| few) {
            let end = start.saturating_add(u32::try_from(sums.len()).unwrap_or(u32::MAX));
            for doc in mask.docs(start..end) {
                let sum = sums.get((doc - start) as usize).copied().unwrap_or(0);
                if sum >= low.max(self.min_sum) && sum <= high {
                    self.offer(doc, sum);
                }
            }
            return;
        }
        for_each_at_least(low.max(self.min_sum), start, sums, |doc, sum| {
            if sum <= high && self.admission.admits(doc) {
                self.offer(doc, sum);
            }
            low.max(self.min_sum)
        });
    }

    /// Best first.
    pub(crate) fn take_hits(&mut self) -> Vec<(Score, DocAddress)> {
        self.settle();
        let mut hits = std::mem::take(&mut self.hits);
        hits.sort_unstable_by(|a, b| b.cmp(a));
        let address = |hit: Hit| DocAddress::new(hit.segment, hit.doc);
        hits.into_iter()
            .map(|hit| (Score::from_bits(hit.score), address(hit)))
            .collect()
    }
}

impl Collect for Best<'_> {
    #[inline]
    fn min_sum(&self) -> u32 {
        self.min_sum
    }

    fn collect(&mut self, start: DocId, sums: &[u32]) {
        self.min_sum = self.min_sum.max(self.shared.load(Relaxed));
        let missing = self.k.saturating_sub(self.hits.len());
        let n_to_offer = missing.saturating_mul(self.admission.docs_per_admitted.max(1) as usize);
        if self.worst.is_none() && missing > 0 && sums.len() / 4 >= n_to_offer {
            // Filling up with the first documents as they come would collect and drop most of
            // them again.
            let guess = guess_threshold(sums, n_to_offer).max(self.min_sum);
            self.collect_between(start, sums, guess, u32::MAX);
            self.settle();
            if self.min_sum < guess {
                self.collect_between(start, sums, self.min_sum, guess - 1);
            }
        } else {
            self.collect_between(start, sums, self.min_sum, u32::MAX);
        }
        if self.worst.is_none() || self.hits.len() > self.k + self.k / 8 {
            self.settle();
        }
    }

    fn min_sum_among(&self, lower_bounds: &mut Vec<u32>) -> u32 {
        // Which of them come behind `after` is not known yet.
        if self.after.is_some() || self.k > lower_bounds.len() {
            return self.min_sum;
        }
        let (_, worst, _) = lower_bounds.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        let score = self.score_of.score(*worst);
        self.min_sum.max(self.score_of.smallest_sum_near(score))
    }

    fn takes_any_order(&self) -> bool {
        true
    }

    fn n_wanted(&self) -> usize {
        self.k
    }

    fn n_to_offer(&self) -> usize {
        match self.admission.docs_per_admitted {
            // What a mask does not have is not even offered.
            _ if self.admission.mask().is_some() => self.k,
            0 | 1 => self.k,
            // A few more: not every so manieth is.
            n => (self.k + self.k.isqrt()).saturating_mul(n as usize),
        }
    }
}

/// A sum that about `n` of `sums` reach, from a sample.
fn guess_threshold(sums: &[u32], n: usize) -> u32 {
    const STEP: usize = 8;
    let mut sample: Vec<u32> = sums.iter().copied().step_by(STEP).collect();
    // A little lower than the sample says, so that a second look is rarely needed.
    let rank = n / STEP + n / (2 * STEP) + 4;
    if rank >= sample.len() {
        return 1;
    }
    let (_, guess, _) = sample.select_nth_unstable_by(rank, |a, b| b.cmp(a));
    (*guess).max(1)
}
