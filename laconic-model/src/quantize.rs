//! A checkpoint written once as GGUF, in fewer bits.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::blocks::{BlockFormat, LARGEST};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::folder::Fingerprint;
use crate::gguf::{self, EXTENSION, Plan, TensorType};
use crate::options::{LoadOptions, WeightFormat};
use crate::parts::{TOKENIZER, tokenizer_bytes};
use crate::weights::Expected;

/// How matrices are written; vectors are f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFormat {
    /// 4 bytes a weight.
    F32,
    /// 2 bytes a weight, 11 bits of precision.
    F16,
    /// 2 bytes a weight, 8 bits of precision.
    Bf16,
    /// 1.06 bytes a weight.
    Q8_0,
    /// 0.82 bytes a weight.
    Q6K,
    /// 0.69 bytes a weight.
    Q5K,
    /// 0.56 bytes a weight.
    Q4K,
}

impl FileFormat {
    /// The type of a matrix: what an encoder would make of it that quantizes on load.
    pub(crate) fn tensor_type(self, inputs: usize) -> TensorType {
        let format = match self {
            Self::F32 => return TensorType::F32,
            Self::F16 => return TensorType::F16,
            Self::Bf16 => return TensorType::Bf16,
            Self::Q8_0 => WeightFormat::Q8_0,
            Self::Q6K => WeightFormat::Q6K,
            Self::Q5K => WeightFormat::Q5K,
            Self::Q4K => WeightFormat::Q4K,
        };
        match format.for_inputs(inputs) {
            WeightFormat::Q8_0 => TensorType::Blocks(BlockFormat::Q8_0),
            WeightFormat::Q6K => TensorType::Blocks(BlockFormat::Q6K),
            WeightFormat::Q5K => TensorType::Blocks(BlockFormat::Q5K),
            WeightFormat::Q4K => TensorType::Blocks(BlockFormat::Q4K),
            _ => TensorType::F32,
        }
    }
}

/// Writes the checkpoint at `source` (a folder or a GGUF file) as one GGUF file, which appears by
/// one rename when it is whole. Returns its path.
///
/// An encoder of the file computes what one of `source` does that [holds](LoadOptions::weights) its
/// weights in that format, bit for bit (asked for `Bf16` in the case of bf16, whose numbers are
/// computed with in f32 otherwise). A matrix whose inputs are no whole number of blocks takes
/// the next format that fits: Q8_0, then F32. The file carries `config.json` and `laconic.json`;
/// the tokenizer stays a file of its own, `tokenizer.json`.
///
/// `destination` is the name of the file, or a folder (one that exists, or a name without the
/// extension `gguf`): then the file is named for source and format, and `tokenizer.json` is put
/// beside it, that of the source or [`LoadOptions::tokenizer`].
///
/// `progress` is called with the weights written so far and with all there are. One tensor is in
/// memory at a time, as f32 and in its new form.
///
/// # Errors
///
/// As [`Encoder::load`](crate::Encoder::load); if a weight is too large for the scales of a format
/// (65,504); if the file cannot be written.
pub fn quantize(
    source: impl AsRef<Path>,
    destination: impl AsRef<Path>,
    format: FileFormat,
    options: &LoadOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<PathBuf, Error> {
    let checkpoint = Checkpoint::open(source.as_ref())?;
    let config = checkpoint.llama("quantizing")?;
    let target = target(destination.as_ref(), checkpoint.name(), format)?;
    if let Some(folder) = &target.folder {
        let tokenizer = tokenizer_bytes(checkpoint.folder(), options)?;
        fs::create_dir_all(folder).map_err(|source| Error::io("making", folder, source))?;
        write_whole(&folder.join(TOKENIZER), |out| out.write_all(&tokenizer))?;
    }
    let kind_of = |tensor: &Expected| {
        tensor
            .inputs()
            .map_or(TensorType::F32, |inputs| format.tensor_type(inputs))
    };
    let (config_json, knobs) = (checkpoint.config_json()?, checkpoint.knobs()?);
    let plan = Plan::new(
        &config,
        checkpoint.name(),
        config_json.as_deref(),
        knobs.as_deref(),
        kind_of,
    );
    let total = crate::weights::manifest(&config)
        .iter()
        .map(Expected::n_elements)
        .sum::<usize>();
    let mut n_done = 0;
    let path = &target.file;
    let describe = |source| Error::io("writing", path, source);
    write_file(path, |file| {
        let mut writer = gguf::write(&plan, BufWriter::new(file)).map_err(describe)?;
        let (network, mut unused) = (checkpoint.folder().clone(), Fingerprint::new());
        checkpoint.read_each(&network, &config, &mut unused, |tensor, values| {
            if !matches!(kind_of(tensor), TensorType::F32 | TensorType::Bf16) {
                check_range(tensor, &values)?;
            }
            writer.tensor(tensor, &values).map_err(describe)?;
            n_done += values.len();
            progress(n_done as u64, total as u64);
            Ok(())
        })?;
        writer.finish().flush().map_err(describe)
    })?;
    Ok(target.file)
}

struct Target {
    file: PathBuf,
    /// If a tokenizer shall lie beside it.
    folder: Option<PathBuf>,
}

fn target(destination: &Path, name: &str, format: FileFormat) -> Result<Target, Error> {
    let is_file = destination
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case(EXTENSION));
    if is_file && !destination.is_dir() {
        return Ok(Target {
            file: destination.to_owned(),
            folder: None,
        });
    }
    let format = match format {
        FileFormat::F32 => "f32",
        FileFormat::F16 => "f16",
        FileFormat::Bf16 => "bf16",
        FileFormat::Q8_0 => "q8_0",
        FileFormat::Q6K => "q6_k",
        FileFormat::Q5K => "q5_k",
        FileFormat::Q4K => "q4_k",
    };
    if destination.is_file() {
        return Err(Error::invalid_input(format!(
            "writing {}: it is a file whose name does not end in .{EXTENSION}; name another",
            destination.display()
        )));
    }
    // A hidden folder's file shall be seen.
    let name = name.trim_start_matches('.');
    Ok(Target {
        file: destination.join(format!("{name}-{format}.{EXTENSION}")),
        folder: Some(destination.to_owned()),
    })
}

fn check_range(tensor: &Expected, values: &[f32]) -> Result<(), Error> {
    match values.iter().find(|value| value.abs() > LARGEST) {
        None => Ok(()),
        Some(value) => Err(Error::unsupported(format!(
            "quantizing {}: it holds {value}, and numbers of 16 bits end at {LARGEST}; write f32 or \
             bf16",
            tensor.name
        ))),
    }
}

fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), Error> {
    write_file(path, |file| {
        fill(file).map_err(|source| Error::io("writing", path, source))
    })
}

/// Fills a file beside `path`, then gives it that name.
fn write_file(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), Error>) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let describe = |source| Error::io("writing", path, source);
    let written = File::create(&part).map_err(describe).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all().map_err(describe)?;
        fs::rename(&part, path).map_err(describe)
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
        return written;
    }
    // The rename lasts once the folder is written; where folders cannot be opened, it lasts anyhow.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}
