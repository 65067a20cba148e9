//! Pages of a ranking: which hits of it are wanted, and how to go on behind the last one.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::query::Query;
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentOrdinal, SegmentReader};

use crate::terminal::UsageError;

/// A place in a ranking by score: that of a hit, by which one goes on behind it.
///
/// Rankings by score are ordered by score, descending, then by address, ascending, so score and
/// address tell a place even between equal scores. Addresses last as long as the index is
/// unchanged. Reads and prints as `SCORE:SEGMENT:DOC`, the score with all its digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cursor {
    /// The hit's score.
    pub score: Score,
    /// Where its document is.
    pub address: DocAddress,
}

impl Cursor {
    /// True for hits that come strictly later in the ranking.
    pub fn is_before(&self, score: Score, address: DocAddress) -> bool {
        by_rank(&(self.score, self.address), &(score, address)) == Ordering::Less
    }

    /// Refuses a place that cannot be of this index.
    pub(crate) fn check(&self, searcher: &Searcher) -> Result<()> {
        let reader = searcher
            .segment_readers()
            .get(self.address.segment_ord as usize);
        match reader {
            Some(reader) if self.address.doc_id < reader.max_doc() => Ok(()),
            _ => {
                let message = format!(
                    "the index has no place `{self}`; it has changed since, or the place is of \
                     another one: begin again without `--after`"
                );
                Err(UsageError(message).into())
            }
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DocAddress {
            segment_ord,
            doc_id,
        } = self.address;
        write!(f, "{}:{segment_ord}:{doc_id}", self.score)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Cursor, String> {
        let parts: Vec<_> = text.split(':').collect();
        let [score, segment_ord, doc_id] = parts[..] else {
            return Err("three parts are needed, SCORE:SEGMENT:DOC".to_owned());
        };
        let number = |name: &str, part: &str| {
            let number = part.parse::<u32>();
            number.map_err(|_| format!("the {name} `{part}` is not a number"))
        };
        match score.parse::<Score>() {
            Ok(score) if score.is_finite() => Ok(Cursor {
                score,
                address: DocAddress::new(
                    number("segment", segment_ord)?,
                    number("document", doc_id)?,
                ),
            }),
            _ => Err(format!("the score `{score}` is not a finite number")),
        }
    }
}

/// Which hits of a ranking are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Page {
    /// Number of hits.
    pub k: usize,
    /// Hits to pass over first.
    pub offset: usize,
    /// Only hits strictly behind this place.
    pub after: Option<Cursor>,
    /// Only hits with this score or a larger one.
    pub min_score: Option<Score>,
}

impl Page {
    /// The first `k` hits.
    pub fn first(k: usize) -> Page {
        Page {
            k,
            offset: 0,
            after: None,
            min_score: None,
        }
    }

    /// Number of hits to find, those passed over among them.
    pub(crate) fn depth(&self) -> usize {
        self.k.saturating_add(self.offset)
    }

    /// The hits wanted among the first [`depth`](Page::depth), best first.
    pub(crate) fn cut<T>(&self, hits: Vec<T>, score: impl Fn(&T) -> Score) -> Vec<T> {
        let min_score = self.min_score.unwrap_or(Score::NEG_INFINITY);
        let hits = hits.into_iter().skip(self.offset).take(self.k);
        hits.take_while(|hit| score(hit) >= min_score).collect()
    }
}

/// The `k` best hits of a query, of those strictly behind `after` if it is given: by score,
/// descending, then by address, ascending.
///
/// Every match is scored. Tantivy's own pruning of BM25 adds up a score in an order that depends
/// on `k`, so that its last bit may differ from page to page, and a hit might be skipped or
/// repeated; and in several segments its bounds are slightly inexact.
///
/// # Errors
/// Tantivy's.
pub(crate) fn best_behind(
    searcher: &Searcher,
    query: &dyn Query,
    k: usize,
    after: Option<Cursor>,
) -> Result<Vec<(Score, DocAddress)>> {
    // The collector allocates by its limit, so it never gets more than there is to find.
    let k = k.min(usize::try_from(searcher.num_docs())?);
    Ok(searcher.search(query, &BestBehind { k, after })?)
}

type Hit = (Score, DocAddress);

fn by_rank(a: &Hit, b: &Hit) -> Ordering {
    // By `==`, so that 0.0 and -0.0 are a tie; there is no NaN among scores.
    let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
    by_score.then(a.1.cmp(&b.1))
}

/// Collects the best `k` behind a place.
struct BestBehind {
    k: usize,
    after: Option<Cursor>,
}

impl Collector for BestBehind {
    type Fruit = Vec<Hit>;
    type Child = BestOfSegment;

    fn for_segment(
        &self,
        segment_ord: SegmentOrdinal,
        _reader: &SegmentReader,
    ) -> tantivy::Result<BestOfSegment> {
        Ok(BestOfSegment {
            segment_ord,
            k: self.k,
            after: self.after,
            hits: Vec::new(),
            worst: None,
        })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Vec<Hit>>) -> tantivy::Result<Vec<Hit>> {
        let mut hits = segments.concat();
        hits.sort_unstable_by(by_rank);
        hits.truncate(self.k);
        Ok(hits)
    }
}

struct BestOfSegment {
    segment_ord: SegmentOrdinal,
    k: usize,
    after: Option<Cursor>,
    /// The best so far, up to `2 k` of them: cutting them to `k` then costs little a hit.
    hits: Vec<Hit>,
    /// The `k`-th at the last cut: nothing behind it is wanted.
    worst: Option<Hit>,
}

impl BestOfSegment {
    fn cut(&mut self) {
        if self.hits.len() > self.k && self.k > 0 {
            self.hits.select_nth_unstable_by(self.k - 1, by_rank);
            self.worst = Some(self.hits[self.k - 1]);
        }
        self.hits.truncate(self.k);
    }
}

impl SegmentCollector for BestOfSegment {
    type Fruit = Vec<Hit>;

    fn collect(&mut self, doc: DocId, score: Score) {
        let address = DocAddress::new(self.segment_ord, doc);
        let hit = (score, address);
        let is_too_late = |worst: &Hit| by_rank(worst, &hit) == Ordering::Less;
        let is_behind = |after: &Cursor| after.is_before(score, address);
        if self.worst.as_ref().is_some_and(is_too_late)
            || !self.after.as_ref().is_none_or(is_behind)
        {
            return;
        }
        self.hits.push(hit);
        if self.hits.len() >= self.k.saturating_mul(2).max(64) {
            self.cut();
        }
    }

    fn harvest(mut self) -> Vec<Hit> {
        self.cut();
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_printed() {
        for score in [0.1f32, 1.5, -3.25e-12, 16_777_217.0, f32::MAX, 0.0] {
            let address = DocAddress::new(3, 41);
            let cursor = Cursor { score, address };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        assert_eq!("2:0:7".parse::<Cursor>().unwrap().to_string(), "2:0:7");
        for (text, part) in [
            ("1:2", "three parts"),
            ("1:2:3:4", "three parts"),
            ("x:2:3", "score `x`"),
            ("NaN:2:3", "score `NaN`"),
            ("inf:2:3", "score `inf`"),
            ("1:-2:3", "segment `-2`"),
            ("1:2:", "document ``"),
        ] {
            let message = text.parse::<Cursor>().unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }

    /// Against sorting everything, with many ties, for every `k` and every place.
    #[test]
    fn the_collector_keeps_the_best_behind_a_place() {
        let hits: Vec<Hit> = (0..200u16)
            .map(|doc| (f32::from(doc * 31 % 13), DocAddress::new(0, doc.into())))
            .collect();
        let mut sorted = hits.clone();
        sorted.sort_by(by_rank);
        for k in [0, 1, 2, 31, 32, 33, 199, 200, 500] {
            for n_passed in [0usize, 1, 50, 199, 200] {
                let last = n_passed.checked_sub(1).map(|idx| sorted[idx]);
                let after = last.map(|(score, address)| Cursor { score, address });
                let mut collector = BestOfSegment {
                    segment_ord: 0,
                    k,
                    after,
                    hits: Vec::new(),
                    worst: None,
                };
                for (score, address) in &hits {
                    collector.collect(address.doc_id, *score);
                }
                let found = BestBehind { k, after }.merge_fruits(vec![collector.harvest()]);
                let expected: Vec<_> = sorted.iter().skip(n_passed).take(k).copied().collect();
                assert_eq!(found.unwrap(), expected);
            }
        }
    }
}
