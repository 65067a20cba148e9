//! The files of `examples/` that deal a job out to machines, run as Slurm and Kubernetes run them.
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};

use laconic_tests::{Docs, Scratch, scratch, workspace};

const BINARY: &str = env!("CARGO_BIN_EXE_laconic-under-test");
const PARTS: u32 = 8;

/// An index `shop`, what one process makes of it, `whole`, and a plan, `job`.
fn planned() -> Scratch {
    let scratch = scratch!();
    let docs = Docs::generate(300, 5);
    scratch.write("docs.jsonl", docs.documents());
    scratch.write("vectors.jsonl", docs.vectors());
    let options = "shop --vectors vectors.jsonl --unit-docs 16";
    for line in [
        "index --index shop --docs docs.jsonl",
        &format!(
            "reindex {} whole --vectors vectors.jsonl --unit-docs 16",
            "shop"
        ),
        &format!("plan {options} --job job"),
    ] {
        scratch.laconic(line).succeeds();
    }
    scratch
}

/// Every part once, the first ones two at a time, two of them twice, and both at the same time.
fn run_all(start: impl Fn(u32) -> Child) {
    let succeeds = |mut child: Child| assert!(child.wait().unwrap().success());
    let pairs = [[3, 3], [0, 1], [2, 4], [5, 0], [6, 7]];
    for pair in pairs {
        let started = pair.map(&start);
        started.into_iter().for_each(succeeds);
    }
}

fn shell(scratch: &Scratch, script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(scratch.path(""))
        .env("LACONIC", BINARY)
        .env("JOB", "job")
        .env("VECTORS", "vectors.jsonl")
        .stdin(Stdio::null());
    command
}

fn example(name: &str) -> String {
    fs::read_to_string(workspace().join("examples").join(name)).unwrap()
}

#[test]
fn a_slurm_array() {
    if cfg!(not(unix)) {
        println!("skipped: there is no sh");
        return;
    }
    let scratch = planned();
    let work = example("slurm/work.sbatch");
    let assemble = example("slurm/assemble.sbatch");
    let start = |task: u32| {
        let mut command = shell(&scratch, &work);
        // An array that does not begin at 0.
        command
            .env("SLURM_ARRAY_TASK_ID", (task + 5).to_string())
            .env("SLURM_ARRAY_TASK_MIN", "5")
            .env("SLURM_ARRAY_TASK_COUNT", PARTS.to_string());
        command.spawn().unwrap()
    };
    // Before all tasks have ended, there is nothing to assemble.
    assert!(start(7).wait().unwrap().success());
    let early = shell(&scratch, &assemble).env("TARGET", "new").output();
    let early = early.unwrap();
    assert!(!early.status.success());
    let said = String::from_utf8_lossy(&early.stderr);
    assert!(said.contains("units are missing"), "{said}");
    run_all(start);
    let status = shell(&scratch, &assemble).env("TARGET", "new").status();
    assert!(status.unwrap().success());
    assert!(scratch.index_contents("new") == scratch.index_contents("whole"));
}

#[test]
fn a_kubernetes_indexed_job() {
    if cfg!(not(unix)) {
        println!("skipped: there is no sh");
        return;
    }
    let scratch = planned();
    let manifest = example("kubernetes/reindex.yaml");
    let completions = format!("completions: {PARTS}\n");
    assert!(manifest.contains(&completions));
    let environment = environment(&manifest);
    assert_eq!(environment["PARTS"], PARTS.to_string());
    let script = script(&manifest);
    run_all(|index| {
        let mut command = shell(&scratch, &script);
        command
            .env("PARTS", environment["PARTS"])
            .env("JOB_COMPLETION_INDEX", index.to_string());
        command.spawn().unwrap()
    });
    scratch.laconic("assemble --job job new").succeeds();
    assert!(scratch.index_contents("new") == scratch.index_contents("whole"));
}

/// The lines below `args: - |`, without their indentation.
fn script(manifest: &str) -> String {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != "- |");
    let margin = lines.next().unwrap().find('-').unwrap() + 2;
    let script = lines.map_while(|line| {
        let indent = line.len() - line.trim_start().len();
        (indent >= margin).then(|| line[margin..].to_owned())
    });
    let script: Vec<_> = script.collect();
    assert!(script.len() > 1);
    script.join("\n")
}

/// The variables that the manifest sets.
fn environment(manifest: &str) -> BTreeMap<&str, &str> {
    let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("- name: ")?;
        let value = pair[1].strip_prefix("value: ")?;
        Some((name, value.trim_matches('"')))
    });
    pairs.collect()
}
