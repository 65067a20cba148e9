//! The name of a field's tokenizer, which carries what the field was built with.
#![no_main]

use laconic_tantivy::Identity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| match Identity::from_tokenizer_name(name) {
    // `register` looks for a tokenizer under the name it would write, so no other may pass.
    Ok(identity) => assert_eq!(identity.tokenizer_name(), name),
    Err(error) => assert!(error.is_mismatch() || error.is_corrupt(), "{error}"),
});
