//! A network on a device, put together from the tensors of a checkpoint.

use std::collections::HashMap;

use candle_core::{DType, Tensor};

use super::Device;
use super::failure::failed;
use super::network::{Layer, Network};
use super::operations::{PROJECTIONS, Shape, rope_tables};
use crate::config::Config;
use crate::error::Error;
use crate::options::WeightFormat;
use crate::weights::{EMBEDDING, Expected, LM_HEAD, NORM};

/// Where a network goes, and the type that its matrices have there.
pub(crate) struct Place {
    pub(super) device: candle_core::Device,
    pub(super) dtype: DType,
}

impl Place {
    /// # Errors
    ///
    /// If there is no such device, or the format is one that only the CPU's kernels know.
    pub(crate) fn open(device: Device, format: WeightFormat) -> Result<Self, Error> {
        let dtype = match format {
            WeightFormat::Stored | WeightFormat::F32 => DType::F32,
            WeightFormat::Bf16 => DType::BF16,
            other => {
                return Err(Error::invalid_input(format!(
                    "holding the weights as {other:?} on the device {device}: that format is for \
                     the CPU; choose F32 or Bf16"
                )));
            }
        };
        let device = device.open()?;
        Ok(Self { device, dtype })
    }

    /// The format that weights have there.
    pub(crate) fn format(&self) -> WeightFormat {
        match self.dtype {
            DType::BF16 => WeightFormat::Bf16,
            _ => WeightFormat::F32,
        }
    }

    /// Puts a tensor of the network there.
    ///
    /// # Errors
    ///
    /// If the device has no room for it.
    pub(crate) fn tensor(&self, expected: &Expected, values: Vec<f32>) -> Result<Tensor, Error> {
        let dtype = match expected.inputs() {
            Some(_) => self.dtype,
            None => DType::F32,
        };
        // Rounded before it travels: half the bytes, and never two copies on the device.
        let tensor = Tensor::from_vec(values, expected.shape(), &candle_core::Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(dtype)?.to_device(&self.device));
        tensor.map_err(|source| failed(&format!("loading {}", expected.name), source))
    }
}

impl Network {
    /// Takes the tensors of a Llama; texts may be `max_length` tokens long.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, or the device refuses.
    pub(crate) fn new(
        config: &Config,
        mut tensors: HashMap<String, Tensor>,
        max_length: usize,
        place: &Place,
    ) -> Result<Self, Error> {
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .ok_or_else(|| Error::corrupt(format!("building the network: {name} is missing")))
        };
        let embed_tokens = take(EMBEDDING)?;
        let layers = (0..config.n_layers).map(|idx| layer(&mut take, idx));
        let rope = rope_tables(config, max_length, DType::F32, &place.device);
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: take(NORM)?,
            head: match config.is_tied {
                true => embed_tokens.clone(),
                false => take(LM_HEAD)?,
            },
            embed_tokens,
            shape: Shape::of(config),
            rope: rope.map_err(|source| failed("building the network", source))?,
        })
    }
}

fn layer(take: &mut impl FnMut(&str) -> Result<Tensor, Error>, idx: usize) -> Result<Layer, Error> {
    let path = format!("model.layers.{idx}");
    let mut part = |name: &str| take(&format!("{path}.{name}.weight"));
    let projections: Vec<Tensor> = PROJECTIONS
        .iter()
        .map(|name| part(name))
        .collect::<Result<_, _>>()?;
    Ok(Layer {
        input_layernorm: part("input_layernorm")?,
        post_attention_layernorm: part("post_attention_layernorm")?,
        projections: projections
            .try_into()
            .map_err(|_| Error::corrupt("building the network: a layer lacks projections"))?,
    })
}
