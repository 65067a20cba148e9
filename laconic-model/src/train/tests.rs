//! Gradients of the whole, against finite differences in f64; pieces against one go; bfloat16
//! against f32; what the encoder makes of a trained checkpoint is tested from outside.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};

use super::base::{Kinds, assemble};
use super::loss::LossWeights;
use super::network::Network;
use super::parameter::Parameter;
use super::random::Random;
use super::recipe::{Lora, Recipe};
use super::step::{Batch, StepPlan, run};
use crate::config::Config;
use crate::weights::manifest;

const VOCAB: usize = 23;

fn config(is_tied: bool) -> Config {
    let json = format!(
        r#"{{"model_type": "llama", "vocab_size": {VOCAB}, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 4, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "rope_theta": 10000.0, "tie_word_embeddings": {is_tied}}}"#
    );
    Config::parse(json.as_bytes()).unwrap()
}

fn recipe(lora: Option<Lora>) -> Recipe {
    Recipe {
        lora,
        query_length: 16,
        document_length: 16,
        seed: 5,
        ..Recipe::named("nano", 1).unwrap()
    }
}

fn kinds(master: DType, compute: DType) -> Kinds {
    Kinds {
        device: Device::Cpu,
        master,
        compute,
    }
}

/// A network of random weights; the same values whatever the types.
fn network(is_tied: bool, recipe: &Recipe, kinds: &Kinds) -> Network {
    let config = config(is_tied);
    let mut random = Random::keyed(&[1]);
    let mut tensors = HashMap::new();
    for expected in manifest(&config) {
        let is_norm = expected.shape().len() == 1;
        let values: Vec<f32> = (0..expected.n_elements())
            .map(|_| {
                if is_norm {
                    1.0 + 0.3 * random.normal()
                } else {
                    0.5 * random.normal()
                }
            })
            .collect();
        let tensor = Tensor::from_vec(values, expected.shape(), &Device::Cpu).unwrap();
        let is_frozen = recipe.lora.is_some();
        let dtype = if is_frozen && !is_norm {
            kinds.compute
        } else {
            kinds.master
        };
        let tensor = tensor.to_dtype(dtype).unwrap();
        let parameter = match is_frozen {
            true => Parameter::Frozen(tensor),
            false => Parameter::Trained(Var::from_tensor(&tensor).unwrap()),
        };
        tensors.insert(expected.name.clone(), parameter);
    }
    let network = assemble(&config, tensors, &[true; VOCAB], recipe, kinds).unwrap();
    // B starts at zero, where A has no gradient to check.
    for (name, var) in network.trained() {
        if name.contains("lora_B") {
            let values: Vec<f32> = (0..var.elem_count())
                .map(|_| 0.3 * random.normal())
                .collect();
            let tensor = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
            var.set(&tensor.to_dtype(var.dtype()).unwrap()).unwrap();
        }
    }
    network
}

/// Three queries with two passages each, of many lengths.
fn batch(dtype: DType) -> Batch {
    let mut random = Random::keyed(&[2]);
    let mut text = |len: usize| -> Vec<u32> {
        (0..len)
            .map(|_| u32::try_from(random.below(VOCAB)).unwrap())
            .collect()
    };
    let exempt = Tensor::from_vec(
        (0..18)
            .map(|at| if at == 4 { -1e9 } else { 0.0_f32 })
            .collect(),
        (3, 6),
        &Device::Cpu,
    );
    Batch {
        queries: [3, 1, 5].map(&mut text).to_vec(),
        documents: [7, 2, 9, 9, 4, 1].map(&mut text).to_vec(),
        per_query: 2,
        exempt: Some(exempt.unwrap().to_dtype(dtype).unwrap()),
    }
}

fn plan(dtype: DType, chunk_tokens: usize) -> StepPlan {
    StepPlan {
        weights: LossWeights {
            temperature: 1.5,
            query_flops: 0.3,
            document_flops: 0.2,
        },
        key: 11,
        dtype,
        chunk_tokens,
        dropout: true,
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn loss_of(network: &Network, batch: &Batch, plan: StepPlan) -> f64 {
    run(network, &network.trained(), batch, plan)
        .unwrap()
        .0
        .loss
}

/// Every element of every trained tensor (embedding, norms, projections or adapters, head) is
/// moved by ±h: the loss must move as the gradient says. Through attention with padding and
/// grouped keys, rotary embedding, RMSNorm, SwiGLU, dropout, pooling, InfoNCE and FLOPs.
#[test]
fn gradients_are_those_of_finite_differences() {
    let lora = Lora {
        rank: 2,
        alpha: 3.0,
        dropout: 0.2,
    };
    for (is_tied, lora) in [(true, None), (false, None), (true, Some(lora))] {
        let (recipe, kinds) = (recipe(lora), kinds(DType::F64, DType::F64));
        let network = network(is_tied, &recipe, &kinds);
        let (batch, plan) = (batch(DType::F64), plan(DType::F64, 1000));
        let trained = network.trained();
        let (_, gradients) = run(&network, &trained, &batch, plan).unwrap();
        let mut n_checked = 0;
        for (name, var) in &trained {
            let grad = gradients.of(name).map(values);
            let grad = grad.unwrap_or_else(|| vec![0.0; var.elem_count()]);
            let start = values(var.as_tensor());
            let stride = (start.len() / 12).max(1);
            for at in (0..start.len()).step_by(stride) {
                let moved = |by: f64| {
                    let mut values = start.clone();
                    values[at] += by;
                    let tensor = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
                    var.set(&tensor).unwrap();
                    loss_of(&network, &batch, plan)
                };
                let h = 1e-6;
                let slope = (moved(h) - moved(-h)) / (2.0 * h);
                moved(0.0);
                let error = (slope - grad[at]).abs();
                assert!(
                    error < 1e-6 + 1e-5 * slope.abs(),
                    "{name}[{at}], tied {is_tied}: {} by formula, {slope} by differences",
                    grad[at]
                );
                n_checked += usize::from(slope != 0.0);
            }
        }
        assert!(n_checked > 100, "{n_checked} slopes were not zero");
    }
}

/// Cut into pieces and sent through twice, or in one go: the same loss and gradients, dropout
/// included.
#[test]
fn pieces_give_what_one_go_gives() {
    let lora = Lora {
        rank: 2,
        alpha: 4.0,
        dropout: 0.5,
    };
    for lora in [None, Some(lora)] {
        let (recipe, kinds) = (recipe(lora), kinds(DType::F64, DType::F64));
        let network = network(false, &recipe, &kinds);
        let (trained, batch) = (network.trained(), batch(DType::F64));
        // 44 tokens with padding just fit into a chunk of 44; pieces are of 6 tokens in both.
        let (whole, in_one) = run(&network, &trained, &batch, plan(DType::F64, 44)).unwrap();
        let (pieces, in_many) = run(&network, &trained, &batch, plan(DType::F64, 43)).unwrap();
        assert!(whole.loss.is_finite() && (whole.loss - pieces.loss).abs() < 1e-12);
        for (name, _) in &trained {
            let (a, b) = (in_one.of(name).map(values), in_many.of(name).map(values));
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }
}

/// The f32 path of the head has loops of its own: against the f64 path in tensor operations.
#[test]
fn single_precision_follows_double_and_bfloat16_follows_roughly() {
    let lora = Lora {
        rank: 2,
        alpha: 4.0,
        dropout: 0.0,
    };
    for lora in [None, Some(lora)] {
        let recipe = recipe(lora);
        let of = |master: DType, compute: DType| {
            let network = network(true, &recipe, &kinds(master, compute));
            let trained = network.trained();
            let (value, gradients) =
                run(&network, &trained, &batch(DType::F32), plan(compute, 1000)).unwrap();
            let all: Vec<f64> = trained
                .iter()
                .flat_map(|(name, var)| match gradients.of(name) {
                    Some(grad) => values(grad),
                    None => vec![0.0; var.elem_count()],
                })
                .collect();
            (value.loss, all)
        };
        let (exact, exact_grad) = of(DType::F64, DType::F64);
        // In bfloat16 another position may win: the gradient then goes elsewhere.
        for (compute, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 0.3)] {
            let (loss, grad) = of(DType::F32, compute);
            let distance = |a: &[f64], b: &[f64]| {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| (a - b).powi(2))
                    .sum::<f64>()
                    .sqrt()
            };
            let length = distance(&exact_grad, &vec![0.0; exact_grad.len()]);
            assert!(
                (loss - exact).abs() < tolerance * exact,
                "{compute:?}: {loss}, {exact}"
            );
            let error = distance(&grad, &exact_grad);
            assert!(
                error < tolerance * length,
                "{compute:?}: {error} of {length}"
            );
        }
    }
}
