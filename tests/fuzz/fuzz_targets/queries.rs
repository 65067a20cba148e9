//! A file of queries, plain or compressed.
#![no_main]

use laconic_cli::collection;
use laconic_fuzz::lines::check_records;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_records(bytes, collection::queries, |_| {}));
