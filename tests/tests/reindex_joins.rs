//! Vectors and texts of a file, joined to an index by ids that it stores, has in a column, or has
//! in its term dictionary alone; and the other ways than a copy.
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::fs;

use laconic_tests::{Docs, Scratch, scratch};
use serde_json::Value;
use tantivy::schema::{FAST, INDEXED, STORED, STRING, Schema, TEXT, TextOptions};
use tantivy::{Index, IndexWriter, Term, doc};

const N_DOCS: u64 = 90;

/// Two segments with deletes of a program that stores no id, `shop`; and of one that stores
/// everything, `open`.
fn shops() -> Scratch {
    let scratch = scratch!();
    let docs = Docs::generate(usize::try_from(N_DOCS).unwrap(), 4);
    let vectors = docs.vectors();
    // By number, for fields that hold numbers; from the back.
    let numbered = (0u64..).zip(vectors.lines());
    let numbered = numbered.map(|(n, line)| line.replace(&format!("\"d{n}\""), &n.to_string()));
    let numbered: Vec<_> = numbered.collect();
    let reversed: Vec<_> = numbered.iter().rev().map(String::as_str).collect();
    scratch.write("numbered.jsonl", reversed.join("\n"));
    scratch.write("vectors.jsonl", vectors);
    scratch.write("texts.jsonl", docs.documents());
    for (name, is_stored) in [("shop", false), ("open", true)] {
        let mut schema = Schema::builder();
        let stored = |options: TextOptions| match is_stored {
            true => options | STORED,
            false => options,
        };
        let sku = schema.add_text_field("sku", stored(STRING));
        let body = schema.add_text_field("body", stored(TEXT));
        let others = (!is_stored).then(|| {
            let column = schema.add_text_field("column", FAST);
            let number = schema.add_u64_field("number", INDEXED);
            (column, number, schema.add_i64_field("signed", FAST))
        });
        fs::create_dir(scratch.path(name)).unwrap();
        let index = Index::create_in_dir(scratch.path(name), schema.build()).unwrap();
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 20_000_000).unwrap();
        for (n, item) in (0u64..).zip(&docs.0) {
            let mut document = doc!(sku => &*item.id, body => &*item.text);
            if let Some((column, number, signed)) = others {
                document.add_text(column, &item.id);
                document.add_u64(number, n);
                document.add_i64(signed, i64::try_from(n).unwrap());
            }
            writer.add_document(document).unwrap();
            if n == 60 {
                writer.commit().unwrap();
            }
        }
        for gone in ["d3", "d61"] {
            writer.delete_term(Term::from_field_text(sku, gone));
        }
        writer.commit().unwrap();
    }
    scratch
}

fn json(scratch: &Scratch, command: &str) -> Value {
    let command = format!("{command} --json");
    scratch.laconic(&command).succeeds().json()
}

/// Size and bytes of the vectors' files.
fn laconic_files(scratch: &Scratch, index: &str) -> Vec<Vec<u8>> {
    let files = scratch.index_files(index).into_iter();
    let spliced = files.filter(|path| {
        let extension = path
            .extension()
            .map(|ext| ext.to_string_lossy().into_owned());
        extension.is_some_and(|ext| ["idx", "term", "laconic"].contains(&&*ext))
    });
    spliced.map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn ids_are_found_wherever_the_index_has_them() {
    let scratch = shops();
    let mut made = Vec::new();
    for (field, file) in [
        ("sku", "vectors.jsonl"),
        ("column", "vectors.jsonl"),
        ("number", "numbered.jsonl"),
        ("signed", "numbered.jsonl"),
    ] {
        let command = format!("reindex shop by-{field} --vectors {file} --id-field {field}");
        let report = json(&scratch, &format!("{command} --unit-docs 16"));
        assert_eq!(report["documents"], N_DOCS - 2);
        assert_eq!(report["missing_vectors"], 0);
        let check = json(&scratch, &format!("check --index by-{field}"));
        assert_eq!(check["clean"], true);
        made.push(laconic_files(&scratch, &format!("by-{field}")));
    }
    assert!(made[0].iter().any(|file| file.len() > 1000));
    assert!(made.iter().all(|files| *files == made[0]));
    // A text of many words is no id, and a field that is nowhere none either.
    let reindex = "reindex shop new --vectors vectors.jsonl --id-field";
    let refused = scratch.laconic(&format!("{reindex} body"));
    refused.fails(2, &["several terms", "as a whole"]);
    fs::remove_dir_all(scratch.path("new.partial")).unwrap();
    let refused = scratch.laconic(&format!("{reindex} nothing"));
    refused.fails(
        2,
        &["no field `nothing`", "sku, body, column, number, signed"],
    );
}

/// The texts of an index that stores none, from a file, as if they had been stored; and none of
/// them encoded twice.
#[test]
fn texts_of_a_file_are_encoded_once() {
    let scratch = shops();
    scratch.write_checkpoint("model", 3);
    let texts = "--text-file texts.jsonl --model model --id-field sku --unit-docs 16";
    let report = json(&scratch, &format!("reindex shop new {texts}"));
    assert_eq!(report["documents"], N_DOCS - 2);
    let info =
        |index: &str| json(&scratch, &format!("info --index {index}"))["laconic_fields"].clone();
    assert!(info("new")[0]["postings"].as_u64() > Some(0));
    // A second time everything comes from the cache, with the same bytes; and so does the work of
    // several processes.
    let cache = scratch.path("cache-of-encodings/encodings.redb");
    let before = fs::metadata(&cache).unwrap().len();
    scratch
        .laconic(&format!("reindex shop again {texts}"))
        .succeeds();
    scratch
        .laconic(&format!("plan shop --job job {texts}"))
        .succeeds();
    let work = "work --job job --model model --text-file texts.jsonl --units";
    for part in ["0/2", "1/2"] {
        scratch.laconic(&format!("{work} {part}")).succeeds();
    }
    scratch.laconic("assemble --job job assembled").succeeds();
    assert_eq!(fs::metadata(&cache).unwrap().len(), before);
    let expected = laconic_files(&scratch, "new");
    assert!(laconic_files(&scratch, "again") == expected);
    assert!(laconic_files(&scratch, "assembled") == expected);
    let uncached = format!("reindex shop uncached {texts} --no-cache");
    scratch.laconic(&uncached).succeeds();
    assert!(laconic_files(&scratch, "uncached") == expected);
    // A file that lacks a text.
    let lines = scratch.read("texts.jsonl");
    let fewer: Vec<_> = lines
        .lines()
        .filter(|line| !line.contains("\"d80\""))
        .collect();
    scratch.write("fewer.jsonl", fewer.join("\n"));
    let texts = "--text-file fewer.jsonl --model model --id-field sku";
    let reindex = format!("reindex shop fewer {texts}");
    scratch
        .laconic(&reindex)
        .fails(3, &["`d80` has no text in fewer.jsonl"]);
    let report = json(
        &scratch,
        &format!("{reindex} --resume --allow-missing-vectors"),
    );
    assert_eq!(
        (&report["missing_vectors"], &report["empty_vectors"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_sample_keeps_no_encodings() {
    let scratch = shops();
    scratch.write_checkpoint("model", 3);
    let reindex = "reindex open new --text body --model model --unit-docs 1000";
    let cached = scratch.path("cache-of-encodings/encodings.redb");
    assert!(!cached.exists());
    scratch.laconic(&format!("{reindex} --dry-run")).succeeds();
    assert!(!cached.exists(), "a sample that is cached is none");
    scratch.laconic(reindex).succeeds();
    assert!(cached.exists());
}

#[test]
fn other_ways_than_a_copy() {
    let scratch = shops();
    let vectors = "--vectors vectors.jsonl --id-field sku --unit-docs 16";
    let lost = ["`sku`, `body`, `column`, `number`, `signed`", "not stored"];
    let rewrite = format!("reindex shop new --rewrite {vectors}");
    scratch.laconic(&rewrite).fails(3, &lost);
    assert!(!scratch.path("new.partial").exists());
    for source in ["shop", "open"] {
        let reindex = format!("reindex {source} {source}-copy {vectors}");
        let copied = json(&scratch, &reindex);
        let modes = ["--purge", "--rewrite"];
        for mode in modes
            .iter()
            .filter(|mode| (source, **mode) != ("shop", "--rewrite"))
        {
            let target = format!("{source}{mode}");
            let reindex = format!("reindex {source} {target} {mode} {vectors}");
            let report = json(&scratch, &reindex);
            assert_eq!(report["documents"], N_DOCS - 2);
            assert_eq!(report["postings"], copied["postings"]);
            assert!(report["bytes_after"].as_u64() < copied["bytes_after"].as_u64());
            let check = json(&scratch, &format!("check --index {target}"));
            assert_eq!(check["clean"], true);
            let meta: Value =
                serde_json::from_str(&scratch.read(format!("{target}/meta.json"))).unwrap();
            let segments = meta["segments"].as_array().unwrap();
            assert_eq!(segments.len(), 2);
            assert!(
                segments.iter().all(|segment| segment["deletes"].is_null()),
                "{meta}"
            );
        }
    }
    // The plan says so for all workers.
    let plan = format!("plan shop --job job --purge {vectors}");
    scratch.laconic(&plan).succeeds();
    scratch
        .laconic("work --job job --vectors vectors.jsonl")
        .succeeds();
    scratch.laconic("assemble --job job assembled").succeeds();
    assert!(laconic_files(&scratch, "assembled") == laconic_files(&scratch, "shop--purge"));
    let both = scratch.laconic("reindex shop new --rewrite --purge --vectors vectors.jsonl");
    assert!(both.stderr.contains("cannot be used with"), "{both}");
    both.exits(2);
}

/// Eight bits hold what five do, so there and back nothing changes.
#[test]
fn vectors_get_other_bits_without_a_model() {
    let scratch = shops();
    let vectors = "--vectors vectors.jsonl --vectors-model 'm@1' --id-field sku --unit-docs 16";
    json(&scratch, &format!("reindex shop five {vectors}"));
    json(
        &scratch,
        "reindex five eight --requantize --bits 8 --unit-docs 7",
    );
    json(&scratch, "reindex eight back --requantize --bits 5");
    let field =
        |index: &str| json(&scratch, &format!("info --index {index}"))["laconic_fields"][0].clone();
    let [five, eight, back] = ["five", "eight", "back"].map(field);
    assert_eq!(
        (&five["quantizer"]["bits"], &eight["quantizer"]["bits"]),
        (&5.into(), &8.into()),
        "{five}"
    );
    assert_eq!(five["model"], eight["model"]);
    assert!(five["postings"].as_u64() > Some(100));
    assert_eq!(five, back);
    assert!(laconic_files(&scratch, "five") != laconic_files(&scratch, "eight"));
    assert!(laconic_files(&scratch, "five") == laconic_files(&scratch, "back"));
    assert_eq!(json(&scratch, "check --index eight")["clean"], true);
    scratch.laconic("reindex five new --requantize").exits(2);
    scratch
        .laconic("reindex shop new --requantize --bits 4")
        .fails(3, &["laconic"]);
}

/// Files that nobody here understands are named. (What becomes of them, the library's tests say;
/// here no segment has one.)
#[test]
fn plugins_of_other_programs_are_named() {
    let scratch = shops();
    let mut meta: Value = serde_json::from_str(&scratch.read("shop/meta.json")).unwrap();
    meta["persisted_custom_extensions"] = serde_json::json!(["marker"]);
    scratch.write("shop/meta.json", meta.to_string());
    let reindex = "reindex shop new --vectors vectors.jsonl --id-field sku";
    scratch
        .laconic(&format!("{reindex} --purge"))
        .fails(3, &["plugin of another program", "copy the index"]);
    let outcome = scratch.laconic(reindex).succeeds();
    assert!(outcome.stderr.contains("`.marker` files"), "{outcome}");
    let made: Value = serde_json::from_str(&scratch.read("new/meta.json")).unwrap();
    let extensions = serde_json::json!(["marker", "laconic"]);
    assert_eq!(made["persisted_custom_extensions"], extensions);
}
