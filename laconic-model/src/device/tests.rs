//! The tensors of a device, here candle's CPU, against the kernels of the CPU.

use std::collections::HashMap;

use super::load::Place;
use super::network::Network as Tensors;
use crate::backbone::Pack;
use crate::config::Config;
use crate::device::Device;
use crate::head::{MaxLogits, Pooled};
use crate::network::Network as Kernels;
use crate::options::WeightFormat;
use crate::saturation::Saturation;
use crate::timings::Timings;
use crate::weights::{Weights, manifest};

/// Of a hidden value or logit; weights are half of that apart at most, since log(1 + x) is flatter.
const TOLERANCE: f32 = 1e-4;
/// Of the length of the difference to that of the values, in bf16: products are rounded to 8 bits,
/// 2⁻⁹ of themselves, a few dozen times, and a dozen channels average little of it out.
const BF16_TOLERANCE: f32 = 0.03;

const LONGEST: usize = 40;

/// Heads, key heads, width of a head, hidden, inner, vocabulary; whether the head is tied, and the
/// scaling of rotary frequencies.
type Case = ([usize; 6], bool, &'static str);

/// Vocabularies that are no multiples of a tile, and one of several tiles.
const CASES: [Case; 5] = [
    ([4, 2, 4, 8, 12, 40], false, "null"),
    ([4, 4, 6, 16, 24, 70], true, "null"),
    ([6, 1, 2, 10, 7, 33], false, LLAMA3),
    ([1, 1, 8, 8, 16, 129], true, LLAMA3),
    ([8, 2, 2, 12, 20, 8192 + 8192 + 5], false, LLAMA3),
];

const LLAMA3: &str = r#"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16}"#;

fn config(([heads, kv_heads, head_dim, hidden, inner, vocab], is_tied, scaling): Case) -> Config {
    let json = format!(
        r#"{{"model_type": "llama", "vocab_size": {vocab}, "hidden_size": {hidden},
        "intermediate_size": {inner}, "num_hidden_layers": 2, "num_attention_heads": {heads},
        "num_key_value_heads": {kv_heads}, "head_dim": {head_dim}, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "rope_theta": 500.0, "rope_scaling": {scaling},
        "tie_word_embeddings": {is_tied}}}"#
    );
    Config::parse(json.as_bytes()).unwrap()
}

/// Numbers within 0.5 of each other, around one for norms.
fn values(config: &Config) -> HashMap<String, Vec<f32>> {
    let mut random = Numbers(config.vocab_size);
    let tensors = manifest(config);
    let tensor = tensors.iter().map(|tensor| {
        let center = if tensor.dims.len() == 1 { 1.0 } else { 0.0 };
        let values = (0..tensor.n_elements()).map(|_| {
            let number = u16::try_from(random.below(1 << 16)).unwrap();
            center + f32::from(number) / 65_536.0 - 0.5
        });
        (tensor.name.clone(), values.collect())
    });
    tensor.collect()
}

/// A linear congruential generator, whose upper bits are random enough.
struct Numbers(usize);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn kernels(config: &Config, values: &HashMap<String, Vec<f32>>) -> Kernels {
    let mut weights = Weights::from_map(config, values);
    Kernels::llama(config, &mut weights, LONGEST).unwrap()
}

fn tensors(config: &Config, values: &HashMap<String, Vec<f32>>, format: WeightFormat) -> Tensors {
    let place = Place::open(Device::Cpu, format).unwrap();
    let tensor = |expected: &crate::weights::Expected| {
        let tensor = place.tensor(expected, values[&expected.name].clone());
        (expected.name.clone(), tensor.unwrap())
    };
    let tensors = manifest(config).iter().map(tensor).collect();
    Tensors::new(config, tensors, LONGEST, &place).unwrap()
}

/// Texts of many lengths, some of them alike and neighbours.
fn texts(config: &Config) -> Vec<Vec<u32>> {
    let mut random = Numbers(7);
    let lengths = [LONGEST, 13, 13, 13, 9, 5, 5, 1, 13];
    let mut id = || u32::try_from(random.below(config.vocab_size)).unwrap();
    let text = lengths.iter().map(|len| (0..*len).map(|_| id()).collect());
    text.collect()
}

fn pack(texts: &[Vec<u32>]) -> Pack {
    Pack::new(texts.iter().map(Vec::as_slice))
}

fn logits<T>(pooled: Pooled<T>) -> T {
    match pooled {
        Pooled::Logits(logits) => logits,
        Pooled::NotFinite(bad) => panic!("{bad:?}"),
    }
}

fn gap(ours: impl IntoIterator<Item = f32>, truth: impl IntoIterator<Item = f32>) -> f32 {
    let (ours, truth): (Vec<_>, Vec<_>) = (ours.into_iter().collect(), truth.into_iter().collect());
    assert_eq!(ours.len(), truth.len());
    let gaps = ours.iter().zip(&truth).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, |a: f32, b| if b.is_nan() { b } else { a.max(b) })
}

/// How far the outputs of a format are off, and how far they may be.
fn error(format: WeightFormat, ours: Vec<f32>, truth: Vec<f32>) -> (f32, f32) {
    if format != WeightFormat::Bf16 {
        return (gap(ours, truth), TOLERANCE);
    }
    let length = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let difference = length(&mut ours.iter().zip(&truth).map(|(a, b)| a - b));
    (
        difference / length(&mut truth.iter().copied()),
        BF16_TOLERANCE,
    )
}

fn all(logits: &MaxLogits, n_texts: usize) -> Vec<f32> {
    (0..n_texts).flat_map(|text| logits.of(text)).collect()
}

#[test]
fn hidden_states_maxima_and_sums_are_those_of_the_kernels() {
    for case in CASES {
        let config = config(case);
        let values = values(&config);
        let kernels = kernels(&config, &values);
        let texts = texts(&config);
        let pack = pack(&texts);
        let truth = kernels.hidden(&pack, &mut Timings::default());
        let n = texts.len();
        let maxima = all(&logits(kernels.head().max_logits(&truth, pack.spans())), n);
        for format in [WeightFormat::F32, WeightFormat::Stored, WeightFormat::Bf16] {
            let tensors = tensors(&config, &values, format);
            let hidden = tensors.hidden(&pack).unwrap();
            let rows: Vec<f32> = hidden.flatten_all().unwrap().to_vec1().unwrap();
            let check = |what: &str, ours, truth, terms: f32| {
                let (error, tolerance) = error(format, ours, truth);
                assert!(
                    error <= terms * tolerance,
                    "{case:?} {format:?}: {what} {error}"
                );
            };
            check("hidden", rows, truth.clone(), 1.0);
            let ours = logits(tensors.max_logits(&hidden, &pack).unwrap());
            check("maxima", all(&ours, n), maxima.clone(), 1.0);
            for saturation in [Saturation::Once, Saturation::Twice] {
                let ours = logits(tensors.sums(&hidden, &pack, saturation).unwrap());
                let theirs = logits(kernels.head().sums(&truth, pack.spans(), saturation));
                // Sums have up to as many terms as the longest text has positions.
                check("sums", all(&ours, n), all(&theirs, n), 10.0);
            }
        }
    }
}

#[test]
fn a_text_is_the_same_alone_and_in_a_batch() {
    for case in CASES {
        let config = config(case);
        let tensors = tensors(&config, &values(&config), WeightFormat::F32);
        let texts = texts(&config);
        let run = |texts: &[Vec<u32>]| {
            let pack = pack(texts);
            let hidden = tensors.hidden(&pack).unwrap();
            logits(tensors.max_logits(&hidden, &pack).unwrap())
        };
        let together = run(&texts);
        for (idx, text) in texts.iter().enumerate() {
            let alone = run(std::slice::from_ref(text));
            let worst = gap(together.of(idx), alone.of(0));
            assert!(worst <= 1e-5, "{case:?}, text {idx}: {worst}");
        }
    }
}

#[test]
fn winners_are_where_the_kernels_find_them() {
    for case in CASES {
        let config = config(case);
        let values = values(&config);
        let (kernels, tensors) = (
            kernels(&config, &values),
            tensors(&config, &values, WeightFormat::F32),
        );
        for text in texts(&config) {
            let pack = Pack::new([text.as_slice()]);
            let hidden = tensors.hidden(&pack).unwrap();
            let ours = logits(tensors.attributed(&hidden).unwrap());
            let truth = kernels.hidden(&pack, &mut Timings::default());
            let theirs = logits(kernels.head().attributed(&truth));
            assert!(gap(ours.logits.of(0), theirs.logits.of(0)) <= TOLERANCE);
            // Logits of two positions may be closer than the two ways of computing them.
            let n_other = ours.positions.iter().zip(&theirs.positions);
            let n_other = n_other.filter(|(a, b)| a != b).count();
            assert!(n_other * 100 <= config.vocab_size, "{n_other} of {case:?}");
        }
    }
}

/// As the test of the same name of the backbone: what gets past the checks on load is seen here.
#[test]
fn a_poisoned_weight_of_any_tensor_is_reported() {
    let config = config(CASES[0]);
    let clean = values(&config);
    let texts = texts(&config);
    let pack = pack(&texts);
    let run = |values: &HashMap<String, Vec<f32>>| {
        let tensors = tensors(&config, values, WeightFormat::F32);
        let hidden = tensors.hidden(&pack).unwrap();
        let by_sums = tensors.sums(&hidden, &pack, Saturation::Once).unwrap();
        let is_clean = matches!(by_sums, Pooled::Logits(_));
        let by_winners = tensors.attributed(&hidden).unwrap();
        assert_eq!(matches!(by_winners, Pooled::Logits(_)), is_clean);
        let pooled = tensors.max_logits(&hidden, &pack).unwrap();
        assert_eq!(matches!(pooled, Pooled::Logits(_)), is_clean);
        pooled
    };
    assert!(matches!(run(&clean), Pooled::Logits(_)));
    for name in clean.keys() {
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = clean.clone();
            values.get_mut(name).unwrap()[1] = poison;
            let pooled = run(&values);
            assert!(
                matches!(pooled, Pooled::NotFinite(_)),
                "{name} with {poison}"
            );
        }
    }
}

/// Of several bad logits in several tiles, that of the first row counts, then that of the first
/// entry; a sum of finite logits that overflows is no bad logit.
#[test]
fn the_first_bad_logit_is_placed() {
    let config = config(CASES[4]);
    let mut values = values(&config);
    let width = config.hidden_size;
    let head = values.get_mut("lm_head.weight").unwrap();
    for entry in [30, 9000, 16_000] {
        head[entry * width..(entry + 1) * width].fill(3e38);
    }
    let texts = texts(&config);
    let pack = pack(&texts);
    let network = tensors(&config, &values, WeightFormat::F32);
    let device = candle_core::Device::Cpu;
    let n_rows = pack.ids().len();
    let find = |rows: &[(usize, f32)]| {
        let mut hidden = vec![0.0_f32; n_rows * width];
        for (row, value) in rows {
            hidden[row * width] = *value;
        }
        let hidden = candle_core::Tensor::from_vec(hidden, (n_rows, width), &device).unwrap();
        match network.max_logits(&hidden, &pack).unwrap() {
            Pooled::NotFinite(bad) => Some((bad.row, bad.token_id)),
            Pooled::Logits(_) => None,
        }
    };
    assert_eq!(find(&[(50, 2.0), (80, 2.0)]), Some((50, 30)));
    assert_eq!(find(&[(3, f32::NAN)]), Some((3, 0)));
    assert_eq!(find(&[(3, 0.9), (4, 0.9), (5, 0.9)]), None);
}

#[test]
fn formats_of_the_cpu_are_refused() {
    for format in [WeightFormat::Int8, WeightFormat::Q8_0, WeightFormat::Q4K] {
        let error = Place::open(Device::Cpu, format).err().unwrap();
        assert!(error.is_invalid_input());
        assert!(
            error.to_string().contains(&format!("{format:?}")),
            "{error}"
        );
    }
}
