//! Text to token ids, under the preset's rules and with bounded work.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{ModelWrapper, PostProcessorWrapper, Tokenizer};

use crate::attribution::Source;
use crate::error::Error;
use crate::preset::Preset;
use crate::text::{Prompt, Text};

/// Most bytes tokenized, whatever the truncation length. Within it the known
/// split expressions stay far from the backtracking limit of `fancy-regex`
/// (1,000,000 steps), at which `tokenizers` would silently leave the rest of
/// the text in one piece; a test at the foot of this file shows it.
const MAX_BYTES: usize = 512 << 10;

/// Bytes granted to a token at least, for vocabularies whose entries say
/// little about how much text they cover (an unknown-word token).
const MIN_TOKEN_BYTES: usize = 64;

/// Most pieces that the last word of a beginning can have, beyond those that are kept: the words
/// of a WordPiece tokenizer have 100 characters, longer ones are one unknown token.
const MAX_PIECES: usize = 128;

/// Split expressions that may run over hostile text. `tokenizers` runs them on
/// a backtracking engine, where an unknown one can take quadratic time.
const KNOWN_SPLITS: [&str; 4] = [
    // Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 2 and 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-2
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

/// A tokenizer whose own truncation, padding and post-processor are off.
pub(crate) struct TextTokenizer {
    inner: Tokenizer,
    terms: Vec<Option<Box<str>>>,
    max_token_bytes: usize,
    /// Whether a token may stand for any number of bytes: an unknown word, what the normalizer
    /// takes out.
    is_word_piece: bool,
}

/// Special tokens that the preset asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Specials {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
}

/// A tokenized text and what did not fit.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// Whether they are a query's whose weights are looked up: no network reads them.
    pub(crate) is_looked_up: bool,
    pub(crate) n_dropped_tokens: usize,
    pub(crate) n_dropped_bytes: usize,
}

impl TextTokenizer {
    /// Parses the bytes of a `tokenizer.json` for an embedding of
    /// `vocab_size` rows.
    pub(crate) fn parse(bytes: &[u8], vocab_size: usize) -> Result<Self, Error> {
        let file: TokenizerFile = serde_json::from_slice(bytes).map_err(|source| {
            Error::corrupt(format!(
                "reading tokenizer.json: {source}; download it again"
            ))
            .with_source(source)
        })?;
        file.check()?;
        let inner = Tokenizer::from_bytes(bytes).map_err(|source| {
            Error::corrupt(format!(
                "reading tokenizer.json: {source}; download it again"
            ))
            .with_source(source)
        })?;
        let inner = plain(inner)?;
        let terms = terms(&inner, vocab_size)?;
        let longest = terms
            .iter()
            .flatten()
            .map(|term| term.len())
            .max()
            .unwrap_or(0);
        Ok(Self {
            is_word_piece: matches!(inner.get_model(), ModelWrapper::WordPiece(_)),
            inner,
            terms,
            max_token_bytes: longest.max(MIN_TOKEN_BYTES),
        })
    }

    /// Rows of the embedding.
    pub(crate) fn vocab_size(&self) -> usize {
        self.terms.len()
    }

    /// Rows of the embedding up to the last that has a vocabulary string.
    pub(crate) fn n_terms(&self) -> usize {
        let last = self.terms.iter().rposition(Option::is_some);
        last.map_or(0, |last| last + 1)
    }

    /// Token ids by vocabulary string.
    pub(crate) fn ids_by_term(&self) -> HashMap<&str, u32> {
        let terms = (0..).zip(&self.terms);
        terms
            .filter_map(|(id, term)| term.as_deref().map(|term| (term, id)))
            .collect()
    }

    /// Ids of the tokens that the file calls special.
    pub(crate) fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special);
        special.map(|(id, _)| *id).collect()
    }

    /// The vocabulary string of a token, if the tokenizer has one.
    pub(crate) fn term(&self, token_id: u32) -> Option<&str> {
        let idx = usize::try_from(token_id).ok()?;
        self.terms.get(idx)?.as_deref()
    }

    /// Whether each row of the embedding has a vocabulary string.
    pub(crate) fn has_term(&self) -> impl Iterator<Item = bool> + '_ {
        self.terms.iter().map(Option::is_some)
    }

    /// Tokenizes a text, truncated on the right to the preset's length.
    ///
    /// Special-token text inside `text` becomes that special token, as in the
    /// reference encoder.
    pub(crate) fn tokenize(
        &self,
        text: Text<'_>,
        preset: &Preset,
        specials: Specials,
    ) -> Result<Tokens, Error> {
        let n_specials = usize::from(specials.bos.is_some()) + usize::from(specials.eos.is_some());
        let room = preset.max_length_of(text).saturating_sub(n_specials);
        let (prompt, ids) = self.read(text, preset, room)?;
        let kept = ids.get(..room).unwrap_or(&ids);
        Ok(Tokens {
            is_looked_up: false,
            n_dropped_tokens: ids.len() - kept.len(),
            n_dropped_bytes: prompt.n_dropped_bytes,
            ids: specials
                .bos
                .into_iter()
                .chain(kept.iter().copied())
                .chain(specials.eos)
                .collect(),
        })
    }

    /// The beginning of a text that the first `room` tokens are of, and its tokens.
    fn read(
        &self,
        text: Text<'_>,
        preset: &Preset,
        room: usize,
    ) -> Result<(Prompt, Vec<u32>), Error> {
        let mut max_bytes = self.max_bytes(room);
        loop {
            let prompt = Prompt::new(text, preset, max_bytes);
            let ids = self.ids(&prompt.text)?;
            let is_enough = prompt.n_dropped_bytes == 0
                || !self.is_word_piece
                || ids.len() >= room.saturating_add(MAX_PIECES)
                || max_bytes >= MAX_BYTES;
            if is_enough {
                return Ok((prompt, ids));
            }
            max_bytes = max_bytes.saturating_mul(4).min(MAX_BYTES);
        }
    }

    /// As [`tokenize`](TextTokenizer::tokenize), with what each token stands for in the text.
    ///
    /// Separate, because keeping track of offsets makes tokenizing slower.
    pub(crate) fn tokenize_with_sources(
        &self,
        text: Text<'_>,
        preset: &Preset,
        specials: Specials,
    ) -> Result<(Tokens, Vec<Source>), Error> {
        let tokens = self.tokenize(text, preset, specials)?;
        let n_specials = usize::from(specials.bos.is_some()) + usize::from(specials.eos.is_some());
        let n_kept = tokens.ids.len() - n_specials.min(tokens.ids.len());
        let room = preset.max_length_of(text).saturating_sub(n_specials);
        let (prompt, _) = self.read(text, preset, room)?;
        let encoding = self
            .inner
            .encode(prompt.text.as_str(), false)
            .map_err(|source| unwritable(&prompt.text, source))?;
        let offsets = encoding.get_offsets().iter().take(n_kept);
        let kept = offsets.map(|(start, end)| prompt.source(text, *start..*end));
        let special = |id: Option<u32>| id.map(|_| Source::Special);
        let sources = special(specials.bos).into_iter().chain(kept);
        let sources = sources.chain(special(specials.eos)).collect();
        Ok((tokens, sources))
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|source| unwritable(text, source))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// No `n_tokens` tokens cover more bytes than this, so bytes beyond it
    /// cannot be among them. (Only a single unbroken run that reaches from the
    /// first `n_tokens` tokens to the cut may be merged otherwise.)
    fn max_bytes(&self, n_tokens: usize) -> usize {
        n_tokens.saturating_mul(self.max_token_bytes).min(MAX_BYTES)
    }
}

fn unwritable(text: &str, source: tokenizers::Error) -> Error {
    Error::invalid_input(format!(
        "tokenizing a text of {} bytes: {source}; the tokenizer has no way to write it",
        text.len()
    ))
    .with_source(source)
}

/// Turns off everything that would add, cut or pad behind our back.
fn plain(mut tokenizer: Tokenizer) -> Result<Tokenizer, Error> {
    tokenizer.with_padding(None);
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    tokenizer.set_encode_special_tokens(false);
    tokenizer.with_truncation(None).map_err(|source| {
        Error::corrupt(format!("reading tokenizer.json: {source}")).with_source(source)
    })?;
    Ok(tokenizer)
}

/// Vocabulary strings by token id; rows of the embedding beyond the
/// tokenizer's entries are padding and have none.
fn terms(tokenizer: &Tokenizer, vocab_size: usize) -> Result<Vec<Option<Box<str>>>, Error> {
    let mut terms: Vec<Option<Box<str>>> = vec![None; vocab_size];
    for (term, id) in tokenizer.get_vocab(true) {
        let place = usize::try_from(id)
            .ok()
            .and_then(|idx| terms.get_mut(idx))
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "matching tokenizer.json with the weights: token {term:?} has id {id}, the \
                 embedding has {vocab_size} rows (`vocab_size` of config.json); name the tokenizer \
                 the model was trained with"
                ))
            })?;
        if let Some(other) = place.replace(term.into_boxed_str()) {
            return Err(Error::corrupt(format!(
                "reading tokenizer.json: {other:?} and another token share the id {id}; download \
                 it again"
            )));
        }
    }
    if terms.iter().all(Option::is_none) {
        return Err(Error::corrupt(
            "reading tokenizer.json: it has no vocabulary; name another",
        ));
    }
    Ok(terms)
}

/// The parts of a `tokenizer.json` that are looked at before it is trusted to
/// the library, which compiles every expression it finds.
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    dropout: Option<f32>,
    max_input_chars_per_word: Option<u64>,
}

impl TokenizerFile {
    fn check(&self) -> Result<(), Error> {
        for part in [
            &self.normalizer,
            &self.pre_tokenizer,
            &self.post_processor,
            &self.decoder,
        ] {
            check_part(part)?;
        }
        // The time a word takes grows with the cube of its length.
        if let Some(length) = self.model.max_input_chars_per_word.filter(|n| *n > 100) {
            return Err(Error::unsupported(format!(
                "reading tokenizer.json: `max_input_chars_per_word` is {length}, and words of more \
                 than 100 characters take too long; use the tokenizer.json that the model's \
                 authors publish"
            )));
        }
        match self.model.dropout {
            Some(dropout) if dropout != 0.0 => Err(Error::unsupported(format!(
                "reading tokenizer.json: `dropout` is {dropout}, so that a text would have other \
                 tokens each time; set it to null"
            ))),
            _ => Ok(()),
        }
    }
}

/// Refuses every regular expression that is not on the list, and every
/// SentencePiece character map, wherever in the pipeline they stand.
///
/// A map is a trie that `tokenizers` walks by the offsets it holds, without
/// looking whether they lie inside it: a hostile one panics at the first text.
fn check_part(value: &Value) -> Result<(), Error> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match value {
            Value::String(pattern) if key == "Regex" => check_pattern(pattern),
            _ if key == "precompiled_charsmap" => Err(Error::unsupported(
                "reading tokenizer.json: its normalizer has a `precompiled_charsmap`, which is \
                 not read; use a byte-level BPE tokenizer",
            )),
            _ => check_part(value),
        }),
        Value::Array(values) => values.iter().try_for_each(check_part),
        _ => Ok(()),
    }
}

fn check_pattern(pattern: &str) -> Result<(), Error> {
    if KNOWN_SPLITS.contains(&pattern) {
        return Ok(());
    }
    let shown: String = pattern.chars().take(120).collect();
    Err(Error::unsupported(format!(
        "reading tokenizer.json: the regular expression {shown:?} is not one of those known to run \
         in linear time (Llama 3, Qwen, GPT-2); use the tokenizer.json that the model's authors \
         publish"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::{Duration, Instant};

    /// Byte-level BPE without merges: one token a byte.
    fn tokenizer_json(split: &str) -> Value {
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        });
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut chars: Vec<char> = alphabet.into_iter().collect();
        chars.sort_unstable();
        let vocab: serde_json::Map<String, Value> = chars
            .iter()
            .enumerate()
            .map(|(id, c)| (c.to_string(), json!(id)))
            .collect();
        json!({
            "version": "1.0", "truncation": {"direction": "Left", "max_length": 3,
            "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 40}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 7, "pad_type_id": 0, "pad_token": "!"},
            "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": false},
                byte_level]},
            "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": true, "vocab": vocab, "merges": []}
        })
    }

    fn parse(file: &Value, vocab_size: usize) -> Result<TextTokenizer, Error> {
        TextTokenizer::parse(file.to_string().as_bytes(), vocab_size)
    }

    fn preset(max_length: usize) -> Preset {
        let mut preset = Preset::laconic();
        preset.set("max_length", &max_length.to_string()).unwrap();
        preset.set("query_prefix", "").unwrap();
        preset
    }

    #[test]
    fn the_files_own_truncation_and_padding_are_off() {
        let tokenizer = parse(&tokenizer_json(KNOWN_SPLITS[0]), 256).unwrap();
        let tokens = tokenizer.tokenize(Text::Query("abcdef"), &preset(256), Specials::default());
        assert_eq!(tokens.unwrap().ids.len(), 6);
    }

    #[test]
    fn truncation_is_on_the_right_counts_specials_and_is_reported() {
        let tokenizer = parse(&tokenizer_json(KNOWN_SPLITS[0]), 256).unwrap();
        let specials = Specials {
            bos: Some(254),
            eos: Some(255),
        };
        let all = tokenizer.ids("abcdefgh").unwrap();
        let tokens = tokenizer
            .tokenize(Text::Query("abcdefgh"), &preset(6), specials)
            .unwrap();
        assert_eq!(tokens.ids, [&[254], &all[..4], &[255]].concat());
        assert_eq!((tokens.n_dropped_tokens, tokens.n_dropped_bytes), (4, 0));
        let long = "a b".repeat(10_000);
        let tokens = tokenizer
            .tokenize(Text::Query(&long), &preset(6), specials)
            .unwrap();
        assert_eq!(tokens.n_dropped_bytes, 30_000 - 4 * MIN_TOKEN_BYTES);
    }

    #[test]
    fn unknown_expressions_are_refused_wherever_they_stand() {
        let bad = r"(a+)+$";
        let mut files = vec![tokenizer_json(bad)];
        for part in ["normalizer", "decoder"] {
            let mut file = tokenizer_json(KNOWN_SPLITS[0]);
            file[part] = json!({"type": "Replace", "pattern": {"Regex": bad}, "content": ""});
            files.push(file);
        }
        for file in files {
            let error = parse(&file, 256).err().unwrap();
            assert!(
                error.is_unsupported() && error.to_string().contains("(a+)+"),
                "{error}"
            );
        }
        for good in KNOWN_SPLITS {
            assert!(parse(&tokenizer_json(good), 256).is_ok(), "{good}");
        }
    }

    /// Found by the fuzz target `model_folder`: an empty trie panicked at the first text.
    #[test]
    fn character_maps_are_refused_with_and_without_their_type() {
        let tagged = json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"});
        let untagged = json!({"precompiled_charsmap": "AAAAAAAA"});
        let nested = json!({"type": "Sequence", "normalizers": [tagged]});
        for normalizer in [tagged, untagged, nested] {
            let mut file = tokenizer_json(KNOWN_SPLITS[0]);
            file["normalizer"] = normalizer;
            let error = parse(&file, 256).err().unwrap();
            assert!(
                error.is_unsupported() && error.to_string().contains("precompiled_charsmap"),
                "{error}"
            );
        }
    }

    #[test]
    fn dropout_and_oversized_vocabularies_are_refused() {
        let mut file = tokenizer_json(KNOWN_SPLITS[0]);
        assert!(parse(&file, 255).err().unwrap().is_corrupt());
        assert_eq!(
            parse(&file, 300)
                .unwrap()
                .has_term()
                .filter(|has| !has)
                .count(),
            44
        );
        file["model"]["dropout"] = json!(0.1);
        assert!(parse(&file, 256).err().unwrap().is_unsupported());
    }

    #[test]
    fn a_megabyte_of_anything_takes_under_a_second() {
        let tokenizer = parse(&tokenizer_json(KNOWN_SPLITS[0]), 256).unwrap();
        for unit in [
            "a", " ", "\u{301}", "\n", "'", "1", " \n", "a\u{301}", "\0", "🚀", "?!",
        ] {
            let text = unit.repeat((1 << 20) / unit.len());
            let start = Instant::now();
            let tokens = tokenizer.tokenize(Text::Query(&text), &preset(256), Specials::default());
            assert_eq!(tokens.unwrap().ids.len(), 256);
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{unit:?}: {:?}",
                start.elapsed()
            );
        }
    }

    /// At the backtracking limit the rest of the text would come back as one
    /// piece. A piece of its own at the very end shows that the expression was
    /// still matching there.
    #[test]
    fn the_longest_input_does_not_reach_the_backtracking_limit() {
        use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
        use tokenizers::tokenizer::{
            OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
        };
        for pattern in KNOWN_SPLITS {
            let regex = SplitPattern::Regex(pattern.to_owned());
            let split = Split::new(regex, SplitDelimiterBehavior::Isolated, false).unwrap();
            for unit in [
                "a", " ", "\u{301}", "\n", "'", "1", " \n", "\t ", "'l", "?\r",
            ] {
                let text = unit.repeat((MAX_BYTES - 3) / unit.len()) + "! z";
                let mut pieces = PreTokenizedString::from(text.as_str());
                split.pre_tokenize(&mut pieces).unwrap();
                let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
                assert_eq!(pieces.last().unwrap().0, " z", "{unit:?} stopped {pattern}");
            }
        }
    }
}
