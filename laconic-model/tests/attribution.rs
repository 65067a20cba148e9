//! Attribution against logits that are written out in full, and against the text itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

mod support;

use std::path::Path;

use laconic_model::{Attribution, Encoder, LoadOptions, Part, Source, Text};
use serde_json::json;
use support::{Checkpoint, Random, logits};

fn load(folder: &Path, knobs: &[(&str, &str)]) -> Encoder {
    let options = knobs
        .iter()
        .fold(LoadOptions::new(), |options, (k, v)| options.set(*k, *v));
    Encoder::load(folder, options).unwrap()
}

const TEXTS: [&str; 6] = [
    "",
    "a",
    "Copper conducts electricity better than iron, copper conducts electricity.",
    "Grüße, 東京! 🚀e\u{301}",
    " \t ",
    "tabs\tand\nlines  and   spaces ",
];

fn texts() -> Vec<Text<'static>> {
    let mut texts: Vec<Text<'_>> = TEXTS.map(Text::Query).to_vec();
    for title in TEXTS {
        texts.push(Text::titled(title, TEXTS[3]));
        texts.push(Text::titled(TEXTS[3], title));
    }
    texts.push(Text::document(TEXTS[2]));
    texts
}

fn part<'a>(text: Text<'a>, part: Part) -> &'a str {
    match (text, part) {
        (Text::Query(query), Part::Query) => query,
        (Text::Document { title, .. }, Part::Title) => title.unwrap(),
        (Text::Document { body, .. }, Part::Body) => body,
        (text, part) => panic!("{text:?} has no {part:?}"),
    }
}

/// Bits of the encoding, tokens, and ranges that can be cut out of the caller's strings.
fn check_against_text(encoder: &Encoder, text: Text<'_>) -> Attribution {
    let found = encoder.encode_with_attribution(text).unwrap();
    let plain = encoder.encode(text).unwrap();
    assert_eq!(found.encoding, plain);
    let bits = |weights: &[(u32, f32)]| weights.iter().map(|w| w.1.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found.encoding.weights), bits(&plain.weights));
    let ids: Vec<u32> = found.tokens().map(|(id, _)| id).collect();
    assert_eq!(ids, encoder.token_ids(text).unwrap());
    assert_eq!(found.terms().count(), plain.weights.len());
    for (_, source) in found.tokens() {
        let Source::Text(span) = source else { continue };
        let string = part(text, span.part);
        let token = string.get(span.bytes.clone()).unwrap();
        assert!(!token.is_empty() && string[span.word.clone()].contains(token));
        assert_eq!(string[..span.bytes.start].chars().count(), span.chars.start);
        assert_eq!(token.chars().count(), span.chars.len());
    }
    found
}

#[test]
fn the_position_is_that_of_the_largest_logit() {
    for (seed, is_tied) in [(21, false), (22, true)] {
        let mut checkpoint = Checkpoint::new(seed);
        if is_tied {
            checkpoint = checkpoint.tied();
        }
        let folder = tempfile::tempdir().unwrap();
        checkpoint.write(folder.path());
        let encoder = load(folder.path(), &[("top_k", "none")]);
        for text in texts() {
            let found = check_against_text(&encoder, text);
            let truth = logits(&checkpoint, &encoder.token_ids(text).unwrap());
            for term in found.terms() {
                let token = usize::try_from(term.token_id).unwrap();
                let column: Vec<f64> = truth.iter().map(|row| row[token]).collect();
                let max = column.iter().copied().fold(f64::MIN, f64::max);
                // Two positions may be closer than f32 can tell; elsewhere there is one answer.
                assert!(max - column[term.position] < 1e-4, "{text:?}, {token}");
                assert!((f64::from(term.weight) - max.ln_1p()).abs() < 1e-4);
                let expected = found.tokens().nth(term.position).unwrap().1;
                assert_eq!(term.source, expected);
            }
        }
    }
}

/// One token a byte: every position is known without a tokenizer.
#[test]
fn offsets_are_relative_to_the_text_and_the_prefix_is_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(23).write(folder.path());
    let encoder = load(folder.path(), &[("add_bos", "true"), ("add_eos", "true")]);
    let (title, body) = ("Grüße", "a 東京");
    let found = encoder.encode_with_attribution(Text::titled(title, body));
    let found = found.unwrap();
    let sources: Vec<&Source> = found.tokens().map(|(_, source)| source).collect();
    let prompt = format!("passage: {title} {body}");
    assert_eq!(sources.len(), prompt.len() + 2);
    assert_eq!(
        (sources[0], sources[sources.len() - 1]),
        (&Source::Special, &Source::Special)
    );
    for (idx, source) in sources[1..=prompt.len()].iter().enumerate() {
        let (body_start, char_start) = ("passage: Grüße ".len(), floor(&prompt, idx));
        match source {
            Source::Prefix => assert!(idx < "passage: ".len()),
            Source::Separator => assert!(prompt[char_start..].starts_with(' ')),
            Source::Text(span) if span.part == Part::Title => {
                assert_eq!(span.bytes.start, char_start - "passage: ".len());
                assert_eq!(span.word, 0..title.len());
            }
            Source::Text(span) => {
                assert_eq!(span.bytes.start, char_start - body_start);
                assert_eq!(
                    span.bytes.len(),
                    prompt[char_start..].chars().next().unwrap().len_utf8()
                );
            }
            Source::Special => panic!("{idx} is no special token"),
        }
        assert!(idx < "passage: ".len() || **source != Source::Prefix);
    }
}

fn floor(text: &str, mut idx: usize) -> usize {
    while !text.is_char_boundary(idx) {
        idx -= 1;
    }
    idx
}

#[test]
fn arbitrary_and_truncated_texts_have_sources_inside_them() {
    let folder = tempfile::tempdir().unwrap();
    Checkpoint::new(24).write(folder.path());
    let alphabet: Vec<char> = "ab é東🚀\u{301}\n\t.'\u{0}\u{a0}".chars().collect();
    let mut random = Random(5);
    for max_length in ["4", "11", "40"] {
        let encoder = load(folder.path(), &[("max_length", max_length), ("top_k", "9")]);
        for _ in 0..150 {
            let mut string = || -> String {
                let len = random.below(24);
                (0..len)
                    .map(|_| alphabet[random.below(alphabet.len())])
                    .collect()
            };
            let (title, body) = (string(), string());
            check_against_text(&encoder, Text::titled(&title, &body));
            check_against_text(&encoder, Text::Query(&body));
        }
    }
}

/// A tokenizer with merges, where a token covers several characters and the space before them.
#[test]
fn golden_models_attribute_what_they_encode() {
    let oracle = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracle"));
    if !oracle.is_dir() {
        return println!("skipped: {} is not there", oracle.display());
    }
    let encoder = load(&oracle.join("models/tied"), &[]);
    let words = [
        "Copper",
        "conducts",
        "electricity",
        "better",
        "than",
        "iron",
        "copper",
    ];
    let mut n_words = 0;
    for text in texts() {
        let found = check_against_text(&encoder, text);
        for term in found.terms() {
            let Source::Text(span) = term.source else {
                continue;
            };
            let string = part(text, span.part);
            let word = &string[span.word.clone()];
            if string == TEXTS[2] && word.contains(char::is_alphanumeric) {
                assert!(words.contains(&word), "{word}");
                n_words += 1;
            }
        }
    }
    assert!(n_words > 100, "only {n_words} terms come from a word");
}

/// A normalizer changes what is tokenized; offsets stay those of the text.
#[test]
fn normalized_texts_have_sources_in_what_was_given() {
    let folder = tempfile::tempdir().unwrap();
    for normalizer in [
        json!({"type": "NFKC"}),
        json!({"type": "Lowercase"}),
        json!({"type": "Prepend", "prepend": "ab"}),
        json!({"type": "Replace", "pattern": {"String": " "}, "content": "xyz"}),
        json!({"type": "Replace", "pattern": {"String": "e"}, "content": ""}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
    ] {
        let mut checkpoint = Checkpoint::new(25);
        checkpoint.tokenizer["normalizer"] = normalizer;
        checkpoint.write(folder.path());
        let encoder = load(folder.path(), &[]);
        for text in texts() {
            check_against_text(&encoder, text);
        }
        for text in ["ﬁne ½ ①", "İİ", "e", "  e  "] {
            check_against_text(&encoder, Text::Query(text));
            check_against_text(&encoder, Text::titled(text, text));
        }
    }
}
