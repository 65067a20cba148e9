//! Encodes random token ids with candle, as its models do: random weights of the Llama-3.2-1B
//! shape, no causal mask, the LM head over all positions and its maximum.
//!
//! `candle-peer [--threads N] TOKENS…` prints, for each format and length, CPU seconds.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;

const VOCAB: usize = 128_256;
const HIDDEN: usize = 2_048;
const INNER: usize = 8_192;
const LAYERS: usize = 16;
const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = HIDDEN / HEADS;

/// `None` for f32.
type Format = Option<GgmlDType>;

fn matrix(outputs: usize, inputs: usize, format: Format) -> Result<QMatMul> {
    let deviation = (1.0 / inputs as f32).sqrt();
    let values = Tensor::randn(0f32, deviation, (outputs, inputs), &Device::Cpu)?;
    match format {
        None => Ok(QMatMul::Tensor(values)),
        Some(format) => QMatMul::from_qtensor(QTensor::quantize(&values, format)?),
    }
}

struct Layer {
    q: QMatMul,
    k: QMatMul,
    v: QMatMul,
    o: QMatMul,
    gate: QMatMul,
    up: QMatMul,
    down: QMatMul,
}

impl Layer {
    fn new(format: Format) -> Result<Self> {
        let kv = KV_HEADS * HEAD_DIM;
        Ok(Self {
            q: matrix(HIDDEN, HIDDEN, format)?,
            k: matrix(kv, HIDDEN, format)?,
            v: matrix(kv, HIDDEN, format)?,
            o: matrix(HIDDEN, HIDDEN, format)?,
            gate: matrix(INNER, HIDDEN, format)?,
            up: matrix(INNER, HIDDEN, format)?,
            down: matrix(HIDDEN, INNER, format)?,
        })
    }

    fn forward(&self, x: &Tensor, norm: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let n = x.dim(0)?;
        let normed = rms_norm(x, norm, 1e-5)?;
        let heads = |matrix: &QMatMul, n_heads: usize| {
            let rows = normed.apply(matrix)?.reshape((1, n, n_heads, HEAD_DIM))?;
            rows.transpose(1, 2)?.contiguous()
        };
        let q = rope(&heads(&self.q, HEADS)?, cos, sin)?;
        let k = rope(&heads(&self.k, KV_HEADS)?, cos, sin)?;
        let v = heads(&self.v, KV_HEADS)?;
        let repeat = |x: Tensor| {
            let copies = Tensor::cat(&vec![x; HEADS / KV_HEADS], 2)?;
            copies.reshape((1, HEADS, n, HEAD_DIM))
        };
        let scores = (q.matmul(&repeat(k)?.t()?)? / (HEAD_DIM as f64).sqrt())?;
        let mixed = softmax_last_dim(&scores)?.matmul(&repeat(v)?)?;
        let mixed = mixed.transpose(1, 2)?.reshape((n, HIDDEN))?;
        let x = (x + mixed.apply(&self.o)?)?;
        let normed = rms_norm(&x, norm, 1e-5)?;
        let inner = (silu(&normed.apply(&self.gate)?)? * normed.apply(&self.up)?)?;
        x + inner.apply(&self.down)?
    }
}

struct Model {
    embedding: Tensor,
    head: QMatMul,
    norm: Tensor,
    layers: Vec<Layer>,
}

impl Model {
    fn new(format: Format) -> Result<Self> {
        let layers = (0..LAYERS).map(|_| Layer::new(format));
        Ok(Self {
            embedding: Tensor::randn(0f32, 1.0, (4_096, HIDDEN), &Device::Cpu)?,
            head: matrix(VOCAB, HIDDEN, format)?,
            norm: Tensor::ones(HIDDEN, DType::F32, &Device::Cpu)?,
            layers: layers.collect::<Result<_>>()?,
        })
    }

    fn encode(&self, n: usize) -> Result<Vec<f32>> {
        let ids: Vec<u32> = (0..n as u32).map(|i| i * 7_919 % 4_096).collect();
        let mut x = self.embedding.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        let frequencies: Vec<f32> = (0..HEAD_DIM / 2)
            .map(|i| 500_000f32.powf(-2.0 * i as f32 / HEAD_DIM as f32))
            .collect();
        let positions = Tensor::arange(0f32, n as f32, &Device::Cpu)?.reshape((n, 1))?;
        let angles = positions.matmul(&Tensor::new(frequencies, &Device::Cpu)?.unsqueeze(0)?)?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        for layer in &self.layers {
            x = layer.forward(&x, &self.norm, &cos, &sin)?;
        }
        let logits = rms_norm(&x, &self.norm, 1e-5)?.apply(&self.head)?;
        let max = logits.t()?.contiguous()?.max(D::Minus1)?;
        ((max.relu()? + 1.0)?.log()?).to_vec1()
    }
}

fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut threads = "1".to_owned();
    let mut lengths = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" => threads = arguments.next().ok_or("--threads N")?,
            length => lengths.push(length.parse::<usize>()?),
        }
    }
    // SAFETY: nothing else runs yet.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", &threads);
        std::env::set_var("CANDLE_NUM_THREADS", &threads);
    }
    for (name, format) in [("f32", None), ("q8_0", Some(GgmlDType::Q8_0))] {
        let model = Model::new(format)?;
        for &length in &lengths {
            model.encode(length)?;
            let start = cpu_seconds();
            std::hint::black_box(model.encode(length)?);
            println!("{name} {length} {}", cpu_seconds() - start);
        }
    }
    Ok(())
}
