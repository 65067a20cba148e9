//! [`bisect`]: an order of documents in which those with the same terms stand together.
//!
//! Recursive graph bisection: Dhulipala et al., *Compressing graphs and indexes with recursive
//! graph bisection*, KDD 2016; made fast as in Mackenzie et al., *Faster index reordering with
//! bipartite graph partitioning*, SIGIR 2021. The documents are cut into two halves, and pairs
//! change sides as long as that shortens the gaps that posting lists are expected to have; then
//! each half is cut in the same way.

use rayon::prelude::*;

use crate::Error;

/// Partitions of at most so many documents stay as they are: their gaps take a few bits in any
/// order, and a block of bounds has 64 documents.
const LEAF: usize = 16;
/// Rounds of exchange per partition. Twice as many gain a hundredth.
const MAX_ROUNDS: usize = 20;
/// A partition is settled when a round moves less than one document in so many.
const SETTLED: usize = 1000;
/// Of the pairs that would gain by changing sides, one in so many does, the best; all in the first
/// round. If all did every time, documents that attract each other would pass each other by,
/// round after round.
const DAMPING: usize = 3;
/// A term of fewer documents of a partition tells nothing about how to order it: two documents
/// would pull nobody but each other, and away from the rest.
pub(crate) const MIN_DOC_FREQ: u32 = 3;
/// Work on fewer documents is not worth sharing among threads.
const SHARED: usize = 4096;
/// Marks a term that tells nothing about the order.
const MUTE: u32 = u32::MAX;

/// The terms of each document.
pub(crate) struct Forward {
    /// For each document, the end of its terms.
    pub(crate) ends: Vec<usize>,
    /// Term numbers, document by document.
    pub(crate) terms: Vec<u32>,
    /// All term numbers are below this.
    pub(crate) n_terms: usize,
}

/// Returns the new order: at each place, the number of the document that belongs there.
///
/// The result depends on `forward` alone, not on the number of threads. Memory, beside `forward`:
/// at most four bytes per posting, 40 per document, and 30 per term and thread.
///
/// # Errors
/// Tantivy's (`SystemError`) when the threads cannot be started.
pub(crate) fn bisect(forward: Forward, n_threads: usize) -> Result<Vec<u32>, Error> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(n_threads.max(1))
        .build()
        .map_err(|e| {
            let error = tantivy::TantivyError::SystemError(e.to_string());
            Error::during("starting threads to order documents", error)
        })?;
    // A segment has fewer than 2^31 documents.
    let n_docs = u32::try_from(forward.ends.len()).unwrap_or(u32::MAX);
    let mut order: Vec<u32> = (0..n_docs).collect();
    let root = Partition {
        docs: order.clone(),
        forward,
    };
    threads.install(|| root.order(&mut order, &Steps::new()));
    Ok(order)
}

/// Documents that stand together, with their terms. Only terms that matter here have a number.
struct Partition {
    docs: Vec<u32>,
    forward: Forward,
}

impl Partition {
    /// Fills `order` with the documents.
    fn order(self, order: &mut [u32], steps: &Steps) {
        if self.docs.len() <= LEAF {
            order.copy_from_slice(&self.docs);
            return;
        }
        let (left_order, right_order) = order.split_at_mut(self.docs.len() / 2);
        let [left, right] = self.halves(steps);
        in_both(
            left_order.len(),
            || left.order(left_order, steps),
            || right.order(right_order, steps),
        );
    }

    /// Cuts in two, and drops the whole.
    fn halves(self, steps: &Steps) -> [Partition; 2] {
        let mut cut = Cut::new(&self.forward);
        for round in 0..MAX_ROUNDS {
            let damping = if round == 0 { 1 } else { DAMPING };
            let n_moved = cut.exchange(steps, damping);
            if n_moved * SETTLED < self.docs.len() {
                break;
            }
        }
        let [left, right] = [false, true];
        let (left, right) = in_both(
            self.docs.len(),
            || self.half(&cut, left),
            || self.half(&cut, right),
        );
        [left, right]
    }

    /// The documents of one side, in the order they had.
    fn half(&self, cut: &Cut<'_>, side: bool) -> Partition {
        let is_here = |doc: &usize| cut.is_right[*doc] == side;
        let here: Vec<usize> = (0..self.docs.len()).filter(is_here).collect();
        let (numbers, n_terms, n_postings) = cut.renumber(side, here.len());
        let mut ends = Vec::with_capacity(here.len());
        let mut terms = Vec::with_capacity(n_postings);
        for &doc in &here {
            let numbers = self.forward.of(doc).iter().map(|&t| numbers[t as usize]);
            terms.extend(numbers.filter(|&number| number != MUTE));
            ends.push(terms.len());
        }
        Partition {
            docs: here.iter().map(|&doc| self.docs[doc]).collect(),
            forward: Forward {
                ends,
                terms,
                n_terms,
            },
        }
    }
}

impl Forward {
    fn of(&self, doc: usize) -> &[u32] {
        let start = doc.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.terms[start..self.ends[doc]]
    }

    /// In how many documents of a range each term is.
    fn doc_freqs(&self, docs: std::ops::Range<usize>) -> Vec<u32> {
        let count = |docs: std::ops::Range<usize>| {
            let mut freqs = vec![0; self.n_terms];
            for &term in docs.flat_map(|doc| self.of(doc)) {
                freqs[term as usize] += 1;
            }
            freqs
        };
        if docs.len() < SHARED {
            return count(docs);
        }
        let share = docs.len().div_ceil(rayon::current_num_threads());
        let starts = docs.clone().step_by(share).collect::<Vec<_>>();
        let shares = starts.into_par_iter();
        let freqs = shares.map(|start| count(start..(start + share).min(docs.end)));
        let freqs = freqs.reduce_with(|mut sum, more| {
            sum.iter_mut()
                .zip(more)
                .for_each(|(sum, more)| *sum += more);
            sum
        });
        freqs.unwrap_or_default()
    }
}

/// A partition while it is being cut.
struct Cut<'a> {
    forward: &'a Forward,
    is_right: Vec<bool>,
    doc_freqs: Vec<u32>,
    left_freqs: Vec<u32>,
    /// For each term, what it adds to the [pull](Cut::pulls) of a document of the left side, and
    /// of the right.
    term_pulls: [Vec<f32>; 2],
    pulls: Vec<Pull>,
}

/// How strongly a document belongs to the right, and its number.
type Pull = (f32, u32);

impl<'a> Cut<'a> {
    fn new(forward: &'a Forward) -> Cut<'a> {
        let n_docs = forward.ends.len();
        Cut {
            forward,
            is_right: (0..n_docs).map(|doc| doc >= n_docs / 2).collect(),
            doc_freqs: forward.doc_freqs(0..n_docs),
            left_freqs: forward.doc_freqs(0..n_docs / 2),
            term_pulls: [vec![0.0; forward.n_terms], vec![0.0; forward.n_terms]],
            pulls: vec![(0.0, 0); n_docs],
        }
    }

    /// Lets pairs of documents change sides; returns how many documents did.
    ///
    /// A pair gains if the left document's pull is above the right one's. In the order of pulls,
    /// the best pairs that gain are the left documents in the upper half with the right ones in
    /// the lower half.
    fn exchange(&mut self, steps: &Steps, damping: usize) -> usize {
        self.update_pulls(steps);
        let middle = self.pulls.len() / 2;
        self.pulls.select_nth_unstable_by(middle, by_pull);
        let (lower, upper) = self.pulls.split_at(middle);
        let is_right = |pull: &Pull| self.is_right[pull.1 as usize];
        let mut to_left: Vec<Pull> = lower.iter().copied().filter(is_right).collect();
        let mut to_right: Vec<Pull> = upper.iter().copied().filter(|p| !is_right(p)).collect();
        let n_moved = to_left.len().div_ceil(damping);
        if n_moved == 0 {
            return 0;
        }
        to_left.select_nth_unstable_by(n_moved - 1, by_pull);
        to_right.select_nth_unstable_by(n_moved - 1, |a, b| by_pull(b, a));
        for (_, doc) in &to_left[..n_moved] {
            self.is_right[*doc as usize] = false;
            for &term in self.forward.of(*doc as usize) {
                self.left_freqs[term as usize] += 1;
            }
        }
        for (_, doc) in &to_right[..n_moved] {
            self.is_right[*doc as usize] = true;
            for &term in self.forward.of(*doc as usize) {
                self.left_freqs[term as usize] -= 1;
            }
        }
        2 * n_moved
    }

    fn update_pulls(&mut self, steps: &Steps) {
        let [on_left, on_right] = &mut self.term_pulls;
        let freqs = self.left_freqs.iter().zip(&self.doc_freqs);
        for ((&left, &all), (on_left, on_right)) in freqs.zip(on_left.iter_mut().zip(on_right)) {
            let right = all - left;
            // Without a document on a side, nobody there asks.
            *on_left = steps.at(right) - steps.at(left.saturating_sub(1));
            *on_right = steps.at(right.saturating_sub(1)) - steps.at(left);
        }
        let pull_of = |doc: usize| {
            let of_side = &self.term_pulls[usize::from(self.is_right[doc])];
            let number = u32::try_from(doc).unwrap_or(u32::MAX);
            (sum(of_side, self.forward.of(doc)), number)
        };
        if self.pulls.len() < SHARED {
            for (doc, pull) in self.pulls.iter_mut().enumerate() {
                *pull = pull_of(doc);
            }
        } else {
            let pulls = self.pulls.par_iter_mut().enumerate().with_min_len(512);
            pulls.for_each(|(doc, pull)| *pull = pull_of(doc));
        }
    }

    /// For each term its number on one side, how many terms have one, and their postings.
    fn renumber(&self, side: bool, n_docs: usize) -> (Vec<u32>, usize, usize) {
        let (mut n_terms, mut n_postings) = (0u32, 0);
        let freqs = self.left_freqs.iter().zip(&self.doc_freqs);
        let numbers = freqs.map(|(&left, &all)| {
            let freq = if side { all - left } else { left };
            if freq < MIN_DOC_FREQ || freq as usize == n_docs {
                return MUTE;
            }
            n_postings += freq as usize;
            n_terms += 1;
            n_terms - 1
        });
        let numbers = numbers.collect();
        (numbers, n_terms as usize, n_postings)
    }
}

fn by_pull(a: &Pull, b: &Pull) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// Four sums at a time: one alone would wait for each addition.
fn sum(term_pulls: &[f32], terms: &[u32]) -> f32 {
    let (fours, rest) = terms.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for four in fours {
        for (sum, &term) in sums.iter_mut().zip(four) {
            *sum += term_pulls[term as usize];
        }
    }
    let rest: f32 = rest.iter().map(|&term| term_pulls[term as usize]).sum();
    sums.iter().sum::<f32>() + rest
}

/// Runs both, side by side if they have enough documents.
fn in_both<A: Send, B: Send>(
    n_docs: usize,
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    if n_docs < 2 * LEAF {
        return (a(), b());
    }
    rayon::join(a, b)
}

/// What the log-gap cost of a term changes by when one more of a side's documents has it.
///
/// A posting list with `d` documents among `n` has gaps of about `n / (d + 1)`, so it takes
/// `d · log2(n / (d + 1))` bits. Both sides have the same `n`, which therefore cancels out of
/// every comparison; what is left of a step from `d` to `d + 1` is (with the sign turned)
/// `(d + 1) · log2(d + 2) − d · log2(d + 1)`.
struct Steps(Vec<f32>);

impl Steps {
    fn new() -> Steps {
        Steps((0..1 << 16).map(step).collect())
    }

    fn at(&self, doc_freq: u32) -> f32 {
        match self.0.get(doc_freq as usize) {
            Some(&step) => step,
            None => step(doc_freq),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded to single precision"
)]
fn step(doc_freq: u32) -> f32 {
    let d = f64::from(doc_freq);
    ((d + 1.0) * (d + 2.0).log2() - d * (d + 1.0).log2()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn forward(documents: &[Vec<u32>]) -> Forward {
        let terms: Vec<u32> = documents.concat();
        let ends = documents.iter().scan(0, |end, document| {
            *end += document.len();
            Some(*end)
        });
        Forward {
            ends: ends.collect(),
            n_terms: terms.iter().max().map_or(0, |max| *max as usize + 1),
            terms,
        }
    }

    /// Bits of all gaps.
    fn cost(documents: &[Vec<u32>], order: &[u32]) -> f64 {
        let mut last = std::collections::HashMap::new();
        let mut bits = 0.0;
        for (place, &doc) in (1u32..).zip(order) {
            for &term in &documents[doc as usize] {
                let gap = place - last.insert(term, place).unwrap_or(0);
                bits += f64::from(gap).log2();
            }
        }
        bits
    }

    /// Documents of one topic share most of their terms; topics alternate.
    fn topics(n_docs: u32, n_topics: u32) -> Vec<Vec<u32>> {
        let random = |doc: u32, i: u32| (doc * 12 + i).wrapping_mul(2_654_435_761) >> 16;
        let document = |doc: u32| {
            let own = (0..8).map(|i| 1000 + doc % n_topics * 16 + random(doc, i) % 16);
            let others = (8..12).map(|i| random(doc, i) % 400);
            let terms: BTreeSet<u32> = own.chain(others).collect();
            terms.into_iter().collect()
        };
        (0..n_docs).map(document).collect()
    }

    fn is_permutation(order: &[u32], n_docs: usize) -> bool {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        sorted.iter().copied().eq((0..).take(n_docs))
    }

    #[test]
    fn few_documents_and_few_terms() {
        for documents in [
            vec![],
            vec![vec![]],
            vec![vec![3, 1]],
            vec![vec![]; 100],
            vec![vec![0]; 100],
        ] {
            let order = bisect(forward(&documents), 2).unwrap();
            assert!(is_permutation(&order, documents.len()));
        }
    }

    #[test]
    fn topics_come_together() {
        let documents = topics(2000, 20);
        let order = bisect(forward(&documents), 2).unwrap();
        assert!(is_permutation(&order, 2000));
        let topic = |place: usize| order[place] % 20;
        let borders = (1..2000).filter(|&place| topic(place - 1) != topic(place));
        // A topic may lie on both sides of several cuts.
        let borders = borders.count();
        assert!(borders < 200, "{borders} borders between topics");
        let given: Vec<u32> = (0..2000).collect();
        let (before, after) = (cost(&documents, &given), cost(&documents, &order));
        assert!(after < 0.7 * before, "{before} {after}");
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let documents = topics(10_000, 30);
        let alone = bisect(forward(&documents), 1).unwrap();
        for n_threads in [2, 3, 7] {
            assert_eq!(bisect(forward(&documents), n_threads).unwrap(), alone);
        }
    }

    proptest! {
        #[test]
        fn every_document_is_there_once(
            documents in proptest::collection::vec(
                proptest::collection::btree_set(0u32..60, 0..20), 0..300),
            n_threads in 1usize..4,
        ) {
            let documents: Vec<Vec<u32>> =
                documents.into_iter().map(|d| d.into_iter().collect()).collect();
            let order = bisect(forward(&documents), n_threads).unwrap();
            prop_assert!(is_permutation(&order, documents.len()));
            prop_assert_eq!(order, bisect(forward(&documents), 1).unwrap());
        }
    }
}
