//! Text of a laconic field: the vector in it, and the tokens made of it.
#![no_main]

use laconic_tantivy::{ImpactQuantizer, LaconicTokenizer, SparseVector};
use libfuzzer_sys::fuzz_target;
use tantivy::tokenizer::{TokenStream, Tokenizer};

fuzz_target!(|text: &str| {
    let vector = SparseVector::from_json(text);
    match &vector {
        Ok(vector) => assert_eq!(
            &SparseVector::from_json(&vector.to_json()).expect("our own text"),
            vector
        ),
        Err(error) => assert!(error.is_invalid_input()),
    }
    let n_rejected = u64::from(vector.is_err());
    let vector = vector.unwrap_or_default();
    for quantizer in (4..=8).map(|bits| ImpactQuantizer::with_bits(bits).expect("4 to 8")) {
        let mut tokenizer = LaconicTokenizer::new(quantizer);
        let tokens = counted(tokenizer.token_stream(text));
        let (impacts, _) = quantizer.quantize(&vector);
        let impacts: Vec<_> = impacts
            .into_iter()
            .map(|(term, impact)| (term.to_owned(), u32::from(impact)))
            .collect();
        assert_eq!(tokens, impacts);
        assert_eq!(tokenizer.rejected(), n_rejected);
    }
});

/// Terms in order of appearance, each with the length of its run.
fn counted(mut stream: impl TokenStream) -> Vec<(String, u32)> {
    let mut runs: Vec<(String, u32)> = Vec::new();
    while let Some(token) = stream.next() {
        assert_eq!(token.position, 0);
        match runs.last_mut().filter(|(term, _)| *term == token.text) {
            Some((_, n)) => *n += 1,
            None => runs.push((token.text.clone(), 1)),
        }
        assert!(runs.last().is_some_and(|(_, n)| *n <= 255));
    }
    runs
}
