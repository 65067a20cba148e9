//! Text in, term weights out: tokenizer, network and preset together.

use std::path::Path;

use rayon::prelude::*;

use crate::attribution::Attribution;
use crate::backbone::Pack;
use crate::batch::plan;
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::encoding::{Encoding, Trace, ranked, term_weights};
use crate::engine::{Engine, Forward};
use crate::error::Error;
use crate::folder::Fingerprint;
use crate::head::{MaxLogits, Pooled};
use crate::memory::{Budget, reserve};
use crate::options::{LoadOptions, WeightFormat};
use crate::parts::{Parts, longest, model_id};
use crate::preset::{Pooling, Preset};
use crate::query_table::QueryTable;
use crate::text::Text;
use crate::tokenize::{Specials, TextTokenizer, Tokens};

/// Texts tokenized and sorted at a time. Bounds what lies around between
/// tokenizer and network, however many texts the caller hands in.
const WINDOW: usize = 1024;

/// Pooled logits (texts × vocabulary) held at once: 32 MiB of f32.
const MAX_POOLED: usize = 8 << 20;

/// A loaded model: turns texts into sparse vectors over its vocabulary.
///
/// `Send` and `Sync`; all methods take `&self`, and calls from several threads
/// share rayon's global pool.
///
/// ```no_run
/// use laconic_model::{Encoder, LoadOptions, Text};
///
/// let options = LoadOptions::new().tokenizer("llama-3/tokenizer.json").set("top_k", "128");
/// let encoder = Encoder::load("laconic-1b", options)?;
/// let texts = [Text::titled("Copper", "Copper conducts well."), Text::Query("what conducts?")];
/// for encoding in encoder.encode_batch(&texts, |n_done| println!("{n_done}"))? {
///     for (token_id, weight) in encoding.weights {
///         println!("{:?} {weight:.3}", encoder.term(token_id));
///     }
/// }
/// # Ok::<(), laconic_model::Error>(())
/// ```
pub struct Encoder {
    family: &'static str,
    preset: Preset,
    specials: Specials,
    tokenizer: TextTokenizer,
    engine: Engine,
    device: Device,
    /// For models whose queries are looked up.
    query_table: Option<QueryTable>,
    /// Rows of the head that are terms: not padding, nor special tokens if the preset says so.
    is_term: Vec<bool>,
    fingerprint: String,
    weight_format: WeightFormat,
    model_id: String,
    batch_tokens: usize,
}

impl Encoder {
    /// Loads a folder: `config.json` of a Llama, BERT or DistilBERT, safetensors
    /// in one file or sharded (f32, f16 or bf16, all widened to f32),
    /// `tokenizer.json`, and `laconic.json` with preset knobs if there is one.
    /// The modules of a `SparseEncoder` of sentence-transformers may have
    /// folders of their own; queries are looked up in a table if the folder
    /// has one. Or a GGUF file of llama.cpp's Llama architecture (F32, F16,
    /// BF16, Q8_0, Q6_K, Q5_K, Q4_K) with `tokenizer.json` beside it, or a
    /// folder with one such file.
    ///
    /// Everything is read into memory; the files may change or go afterwards.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged, of another network or module than those
    /// that are known, at odds with the others, or holds a weight that is NaN
    /// or infinite; if a knob is unknown or out of range; if there is no such
    /// device.
    pub fn load(folder: impl AsRef<Path>, options: LoadOptions) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(folder.as_ref())?;
        let mut fingerprint = Fingerprint::new();
        let parts = Parts::open(&checkpoint, &options, &mut fingerprint)?;
        let name = checkpoint.name().to_owned();
        let (engine, weight_format) = Engine::load(checkpoint, &parts, &options, &mut fingerprint)?;
        let fingerprint = fingerprint.finish();
        Ok(Self {
            family: parts.family.name(),
            model_id: model_id(&name, &fingerprint),
            is_term: is_term(&parts.tokenizer, &parts.preset),
            batch_tokens: options.max_batch_tokens(),
            preset: parts.preset,
            specials: parts.specials,
            tokenizer: parts.tokenizer,
            engine,
            device: options.on_device(),
            query_table: parts.query_table,
            fingerprint,
            weight_format,
        })
    }

    /// Encodes one query.
    ///
    /// # Errors
    ///
    /// If a logit is not finite.
    pub fn encode_query(&self, query: &str) -> Result<Encoding, Error> {
        self.encode(Text::Query(query))
    }

    /// Encodes one document.
    ///
    /// # Errors
    ///
    /// If a logit is not finite.
    pub fn encode_document(&self, title: Option<&str>, body: &str) -> Result<Encoding, Error> {
        self.encode(Text::Document { title, body })
    }

    /// Encodes one text.
    ///
    /// # Errors
    ///
    /// If a logit is not finite.
    pub fn encode(&self, text: Text<'_>) -> Result<Encoding, Error> {
        let tokens = self.tokenize(text).map_err(|error| error.at_document(0))?;
        let mut encodings = self.encode_tokens(vec![tokens], &mut |_| {})?;
        Ok(encodings
            .pop()
            .unwrap_or_else(|| Encoding::of(&Tokens::default())))
    }

    /// Encodes many texts, queries and documents in any mixture.
    ///
    /// Results come in the order of `texts`, and each is what encoding the
    /// text alone gives, bit for bit. `progress` is called with the number
    /// of texts done, rising up to all of them.
    ///
    /// # Errors
    ///
    /// If a logit is not finite; [`Error::document_idx`] says of which text.
    pub fn encode_batch(
        &self,
        texts: &[Text<'_>],
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Encoding>, Error> {
        let mut encodings = Vec::with_capacity(texts.len());
        for window in texts.chunks(WINDOW) {
            let n_before = encodings.len();
            let tokens = self.tokenize_all(window, n_before)?;
            let done = self.encode_tokens(tokens, &mut |n_done| progress(n_before + n_done));
            encodings.extend(done.map_err(|error| error.shift_document(n_before))?);
        }
        Ok(encodings)
    }

    /// Encodes one text and tells which of its words put each weight there.
    ///
    /// The encoding is that of [`Encoder::encode`], bit for bit. This takes somewhat longer and
    /// is for explanations, not for indexing.
    ///
    /// ```no_run
    /// use laconic_model::{Encoder, LoadOptions, Source, Text};
    ///
    /// let encoder = Encoder::load("laconic-1b", LoadOptions::new().tokenizer("tokenizer.json"))?;
    /// let body = "Copper conducts electricity well.";
    /// for term in encoder.encode_with_attribution(Text::document(body))?.terms() {
    ///     if let Source::Text(span) = term.source {
    ///         println!("{:?} from {:?}", encoder.term(term.token_id), &body[span.word.clone()]);
    ///     }
    /// }
    /// # Ok::<(), laconic_model::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a logit is not finite.
    pub fn encode_with_attribution(&self, text: Text<'_>) -> Result<Attribution, Error> {
        let (tokenizer, specials) = self.tokenizer_of(text);
        let (tokens, sources) = tokenizer
            .tokenize_with_sources(text, &self.preset, specials)
            .map_err(|error| error.at_document(0))?;
        let mut encoding = Encoding::of(&tokens);
        let mut positions = Vec::new();
        if let Some(table) = self.table_of(text) {
            encoding.weights = table.look_up(&tokens.ids, self.preset.top_k());
            let first = |(id, _): &(u32, f32)| tokens.ids.iter().position(|other| other == id);
            positions = encoding.weights.iter().filter_map(first).collect();
        } else if !tokens.ids.is_empty() {
            let pack = Pack::new([tokens.ids.as_slice()]);
            let forward = self.engine.forward(&pack)?;
            let found = pooled(forward.attributed()?, &pack, &[0])?;
            encoding.weights = match self.preset.pooling() {
                Pooling::Max => self.term_weights(&found.logits, 0),
                Pooling::Sum => self.term_weights(&self.pool(&forward, &pack, &[0])?, 0),
            };
            let position = |(id, _): &(u32, f32)| {
                let idx = usize::try_from(*id).ok();
                idx.and_then(|idx| found.positions.get(idx))
                    .copied()
                    .unwrap_or(0)
            };
            positions = encoding.weights.iter().map(position).collect();
        }
        Ok(Attribution::new(encoding, positions, tokens.ids, sources))
    }

    /// Encodes texts that are tokenized already, prefix and all, by the network;
    /// `top_k` still applies.
    ///
    /// # Errors
    ///
    /// If an id is not below [`Encoder::vocab_size`], a text is longer than
    /// the preset's `max_length`, or a logit is not finite.
    pub fn encode_ids(&self, texts: &[&[u32]]) -> Result<Vec<Encoding>, Error> {
        for (idx, ids) in texts.iter().enumerate() {
            self.check_ids(ids)
                .map_err(|error| error.at_document(idx))?;
        }
        let tokens = texts.iter().map(|ids| Tokens {
            ids: ids.to_vec(),
            ..Tokens::default()
        });
        self.encode_tokens(tokens.collect(), &mut |_| {})
    }

    /// The token ids that [`Encoder::encode`] would run, or look up: prefix and
    /// special tokens included, truncated.
    ///
    /// # Errors
    ///
    /// If the tokenizer cannot write the text (byte-level ones always can).
    pub fn token_ids(&self, text: Text<'_>) -> Result<Vec<u32>, Error> {
        Ok(self.tokenize(text)?.ids)
    }

    /// Hidden states and pooled logits of one tokenized text.
    ///
    /// # Errors
    ///
    /// As [`Encoder::encode_ids`], or if `ids` is empty.
    pub fn trace(&self, ids: &[u32]) -> Result<Trace, Error> {
        self.check_ids(ids)?;
        if ids.is_empty() {
            return Err(Error::invalid_input("tracing a text: it has no tokens"));
        }
        let pack = Pack::new([ids]);
        let forward = self.engine.forward(&pack)?;
        let logits = pooled(forward.max_logits(&pack)?, &pack, &[0])?;
        Ok(Trace {
            hidden: forward.into_rows()?,
            max_logits: logits.of(0).collect(),
        })
    }

    /// The raw vocabulary string of a token: for byte-level BPE with `Ġ` for a
    /// leading space. This is the index term. `None` for padding rows of the
    /// embedding and beyond, which no encoding contains.
    pub fn term(&self, token_id: u32) -> Option<&str> {
        self.tokenizer.term(token_id)
    }

    /// Rows of the embedding, which token ids are below.
    pub fn vocab_size(&self) -> usize {
        self.is_term.len()
    }

    /// The family of the network, as `model_type` of `config.json` names it.
    pub fn family(&self) -> &str {
        self.family
    }

    /// The preset in force, overrides included.
    pub fn preset(&self) -> &Preset {
        &self.preset
    }

    /// 128-bit hash over config, tokenizer and weights as they lie in the
    /// files, as 32 hexadecimal digits. The preset has its own hash.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The form the weights are computed with.
    pub fn weight_format(&self) -> WeightFormat {
        self.weight_format
    }

    /// Where the network runs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Folder name and fingerprint, joined by `@`.
    pub fn model_id(&self) -> &str {
        &self.model_id
    }

    fn tokenize(&self, text: Text<'_>) -> Result<Tokens, Error> {
        let (tokenizer, specials) = self.tokenizer_of(text);
        let tokens = tokenizer.tokenize(text, &self.preset, specials)?;
        Ok(Tokens {
            is_looked_up: self.table_of(text).is_some(),
            ..tokens
        })
    }

    /// The table that the weights of a text are looked up in, if they are.
    fn table_of(&self, text: Text<'_>) -> Option<&QueryTable> {
        match text {
            Text::Query(_) => self.query_table.as_ref(),
            Text::Document { .. } => None,
        }
    }

    fn tokenizer_of(&self, text: Text<'_>) -> (&TextTokenizer, Specials) {
        match self.table_of(text) {
            Some(table) => (table.tokenizer(&self.tokenizer), table.specials),
            None => (&self.tokenizer, self.specials),
        }
    }

    fn tokenize_all(&self, texts: &[Text<'_>], n_before: usize) -> Result<Vec<Tokens>, Error> {
        let tokenize = |(idx, text): (usize, &Text<'_>)| {
            self.tokenize(*text)
                .map_err(|error| error.at_document(n_before + idx))
        };
        texts.par_iter().enumerate().map(tokenize).collect()
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        let max_length = longest(&self.preset, self.query_table.is_some());
        let vocab_size = self.vocab_size();
        if ids.len() > max_length {
            return Err(Error::invalid_input(format!(
                "taking {} token ids: the preset's max_length is {max_length}; truncate them",
                ids.len()
            )));
        }
        match ids
            .iter()
            .find(|id| usize::try_from(**id).is_ok_and(|id| id >= vocab_size))
        {
            None => Ok(()),
            Some(id) => Err(Error::invalid_input(format!(
                "taking token id {id}: the vocabulary has {vocab_size}; use this model's tokenizer"
            ))),
        }
    }

    fn encode_tokens(
        &self,
        texts: Vec<Tokens>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Encoding>, Error> {
        self.encode_within(texts, &reserve, progress)
    }

    /// Encodes texts in batches that `reserve` has the bytes for.
    fn encode_within(
        &self,
        texts: Vec<Tokens>,
        reserve: &dyn Fn(usize) -> Result<(), Error>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Encoding>, Error> {
        let mut encodings: Vec<Encoding> = texts.iter().map(Encoding::of).collect();
        let plan = plan(&texts, self.batch_tokens, MAX_POOLED / self.vocab_size());
        if let Some(table) = &self.query_table {
            for (text, encoding) in texts.iter().zip(&mut encodings) {
                if text.is_looked_up {
                    encoding.weights = table.look_up(&text.ids, self.preset.top_k());
                }
            }
        }
        let mut n_done = texts.len() - plan.iter().map(Vec::len).sum::<usize>();
        let mut budget = Budget::new();
        let n_tokens = |idx: usize| texts[idx].ids.len();
        for batch in &plan {
            let run = |part: &[usize]| self.run(&texts, part, reserve);
            let done = budget.run(batch, n_tokens, run)?;
            for (idx, weights) in batch.iter().zip(done) {
                encodings[*idx].weights = weights;
            }
            n_done += batch.len();
            progress(n_done);
        }
        if plan.is_empty() && !texts.is_empty() {
            progress(n_done);
        }
        Ok(encodings)
    }

    fn run(
        &self,
        texts: &[Tokens],
        batch: &[usize],
        reserve: &dyn Fn(usize) -> Result<(), Error>,
    ) -> Result<Vec<Vec<(u32, f32)>>, Error> {
        let pack = Pack::new(batch.iter().map(|idx| texts[*idx].ids.as_slice()));
        reserve(self.engine.room(&pack, self.vocab_size()))?;
        let values = self.pool(&self.engine.forward(&pack)?, &pack, batch)?;
        Ok((0..batch.len())
            .into_par_iter()
            .map(|idx| self.term_weights(&values, idx))
            .collect())
    }

    fn pool(
        &self,
        forward: &Forward<'_>,
        pack: &Pack,
        batch: &[usize],
    ) -> Result<MaxLogits, Error> {
        let found = match self.preset.pooling() {
            Pooling::Max => forward.max_logits(pack)?,
            Pooling::Sum => forward.sums(pack, self.preset.saturation())?,
        };
        pooled(found, pack, batch)
    }

    /// Term weights of one text out of what the head pooled.
    fn term_weights(&self, pooled: &MaxLogits, text_idx: usize) -> Vec<(u32, f32)> {
        let values = pooled.of(text_idx);
        let (top_k, saturation) = (self.preset.top_k(), self.preset.saturation());
        match self.preset.pooling() {
            Pooling::Max => term_weights(values, &self.is_term, saturation, top_k),
            // Each position was saturated before they were summed.
            Pooling::Sum => {
                let weights = (0..).zip(values).zip(&self.is_term);
                let active = weights.filter(|((_, weight), is_term)| **is_term && *weight > 0.0);
                ranked(active.map(|(weight, _)| weight).collect(), top_k)
            }
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("model_id", &self.model_id)
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}

fn is_term(tokenizer: &TextTokenizer, preset: &Preset) -> Vec<bool> {
    let mut is_term: Vec<bool> = tokenizer.has_term().collect();
    if preset.drop_specials() {
        for id in tokenizer.special_ids() {
            if let Some(place) = usize::try_from(id).ok().and_then(|id| is_term.get_mut(id)) {
                *place = false;
            }
        }
    }
    is_term
}

/// Turns a bad row of a pack into the text and position the caller knows.
pub(crate) fn pooled<T>(pooled: Pooled<T>, pack: &Pack, batch: &[usize]) -> Result<T, Error> {
    let bad = match pooled {
        Pooled::Logits(logits) => return Ok(logits),
        Pooled::NotFinite(bad) => bad,
    };
    let spans = pack.spans().iter().zip(batch);
    let (document_idx, start) = spans
        .filter(|(span, _)| span.contains(&bad.row))
        .map(|(span, idx)| (*idx, span.start))
        .next()
        .unwrap_or((0, 0));
    Err(Error::not_finite(
        document_idx,
        bad.row - start,
        bad.token_id,
    ))
}

#[cfg(test)]
mod tests;
