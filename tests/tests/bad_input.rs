//! Input that cannot be read, arguments that cannot be met and files that are damaged end with a
//! message and an exit code, never with a panic, and leave the last commit as it was.
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use laconic_tests::{Docs, Outcome, Scratch, gzip, scratch, workspace};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// A folder with a sound index of 300 documents in `idx`.
fn sound_index() -> Scratch {
    let scratch = scratch!();
    let docs = Docs::generate(300, 1);
    scratch.write("good-docs.jsonl", docs.documents());
    scratch.write("good-vectors.jsonl", docs.vectors());
    scratch.write("good-queries.jsonl", docs.query_vectors(5));
    scratch
        .laconic("index --index idx --docs good-docs.jsonl --vectors good-vectors.jsonl")
        .succeeds();
    scratch
}

/// The commit and what searches find in it.
fn state(scratch: &Scratch) -> (String, String) {
    scratch.laconic("check --index idx").succeeds();
    let search = "search --index idx --query-vectors good-queries.jsonl -k 1000 --format trec";
    (
        scratch.read("idx/meta.json"),
        scratch.laconic(search).succeeds().stdout,
    )
}

/// A faulty file of `fixtures/invalid`, with what is said of it there.
struct Case {
    path: PathBuf,
    line: u64,
    reason: String,
    /// Records that are read when faulty lines are skipped.
    records: u64,
}

impl Case {
    fn all(kind: &str) -> Vec<Case> {
        let folder = workspace()
            .join("fixtures/invalid")
            .join(kind)
            .canonicalize()
            .unwrap();
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.collect();
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension != "expected")
        });
        paths.sort();
        assert!(paths.len() > 20, "{} cases of {kind}", paths.len());
        paths.into_iter().map(Case::read).collect()
    }

    fn read(path: PathBuf) -> Case {
        let text = fs::read_to_string(path.with_extension("expected")).unwrap();
        let lines: BTreeMap<_, _> = text.lines().map(|l| l.split_once(": ").unwrap()).collect();
        let number = |key| lines[key].parse().unwrap();
        let (line, reason, records) = (
            number("line"),
            lines["reason"].to_owned(),
            number("records"),
        );
        Case {
            path,
            line,
            reason,
            records,
        }
    }

    /// The file, quoted for a command line.
    fn quoted(&self) -> String {
        format!("'{}'", self.path.display())
    }

    /// Faulty lines: the corpus has one in each file, but a newline of UTF-16 ends two halves.
    fn faults(&self) -> u64 {
        1 + u64::from(self.path.ends_with("utf16-without-mark.jsonl"))
    }

    fn is_blamed_by(&self, outcome: Outcome) {
        let place = format!("{}, line {}: ", self.path.display(), self.line);
        outcome.fails(3, &[&place, &self.reason]);
    }
}

#[test]
fn faulty_documents_stop_indexing_and_leave_the_last_commit() {
    let scratch = sound_index();
    let before = state(&scratch);
    for case in Case::all("documents") {
        let index = format!("index --index idx --docs {}", case.quoted());
        let vectors = "--vectors good-vectors.jsonl --allow-missing-vectors";
        case.is_blamed_by(scratch.laconic(&format!("{index} {vectors} --commit-every 0")));
        assert!(
            scratch.read("idx/meta.json") == before.0,
            "{}",
            case.path.display()
        );
    }
    assert!(state(&scratch) == before);
}

#[test]
fn faulty_vectors_stop_indexing_and_leave_the_last_commit() {
    let scratch = sound_index();
    let before = state(&scratch);
    // No vector is of this document: the whole file is read for it.
    scratch.write("one.jsonl", "{\"_id\": \"nobody\", \"text\": \"a b\"}\n");
    for case in Case::all("vectors") {
        let arguments = format!(
            "index --index idx --docs one.jsonl --vectors {}",
            case.quoted()
        );
        case.is_blamed_by(scratch.laconic(&arguments));
        assert!(
            scratch.read("idx/meta.json") == before.0,
            "{}",
            case.path.display()
        );
    }
    assert!(state(&scratch) == before);
}

#[test]
fn faulty_queries_and_judgments_are_refused() {
    let scratch = sound_index();
    for (kind, arguments) in [
        ("queries", "search --index idx --mode bm25 --queries"),
        ("vectors", "search --index idx --query-vectors"),
        (
            "qrels",
            "eval --index idx --query-vectors good-queries.jsonl --qrels",
        ),
    ] {
        for case in Case::all(kind) {
            case.is_blamed_by(scratch.laconic(&format!("{arguments} {}", case.quoted())));
        }
    }
}

/// Skipping counts the faulty lines and keeps the others; a file that ends in a fault is still
/// refused, for nobody knows what it lacks.
#[test]
fn faulty_lines_can_be_skipped() {
    let scratch = scratch!();
    let (mut n_skipped, mut n_refused) = (0, 0);
    for case in Case::all("documents") {
        let index = format!(
            "index --index idx --docs {} --skip-invalid --json",
            case.quoted()
        );
        let outcome = scratch.laconic(&index);
        if outcome.code == Some(3) {
            case.is_blamed_by(outcome);
            n_refused += 1;
        } else {
            let report = outcome.clone().succeeds().json();
            assert_eq!(report["documents"], case.records, "{outcome}");
            assert_eq!(report["skipped_lines"], case.faults(), "{outcome}");
            let place = format!(
                "warn: skipped: cannot read {}, line {}",
                case.path.display(),
                case.line
            );
            assert!(outcome.stderr.contains(&place), "{outcome}");
            n_skipped += 1;
        }
        fs::remove_dir_all(scratch.path("idx")).unwrap();
    }
    println!("{n_skipped} files read but for a line, {n_refused} refused");
    assert!(n_skipped > 3 * n_refused, "{n_skipped} {n_refused}");
}

#[test]
fn faulty_lines_of_a_vector_file_can_be_skipped() {
    let scratch = scratch!();
    scratch.write("one.jsonl", "{\"_id\": \"nobody\", \"text\": \"a b\"}\n");
    let mut n_skipped = 0;
    for case in Case::all("vectors") {
        let vectors = format!("--vectors {} --allow-missing-vectors", case.quoted());
        let index = format!("index --index idx --docs one.jsonl {vectors} --skip-invalid --json");
        let outcome = scratch.laconic(&index);
        if outcome.code == Some(3) {
            case.is_blamed_by(outcome);
        } else {
            let report = outcome.clone().succeeds().json();
            assert_eq!(report["unused_vectors"], case.records, "{outcome}");
            assert_eq!(report["skipped_lines"], case.faults(), "{outcome}");
            n_skipped += 1;
        }
        fs::remove_dir_all(scratch.path("idx")).unwrap();
    }
    assert!(n_skipped > 100, "{n_skipped}");
}

#[test]
fn a_document_given_twice_is_named_with_both_lines() {
    let scratch = sound_index();
    let before = state(&scratch);
    let docs = scratch.read("good-docs.jsonl");
    scratch.write(
        "twice.jsonl",
        format!("{docs}{}\n", docs.lines().nth(6).unwrap()),
    );
    let index = "index --index idx --docs twice.jsonl --vectors good-vectors.jsonl";
    scratch
        .laconic(index)
        .fails(3, &["twice.jsonl, line 301", "`d6`", "line 7"]);
    assert!(state(&scratch) == before);
}

/// A line of 100 MB is refused after the limit, in memory for little more than that.
#[test]
fn a_line_of_100_mb_is_refused_in_little_memory() {
    const LINE_BYTES: usize = 100 << 20;
    let scratch = sound_index();
    let before = state(&scratch);
    let mut long = b"{\"_id\": \"a\", \"text\": \"x\"}\n{\"_id\": \"long\", \"text\": \"".to_vec();
    long.resize(long.len() + LINE_BYTES, b'y');
    long.extend(b"\"}\n{\"_id\": \"z\", \"text\": \"x\"}\n");
    scratch.write("long.jsonl", &long);
    // The same in 100 kB: what a file grows to is not known from its size.
    scratch.write("long.jsonl.gz", gzip(&long));
    drop(long);
    for docs in ["long.jsonl", "long.jsonl.gz"] {
        let index = format!(
            "index --index idx --docs {docs} --vectors good-vectors.jsonl --allow-missing-vectors"
        );
        let (outcome, peak) = with_peak_memory(&scratch, &index);
        let place = format!("{docs}, line 2: ");
        outcome.fails(3, &[&place, "longer than the limit of 16777216 bytes"]);
        if let Some(peak) = peak {
            println!("{docs}: at most {} MB", peak >> 20);
            assert!(peak < 90 << 20, "{peak} bytes at its peak");
        }
        let raised = scratch.laconic(&format!("{index} --max-line 1"));
        raised.fails(3, &[&place, "1048576 bytes"]);
    }
    assert!(state(&scratch) == before);

    let skip = "index --index skipped --docs long.jsonl.gz --skip-invalid --json";
    let report = scratch.laconic(skip).succeeds().json();
    assert_eq!(
        (&report["documents"], &report["skipped_lines"]),
        (&json!(2), &json!(1))
    );
    let accept = "index --index accepted --docs long.jsonl.gz --max-line 128 --json";
    assert_eq!(scratch.laconic(accept).succeeds().json()["documents"], 3);
}

/// Runs a command and looks at its largest resident size as long as it lives, where `/proc` has
/// it. A child lives in the memory of its parent (this test, which had the long line) until the
/// kernel gives it its own, a moment after `spawn` returns, and its new name after that.
fn with_peak_memory(scratch: &Scratch, arguments: &str) -> (Outcome, Option<u64>) {
    let mut command = scratch.command(arguments);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = None;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        if value("Name:").is_some_and(|name| name.trim().starts_with("laconic")) {
            let kilobytes = value("VmHWM:")
                .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            peak = kilobytes.map(|kilobytes| kilobytes << 10).max(peak);
        }
        std::thread::yield_now();
    }
    (
        Outcome::new(arguments, child.wait_with_output().unwrap()),
        peak,
    )
}

/// One way to damage a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A bit at a place drawn from the first nine tenths: the checksum does not cover its own
    /// footer.
    Flip,
    /// Everything behind a place drawn at random.
    Cut,
    Zero,
    Empty,
    Delete,
}

impl Damage {
    fn apply(self, path: &Path, rng: &mut StdRng) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Damage::Flip => {
                let place = rng.random_range(0..bytes.len().saturating_sub(150).max(1));
                bytes[place] ^= 1 << rng.random_range(0..8);
            }
            Damage::Cut => bytes.truncate(rng.random_range(0..bytes.len())),
            Damage::Zero => bytes.fill(0),
            Damage::Empty => bytes.clear(),
            Damage::Delete => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn check_finds_damage_in_every_file() {
    use Damage as D;
    let scratch = sound_index();
    let mut rng = StdRng::seed_from_u64(8);
    let mut n_damaged = 0;
    for path in scratch.index_files("idx") {
        let sound = fs::read(&path).unwrap();
        let is_meta = path.ends_with("meta.json");
        let flips = [D::Flip; 5];
        let others = [D::Cut, D::Cut, D::Zero, D::Empty, D::Delete];
        // meta.json has no checksum: a flipped bit in it may still read well.
        let damages = if is_meta {
            &others[..4]
        } else {
            &[&flips[..], &others[..]].concat()
        };
        for damage in damages {
            damage.apply(&path, &mut rng);
            let outcome = scratch.laconic("check --index idx");
            assert_eq!(
                outcome.code,
                Some(4),
                "{damage:?} {}: {outcome}",
                path.display()
            );
            let says = format!("{}{}", outcome.stdout, outcome.stderr);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(says.contains(&name), "{damage:?} {name}: {outcome}");
            fs::write(&path, &sound).unwrap();
            n_damaged += 1;
        }
    }
    assert!(n_damaged > 50, "{n_damaged}");
    scratch.laconic("check --index idx").succeeds();
}

/// Searching a damaged index may miss the damage, but it does not panic.
#[test]
fn damage_makes_no_command_panic() {
    use Damage as D;
    let scratch = sound_index();
    let mut rng = StdRng::seed_from_u64(9);
    for path in scratch.index_files("idx") {
        let sound = fs::read(&path).unwrap();
        for damage in [
            D::Flip,
            D::Flip,
            D::Flip,
            D::Flip,
            D::Cut,
            D::Zero,
            D::Empty,
            D::Delete,
        ] {
            damage.apply(&path, &mut rng);
            for arguments in [
                "search --index idx --query-vectors good-queries.jsonl -k 1000 --explain",
                "search --index idx --mode bm25 common -k 1000",
                "search --index idx --mode bm25 'w0 w2' --filter 'number:[10 TO 100]' --json",
                "info --index idx",
            ] {
                let outcome = scratch.laconic(arguments);
                let code = outcome.code.unwrap_or(-1);
                assert!(
                    (0..=7).contains(&code) && code != 2,
                    "{damage:?} {}: {outcome}",
                    path.display()
                );
            }
            fs::write(&path, &sound).unwrap();
        }
    }
}

#[test]
fn what_is_no_index_is_not_taken_for_one() {
    let scratch = scratch!();
    scratch.write("empty/nothing.txt", "");
    scratch.write("file", "text");
    scratch.write("garbage/meta.json", [0xff, 0, 0x7b]);
    scratch.write("other/meta.json", "{\"segments\": 7}");
    scratch.write(
        "queries.jsonl",
        "{\"_id\": \"q\", \"vector\": {\"a\": 1}}\n",
    );
    scratch.write("docs.jsonl", "{\"_id\": \"a\", \"text\": \"b\"}\n");
    for (dir, code) in [
        ("missing", 3),
        ("empty", 3),
        ("file", 3),
        ("garbage", 4),
        ("other", 4),
    ] {
        for command in [
            "search --mode bm25 word",
            "search --query-vectors queries.jsonl",
            "info",
            "check",
        ] {
            scratch
                .laconic(&format!("{command} --index {dir}"))
                .fails(code, &[dir]);
        }
    }
    for dir in ["file", "file/below"] {
        scratch
            .laconic(&format!("index --index {dir} --docs docs.jsonl"))
            .fails(7, &[dir]);
    }
    assert_eq!(scratch.read("file"), "text");
}

/// An index that Tantivy made for something else can be looked at and checked, but is neither
/// searched nor written to.
#[test]
fn an_index_of_another_program_is_left_alone() {
    let scratch = scratch!();
    let mut schema = tantivy::schema::Schema::builder();
    let title = schema.add_text_field("title", tantivy::schema::TEXT);
    fs::create_dir(scratch.path("other")).unwrap();
    let index = tantivy::Index::create_in_dir(scratch.path("other"), schema.build()).unwrap();
    let mut writer: tantivy::IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
    writer.add_document(tantivy::doc!(title => "word")).unwrap();
    writer.commit().unwrap();
    drop(writer);
    scratch.write("docs.jsonl", "{\"_id\": \"a\", \"text\": \"b\"}\n");
    let before = scratch.read("other/meta.json");
    for command in [
        "search --index other --mode bm25 word",
        "index --index other --docs docs.jsonl",
    ] {
        let outcome = scratch.laconic(command);
        assert!(
            outcome.stderr.contains("not made by `laconic index`"),
            "{outcome}"
        );
        assert!(outcome.code.is_some_and(|code| code >= 3), "{outcome}");
    }
    assert_eq!(
        scratch
            .laconic("info --index other --json")
            .succeeds()
            .json()["documents"],
        1
    );
    scratch.laconic("check --index other").succeeds();
    assert_eq!(scratch.read("other/meta.json"), before);
}

#[test]
fn files_that_are_missing_or_cannot_be_written_are_named() {
    let scratch = sound_index();
    scratch.write_checkpoint("ck", 0);
    scratch.write("qrels.tsv", "query-id\tcorpus-id\tscore\nd0\td1\t1\n");
    let missing = |arguments: &str| {
        let outcome = scratch.laconic(arguments);
        assert!(matches!(outcome.code, Some(3 | 7)), "{outcome}");
        let code = outcome.code.unwrap();
        outcome.fails(code, &["missing"]);
    };
    let vectors = "--vectors good-vectors.jsonl";
    missing(&format!("index --index idx --docs missing.jsonl {vectors}"));
    missing("index --index idx --docs good-docs.jsonl --vectors missing.jsonl");
    missing("index --index new --docs missing.jsonl");
    missing("index --index new --docs good-docs.jsonl --vectors missing.jsonl");
    missing("index --index new --docs good-docs.jsonl --model missing");
    missing("index --index new --docs good-docs.jsonl --model ck --tokenizer missing.json");
    assert!(
        !scratch.path("new").exists(),
        "an index was begun for nothing"
    );
    missing("search --index idx --mode bm25 --queries missing.jsonl");
    missing("search --index idx --query-vectors missing.jsonl");
    missing("search --index idx --model missing word");
    missing("eval --index idx --query-vectors good-queries.jsonl --qrels missing.tsv");
    missing("encode --model ck --kind query --input missing.jsonl");
    missing("encode --model ck --kind query --input good-docs.jsonl --output missing/v.jsonl");
    let eval = "eval --quiet --index idx --query-vectors good-queries.jsonl --qrels qrels.tsv";
    missing(&format!("{eval} --run missing/r"));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let scratch = sound_index();
    for k in [
        "0",
        "1000001",
        "1152921504606846976",
        "18446744073709551615",
    ] {
        let k = format!("-k {k}");
        for search in ["--mode bm25 common", "--query-vectors good-queries.jsonl"] {
            scratch
                .laconic(&format!("search --index idx {search} {k}"))
                .fails(2, &[]);
        }
        scratch.write("qrels.tsv", "query-id\tcorpus-id\tscore\nd0\td1\t1\n");
        let eval = "eval --index idx --query-vectors good-queries.jsonl --qrels qrels.tsv";
        for exclude_self in ["yes", "no"] {
            let eval = format!("{eval} --exclude-self {exclude_self} {k}");
            scratch.laconic(&eval).fails(2, &["hits are asked for"]);
        }
    }
    for k in ["18446744073709551616", "-1", "1.5", "ten", ""] {
        scratch
            .laconic(&format!("search --index idx --mode bm25 common '-k={k}'"))
            .exits(2);
    }
    let index = "index --index idx --docs good-docs.jsonl --vectors good-vectors.jsonl";
    for flags in [
        "--max-line 0",
        "--max-line 99999999999999999999",
        "--memory 0",
        "--memory 18446744073709551615",
        "--commit-every inf",
        "--commit-every 1e300",
        "--commit-every NaN",
        "--bits 3",
        "--vector-scale 1e-60",
        "--vector-scale inf",
    ] {
        let outcome = scratch.laconic(&format!("{index} {flags}")).exits(2);
        let (name, _) = flags.split_once(' ').unwrap();
        assert!(outcome.stderr.contains(name), "{outcome}");
    }
}

#[test]
fn queries_of_any_size_and_content_end() {
    let scratch = sound_index();
    let query = |id: &str, text: &str| format!("{}\n", json!({"_id": id, "text": text}));
    let many: Vec<String> = (0..20_000).map(|number| format!("w{number}")).collect();
    let odd = "\u{0} \u{202e}common AND (\" \\ ' [* TO ^^ ~9 \u{1f9ea}";
    scratch.write(
        "queries.jsonl",
        [
            query("empty", ""),
            query("spaces", " \t\n"),
            query("odd", odd),
            query("one-letter", &"a".repeat(1 << 20)),
            query("repeated", &"common ".repeat(100_000)),
            query("many", &many.join(" ")),
        ]
        .concat(),
    );
    let search = "search --index idx --mode bm25 --queries queries.jsonl --format trec";
    let hits = scratch.laconic(search).succeeds().hits();
    let found: Vec<_> = ["empty", "spaces", "odd", "one-letter", "repeated", "many"]
        .iter()
        .filter(|id| hits.iter().any(|hit| hit.query == **id))
        .collect();
    assert_eq!(
        found,
        [&"odd", &"repeated", &"many"],
        "words are words, not syntax"
    );
    assert!(hits.iter().all(|hit| hit.score.is_finite()));

    scratch
        .laconic("search --index idx --mode bm25 ''")
        .exits(1);
    scratch.write_checkpoint("ck", 0);
    let docs = query("a", "bone") + &query("b", "density");
    scratch.write("docs.jsonl", docs);
    scratch
        .laconic("index --index tiny --docs docs.jsonl --model ck")
        .succeeds();
    let sparse = "search --index tiny --model ck --format trec";
    scratch
        .laconic(&format!("{sparse} --queries queries.jsonl"))
        .succeeds();
    let empty = scratch.laconic(&format!("{sparse} ''"));
    assert!(matches!(empty.code, Some(0 | 1)), "{empty}");
    let none = scratch.laconic(&format!("{sparse} --set query_prefix= ''"));
    assert!(matches!(none.code, Some(1 | 5)), "{none}");
}

#[test]
fn query_vectors_of_any_size_and_content_end() {
    let scratch = sound_index();
    let search = "search --index idx --query-vectors queries.jsonl --format trec";
    let vector = |terms: Map<String, Value>| format!("{}\n", json!({"_id": "q", "vector": terms}));

    scratch.write("queries.jsonl", vector(Map::new()));
    scratch.laconic(search).exits(1).silently();
    let many = (0..100_000).map(|number| (format!("t{number}"), json!(1.0)));
    scratch.write("queries.jsonl", vector(many.collect()));
    let outcome = scratch.laconic(search);
    assert!(matches!(outcome.code, Some(1 | 3)), "{outcome}");
    // Weights far apart: no overflow, no infinite score, and the large one decides.
    for weight in ["3.4e38", "1e30", "1e-30", "1e-45"] {
        let terms =
            format!("{{\"_id\": \"q\", \"vector\": {{\"common\": {weight}, \"w0\": 1}}}}\n");
        scratch.write("queries.jsonl", terms);
        let outcome = scratch.laconic(search);
        assert!(matches!(outcome.code, Some(0 | 1 | 3)), "{outcome}");
        assert!(
            outcome.hits().iter().all(|hit| hit.score.is_finite()),
            "{outcome}"
        );
    }
    let mut rng = StdRng::seed_from_u64(10);
    for _ in 0..20 {
        let noise: Vec<u8> = (0..rng.random_range(1..4000))
            .map(|_| rng.random())
            .collect();
        scratch.write("queries.jsonl", noise);
        scratch.laconic(search).fails(3, &["queries.jsonl"]);
    }
    scratch.write("queries.jsonl", "");
    assert_eq!(scratch.laconic(search).exits(1).stdout, "");
}

#[test]
fn a_wrong_scale_is_pointed_out() {
    let scratch = sound_index();
    let index = "index --docs good-docs.jsonl --vectors good-vectors.jsonl";
    for (scale, told) in [("0.001", "clipped"), ("10000", "vanished")] {
        let outcome = scratch.laconic(&format!(
            "{index} --index new{scale} --vector-scale {scale}"
        ));
        assert!(
            outcome.stderr.contains("is --vector-scale right?"),
            "{outcome}"
        );
        assert!(outcome.stderr.contains(told), "{outcome}");
        outcome.succeeds();
        scratch
            .laconic(&format!("check --index new{scale}"))
            .succeeds();
    }
    scratch
        .laconic(&format!("{index} --index right"))
        .succeeds()
        .silently();
}

#[test]
fn another_model_is_refused_with_both_names() {
    let scratch = scratch!();
    scratch.write_checkpoint("one", 0);
    scratch.write_checkpoint("two", 1);
    scratch.write(
        "docs.jsonl",
        "{\"_id\": \"a\", \"text\": \"bone density\"}\n",
    );
    scratch.write(
        "vectors.jsonl",
        "{\"_id\": \"a\", \"vector\": {\"bone\": 1}}\n",
    );
    scratch
        .laconic("index --index idx --docs docs.jsonl --model one")
        .succeeds();
    let before = scratch.read("idx/meta.json");
    let info = scratch.laconic("info --index idx --json").succeeds().json();
    let model = info["laconic_fields"][0]["model"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(model.starts_with("one@"), "{model}");
    for (arguments, other) in [
        ("search --index idx --model two bone", "two@"),
        (
            "search --index idx --model one --set max_length=7 bone",
            "one@",
        ),
        (
            "search --index idx --query-vectors vectors.jsonl --vectors-model splade",
            "splade",
        ),
        ("index --index idx --docs docs.jsonl --model two", "two@"),
        (
            "index --index idx --docs docs.jsonl --model one --set top_k=7",
            "one@",
        ),
        (
            "index --index idx --docs docs.jsonl --vectors vectors.jsonl --vectors-model splade",
            "splade",
        ),
    ] {
        scratch.laconic(arguments).fails(5, &[&model, other]);
    }
    scratch
        .laconic("search --index idx --mode bm25 --model two bone")
        .succeeds();
    scratch
        .laconic("search --index idx --model one bone")
        .succeeds();
    assert_eq!(scratch.read("idx/meta.json"), before);
}

/// A checkpoint is known by its contents, not by the name of its folder.
#[test]
fn a_renamed_checkpoint_is_the_same_model() {
    let scratch = scratch!();
    scratch.write_checkpoint("one", 0);
    scratch.write(
        "docs.jsonl",
        "{\"_id\": \"a\", \"text\": \"bone density\"}\n",
    );
    let index = |model: &str| {
        scratch.laconic(&format!(
            "index --index idx --docs docs.jsonl --model {model}"
        ))
    };
    index("one").succeeds();
    fs::rename(scratch.path("one"), scratch.path("moved")).unwrap();
    index("moved").succeeds();
    let search = scratch.laconic("search --index idx --model moved bone --format trec");
    assert_eq!(search.succeeds().docs(), ["a"]);
}

/// A job that fails before its first commit binds nobody to its model; one commit does.
#[test]
fn an_index_without_a_commit_gives_way() {
    let scratch = scratch!();
    scratch.write("bad.jsonl", "no JSON\n");
    scratch.write("docs.jsonl", "{\"_id\": \"a\", \"text\": \"bone\"}\n");
    scratch.write(
        "vectors.jsonl",
        "{\"_id\": \"a\", \"vector\": {\"bone\": 1}}\n",
    );
    let index = |docs: &str, model: &str| {
        let vectors = format!("--vectors vectors.jsonl --vectors-model {model}");
        scratch.laconic(&format!("index --index idx --docs {docs} {vectors}"))
    };
    index("bad.jsonl", "one").fails(3, &["bad.jsonl, line 1"]);
    index("docs.jsonl", "two").succeeds();
    index("docs.jsonl", "one").fails(5, &["one", "two"]);
    scratch.laconic("check --index idx").succeeds();
}

/// Weights that are no numbers anywhere in a checkpoint end encoding with an error.
#[test]
fn a_damaged_checkpoint_is_refused() {
    type Damages = [(&'static str, fn(&mut Vec<u8>)); 6];
    let scratch = scratch!();
    scratch.write(
        "docs.jsonl",
        "{\"_id\": \"a\", \"text\": \"bone density\"}\n",
    );
    let encode = "encode --model ck --kind query --input docs.jsonl";
    let damages: Damages = [
        ("model.safetensors", |bytes| bytes.truncate(bytes.len() / 2)),
        ("model.safetensors", |bytes| bytes[..8].fill(0xff)),
        ("model.safetensors", |bytes| {
            let middle = (bytes.len() / 2) & !3;
            bytes[middle..middle + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        ("config.json", Vec::clear),
        ("tokenizer.json", |bytes| bytes.truncate(1000)),
        ("config.json", |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text
                .replace("\"hidden_size\": 64", "\"hidden_size\": 65536")
                .into_bytes();
        }),
    ];
    for (file, damage) in damages {
        scratch.write_checkpoint("ck", 0);
        scratch.laconic(encode).succeeds();
        let path = scratch.path("ck").join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(path, bytes).unwrap();
        let outcome = scratch.laconic(encode);
        assert!(matches!(outcome.code, Some(3 | 4)), "{outcome}");
        let code = outcome.code.unwrap();
        outcome.fails(code, &[]);
    }
}
