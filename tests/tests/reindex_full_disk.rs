//! `laconic reindex` on a disk that is too small, a tmpfs of its own: it says so, and goes on when
//! there is space.
//!
//! Mounting takes a user namespace, which not every machine grants; there the test says that it is
//! skipped. What a disk of any size does to the library, `laconic-tantivy/tests/reindex.rs` tests.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "clippy spares only the test functions themselves"
)]

use std::fs;
use std::process::Command;

use laconic_tests::{Docs, Scratch, scratch};

/// Within the namespace: a run on a disk of a size, what is there then, and a second run on a
/// larger one.
const SCRIPT: &str = r#"
mkdir -p disk && mount -t tmpfs -o size=$SIZE tmpfs disk
reindex() { "$LACONIC" reindex shop disk/new --vectors vectors.jsonl --unit-docs 16 "$@"; }
code=0; reindex --progress disk/progress 2>said || code=$?
echo $code >code
ls disk/new.partial/job 2>/dev/null | grep -c piece >pieces || true
if [ $code != 0 ]; then
    test ! -e disk/new
    mount -o remount,size=64m disk
    reindex --resume --json >report
fi
cp -r disk/new result
"#;

fn run(scratch: &Scratch, size: u64) -> std::process::Output {
    let _ = fs::remove_dir_all(scratch.path("result"));
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-euc", SCRIPT])
        .env("LACONIC", env!("CARGO_BIN_EXE_laconic-under-test"))
        .env("SIZE", size.to_string())
        .current_dir(scratch.path(""));
    command.output().unwrap()
}

fn can_mount(scratch: &Scratch) -> bool {
    let mut command = Command::new("unshare");
    command
        .args([
            "-rm",
            "sh",
            "-euc",
            "mkdir -p try && mount -t tmpfs tmpfs try",
        ])
        .current_dir(scratch.path(""));
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_is_named_and_gone_on_with() {
    let scratch = scratch!();
    if !can_mount(&scratch) {
        println!("skipped: no tmpfs can be mounted here");
        return;
    }
    let docs = Docs::generate(400, 3);
    scratch.write("docs.jsonl", docs.documents());
    scratch.write("vectors.jsonl", docs.vectors());
    scratch
        .laconic("index --index shop --docs docs.jsonl")
        .succeeds();
    scratch
        .laconic("reindex shop whole --vectors vectors.jsonl --unit-docs 16")
        .succeeds();
    let expected = scratch.index_contents("whole");
    let needed: u64 = expected.values().map(|bytes| bytes.len() as u64).sum();
    let (mut broken_at_work, mut broken_at_assembly) = (0, 0);
    // A page at a time is too slow; so are all sizes.
    for step in 1..=12 {
        let size = (needed * 3 * step / 12).next_multiple_of(4096);
        let output = run(&scratch, size);
        let said = scratch.read("said");
        let trace = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{size}: {trace}{said}");
        assert!(scratch.index_contents("result") == expected, "{size}");
        if scratch.read("code").trim() == "0" {
            continue;
        }
        for part in ["disk/new.partial", "no space left", "--resume"] {
            assert!(said.contains(part), "{size}: {said}");
        }
        let pieces: u64 = scratch.read("pieces").trim().parse().unwrap();
        let report: serde_json::Value = serde_json::from_str(&scratch.read("report")).unwrap();
        assert_eq!(report["resumed_units"], pieces, "{report}");
        match report["units"].as_u64() {
            Some(0) => broken_at_assembly += 1,
            _ => broken_at_work += 1,
        }
    }
    assert!(
        broken_at_work > 0 && broken_at_assembly > 0,
        "{broken_at_work} {broken_at_assembly}"
    );
}
