//! [`Qrels`]: graded relevance judgments, from BEIR's or TREC's files.

use std::collections::BTreeMap;

use super::error::EvalError;
use crate::collection::{InputError, Line, LineReader};

/// The first line of BEIR's `qrels/test.tsv`, which tells it from TREC's form.
const BEIR_HEADER: [&str; 3] = ["query-id", "corpus-id", "score"];

/// Relevance judgments: a grade for each judged pair of query and document.
///
/// Grades from 1 on are relevant; 0 and negative ones are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qrels {
    by_query: BTreeMap<String, BTreeMap<String, i32>>,
}

impl Qrels {
    /// Reads BEIR's form (tab-separated, a header, `query-id corpus-id score`) or TREC's
    /// (`query 0 document grade`), told apart by the first line.
    ///
    /// # Errors
    /// On the first line that cannot be read: not the columns of its form, an id that is empty,
    /// too long or holds white space, a grade that is no integer, a pair judged twice.
    pub fn read(mut lines: LineReader) -> Result<Qrels, InputError> {
        let mut qrels = Qrels::default();
        let Some(first) = lines.next_line()? else {
            return Ok(qrels);
        };
        let split = if first.text.split('\t').map(str::trim).eq(BEIR_HEADER) {
            split_beir
        } else {
            qrels.read_line(&first, split_trec)?;
            split_trec
        };
        while let Some(line) = lines.next_line()? {
            qrels.read_line(&line, split)?;
        }
        Ok(qrels)
    }

    fn read_line(&mut self, line: &Line<'_>, split: Split) -> Result<(), InputError> {
        let [query, doc, grade] = split(line.text).map_err(|error| error.on(line))?;
        line.check_ids([("query id", query), ("document id", doc)])?;
        let grade = parse_grade(grade).map_err(|error| error.on(line))?;
        self.insert(query, doc, grade)
            .map_err(|error| error.on(line))
    }

    /// Adds a judgment.
    ///
    /// # Errors
    /// When the pair has been judged before, even with the same grade.
    pub fn insert(&mut self, query: &str, doc: &str, grade: i32) -> Result<(), EvalError> {
        let judgments = self.by_query.entry(query.to_owned()).or_default();
        match judgments.insert(doc.to_owned(), grade) {
            None => Ok(()),
            Some(_) => Err(EvalError::new(format!(
                "document `{doc}` is judged twice for query `{query}`"
            ))),
        }
    }

    /// The judged queries, in byte order, with their judged documents and grades.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, i32>)> {
        self.by_query
            .iter()
            .map(|(query, judgments)| (query.as_str(), judgments))
    }

    /// The judged documents of a query and their grades.
    pub fn judgments(&self, query: &str) -> Option<&BTreeMap<String, i32>> {
        self.by_query.get(query)
    }
}

/// Query id, document id and grade of a line.
type Split = fn(&str) -> Result<[&str; 3], EvalError>;

fn split_beir(line: &str) -> Result<[&str; 3], EvalError> {
    let columns: Vec<_> = line.split('\t').map(str::trim).collect();
    <[&str; 3]>::try_from(columns).map_err(|columns| {
        let n_columns = columns.len();
        EvalError::new(format!(
            "{n_columns} columns where `query-id`, `corpus-id` and `score` belong, between tabs"
        ))
    })
}

fn split_trec(line: &str) -> Result<[&str; 3], EvalError> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    match columns[..] {
        [query, _, doc, grade] => Ok([query, doc, grade]),
        _ => Err(EvalError::new(format!(
            "{} columns where TREC's form has 4 (query, 0, document, grade); BEIR's form begins \
             with the header `query-id`, `corpus-id`, `score` between tabs",
            columns.len()
        ))),
    }
}

fn parse_grade(grade: &str) -> Result<i32, EvalError> {
    grade.parse().map_err(|error| {
        let grade: String = grade.chars().take(40).collect();
        EvalError::new(format!(
            "grade `{grade}` is not an integer of 32 bits: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Qrels, InputError> {
        Qrels::read(LineReader::from_reader("qrels", text.as_bytes()).unwrap())
    }

    #[test]
    fn both_forms_say_the_same() {
        let beir = read("query-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\td2\t-1\r\n").unwrap();
        let trec = read("q1 0 d1  2\nq1\tQ0\td2\t-1").unwrap();
        assert_eq!(beir, trec);
        assert_eq!(beir.judgments("q1").unwrap()["d2"], -1);
        assert_eq!(read("").unwrap(), Qrels::default());
    }

    #[test]
    fn a_missing_header_is_named() {
        let message = read("q1\td1\t2\n").unwrap_err().to_string();
        assert!(
            message.contains("line 1") && message.contains("header"),
            "{message}"
        );
    }
}
