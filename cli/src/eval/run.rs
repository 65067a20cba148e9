//! [`Run`]: the ranked lists of a system, read from and written to TREC's run format.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};

use super::error::EvalError;
use crate::collection::{InputError, Line, LineReader, check_id};

/// A document found for a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The document's id.
    pub doc: String,
    /// Its score, a finite number.
    pub score: f32,
}

/// The hits of each query that was asked, in the order trec_eval judges them: by falling score,
/// hits of equal score by falling bytes of the document id, whatever their order was before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    by_query: BTreeMap<String, Vec<Hit>>,
}

impl Run {
    /// Reads lines `query Q0 document rank score tag`; the ranks are ignored, as trec_eval does.
    ///
    /// A query without hits leaves no line in such a file: [`insert`](Run::insert) an empty list
    /// for each such query to have it judged.
    ///
    /// # Errors
    /// On the first line that cannot be read: not six columns, a score that is not finite, a
    /// document found twice for a query.
    pub fn read(mut lines: LineReader) -> Result<Run, InputError> {
        let mut rows: BTreeMap<String, HashMap<String, f32>> = BTreeMap::new();
        while let Some(line) = lines.next_line()? {
            let (query, doc, score) = split(&line)?;
            let hits = rows.entry(query.to_owned()).or_default();
            if hits.insert(doc.to_owned(), score).is_some() {
                return Err(found_twice(query, doc).on(&line));
            }
        }
        let sorted = rows.into_iter().map(|(query, hits)| {
            (
                query,
                in_order(
                    hits.into_iter()
                        .map(|(doc, score)| Hit { doc, score })
                        .collect(),
                ),
            )
        });
        Ok(Run {
            by_query: sorted.collect(),
        })
    }

    /// Adds the hits of a query, in any order; none for a query that found nothing.
    ///
    /// # Errors
    /// When the query was added before, a document is found twice, or a score is not finite.
    pub fn insert<D: Into<String>>(
        &mut self,
        query: &str,
        hits: impl IntoIterator<Item = (D, f32)>,
    ) -> Result<(), EvalError> {
        let hits = hits
            .into_iter()
            .map(|(doc, score)| Hit {
                doc: doc.into(),
                score,
            })
            .collect();
        check_hits(query, &hits)?;
        match self.by_query.insert(query.to_owned(), in_order(hits)) {
            None => Ok(()),
            Some(_) => Err(EvalError::new(format!(
                "query `{query}` is in the run already"
            ))),
        }
    }

    /// The queries asked, in byte order, with their hits.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Hit])> {
        self.by_query
            .iter()
            .map(|(query, hits)| (query.as_str(), hits.as_slice()))
    }

    /// The hits of a query; `None` if it was not asked.
    pub fn hits(&self, query: &str) -> Option<&[Hit]> {
        self.by_query.get(query).map(Vec::as_slice)
    }
}

fn in_order(mut hits: Vec<Hit>) -> Vec<Hit> {
    // Equal by `==` is a tie, so 0.0 and -0.0 must not be told apart: no `total_cmp`.
    hits.sort_unstable_by(|a, b| {
        let by_score = b
            .score
            .partial_cmp(&a.score)
            .unwrap_or(std::cmp::Ordering::Equal);
        by_score.then_with(|| b.doc.as_bytes().cmp(a.doc.as_bytes()))
    });
    hits
}

fn check_hits(query: &str, hits: &Vec<Hit>) -> Result<(), EvalError> {
    let mut docs = HashSet::with_capacity(hits.len());
    for hit in hits {
        if !hit.score.is_finite() {
            return Err(not_finite(&hit.score.to_string()));
        }
        if !docs.insert(&hit.doc) {
            return Err(found_twice(query, &hit.doc));
        }
    }
    Ok(())
}

fn found_twice(query: &str, doc: &str) -> EvalError {
    EvalError::new(format!(
        "document `{doc}` is found twice for query `{query}`"
    ))
}

fn not_finite(score: &str) -> EvalError {
    let score: String = score.chars().take(40).collect();
    EvalError::new(format!("score `{score}` is not a finite number of 32 bits"))
}

/// Query, document and score of a line.
fn split<'a>(line: &Line<'a>) -> Result<(&'a str, &'a str, f32), InputError> {
    let columns: Vec<_> = line.text.split_ascii_whitespace().collect();
    let [query, _, doc, _, score, _] = columns[..] else {
        let message = format!(
            "{} columns where a run has 6 (query, Q0, document, rank, score, tag)",
            columns.len()
        );
        return Err(EvalError::new(message).on(line));
    };
    line.check_ids([("query id", query), ("document id", doc)])?;
    match score.parse::<f32>() {
        Ok(score_read) if score_read.is_finite() => Ok((query, doc, score_read)),
        _ => Err(not_finite(score).on(line)),
    }
}

/// Writes ranked lists as lines `query Q0 document rank score tag`.
///
/// Scores are written with the fewest digits that read back as the same `f32`, so that order and
/// ties survive.
pub struct RunWriter<W> {
    writer: W,
    tag: String,
}

impl<W: Write> RunWriter<W> {
    /// Writes to `writer`, which should be buffered. The tag names the system.
    ///
    /// # Errors
    /// When the tag is empty, over 512 bytes long, or holds white space or control characters.
    pub fn new(writer: W, tag: &str) -> Result<RunWriter<W>, EvalError> {
        check_id("run tag", tag).map_err(|malformed| EvalError::new(malformed.to_string()))?;
        Ok(RunWriter {
            writer,
            tag: tag.to_owned(),
        })
    }

    /// Writes the hits of a query in the order given, ranks counted from 1. Ids are those of a
    /// collection that was read: white space in them would make the file unreadable.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write<'a>(
        &mut self,
        query: &str,
        hits: impl IntoIterator<Item = (&'a str, f32)>,
    ) -> io::Result<()> {
        for (rank, (doc, score)) in (1_u64..).zip(hits) {
            writeln!(self.writer, "{query} Q0 {doc} {rank} {score} {}", self.tag)?;
        }
        Ok(())
    }

    /// Flushes and hands back the writer.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}
