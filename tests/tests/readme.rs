//! The commands of README.md work as they stand there.
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::fs;

use laconic_fixtures::scifact;
use laconic_tests::{Scratch, gzip, scifact_docs, scratch, words, workspace};

/// The lines that begin with `laconic ` in blocks fenced as ```` ```sh ````; a line that ends
/// with `\` goes on.
fn commands(readme: &str) -> Vec<String> {
    let joined = readme.replace("\\\n", " ");
    let mut commands = Vec::new();
    let mut is_shell = false;
    for line in joined.lines().map(str::trim) {
        match line.strip_prefix("```") {
            Some(language) => is_shell = language.trim() == "sh" && !is_shell,
            None if is_shell => {
                let line = line.strip_prefix("$ ").unwrap_or(line);
                commands.extend(line.strip_prefix("laconic ").map(str::to_owned));
            }
            None => {}
        }
    }
    commands
}

/// The files a README may name: the first documents of SciFact with all queries and judgments,
/// a checkpoint, and its vectors of both.
fn provide_files(scratch: &Scratch) {
    let files = scifact::write_to(&scratch.path("scifact")).unwrap();
    let docs = scifact_docs(200);
    scratch.write("corpus.jsonl.gz", gzip(docs.as_bytes()));
    scratch.write("corpus.jsonl", docs);
    scratch.write("queries.jsonl.gz", scifact::QUERIES_GZ);
    fs::create_dir_all(scratch.path("qrels")).unwrap();
    fs::copy(&files.qrels, scratch.path("qrels/test.tsv")).unwrap();
    fs::copy(&files.qrels, scratch.path("qrels.tsv")).unwrap();
    scratch.write_checkpoint("checkpoint", 0);
    for (kind, input, output) in [
        ("document", "corpus.jsonl", "vectors.jsonl"),
        ("query", "queries.jsonl.gz", "query-vectors.jsonl"),
    ] {
        let encode = format!("encode --model checkpoint --kind {kind} --input {input}");
        scratch
            .laconic(&format!("{encode} --output {output}"))
            .succeeds();
    }
    let mut queries = String::new();
    let mut gz = flate2::read::GzDecoder::new(scifact::QUERIES_GZ);
    std::io::Read::read_to_string(&mut gz, &mut queries).unwrap();
    scratch.write("queries.jsonl", queries);
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap_or_default();
    let commands = commands(&readme);
    if commands.is_empty() {
        println!("skipped: README.md has no line `laconic …` in a block of sh");
        return;
    }
    let scratch = scratch!();
    provide_files(&scratch);
    for command in commands {
        let command = command.split(" | ").next().unwrap_or_default();
        // What a command prints may go into a file that a later one reads.
        let (command, target) = match command.split_once(" > ") {
            Some((command, target)) => (command, Some(target)),
            None => (command, None),
        };
        let command = command.split(" #").next().unwrap_or_default();
        let outcome = scratch.laconic(command).succeeds();
        if let Some(target) = target {
            scratch.write(words(target).first().unwrap(), &outcome.stdout);
        }
    }
}

#[test]
fn commands_are_found_in_shell_blocks_only() {
    let readme = "laconic no\n```sh\n$ laconic a \\\n  b\ncargo run\nlaconic c\n```\n```text\nlaconic \
                  no\n```\n```sh\nlaconic d # why\n```\nlaconic no\n";
    assert_eq!(commands(readme), ["a    b", "c", "d # why"]);
}
