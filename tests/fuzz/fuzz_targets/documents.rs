//! A file of documents, plain or compressed.
#![no_main]

use laconic_cli::collection;
use laconic_fuzz::lines::check_records;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    |bytes: &[u8]| check_records(bytes, collection::documents, |document| {
        for taken in ["_id", "title", "text"] {
            assert!(!document.fields.contains_key(taken), "`{taken}` is left");
        }
    })
);
