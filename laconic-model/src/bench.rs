//! Networks of random weights: how fast a checkpoint of some shape would be, without one.
//!
//! What `laconic bench encode` measures with. Such a network's term weights mean nothing, and the
//! items here are for measuring only.

mod file;

use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::backbone::Pack;
use crate::config::Config;
use crate::encoder::pooled;
use crate::encoding::term_weights;
use crate::error::Error;
use crate::matmul::{Cpu, Matrix, Rows};
use crate::network::Network;
use crate::options::WeightFormat;
use crate::preset::Preset;
use crate::saturation::Saturation;
use crate::text::Text;
use crate::timings::Part;
pub use crate::timings::Timings;
use crate::tokenize::{Specials, TextTokenizer};
use crate::weights::{Expected, Weights};
pub use file::write_random;

/// Longest text that a random network takes.
pub const MAX_TOKENS: usize = 8192;

/// The shape of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// Small enough for a test.
    Tiny,
    /// Llama-3.2-1B.
    Llama1B,
    /// Llama-3.2-3B.
    Llama3B,
    /// Llama-3.1-8B.
    Llama8B,
}

impl Shape {
    fn config(self) -> Result<Config, Error> {
        let (vocab, hidden, inner, layers, heads, kv_heads, is_tied) = match self {
            Self::Tiny => (2_048, 128, 352, 2, 4, 2, true),
            Self::Llama1B => (128_256, 2_048, 8_192, 16, 32, 8, true),
            Self::Llama3B => (128_256, 3_072, 8_192, 28, 24, 8, true),
            Self::Llama8B => (128_256, 4_096, 14_336, 32, 32, 8, false),
        };
        let config = serde_json::json!({
            "model_type": "llama", "vocab_size": vocab, "hidden_size": hidden,
            "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "rms_norm_eps": 1e-5, "max_position_embeddings": 131_072, "rope_theta": 500_000.0,
            "tie_word_embeddings": is_tied,
            "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        });
        Config::parse(config.to_string().as_bytes())
    }
}

/// A network of random weights, and the threads that compute with it.
pub struct RandomModel {
    config: Config,
    network: Network,
    threads: ThreadPool,
}

impl RandomModel {
    /// Makes up the weights: the same numbers for the same shape and seed, whatever the format.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(
        shape: Shape,
        format: WeightFormat,
        seed: u32,
        n_threads: usize,
    ) -> Result<Self, Error> {
        let threads = ThreadPoolBuilder::new().num_threads(n_threads).build();
        let threads = threads.map_err(|source| {
            Error::unsupported(format!("starting {n_threads} threads: {source}"))
                .with_source(source)
        })?;
        let config = shape.config()?;
        let mut stream = u64::from(seed) << 32;
        let network = threads.install(|| {
            let mut weights = Weights::generate(&config, format, |tensor| {
                stream += 1;
                random(tensor, stream)
            });
            Network::llama(&config, &mut weights, MAX_TOKENS)
        })?;
        Ok(Self {
            config,
            network,
            threads,
        })
    }

    /// Encodes texts in one batch, as an encoder does: the largest weights first, all or `top_k`.
    ///
    /// # Errors
    /// If a token id is not below [`vocab_size`](Self::vocab_size), a text is longer than
    /// [`MAX_TOKENS`], or a logit is not finite.
    pub fn encode(
        &self,
        texts: &[&[u32]],
        top_k: Option<usize>,
        timings: &mut Timings,
    ) -> Result<Vec<Vec<(u32, f32)>>, Error> {
        let in_range = |id: &u32| usize::try_from(*id).is_ok_and(|id| id < self.vocab_size());
        let is_sound = |text: &&[u32]| text.len() <= MAX_TOKENS && text.iter().all(in_range);
        if !texts.iter().all(is_sound) {
            return Err(Error::invalid_input(format!(
                "encoding random texts: they may have {MAX_TOKENS} tokens, below {}",
                self.vocab_size()
            )));
        }
        let start = Instant::now();
        let encodings = self.threads.install(|| {
            let pack = Pack::new(texts.iter().copied());
            let batch: Vec<usize> = (0..texts.len()).collect();
            let logits = pooled(self.network.max_logits(&pack, timings), &pack, &batch)?;
            let has_term = vec![true; self.vocab_size()];
            let weights = |idx| term_weights(logits.of(idx), &has_term, Saturation::Once, top_k);
            Ok(batch.into_par_iter().map(weights).collect())
        });
        timings.add(Part::Total, start.elapsed());
        encodings
    }

    /// Token ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    /// Bytes of the weights that every token is multiplied with: a query reads them once.
    pub fn weight_bytes(&self) -> usize {
        self.network
            .matrices()
            .into_iter()
            .map(Matrix::n_bytes)
            .sum()
    }

    /// Additions and multiplications that texts of `n_tokens` take.
    pub fn operations(&self, n_tokens: usize, n_texts: usize) -> u64 {
        let weights = self
            .network
            .matrices()
            .into_iter()
            .map(|matrix| matrix.width() * matrix.inputs());
        let attention = 2 * self.config.n_layers * self.config.q_width() * n_tokens;
        let per_token = weights.sum::<usize>() + attention;
        u64::try_from(2 * per_token * n_tokens * n_texts).unwrap_or(u64::MAX)
    }

    /// How long it takes to read those weights, doing nothing else.
    pub fn read_weights(&self) -> Duration {
        let start = Instant::now();
        let sum = self.threads.install(|| {
            let sums = self.network.matrices().into_iter().map(Matrix::checksum);
            sums.fold(0, u64::wrapping_add)
        });
        std::hint::black_box(sum);
        start.elapsed()
    }

    /// Operations a second of the matrix kernels where nothing has to be fetched, all threads.
    pub fn ceiling(&self, format: WeightFormat) -> f64 {
        let rates = self.threads.broadcast(|_| kernel_rate(format));
        rates.iter().sum()
    }
}

/// Seconds that one token of these texts takes to come about, on this thread: the median of
/// `rounds` over all of them. The tokenizer is what a checkpoint's `config.json` and
/// `tokenizer.json` say.
///
/// # Errors
/// If one of the files is not sound.
pub fn seconds_per_token(
    config_json: &[u8],
    tokenizer_json: &[u8],
    texts: &[&str],
    rounds: usize,
) -> Result<f64, Error> {
    let config = Config::parse(config_json)?;
    let tokenizer = TextTokenizer::parse(tokenizer_json, config.vocab_size)?;
    let preset = Preset::laconic();
    let mut rates = Vec::new();
    for _ in 0..rounds.max(1) {
        let (start, mut n_tokens) = (Instant::now(), 0.0);
        for text in texts {
            let tokens = tokenizer.tokenize(Text::document(text), &preset, Specials::default())?;
            n_tokens += f64::from(u32::try_from(tokens.ids.len()).unwrap_or(u32::MAX));
        }
        rates.push(start.elapsed().as_secs_f64() / n_tokens);
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// The instructions that kernels use on this machine, as `LACONIC_CPU` names them: `avx512`, `neon`.
pub fn instructions() -> &'static str {
    Cpu::this().name()
}

/// Uniform, scaled so that a product has the variance of its input; norms are 1.
fn random(tensor: &Expected, stream: u64) -> Vec<f32> {
    const CHUNK: usize = 1 << 16;
    let Some(inputs) = tensor.inputs() else {
        return vec![1.0; tensor.n_elements()];
    };
    let scale = (3.0 / f32::from(u16::try_from(inputs).unwrap_or(u16::MAX))).sqrt();
    let mut values = vec![0.0; tensor.n_elements()];
    let chunks = values.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(idx, chunk)| {
        let idx = u64::try_from(idx).unwrap_or(0);
        let mut state = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ idx.rotate_left(40);
        for value in chunk {
            *value = unit(&mut state) * scale;
        }
    });
    values
}

/// Uniform in −1..1, by SplitMix64 (Steele, Lea and Flood 2014).
fn unit(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let [a, b, ..] = (z ^ (z >> 31)).to_le_bytes();
    (f32::from(u16::from_le_bytes([a, b])) - 32_767.5) / 32_768.0
}

fn kernel_rate(format: WeightFormat) -> f64 {
    const INPUTS: u16 = 1024;
    const ROWS: u16 = 12;
    const OUTPUTS: u16 = 32;
    let mut state = 1;
    let mut numbers = |n: u16| -> Vec<f32> { (0..n).map(|_| unit(&mut state)).collect() };
    let inputs = usize::from(INPUTS);
    let matrix = Matrix::pack(format, &numbers(INPUTS * OUTPUTS), inputs);
    let input = matrix.input(&Rows::of(&numbers(INPUTS * ROWS), inputs));
    let mut sums = Vec::new();
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..100 {
            for tiles in input.runs() {
                matrix.group(&input, tiles, 0, &mut sums);
                std::hint::black_box(&sums);
            }
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * f64::from(INPUTS) * f64::from(ROWS) * f64::from(OUTPUTS) * 100.0 / best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(format: WeightFormat, n_threads: usize, texts: &[&[u32]]) -> Vec<Vec<(u32, f32)>> {
        let model = RandomModel::new(Shape::Tiny, format, 7, n_threads).unwrap();
        let mut timings = Timings::default();
        let encodings = model.encode(texts, Some(512), &mut timings).unwrap();
        assert!(timings.total >= timings.linear + timings.attention + timings.head);
        encodings
    }

    #[test]
    fn a_text_has_its_bits_in_any_batch_on_any_number_of_threads() {
        let texts: Vec<Vec<u32>> = (1..40)
            .map(|n| (0..n * 7).map(|i| i * n % 2048).collect())
            .collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for format in [WeightFormat::F32, WeightFormat::Int8] {
            let together = encode(format, 3, &texts);
            let model = RandomModel::new(Shape::Tiny, format, 7, 1).unwrap();
            for (text, together) in texts.iter().zip(together) {
                let alone = model
                    .encode(&[text], Some(512), &mut Timings::default())
                    .unwrap();
                assert_eq!(alone, [together]);
            }
        }
    }

    #[test]
    fn bytes_are_read_in_whole_and_counted() {
        let [f32, int8] = [WeightFormat::F32, WeightFormat::Int8]
            .map(|format| RandomModel::new(Shape::Tiny, format, 1, 1).unwrap());
        let layer = 128 * (128 + 2 * 64) + 128 * 128 + 128 * 2 * 352 + 352 * 128;
        assert_eq!(f32.weight_bytes(), 4 * (2 * layer + 2048 * 128));
        // A scale for each 128 inputs; 352 inputs have 3.
        assert!(int8.weight_bytes() * 3 < f32.weight_bytes());
        assert!(f32.read_weights() > Duration::ZERO && int8.ceiling(WeightFormat::Int8) > 1e6);
    }

    #[test]
    fn ids_and_lengths_are_checked() {
        let model = RandomModel::new(Shape::Tiny, WeightFormat::F32, 1, 1).unwrap();
        for text in [vec![2048], vec![0; MAX_TOKENS + 1]] {
            let error = model
                .encode(&[&text], None, &mut Timings::default())
                .unwrap_err();
            assert!(error.is_invalid_input(), "{error}");
        }
    }
}
