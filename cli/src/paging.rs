//! Pages of a ranking: which hits of it are wanted, and how to go on behind the last one.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use laconic_tantivy::LaconicTopK;
use tantivy::{DocAddress, Score, Searcher};

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

    /// The search that finds this page of a ranking by score.
    pub(crate) fn top_k(&self) -> LaconicTopK {
        let mut top_k = LaconicTopK::new(self.k).offset(self.offset);
        if let Some(Cursor { score, address }) = self.after {
            top_k = top_k.after(score, address);
        }
        match self.min_score {
            Some(min_score) => top_k.min_score(min_score),
            None => top_k,
        }
    }

    /// The hits wanted among the first [`depth`](Page::depth), best first.
    pub(crate) fn cut<T>(&self, hits: Vec<T>, score: impl Fn(&T) -> Score) -> Vec<T> {
        let min_score = self.min_score.unwrap_or(Score::NEG_INFINITY);
        let hits = hits.into_iter().skip(self.offset).take(self.k);
        hits.take_while(|hit| score(hit) >= min_score).collect()
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
}
