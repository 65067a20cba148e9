//! The network of an encoder, wherever it runs: kernels of ours on the CPU, or candle's tensors on
//! a device.

use crate::backbone::Pack;
use crate::checkpoint::Checkpoint;
#[cfg(feature = "device")]
use crate::device;
use crate::error::Error;
use crate::folder::Fingerprint;
use crate::head::{Attributed, Pooled};
use crate::network::Network;
use crate::options::{LoadOptions, WeightFormat};
use crate::parts::{Parts, longest};
use crate::saturation::Saturation;
use crate::timings::Timings;

pub(crate) enum Engine {
    Kernels(Network),
    #[cfg(feature = "device")]
    Tensors(device::Network),
}

/// A pack that went through the network, its head aside.
pub(crate) enum Forward<'a> {
    Kernels(&'a Network, Vec<f32>),
    #[cfg(feature = "device")]
    Tensors(&'a device::Network, candle_core::Tensor),
}

/// What errors of a device say was attempted.
#[cfg(feature = "device")]
const ENCODING: &str = "encoding";

impl Engine {
    /// Loads the weights of a checkpoint; the format is the one they are computed with.
    ///
    /// # Errors
    ///
    /// If a tensor is damaged or at odds with the config, or there is no such device.
    pub(crate) fn load(
        checkpoint: Checkpoint,
        parts: &Parts,
        options: &LoadOptions,
        fingerprint: &mut Fingerprint,
    ) -> Result<(Self, WeightFormat), Error> {
        options.on_device().check_feature()?;
        #[cfg(feature = "device")]
        if options.wants_tensors() {
            return Self::load_tensors(checkpoint, parts, options, fingerprint);
        }
        let format = checkpoint.format(options.weight_format());
        let mut weights = checkpoint.weights(&parts.layout, &parts.family, format, fingerprint)?;
        let longest = longest(&parts.preset, parts.query_table.is_some());
        let network = Network::new(&parts.family, &mut weights, longest)?;
        Ok((Self::Kernels(network), format))
    }

    #[cfg(feature = "device")]
    fn load_tensors(
        checkpoint: Checkpoint,
        parts: &Parts,
        options: &LoadOptions,
        fingerprint: &mut Fingerprint,
    ) -> Result<(Self, WeightFormat), Error> {
        let config = parts
            .family
            .clone()
            .into_llama("encoding on another device than the CPU")?;
        let place = device::Place::open(options.on_device(), options.weight_format())?;
        let mut tensors = std::collections::HashMap::new();
        let folder = &parts.layout.network;
        checkpoint.read_each(folder, &config, fingerprint, |expected, values| {
            tensors.insert(expected.name.clone(), place.tensor(expected, values)?);
            Ok(())
        })?;
        let longest = longest(&parts.preset, parts.query_table.is_some());
        let network = device::Network::new(&config, tensors, longest, &place)?;
        Ok((Self::Tensors(network), place.format()))
    }

    /// Bytes of main memory that a pack takes at most, beside the weights.
    pub(crate) fn room(&self, pack: &Pack, vocab_size: usize) -> usize {
        let pooled = pack.spans().len().saturating_mul(4 * vocab_size);
        match self {
            Self::Kernels(network) => network.room(pack.ids().len()).saturating_add(pooled),
            #[cfg(feature = "device")]
            Self::Tensors(_) => pooled,
        }
    }

    /// # Errors
    ///
    /// If the device fails, or has no room.
    pub(crate) fn forward(&self, pack: &Pack) -> Result<Forward<'_>, Error> {
        match self {
            Self::Kernels(network) => {
                let hidden = network.hidden(pack, &mut Timings::default());
                Ok(Forward::Kernels(network, hidden))
            }
            #[cfg(feature = "device")]
            Self::Tensors(network) => {
                let hidden = on_device(network.hidden(pack))?;
                Ok(Forward::Tensors(network, hidden))
            }
        }
    }
}

/// Each of them fails if the device fails, or has no room.
impl Forward<'_> {
    /// Largest logits of each text.
    pub(crate) fn max_logits(&self, pack: &Pack) -> Result<Pooled, Error> {
        match self {
            Self::Kernels(network, hidden) => Ok(network.head().max_logits(hidden, pack.spans())),
            #[cfg(feature = "device")]
            Self::Tensors(network, hidden) => on_device(network.max_logits(hidden, pack)),
        }
    }

    /// Sums of the saturated logits of each text.
    pub(crate) fn sums(&self, pack: &Pack, saturation: Saturation) -> Result<Pooled, Error> {
        match self {
            Self::Kernels(network, hidden) => {
                Ok(network.head().sums(hidden, pack.spans(), saturation))
            }
            #[cfg(feature = "device")]
            Self::Tensors(network, hidden) => on_device(network.sums(hidden, pack, saturation)),
        }
    }

    /// Largest logits of a pack of one text, with the positions that won.
    pub(crate) fn attributed(&self) -> Result<Pooled<Attributed>, Error> {
        match self {
            Self::Kernels(network, hidden) => Ok(network.head().attributed(hidden)),
            #[cfg(feature = "device")]
            Self::Tensors(network, hidden) => on_device(network.attributed(hidden)),
        }
    }

    /// What the head takes, tokens × hidden.
    pub(crate) fn into_rows(self) -> Result<Vec<f32>, Error> {
        match self {
            Self::Kernels(_, hidden) => Ok(hidden),
            #[cfg(feature = "device")]
            Self::Tensors(_, hidden) => {
                on_device(hidden.flatten_all().and_then(|rows| rows.to_vec1()))
            }
        }
    }
}

#[cfg(feature = "device")]
fn on_device<T>(result: candle_core::Result<T>) -> Result<T, Error> {
    result.map_err(|source| device::failed(ENCODING, source))
}
