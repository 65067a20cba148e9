//! The encoder's speed on random weights: formats and lengths alternate, medians of the rounds.

use std::io;

use anyhow::Result;
use laconic_fixtures::{nano, scifact};
use laconic_model::WeightFormat;
use laconic_model::bench::{RandomModel, Shape, Timings, instructions};
use laconic_tantivy::ImpactQuantizer;
use serde::Serialize;

use super::clock::{CpuOf, Seconds, timed};
use super::machine::Machine;
use super::real;
use crate::collection::{self, LineReader};
use crate::terminal::print;

/// Term weights kept, as by default.
const TOP_K: usize = 512;

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct EncoderBench {
    pub(crate) shape: Shape,
    pub(crate) formats: Vec<(String, WeightFormat)>,
    /// Tokens of a text.
    pub(crate) lengths: Vec<usize>,
    /// Texts of a batch.
    pub(crate) texts: usize,
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    pub(crate) seed: u32,
}

/// Everything that was measured; its fields are the keys of the JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EncoderReport {
    /// Raised when a key changes its meaning.
    format: u32,
    machine: Machine,
    shape: String,
    instructions: &'static str,
    threads: usize,
    rounds: usize,
    seed: u32,
    /// Of laconic-nano's tokenizer, on abstracts, one thread.
    tokenize_seconds_per_token: f64,
    models: Vec<ModelFigures>,
    results: Vec<Figures>,
    fidelity: Vec<Fidelity>,
    /// Largest resident memory of the process; with several formats, of all together.
    peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct ModelFigures {
    weights: String,
    /// Of what every token is multiplied with.
    weight_bytes: u64,
    /// Reading them once, doing nothing else: no query can be faster.
    plain_read_seconds: f64,
    /// Of the product kernel where nothing has to be fetched.
    ceiling_gflops: f64,
    /// Resident after the weights were made, less what it was before.
    memory_bytes: Option<u64>,
}

/// Medians for one format and length.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    weights: String,
    tokens: usize,
    texts: usize,
    seconds: f64,
    /// Of tokenizing such texts, which `seconds` is without.
    tokenize_seconds: f64,
    /// Largest resident memory while encoding, less what it was when the weights were there.
    working_bytes: Option<u64>,
    /// Of all threads: less than `seconds` where other work held the processor.
    cpu_seconds: Option<f64>,
    documents_per_second: f64,
    tokens_per_second: f64,
    gflops: f64,
    share_of_ceiling: f64,
    /// Of the whole, tokenizing included; the others are shares of `seconds`.
    share_tokenize: f64,
    share_linear: f64,
    share_attention: f64,
    share_head: f64,
    share_rest: f64,
}

/// How far term weights are from those of the first format.
#[derive(Debug, Clone, Serialize)]
struct Fidelity {
    weights: String,
    tokens: usize,
    /// Of all positive term weights.
    cosine: f64,
    /// Share of the 512 largest whose impact of 5 bits differs.
    changed_impacts: f64,
    top_128_overlap: f64,
}

/// One format's rounds for a length.
#[derive(Clone, Default)]
struct Measured {
    times: Vec<Seconds>,
    timings: Timings,
    peak_bytes: Option<u64>,
}

struct Model<'a> {
    name: &'a str,
    model: RandomModel,
    ceiling: f64,
}

impl EncoderBench {
    /// # Errors
    /// When a model cannot be made or gives a logit that is not finite.
    pub(crate) fn run(&self, fidelity: bool, tick: &dyn Fn()) -> Result<EncoderReport> {
        let mut models = Vec::new();
        let mut figures = Vec::new();
        for (name, format) in &self.formats {
            let (model, figure) = self.model(name, *format)?;
            models.push(model);
            figures.push(figure);
            tick();
        }
        let per_token = seconds_per_token(self.rounds)?;
        let (loaded, peak) = (status_bytes("VmRSS:"), status_bytes("VmHWM:"));
        let mut results = Vec::new();
        let mut compared = Vec::new();
        for &tokens in &self.lengths {
            results.extend(self.measure(&models, tokens, per_token, loaded, tick)?);
            if fidelity {
                compared.extend(self.compare(&models, tokens)?);
            }
        }
        Ok(EncoderReport {
            format: 1,
            machine: Machine::this(),
            shape: format!("{:?}", self.shape),
            instructions: instructions(),
            threads: self.threads,
            rounds: self.rounds,
            seed: self.seed,
            tokenize_seconds_per_token: per_token,
            models: figures,
            results,
            fidelity: compared,
            peak_memory_bytes: status_bytes("VmHWM:").max(peak),
        })
    }

    fn model<'a>(&self, name: &'a str, format: WeightFormat) -> Result<(Model<'a>, ModelFigures)> {
        let before = status_bytes("VmRSS:");
        let model = RandomModel::new(self.shape, format, self.seed, self.threads)?;
        let memory = status_bytes("VmRSS:").zip(before);
        let mut reads: Vec<f64> = (0..self.rounds.max(3))
            .map(|_| model.read_weights().as_secs_f64())
            .collect();
        let ceiling = model.ceiling(format);
        let figures = ModelFigures {
            weights: name.to_owned(),
            weight_bytes: u64::try_from(model.weight_bytes())?,
            plain_read_seconds: median(&mut reads),
            ceiling_gflops: ceiling / 1e9,
            memory_bytes: memory.map(|(after, before)| after.saturating_sub(before)),
        };
        let model = Model {
            name,
            model,
            ceiling,
        };
        Ok((model, figures))
    }

    /// Measures all models on texts of one length, in turn.
    fn measure(
        &self,
        models: &[Model<'_>],
        tokens: usize,
        per_token: f64,
        loaded: Option<u64>,
        tick: &dyn Fn(),
    ) -> Result<Vec<Figures>> {
        let texts = self.random_texts(models, tokens);
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let mut measured = vec![Measured::default(); models.len()];
        for round in 0..=self.rounds {
            for (model, measured) in models.iter().zip(&mut measured) {
                let mut parts = measured.timings;
                let mut encode = || model.model.encode(&texts, Some(TOP_K), &mut parts);
                // The first round warms up, and tells how much memory it takes.
                if round == 0 {
                    forget_peak();
                    encode()?;
                    measured.peak_bytes = status_bytes("VmHWM:");
                } else {
                    let (encodings, seconds) = timed(CpuOf::Process, encode);
                    encodings?;
                    measured.times.push(seconds);
                    measured.timings = parts;
                }
                tick();
            }
        }
        let models = models.iter().zip(measured);
        Ok(models
            .map(|(model, measured)| self.figures(model, tokens, per_token, loaded, &measured))
            .collect())
    }

    fn figures(
        &self,
        model: &Model<'_>,
        tokens: usize,
        per_token: f64,
        loaded: Option<u64>,
        Measured {
            times,
            timings: parts,
            peak_bytes,
        }: &Measured,
    ) -> Figures {
        let seconds = median(&mut times.iter().map(|time| time.wall).collect::<Vec<_>>());
        let cpu: Option<Vec<f64>> = times.iter().map(|time| time.cpu).collect();
        let rate = real(model.model.operations(tokens, self.texts)) / seconds;
        let texts = real(self.texts as u64);
        let tokenize = per_token * real(tokens as u64) * texts;
        let total = parts.total.as_secs_f64();
        let share = |part: std::time::Duration| part.as_secs_f64() / total;
        let (linear, attention, head) = (
            share(parts.linear),
            share(parts.attention),
            share(parts.head),
        );
        Figures {
            weights: model.name.to_owned(),
            tokens,
            texts: self.texts,
            seconds,
            cpu_seconds: cpu.map(|mut cpu| median(&mut cpu)),
            documents_per_second: texts / seconds,
            tokens_per_second: texts * real(tokens as u64) / seconds,
            gflops: rate / 1e9,
            share_of_ceiling: rate / model.ceiling,
            tokenize_seconds: tokenize,
            working_bytes: peak_bytes
                .zip(loaded)
                .map(|(peak, loaded)| peak.saturating_sub(loaded)),
            share_tokenize: tokenize / (tokenize + seconds),
            share_linear: linear,
            share_attention: attention,
            share_head: head,
            share_rest: 1.0 - linear - attention - head,
        }
    }

    /// Compares every model's term weights with the first one's.
    fn compare(&self, models: &[Model<'_>], tokens: usize) -> Result<Vec<Fidelity>> {
        let Some((first, others)) = models.split_first() else {
            return Ok(Vec::new());
        };
        let texts = self.random_texts(models, tokens);
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let encode = |model: &Model<'_>| model.model.encode(&texts, None, &mut Timings::default());
        let truth = encode(first)?;
        let compare = |other: &Model<'_>| {
            let ours = encode(other)?;
            let pairs: Vec<[f64; 3]> = truth.iter().zip(&ours).map(|(a, b)| gap(a, b)).collect();
            let n_pairs = real(pairs.len() as u64);
            let mean = |idx: usize| pairs.iter().map(|gap| gap[idx]).sum::<f64>() / n_pairs;
            Ok(Fidelity {
                weights: other.name.to_owned(),
                tokens,
                cosine: mean(0),
                changed_impacts: mean(1),
                top_128_overlap: mean(2),
            })
        };
        others.iter().map(compare).collect()
    }

    fn random_texts(&self, models: &[Model<'_>], tokens: usize) -> Vec<Vec<u32>> {
        let vocab = models.first().map_or(1, |model| model.model.vocab_size());
        let vocab = u64::try_from(vocab).unwrap_or(1);
        let mut state = u64::from(self.seed);
        let mut id = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            u32::try_from((state >> 33) % vocab).unwrap_or(0)
        };
        (0..self.texts)
            .map(|_| (0..tokens).map(|_| id()).collect())
            .collect()
    }
}

/// Of laconic-nano's tokenizer on some abstracts.
fn seconds_per_token(rounds: usize) -> Result<f64> {
    const TEXTS: usize = 200;
    let lines = LineReader::from_reader("SciFact's abstracts", scifact::CORPUS_GZ)?;
    let documents: Vec<_> = collection::documents(lines)
        .take(TEXTS)
        .collect::<Result<_, _>>()?;
    let texts: Vec<&str> = documents
        .iter()
        .map(|line| line.record.text.as_str())
        .collect();
    let (config, tokenizer) = (nano::CONFIG.as_bytes(), nano::TOKENIZER.as_bytes());
    Ok(laconic_model::bench::seconds_per_token(
        config, tokenizer, &texts, rounds,
    )?)
}

type TermWeights = [(u32, f32)];

/// Cosine, share of changed impacts, overlap of the 128 largest.
fn gap(truth: &TermWeights, ours: &TermWeights) -> [f64; 3] {
    use std::collections::{BTreeMap, HashSet};
    let (quantizer, mut pairs) = (ImpactQuantizer::default(), BTreeMap::new());
    for (id, weight) in truth {
        pairs.entry(*id).or_insert((0.0, 0.0)).0 = *weight;
    }
    for (id, weight) in ours {
        pairs.entry(*id).or_insert((0.0, 0.0)).1 = *weight;
    }
    let kept = truth.iter().take(TOP_K).map(|(id, _)| pairs[id]);
    let n_changed = kept
        .filter(|&(a, b)| quantizer.impact(a) != quantizer.impact(b))
        .count();
    let (mut dot, mut norms) = (0.0, (0.0, 0.0));
    for &(a, b) in pairs.values() {
        let (a, b) = (f64::from(a), f64::from(b));
        dot += a * b;
        norms = (norms.0 + a * a, norms.1 + b * b);
    }
    let top = |weights: &TermWeights| -> HashSet<u32> {
        weights.iter().take(128).map(|(id, _)| *id).collect()
    };
    let common = top(truth).intersection(&top(ours)).count();
    [
        dot / (norms.0 * norms.1).sqrt(),
        real(n_changed as u64) / real(truth.len().clamp(1, TOP_K) as u64),
        real(common as u64) / real(truth.len().clamp(1, 128) as u64),
    ]
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Makes Linux count the largest resident memory anew; elsewhere nothing does.
fn forget_peak() {
    // A kernel that refuses leaves a peak that is too large, never one that is too small.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A line of Linux's report on this process; elsewhere nobody is asked.
fn status_bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

impl EncoderReport {
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn print(&self) -> io::Result<()> {
        let cpu = self.machine.cpu.as_deref().unwrap_or(self.machine.arch);
        print(format_args!(
            "laconic {}, {cpu}, {} cores, {}, {}\n{}, random weights, {} instructions, {} \
             thread(s), {} rounds\n",
            self.machine.laconic_version,
            self.machine.cores,
            self.machine.os,
            self.machine.date,
            self.shape,
            self.instructions,
            self.threads,
            self.rounds
        ))?;
        for model in &self.models {
            let memory = model.memory_bytes.map_or("?".to_owned(), megabytes);
            print(format_args!(
                "{:<8} {} MB of weights, plain read {:.1} ms ({:.1} GB/s), kernel ceiling {:.0} \
                 GFLOP/s, memory {memory} MB",
                model.weights,
                megabytes(model.weight_bytes),
                model.plain_read_seconds * 1e3,
                real(model.weight_bytes) / model.plain_read_seconds / 1e9,
                model.ceiling_gflops
            ))?;
        }
        let memory = self.peak_memory_bytes.map_or("?".to_owned(), megabytes);
        print(format_args!(
            "peak memory, all formats loaded: {memory} MB\n"
        ))?;
        print(format_args!(
            "tokens texts weights         ms     cpu ms     docs/s   tokens/s  GFLOP/s  ceiling  token.  linear   \
             attn   head   rest  work MB"
        ))?;
        for row in &self.results {
            print(format_args!(
                "{:>6} {:>5} {:<8} {:>9.2} {:>10} {:>10.2} {:>10.1} {:>8.0} {:>7.0}% {:>6.2}% \
                 {:>6.1}% {:>5.1}% {:>5.1}% {:>5.1}% {:>8}",
                row.tokens,
                row.texts,
                row.weights,
                row.seconds * 1e3,
                row.cpu_seconds
                    .map_or("?".to_owned(), |cpu| format!("{:.2}", cpu * 1e3)),
                row.documents_per_second,
                row.tokens_per_second,
                row.gflops,
                row.share_of_ceiling * 100.0,
                row.share_tokenize * 100.0,
                row.share_linear * 100.0,
                row.share_attention * 100.0,
                row.share_head * 100.0,
                row.share_rest * 100.0,
                row.working_bytes.map_or("?".to_owned(), megabytes)
            ))?;
        }
        for row in &self.fidelity {
            print(format_args!(
                "{} against {}, {} tokens: cosine {:.5}, {:.2} % of impacts (5 bits) changed, \
                 {:.1} % of the top 128 shared",
                row.weights,
                self.models.first().map_or("", |model| &model.weights),
                row.tokens,
                row.cosine,
                row.changed_impacts * 100.0,
                row.top_128_overlap * 100.0
            ))?;
        }
        Ok(())
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", real(bytes) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_none_between_equals_and_all_between_strangers() {
        let some: Vec<(u32, f32)> = (0..300).map(|id| (id, 2.0)).collect();
        let others: Vec<(u32, f32)> = (300..600).map(|id| (id, 2.0)).collect();
        let [cosine, changed, overlap] = gap(&some, &some);
        assert!((cosine - 1.0).abs() < 1e-12 && changed == 0.0 && overlap == 1.0);
        assert_eq!(gap(&some, &others), [0.0, 1.0, 0.0]);
    }
}
