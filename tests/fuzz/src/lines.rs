//! Files of lines: what holds for every collection, whatever a record is.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::Cursor;

use laconic_cli::collection::{InputError, LineReader, Located, MAX_ID_BYTES, Record, Records};

/// Short, so that the fuzzer finds out what happens beyond it.
const LINE_LIMIT: usize = 1024;

/// Reads `bytes` as a file, decompressed if they begin like one that is compressed.
pub fn reader(bytes: &[u8]) -> LineReader {
    LineReader::from_reader("fuzz", Cursor::new(bytes.to_vec()))
        .expect("memory can be read")
        .with_line_limit(LINE_LIMIT)
}

/// Reads `bytes` as a collection and hands each record to `check`.
///
/// Lines are counted rightly and in order, ids are valid, nothing follows a fault that ends the
/// file, and reading resumed in the middle finds what reading on finds.
pub fn check_records<T: Record + PartialEq + Debug>(
    bytes: &[u8],
    parse: fn(LineReader) -> Records<T>,
    check: fn(&T),
) {
    let items: Vec<_> = parse(reader(bytes)).collect();
    for located in items.iter().flatten() {
        check_id(located.record.id());
        check(&located.record);
    }
    check_numbers(bytes, &items);
    check_resumed(bytes, parse, &items);
    check_unique(parse(reader(bytes)).with_unique_ids());
}

type Item<T> = Result<Located<T>, InputError>;

fn check_id(id: &str) {
    assert!((1..=MAX_ID_BYTES).contains(&id.len()));
    assert!(!id.contains(|c: char| c.is_whitespace() || c.is_control()));
}

fn line<T>(item: &Item<T>) -> u64 {
    match item {
        Ok(located) => located.place.line(),
        Err(fault) => fault.line().expect("the file was opened"),
    }
}

fn check_numbers<T>(bytes: &[u8], items: &[Item<T>]) {
    assert!(items.is_sorted_by(|a, b| line(a) < line(b)));
    let ends = |item: &Item<T>| item.as_ref().is_err_and(|fault| !fault.is_skippable());
    let is_cut = items.last().is_some_and(ends);
    assert!(items.iter().rev().skip(1).all(|item| !ends(item)));
    match reader(bytes).skip_lines(u64::MAX) {
        Ok(n_lines) => assert!(items.last().is_none_or(|item| line(item) <= n_lines)),
        Err(fault) => assert!(is_cut, "passed over {fault}"),
    }
    let is_compressed = bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(b"\x28\xb5\x2f\xfd");
    let n_lines = bytes.split_inclusive(|byte| *byte == b'\n').count();
    assert!(is_compressed || items.len() <= n_lines);
}

fn check_resumed<T: Record + PartialEq + Debug>(
    bytes: &[u8],
    parse: fn(LineReader) -> Records<T>,
    items: &[Item<T>],
) {
    let (before, after) = items.split_at(items.len().div_ceil(2));
    let Some(Ok(located)) = before.last() else {
        return;
    };
    let mut lines = reader(bytes);
    lines
        .resume(located.place.end())
        .expect("it is the same file");
    let resumed: Vec<_> = parse(lines).collect();
    assert_eq!(outcomes(&resumed), outcomes(after));
}

/// Items in a form that can be compared.
fn outcomes<T>(items: &[Item<T>]) -> Vec<Result<(u64, &T), String>> {
    let mut outcomes = Vec::with_capacity(items.len());
    for item in items {
        outcomes.push(match item {
            Ok(located) => Ok((located.place.line(), &located.record)),
            Err(fault) => Err(fault.to_string()),
        });
    }
    outcomes
}

fn check_unique<T: Record>(records: Records<T>) {
    let mut ids = HashSet::new();
    for located in records.flatten() {
        let id = located.record.id().to_owned();
        assert!(ids.insert(id), "an id is given twice");
    }
}
