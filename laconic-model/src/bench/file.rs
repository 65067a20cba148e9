//! Random networks as GGUF files: how soon a checkpoint of some shape is ready, without one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rayon::ThreadPoolBuilder;

use super::{MAX_TOKENS, RandomModel, Shape, random};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::folder::Fingerprint;
use crate::gguf::{self, Plan, TensorType};
use crate::network::Network;
use crate::options::WeightFormat;
use crate::quantize::FileFormat;
use crate::weights::manifest;

/// Writes a random network as a GGUF file; `progress` is called with the share that is done.
///
/// # Errors
/// If the file cannot be written.
pub fn write_random(
    shape: Shape,
    format: FileFormat,
    seed: u32,
    path: &Path,
    progress: impl Fn(u64, u64),
) -> Result<(), Error> {
    let config = shape.config()?;
    let kind_of =
        |inputs: Option<usize>| inputs.map_or(TensorType::F32, |inputs| format.tensor_type(inputs));
    let plan = Plan::new(&config, "random", None, None, |tensor| {
        kind_of(tensor.inputs())
    });
    let describe = |source| Error::io("writing", path, source);
    let file = BufWriter::new(File::create(path).map_err(describe)?);
    let mut writer = gguf::write(&plan, file).map_err(describe)?;
    let tensors = manifest(&config);
    for (idx, tensor) in (1_u64..).zip(&tensors) {
        let values = random(tensor, (u64::from(seed) << 32) + idx);
        writer.tensor(tensor, &values).map_err(describe)?;
        progress(idx, tensors.len() as u64);
    }
    writer.finish().flush().map_err(describe)
}

impl RandomModel {
    /// Loads such a file, as an encoder does but for the tokenizer; and tells how long it took.
    ///
    /// # Errors
    /// If the file cannot be read or the threads cannot be started.
    pub fn load(
        path: &Path,
        format: WeightFormat,
        n_threads: usize,
    ) -> Result<(Self, Duration), Error> {
        let threads = ThreadPoolBuilder::new().num_threads(n_threads).build();
        let threads = threads.map_err(|source| {
            Error::unsupported(format!("starting {n_threads} threads: {source}"))
                .with_source(source)
        })?;
        let start = Instant::now();
        let (config, network) = threads.install(|| {
            let mut fingerprint = Fingerprint::new();
            let checkpoint = Checkpoint::open(path)?;
            let layout = checkpoint.layout()?;
            let family = checkpoint.family(&layout, &mut fingerprint)?;
            let format = checkpoint.format(format);
            let mut weights = checkpoint.weights(&layout, &family, format, &mut fingerprint)?;
            let network = Network::new(&family, &mut weights, MAX_TOKENS)?;
            Ok::<_, Error>((family.into_llama("measuring")?, network))
        })?;
        let model = Self {
            config,
            network,
            threads,
        };
        Ok((model, start.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timings::Timings;

    #[test]
    fn a_random_file_is_the_random_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        write_random(Shape::Tiny, FileFormat::Q8_0, 3, &path, |_, _| {}).unwrap();
        let (loaded, _) = RandomModel::load(&path, WeightFormat::Stored, 2).unwrap();
        let made = RandomModel::new(Shape::Tiny, WeightFormat::Q8_0, 3, 1).unwrap();
        let encode = |model: &RandomModel| {
            model
                .encode(&[&[1, 2, 3, 2000]], None, &mut Timings::default())
                .unwrap()
        };
        let ids = |weights: &[(u32, f32)]| {
            weights
                .iter()
                .map(|(id, _)| *id)
                .take(99)
                .collect::<Vec<_>>()
        };
        let (loaded, made) = (encode(&loaded), encode(&made));
        // Rope factors instead of rope scaling: the last bits differ.
        assert_eq!(ids(&loaded[0])[..9], ids(&made[0])[..9]);
        assert!((loaded[0][0].1 - made[0][0].1).abs() < 1e-2);
    }
}
