//! [`Outcome`]: how a command ended and what it printed.

use std::collections::BTreeMap;
use std::process::Output;

use serde_json::Value;

/// How a command ended and what it printed.
#[derive(Debug, Clone)]
pub struct Outcome {
    command: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed as results.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

/// A line of a TREC run.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The query's id.
    pub query: String,
    /// The document's id.
    pub doc: String,
    /// The score, which reads back as the same `f32`.
    pub score: f32,
}

impl Outcome {
    /// How `laconic` with the arguments `command` ended.
    ///
    /// # Panics
    /// When the program panicked: no path a user can reach may.
    pub fn new(command: &str, output: Output) -> Outcome {
        let outcome = Outcome {
            command: command.to_owned(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("results are UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        };
        assert!(
            !outcome.stderr.contains("panicked") && outcome.code.is_some(),
            "{outcome}"
        );
        outcome
    }

    /// # Panics
    /// When the exit code is another one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert_eq!(self.code, Some(code), "exit code\n{self}");
        self
    }

    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        self.exits(0)
    }

    /// # Panics
    /// When the command did not fail with `code`, nothing on stdout, and every one of `parts` in
    /// the one line on stderr that is not of the log.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Outcome {
        let outcome = self.exits(code);
        assert!(
            outcome.stdout.is_empty(),
            "an error prints no result\n{outcome}"
        );
        let lines = outcome
            .stderr
            .lines()
            .filter(|line| !line.starts_with("warn: ") && !line.starts_with("error: "));
        let lines: Vec<_> = lines.collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("laconic: "),
            "one message\n{outcome}"
        );
        for part in parts {
            assert!(
                lines[0].contains(part),
                "the message lacks `{part}`\n{outcome}"
            );
        }
        outcome
    }

    /// # Panics
    /// When anything was said on stderr.
    #[track_caller]
    pub fn silently(self) -> Outcome {
        assert!(self.stderr.is_empty(), "nothing on stderr\n{self}");
        self
    }

    /// Each line of stdout as JSON.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line);
        self.stdout
            .lines()
            .map(|line| parse(line).unwrap_or_else(|e| panic!("{e}\n{self}")))
            .collect()
    }

    /// The one line of stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "one line of JSON\n{self}");
        lines.remove(0)
    }

    /// The lines of a TREC run, whose ranks and columns are checked.
    #[track_caller]
    pub fn hits(&self) -> Vec<Hit> {
        let mut n_hits = BTreeMap::<String, u64>::new();
        let mut hits = Vec::new();
        for line in self.stdout.lines() {
            let columns: Vec<_> = line.split(' ').collect();
            let [query, "Q0", doc, rank, score, "laconic"] = columns[..] else {
                panic!("not a line of a run: {line}\n{self}");
            };
            let n_before = n_hits.entry(query.to_owned()).or_default();
            *n_before += 1;
            assert_eq!(rank, n_before.to_string(), "{self}");
            let score = score.parse().unwrap();
            hits.push(Hit {
                query: query.to_owned(),
                doc: doc.to_owned(),
                score,
            });
        }
        hits
    }

    /// The documents of a TREC run, in order.
    #[track_caller]
    pub fn docs(&self) -> Vec<String> {
        self.hits().into_iter().map(|hit| hit.doc).collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |text: &str| text.chars().take(4000).collect::<String>();
        let code = self
            .code
            .map_or("a signal".to_owned(), |code| code.to_string());
        write!(f, "laconic {}\nended with {code}\n", self.command)?;
        write!(
            f,
            "--- stdout\n{}--- stderr\n{}",
            cut(&self.stdout),
            cut(&self.stderr)
        )
    }
}
