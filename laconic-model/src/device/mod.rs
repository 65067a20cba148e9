//! Encoding on a GPU: the Llama once more, in operations of candle.
//!
//! Nothing here knows which device it runs on. The same code runs on candle's CPU device in tests,
//! which hold it to the kernels that encoding on a CPU uses and to the golden outputs.

#[cfg(feature = "device")]
mod attention;
#[cfg(feature = "device")]
mod failure;
#[cfg(feature = "device")]
mod head;
#[cfg(feature = "device")]
mod load;
#[cfg(feature = "device")]
mod network;
#[cfg(feature = "device")]
mod operations;
#[cfg(test)]
#[cfg(feature = "device")]
mod tests;

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "device")]
pub(crate) use failure::failed;
#[cfg(feature = "device")]
pub(crate) use load::Place;
#[cfg(feature = "device")]
pub(crate) use network::Network;
#[cfg(feature = "train")]
pub(crate) use operations::{PROJECTIONS, Shape, fine, rms_norm, rope_tables, rotate, softmax};

use crate::error::Error;

/// Where a network runs.
///
/// Written `cpu`, `cuda`, `cuda:1`, `metal`, and read back from that; a number left out is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor, all its cores.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number; needs the feature `cuda`.
    Cuda(usize),
    /// An Apple GPU by its number; needs the feature `metal`.
    Metal(usize),
}

impl Device {
    /// What kind of device it is, its number aside: `cpu`, `cuda` or `metal`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Metal(_) => "metal",
        }
    }

    /// # Errors
    ///
    /// If this build has no code for it.
    pub(crate) fn check_feature(self) -> Result<(), Error> {
        let has_code = match self {
            Self::Cpu => true,
            Self::Cuda(_) => cfg!(feature = "cuda"),
            Self::Metal(_) => cfg!(feature = "metal"),
        };
        if has_code {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "opening the device {self}: this program was built without the feature `{}`; build it \
             with that, or use the CPU",
            self.kind()
        )))
    }

    /// # Errors
    ///
    /// If this build has no code for it, or the machine no such device.
    #[cfg(feature = "device")]
    pub(crate) fn open(self) -> Result<candle_core::Device, Error> {
        self.check_feature()?;
        let opened = match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda(ordinal) => candle_core::Device::new_cuda(ordinal),
            Self::Metal(ordinal) => candle_core::Device::new_metal(ordinal),
        };
        opened.map_err(|source| {
            Error::unsupported(format!(
                "opening the device {self}: {source}; check that the machine has it and that its \
                 driver is loaded, or use the CPU"
            ))
            .with_source(source)
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Cpu | Self::Cuda(0) | Self::Metal(0) => Ok(()),
            Self::Cuda(ordinal) | Self::Metal(ordinal) => write!(f, ":{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::invalid_input(format!(
                "reading the device {text:?}: there are cpu, cuda and metal, the last two with a \
                 number if there are several, as in cuda:1"
            ))
        };
        let (name, ordinal) = match text.split_once(':') {
            Some((name, ordinal)) => (name, Some(ordinal.parse().map_err(|_| refuse())?)),
            None => (text, None),
        };
        match (name, ordinal) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", ordinal) => Ok(Self::Cuda(ordinal.unwrap_or(0))),
            ("metal", ordinal) => Ok(Self::Metal(ordinal.unwrap_or(0))),
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod parsing {
    use super::Device;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("metal", Device::Metal(0)),
            ("metal:1", Device::Metal(1)),
        ] {
            assert_eq!(text.parse::<Device>().unwrap(), device);
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda:0".parse::<Device>().unwrap(), Device::Cuda(0));
        for bad in [
            "", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "CUDA", "cuda:1:2",
        ] {
            assert!(
                bad.parse::<Device>().unwrap_err().is_invalid_input(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_device_without_its_feature_is_refused_by_that_features_name() {
        assert!(Device::Cpu.check_feature().is_ok());
        for (device, is_there) in [
            (Device::Cuda(1), cfg!(feature = "cuda")),
            (Device::Metal(0), cfg!(feature = "metal")),
        ] {
            let refused = device.check_feature().err();
            assert_eq!(refused.is_none(), is_there);
            if let Some(error) = refused {
                assert!(error.is_unsupported());
                assert!(error.to_string().contains(&format!("`{}`", device.kind())));
            }
        }
    }
}
