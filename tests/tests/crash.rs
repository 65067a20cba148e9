//! `laconic index` is killed (SIGKILL) at random points and run again until it ends.
//!
//! What would be lost if this failed: documents acknowledged by a commit, or the trust that one
//! command, repeated after any accident, leaves each document in the index once. After every
//! kill the index is sound and holds exactly the first documents of the file, as many as the
//! commit says; in the end, ranked lists are those of an unbroken run.
//!
//! `LACONIC_KILLS` sets the number of kills (12 by default), `LACONIC_SEED` where they fall. A
//! kill falls some changes of the index folder after the start, so that slow and fast machines
//! are hit at the same steps of the work.
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use laconic_tests::{Docs, Scratch, scratch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Between two looks at the index folder.
const GLANCE: Duration = Duration::from_micros(200);

/// An indexing job, and the searches that show what came of it.
struct Job {
    scratch: Scratch,
    ids: Vec<String>,
    /// Arguments of `index` that name the inputs.
    inputs: &'static str,
    /// Arguments of `search` that name its queries, all of them with every document as a hit.
    queries: &'static [&'static str],
}

/// Every query's documents with their scores: what the order of equal scores cannot change.
type Rankings = Vec<BTreeMap<(String, String), f32>>;

impl Job {
    fn new(docs: &Docs, inputs: &'static str, queries: &'static [&'static str]) -> Job {
        let scratch = scratch!();
        scratch.write("docs.jsonl", docs.documents());
        scratch.write("vectors.jsonl", docs.vectors());
        scratch.write("query-vectors.jsonl", docs.query_vectors(20));
        let words = ["common", "w0", "w2", "w50", "w200"];
        let line = |word: &str| format!("{}\n", json!({"_id": word, "text": word}));
        scratch.write("queries.jsonl", words.map(line).concat());
        Job {
            scratch,
            ids: docs.ids(),
            inputs,
            queries,
        }
    }

    fn start(&self, index: &str, commit_every: &str) -> Child {
        let inputs = self.inputs;
        let arguments = format!("index --index {index} {inputs} --commit-every {commit_every}");
        self.scratch.start(&arguments)
    }

    /// Runs the command to its end.
    fn finish(&self, index: &str) -> Value {
        let arguments = format!("index --index {index} {} --json", self.inputs);
        self.scratch.laconic(&arguments).succeeds().json()
    }

    /// Runs the command until it ends by itself, unless the last kill came after that.
    fn complete(&self, index: &str) {
        if Commit::read(&self.scratch.path(index)).is_some_and(|commit| commit.is_complete) {
            return;
        }
        let report = self.finish(index);
        assert_eq!(report["unused_vectors"], 0);
        let n_now = ["documents", "resumed_documents"].map(|key| report[key].as_u64().unwrap());
        assert_eq!(n_now.iter().sum::<u64>(), self.ids.len() as u64);
    }

    fn assert_whole(&self, index: &str, unbroken: &Rankings) {
        assert_eq!(self.assert_sound(index), self.ids.len());
        assert!(self.rankings(index) == *unbroken, "{index}");
    }

    fn rankings(&self, index: &str) -> Rankings {
        let ranking = |queries: &&str| {
            let search = format!("search --index {index} {queries} -k 100000 --format trec");
            let hits = self.scratch.laconic(&search).succeeds().hits();
            let n_hits = hits.len();
            let by_doc: BTreeMap<_, _> = hits
                .into_iter()
                .map(|hit| ((hit.query, hit.doc), hit.score))
                .collect();
            assert_eq!(by_doc.len(), n_hits, "a document is found twice");
            by_doc
        };
        self.queries.iter().map(ranking).collect()
    }

    /// Checks an index whose making was interrupted. Returns how many documents it holds.
    fn assert_sound(&self, index: &str) -> usize {
        let folder = self.scratch.path(index);
        if !folder.join("meta.json").exists() {
            return 0;
        }
        let check = self
            .scratch
            .laconic(&format!("check --index {index}"))
            .succeeds();
        assert!(check.stdout.starts_with("clean"), "{check}");
        let search = format!("search --index {index} --mode bm25 common -k 100000 --format trec");
        let mut found = self.scratch.laconic(&search).docs();
        let n_found = found.len();
        let n_committed = Commit::read(&folder).map_or(0, |commit| commit.lines);
        assert_eq!(
            n_found, n_committed,
            "documents against the commit's own count"
        );
        found.sort();
        let mut expected = self.ids[..n_found].to_vec();
        expected.sort();
        assert!(
            found == expected,
            "not each of the first {n_found} documents once"
        );
        n_found
    }
}

/// What the last commit of an index says of the input.
struct Commit {
    lines: usize,
    is_complete: bool,
}

impl Commit {
    /// `None` before the first commit.
    fn read(index: &Path) -> Option<Commit> {
        let meta = fs::read_to_string(index.join("meta.json")).ok()?;
        let meta: Value = serde_json::from_str(&meta).expect("meta.json is replaced as a whole");
        let progress: Value = serde_json::from_str(meta["payload"].as_str()?).unwrap();
        let lines = usize::try_from(progress["lines"].as_u64().unwrap()).unwrap();
        Some(Commit {
            lines,
            is_complete: progress["complete"].as_bool().unwrap(),
        })
    }
}

/// Where to kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// When the first documents are committed.
    FirstCommit,
    /// After so many changes of the index folder.
    Changes(u32),
}

impl Moment {
    /// Seconds between commits, and when to kill.
    fn draw(rng: &mut StdRng) -> (&'static str, Moment) {
        // A single commit at the end changes the folder some twenty times, a commit for each
        // batch goes on and on.
        let draws = [("0", 80), ("0", 10), ("0.01", 80), ("60", 20)];
        let (commit_every, n_changes) = draws[rng.random_range(0..draws.len())];
        (
            commit_every,
            Moment::Changes(rng.random_range(0..n_changes)),
        )
    }
}

/// Kills `child` at its moment. False if it ended before.
fn kill(mut child: Child, folder: &Path, moment: Moment) -> bool {
    let (mut seen, mut n_changes) = (listing(folder), 0);
    loop {
        let is_due = match moment {
            Moment::FirstCommit => Commit::read(folder).is_some_and(|commit| commit.lines > 0),
            Moment::Changes(n) => n_changes >= n,
        };
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "ended by itself with {status}");
            return false;
        }
        if is_due {
            // On Unix this is SIGKILL.
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
        std::thread::sleep(GLANCE);
        let now = listing(folder);
        n_changes += u32::from(now != seen);
        seen = now;
    }
}

/// Names and sizes of the files in a folder.
fn listing(folder: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    // A file may go between being listed and being looked at.
    let length = |entry: &fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name(), length(&entry)))
        .collect();
    files.sort();
    files
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().expect("a whole number"))
}

/// What happened to a job.
#[derive(Debug, Default)]
struct Record {
    kills: u64,
    /// Kills that left part of the documents committed.
    kills_between: u64,
    /// Runs that ended before their moment.
    ended_first: u64,
    /// Indexes that were completed on the way.
    indexes: u64,
}

/// Kills and repeats `job` until it has been killed often enough, then lets it end.
fn run(job: &Job, seed: u64) -> Record {
    let kills = number_from_environment("LACONIC_KILLS", 12);
    let mut rng = StdRng::seed_from_u64(seed);
    job.finish("unbroken");
    assert_eq!(job.assert_sound("unbroken"), job.ids.len());
    let unbroken = job.rankings("unbroken");

    let (mut record, mut generation, mut committed) = (Record::default(), 0, 0);
    let (mut commit_every, mut moment) = ("0", Moment::FirstCommit);
    while record.kills < kills {
        let index = format!("idx{generation}");
        let child = job.start(&index, commit_every);
        if kill(child, &job.scratch.path(&index), moment) {
            let now = job.assert_sound(&index);
            assert!(
                now >= committed,
                "{committed} documents were committed, {now} are left"
            );
            record.kills += 1;
            record.kills_between += u64::from(0 < now && now < job.ids.len());
            committed = now;
            if rng.random_ratio(1, 2) {
                (commit_every, moment) = Moment::draw(&mut rng);
                continue;
            }
        } else {
            record.ended_first += 1;
        }
        // A new index now and then, so that kills fall on the first steps too.
        job.complete(&index);
        job.assert_whole(&index, &unbroken);
        record.indexes += 1;
        (generation, committed) = (generation + 1, 0);
        (commit_every, moment) = Moment::draw(&mut rng);
    }
    let index = format!("idx{generation}");
    job.complete(&index);
    job.assert_whole(&index, &unbroken);
    record
}

fn seed() -> u64 {
    number_from_environment("LACONIC_SEED", 20_261_121)
}

#[test]
fn killed_with_given_vectors() {
    let docs = Docs::generate(12_000, 3);
    let inputs = "--docs docs.jsonl --vectors vectors.jsonl";
    let queries = &[
        "--query-vectors query-vectors.jsonl",
        "--mode bm25 --queries queries.jsonl",
    ];
    let record = run(&Job::new(&docs, inputs, queries), seed());
    println!("seed {}: {record:?}", seed());
    assert!(
        record.kills_between > 0,
        "no kill fell between two commits: {record:?}"
    );
}

#[test]
fn killed_while_encoding() {
    let docs = Docs::generate(1500, 4);
    let inputs = "--docs docs.jsonl --model ck --set max_length=12 --set top_k=16";
    let queries = &[
        "--model ck --set max_length=12 --set top_k=16 --queries queries.jsonl",
        "--mode bm25 --queries queries.jsonl",
    ];
    let job = Job::new(&docs, inputs, queries);
    job.scratch.write_checkpoint("ck", 0);
    let record = run(&job, seed() + 1);
    println!("seed {}: {record:?}", seed());
    assert!(
        record.kills_between > 0,
        "no kill fell between two commits: {record:?}"
    );
}

/// Without vectors Tantivy's own writer is at work.
#[test]
fn killed_while_indexing_text_alone() {
    let docs = Docs::generate(12_000, 5);
    let queries = &["--mode bm25 --queries queries.jsonl"];
    let record = run(&Job::new(&docs, "--docs docs.jsonl", queries), seed() + 2);
    println!("seed {}: {record:?}", seed());
    assert!(
        record.kills_between > 0,
        "no kill fell between two commits: {record:?}"
    );
}

/// The same command once more, after it has ended, replaces every document by itself.
#[test]
fn a_finished_job_can_be_repeated() {
    let docs = Docs::generate(700, 6);
    let inputs = "--docs docs.jsonl --vectors vectors.jsonl";
    let job = Job::new(&docs, inputs, &["--query-vectors query-vectors.jsonl"]);
    job.finish("idx");
    let rankings = job.rankings("idx");
    let report = job.finish("idx");
    assert_eq!(
        (&report["documents"], &report["resumed_documents"]),
        (&json!(700), &json!(0))
    );
    assert_eq!(job.assert_sound("idx"), 700);
    assert!(job.rankings("idx") == rankings);
}

/// A file that has changed since the kill is another input: it is read from its start.
#[test]
fn another_file_is_not_resumed() {
    let docs = Docs::generate(12_000, 7);
    let inputs = "--docs docs.jsonl --vectors vectors.jsonl";
    let job = Job::new(&docs, inputs, &["--query-vectors query-vectors.jsonl"]);
    let killed = kill(
        job.start("idx", "0"),
        &job.scratch.path("idx"),
        Moment::FirstCommit,
    );
    assert!(killed, "the job is too short for this machine");
    let n_committed = job.assert_sound("idx");
    assert!(0 < n_committed && n_committed < 12_000);

    let other = Docs(docs.0.iter().rev().take(6000).cloned().collect());
    job.scratch.write("docs.jsonl", other.documents());
    let report = job.finish("idx");
    assert_eq!(report["documents"], 6000);
    assert_eq!(report["resumed_documents"], 0);
    let mut expected: Vec<_> = docs.ids()[..n_committed]
        .iter()
        .chain(&other.ids())
        .cloned()
        .collect();
    expected.sort();
    expected.dedup();
    let search = "search --index idx --mode bm25 common -k 100000 --format trec";
    let mut found = job.scratch.laconic(search).succeeds().docs();
    found.sort();
    assert!(found == expected);
}
