//! `laconic reindex` and its parts as a user calls them, and killed (SIGKILL) at random points.
//!
//! What would be lost if this failed: the trust that an index that took days of encoding is whole
//! whatever happened on the way, and that the old one was never touched. `LACONIC_KILLS` sets the
//! number of kills.

use std::fs;
use std::time::Duration;

use laconic_tests::{Docs, Hit, Scratch, gzip, scratch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tantivy::directory::{Directory, INDEX_WRITER_LOCK, MmapDirectory};
use tantivy::schema::{STORED, STRING, Schema, TEXT};
use tantivy::{Index, IndexWriter, Term, doc};

const N_DOCS: usize = 400;

/// An index without vectors, `plain`, of two segments with replaced documents; and one with
/// vectors, `idx`, of the same documents.
fn plain_and_ours() -> Scratch {
    let scratch = scratch!();
    let docs = Docs::generate(N_DOCS, 11);
    scratch.write("docs.jsonl", docs.documents());
    scratch.write("vectors.jsonl", docs.vectors());
    let vectors = docs.vectors();
    let reversed: Vec<_> = vectors.lines().rev().collect();
    scratch.write("reversed.jsonl", reversed.join("\n"));
    scratch.write("reversed.jsonl.gz", gzip(reversed.join("\n").as_bytes()));
    scratch.write("queries.jsonl", docs.query_vectors(20));
    scratch.write("part.jsonl", Docs(docs.0[100..160].to_vec()).documents());
    for run in ["--docs docs.jsonl", "--docs part.jsonl"] {
        scratch
            .laconic(&format!("index --index plain {run}"))
            .succeeds();
    }
    scratch
        .laconic("index --index idx --docs docs.jsonl --vectors vectors.jsonl")
        .succeeds();
    scratch
}

/// What every query finds, in an order that does not depend on segments.
fn hits(scratch: &Scratch, index: &str) -> Vec<Hit> {
    let search = format!("search --index {index} --query-vectors queries.jsonl -k 1000");
    let mut hits = scratch
        .laconic(&format!("{search} --format trec"))
        .succeeds()
        .hits();
    hits.sort_by(|a, b| (&a.query, &a.doc).cmp(&(&b.query, &b.doc)));
    hits
}

fn json(scratch: &Scratch, command: &str) -> Value {
    scratch
        .laconic(&format!("{command} --json"))
        .succeeds()
        .json()
}

#[test]
fn vectors_of_a_file_in_any_order() {
    let scratch = plain_and_ours();
    let before = scratch.index_contents("plain");
    let bm25 = "search --index plain --mode bm25 'common w2' -k 1000 --format trec";
    let bm25 = scratch.laconic(bm25).hits();
    let mut made = Vec::new();
    for (name, vectors) in [
        ("a", "vectors.jsonl"),
        ("b", "reversed.jsonl"),
        ("c", "reversed.jsonl.gz"),
    ] {
        let reindex = format!("reindex plain {name} --vectors {vectors} --unit-docs 64");
        let report = json(&scratch, &format!("{reindex} --progress progress.json"));
        assert_eq!(report["documents"], N_DOCS);
        assert_eq!(
            (&report["segments"], &report["missing_vectors"]),
            (&2.into(), &0.into())
        );
        let progress: Value = serde_json::from_str(&scratch.read("progress.json")).unwrap();
        assert_eq!(
            (&progress["state"], &progress["step"]),
            (&"done".into(), &"assembling".into())
        );
        assert_eq!(progress["done"], progress["total"]);
        assert_eq!(
            json(&scratch, &format!("check --index {name}"))["clean"],
            true
        );
        assert!(!scratch.path(format!("{name}.partial")).exists());
        made.push(scratch.index_contents(name));
    }
    assert!(
        made[0] == made[1] && made[0] == made[2],
        "the order of the vectors shows"
    );
    assert!(
        scratch.index_contents("plain") == before,
        "the source was written to"
    );
    let found = hits(&scratch, "a");
    assert!(found.len() > 1000);
    assert_eq!(found, hits(&scratch, "idx"));
    let search = "search --index a --mode bm25 'common w2' -k 1000 --format trec";
    assert_eq!(scratch.laconic(search).hits(), bm25);
    // It is an index like any other: documents can be replaced.
    scratch.write("one.jsonl", r#"{"_id": "d5", "text": "new"}"#);
    scratch.write("one-v.jsonl", r#"{"_id": "d5", "vector": {"brandnew": 2}}"#);
    scratch
        .laconic("index --index a --docs one.jsonl --vectors one-v.jsonl")
        .succeeds();
    assert_eq!(json(&scratch, "info --index a")["documents"], N_DOCS);
}

#[test]
fn texts_by_a_model_as_if_they_had_been_indexed_with_it() {
    let scratch = plain_and_ours();
    scratch.write_checkpoint("model", 3);
    let reindex = "reindex plain new --text title,body --model model --unit-docs 50";
    let estimate = json(&scratch, &format!("{reindex} --dry-run"));
    assert_eq!(estimate["documents"], N_DOCS);
    assert!(estimate["bytes_after"].as_f64() > estimate["bytes_before"].as_f64());
    assert!(!scratch.path("new.partial").exists() && !scratch.path("new").exists());
    let line = scratch
        .laconic(&format!("{reindex} --dry-run"))
        .succeeds()
        .stdout;
    assert!(line.contains("400 documents, by a sample of 1"), "{line}");
    scratch.laconic(reindex).succeeds();
    scratch
        .laconic("index --index with-model --docs docs.jsonl --model model")
        .succeeds();
    let search = |index: &str| {
        let search = format!("search --index {index} --model model -k 1000 --format trec 'w2 w8'");
        let mut hits = scratch.laconic(&search).succeeds().hits();
        hits.sort_by(|a, b| a.doc.cmp(&b.doc));
        hits
    };
    let found = search("new");
    assert!(!found.is_empty());
    assert_eq!(found, search("with-model"));
    // New vectors of another model in the place of the old.
    scratch.write_checkpoint("other", 4);
    let replace = "reindex new newer --replace --text title,body --model other";
    scratch.laconic(replace).succeeds();
    let old_model = "search --index newer --model model w2";
    scratch.laconic(old_model).fails(5, &["was built with"]);
    assert_eq!(json(&scratch, "check --index newer")["clean"], true);
}

/// Three workers of three processes, one of them twice; a piece that is damaged meanwhile.
#[test]
fn planned_worked_and_assembled() {
    let scratch = plain_and_ours();
    scratch
        .laconic("reindex plain whole --vectors vectors.jsonl --unit-docs 64")
        .succeeds();
    let plan = "plan plain --job job --vectors vectors.jsonl --unit-docs 64";
    let planned = json(&scratch, plan);
    let n_units = planned["units"].as_array().unwrap().len();
    assert!(n_units >= 8, "{planned}");
    // Planning again changes nothing; planning something else is refused.
    assert_eq!(json(&scratch, plan), planned);
    scratch
        .laconic("plan plain --job job --vectors vectors.jsonl --unit-docs 65")
        .fails(5, &["units of another size"]);
    let work = |units: &str| {
        let work = format!("work --job job --vectors vectors.jsonl --units {units}");
        json(&scratch, &work)
    };
    for part in ["2/3", "0/3", "2/3"] {
        work(part);
    }
    assert_eq!(work("2/3")["units"], 0);
    scratch
        .laconic("assemble --job job new")
        .fails(3, &["units are missing"]);
    work("1/3");
    let piece = "job/unit-00000004.piece";
    let mut bytes = fs::read(scratch.path(piece)).unwrap();
    bytes.truncate(bytes.len() / 2);
    scratch.write(piece, bytes);
    scratch
        .laconic("assemble --job job new")
        .fails(4, &["unit-00000004.piece", "checksum"]);
    let redone = work("4");
    assert_eq!(
        (&redone["units"], &redone["redone_units"]),
        (&1.into(), &1.into())
    );
    assert!(!scratch.path("new").exists());
    json(&scratch, "assemble --job job new");
    assert!(scratch.index_contents("new") == scratch.index_contents("whole"));
    // The source may be somewhere else on another machine, if it is the same.
    fs::rename(scratch.path("plain"), scratch.path("moved")).unwrap();
    scratch
        .laconic("assemble --job job again")
        .fails(3, &["no index in"]);
    json(&scratch, "assemble --job job again --source moved");
    assert!(scratch.index_contents("again") == scratch.index_contents("whole"));
    scratch
        .laconic("assemble --job job other --source idx")
        .fails(5, &["source has changed"]);
}

/// An index of a program that has Tantivy alone.
#[test]
fn an_index_of_another_program() {
    let scratch = scratch!();
    let docs = Docs::generate(60, 2);
    scratch.write("vectors.jsonl", docs.vectors());
    let mut schema = Schema::builder();
    let sku = schema.add_text_field("sku", STRING | STORED);
    let about = schema.add_text_field("about", TEXT);
    fs::create_dir(scratch.path("shop")).unwrap();
    let index = Index::create_in_dir(scratch.path("shop"), schema.build()).unwrap();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 20_000_000).unwrap();
    for item in &docs.0 {
        writer
            .add_document(doc!(sku => &*item.id, about => &*item.text))
            .unwrap();
    }
    writer.commit().unwrap();
    writer.delete_term(Term::from_field_text(sku, "d7"));
    writer.commit().unwrap();
    // Its writer may be open: the source is not locked.
    let reindex = "reindex shop new --vectors vectors.jsonl";
    scratch
        .laconic(reindex)
        .fails(2, &["no field `_id`", "sku"]);
    let report = json(&scratch, &format!("{reindex} --id-field sku"));
    assert_eq!(report["documents"], 59);
    assert_eq!(json(&scratch, "check --index new")["clean"], true);
    let info = json(&scratch, "info --index new");
    assert_eq!(info["laconic_fields"][0]["postings"], report["postings"]);
    scratch
        .laconic("reindex shop texts --text about --model nowhere")
        .fails(3, &["nowhere"]);
}

#[test]
fn what_cannot_be_done_is_said_and_can_be_gone_on_with() {
    let scratch = plain_and_ours();
    let reindex = "reindex plain new --unit-docs 64 --vectors";
    let refused = [
        (
            "reindex nowhere new --vectors vectors.jsonl",
            3,
            "no index in",
        ),
        ("reindex plain idx --vectors vectors.jsonl", 2, "already"),
        (
            "reindex plain plain/new --vectors vectors.jsonl",
            2,
            "outside",
        ),
        ("reindex plain new", 2, "say where the vectors come from"),
        (
            "reindex idx new --vectors vectors.jsonl",
            3,
            "a field `laconic` already",
        ),
        (
            "reindex plain new --replace --vectors vectors.jsonl",
            3,
            "no field `laconic`",
        ),
        ("work --job nowhere --vectors vectors.jsonl", 2, "no plan"),
    ];
    for (command, code, part) in refused {
        scratch.laconic(command).fails(code, &[part]);
        assert!(!scratch.path("new").exists());
        let _ = fs::remove_dir_all(scratch.path("new.partial"));
    }
    // A vector is missing: the units before it stay.
    let vectors = scratch.read("vectors.jsonl");
    let lines: Vec<_> = vectors
        .lines()
        .filter(|line| !line.contains("\"d390\""))
        .collect();
    scratch.write("fewer.jsonl", lines.join("\n"));
    scratch
        .laconic(&format!("{reindex} fewer.jsonl"))
        .fails(3, &["`d390` has no vector"]);
    scratch
        .laconic(&format!("{reindex} fewer.jsonl"))
        .fails(2, &["--resume"]);
    scratch
        .laconic(&format!("{reindex} vectors.jsonl --resume"))
        .fails(5, &["with vectors made in another way"]);
    let report = json(
        &scratch,
        &format!("{reindex} fewer.jsonl --resume --allow-missing-vectors"),
    );
    assert_eq!(
        (&report["missing_vectors"], &report["documents"]),
        (&1.into(), &N_DOCS.into())
    );
    assert!(report["resumed_units"].as_u64() > Some(0), "{report}");
    // A bad line.
    let bad = vectors.replacen("\"common\":", "\"common\":-", 1);
    scratch.write("bad.jsonl", bad);
    let bad = "reindex plain bad --vectors bad.jsonl";
    scratch.laconic(bad).fails(3, &["bad.jsonl, line 1"]);
    let lenient = "--resume --skip-invalid --allow-missing-vectors";
    let report = json(&scratch, &format!("{bad} {lenient}"));
    assert_eq!(
        (&report["skipped_lines"], &report["missing_vectors"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn two_runs_at_once_do_not_meddle_with_each_other() {
    let scratch = plain_and_ours();
    let partial = scratch.path("new.partial");
    fs::create_dir(&partial).unwrap();
    let directory = MmapDirectory::open(&partial).unwrap();
    let other_run = directory.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
    let reindex = "reindex plain new --vectors vectors.jsonl --resume";
    scratch
        .laconic(reindex)
        .fails(6, &["another process", "new.partial"]);
    drop(other_run);
    // But a writer of the source is none of them.
    let source = MmapDirectory::open(scratch.path("plain")).unwrap();
    let _writer = source.acquire_lock(&INDEX_WRITER_LOCK).unwrap();
    scratch.laconic(reindex).succeeds();
}

/// Killed at the last moment, when the index is in its place and the rest is to be deleted.
#[test]
fn a_run_killed_while_it_tidied_up_is_done() {
    let scratch = plain_and_ours();
    let reindex = "reindex plain new --vectors vectors.jsonl --resume";
    scratch.laconic(reindex).succeeds();
    let made = scratch.index_contents("new");
    scratch.laconic(reindex).fails(2, &["already"]);
    let leftovers: [&[&str]; 3] = [
        &["assembled", "job/plan.json", "job/unit-00000000.piece"],
        &["assembled", "job/unit-00000000.piece"],
        &[".tantivy-writer.lock"],
    ];
    for leftover in leftovers {
        for name in leftover {
            scratch.write(format!("new.partial/{name}"), "");
        }
        scratch.laconic(reindex).succeeds();
        assert!(!scratch.path("new.partial").exists(), "{leftover:?}");
        assert!(scratch.index_contents("new") == made);
    }
    // But pieces of a job whose place was taken meanwhile are not thrown away.
    scratch.write("new.partial/job/plan.json", "");
    scratch.laconic(reindex).fails(2, &["already"]);
    assert!(scratch.path("new.partial/job/plan.json").exists());
}

/// Killed until it ends by itself, and gone on with: the files of an unbroken run.
#[test]
fn a_killed_run_goes_on_to_the_same_files() {
    let kills = std::env::var("LACONIC_KILLS").ok();
    let kills: u64 = kills.map_or(12, |n| n.parse().expect("LACONIC_KILLS is a number"));
    let scratch = plain_and_ours();
    let before = scratch.index_contents("plain");
    let options = "--vectors reversed.jsonl --unit-docs 16";
    let start = std::time::Instant::now();
    scratch
        .laconic(&format!("reindex plain whole {options}"))
        .succeeds();
    let whole = start.elapsed();
    let expected = scratch.index_contents("whole");
    let mut rng = StdRng::seed_from_u64(kills);
    let mut done = 0;
    for n in 0.. {
        if done == kills {
            break;
        }
        let target = format!("killed{n}");
        let command = format!("reindex plain {target} {options} --resume");
        while done < kills {
            let mut child = scratch.start(&command);
            std::thread::sleep(Duration::from_secs_f64(
                whole.as_secs_f64() * rng.random_range(0.0..1.1),
            ));
            child.kill().unwrap();
            let ended = child.wait().unwrap().success();
            done += u64::from(!ended);
            if scratch.path(&target).exists() {
                // Whatever stands under its name is whole.
                assert!(scratch.index_contents(&target) == expected, "{target}");
            }
            if ended || rng.random_bool(0.2) {
                break;
            }
        }
        if !scratch.path(&target).exists() || scratch.path(format!("{target}.partial")).exists() {
            scratch.laconic(&command).succeeds();
        }
        assert!(scratch.index_contents(&target) == expected, "{target}");
        assert!(!scratch.path(format!("{target}.partial")).exists());
    }
    assert!(
        scratch.index_contents("plain") == before,
        "the source was written to"
    );
}
