//! States of a run on disk, from which it goes on bit for bit.
//!
//! `step-00000042/` holds `weights.safetensors` (weights under training and their moments, f32)
//! and `state.json`. A state is written beside its final name and renamed when it is whole and on
//! disk, so a folder of that name is a state that can be gone on from, whenever the run was
//! killed. What is random depends on the seed and the step alone, so nothing of it is stored.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::adamw::AdamW;
use super::base::{StoredAs, write_tensors};
use super::recipe::Recipe;
use crate::error::Error;

const WEIGHTS: &str = "weights.safetensors";
const STATE: &str = "state.json";
const VERSION: u32 = 1;
/// States left on disk: one more than is needed.
const KEPT: usize = 2;

/// What a state belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Provenance {
    pub(super) recipe: Recipe,
    /// Fingerprint of the checkpoint that training started from.
    pub(super) model: String,
    /// Fingerprint of the examples.
    pub(super) examples: String,
}

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// Steps done.
    step: usize,
    /// Hash of the weights' file.
    weights: String,
    #[serde(flatten)]
    provenance: Provenance,
}

/// Writes the state after `step` steps into `dir`, and removes older ones.
pub(super) fn save(
    dir: &Path,
    step: usize,
    provenance: &Provenance,
    adamw: &AdamW,
) -> Result<(), Error> {
    let path = dir.join(format!("step-{step:08}"));
    if path.exists() {
        return Ok(());
    }
    let partial = dir.join(".partial");
    match fs::remove_dir_all(&partial) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(Error::io("clearing", &partial, source));
        }
        _ => {}
    }
    fs::create_dir_all(&partial).map_err(|source| Error::io("creating", &partial, source))?;
    let tensors = adamw.slots.iter().flat_map(|slot| {
        [
            (
                format!("weight/{}", slot.name),
                slot.weight.as_detached_tensor(),
            ),
            (
                format!("mean/{}", slot.name),
                slot.mean.as_detached_tensor(),
            ),
            (
                format!("square/{}", slot.name),
                slot.square.as_detached_tensor(),
            ),
        ]
    });
    let weights = partial.join(WEIGHTS);
    write_tensors(&weights, tensors.collect(), StoredAs::F32)?;
    let state = State {
        version: VERSION,
        step,
        weights: hash_of(&weights)?,
        provenance: provenance.clone(),
    };
    let json = serde_json::to_vec_pretty(&state)
        .map_err(|source| Error::training(format!("writing {STATE}: {source}")))?;
    let write = || {
        let file = partial.join(STATE);
        fs::write(&file, json)?;
        fs::File::open(&file)?.sync_all()?;
        fs::rename(&partial, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| Error::io("writing", &path, source))?;
    for old in states(dir)?.iter().rev().skip(KEPT) {
        // What cannot be removed is only in the way.
        let _ = fs::remove_dir_all(&old.1);
    }
    Ok(())
}

/// Takes up the newest state of `dir`: weights and moments are set, steps done returned. `None`
/// if there is none.
///
/// # Errors
///
/// If it is of another recipe, checkpoint or set of examples, or damaged.
pub(super) fn restore(
    dir: &Path,
    provenance: &Provenance,
    adamw: &AdamW,
) -> Result<Option<usize>, Error> {
    let Some((_, path)) = states(dir)?.pop() else {
        return Ok(None);
    };
    let damaged = |why: String| {
        Error::corrupt(format!(
            "taking up {}: {why}; remove it to go on from the state before",
            path.display()
        ))
    };
    let file = path.join(STATE);
    let json = fs::read(&file).map_err(|source| Error::io("reading", &file, source))?;
    let state: State =
        serde_json::from_slice(&json).map_err(|error| damaged(format!("{STATE}: {error}")))?;
    if state.version != VERSION {
        return Err(damaged(format!(
            "it has version {}, not {VERSION}",
            state.version
        )));
    }
    check(&state.provenance, provenance, &path)?;
    let weights = path.join(WEIGHTS);
    if hash_of(&weights)? != state.weights {
        return Err(damaged(format!("{WEIGHTS} is not what was written")));
    }
    let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu)?;
    let mut all = Vec::new();
    for slot in &adamw.slots {
        for (kind, var) in [
            ("weight", &slot.weight),
            ("mean", &slot.mean),
            ("square", &slot.square),
        ] {
            let name = format!("{kind}/{}", slot.name);
            let tensor = take(&mut tensors, &name, var.as_tensor())
                .ok_or_else(|| damaged(format!("{WEIGHTS} has no {name} of the right shape")))?;
            all.push((var, tensor));
        }
    }
    for (var, tensor) in all {
        var.set(&tensor.to_device(var.device())?)?;
    }
    Ok(Some(state.step))
}

fn take(tensors: &mut HashMap<String, Tensor>, name: &str, like: &Tensor) -> Option<Tensor> {
    let tensor = tensors.remove(name)?;
    (tensor.dims() == like.dims() && tensor.dtype() == DType::F32).then_some(tensor)
}

fn check(found: &Provenance, wanted: &Provenance, path: &Path) -> Result<(), Error> {
    let differs = if found.model != wanted.model {
        "the checkpoint it started from"
    } else if found.examples != wanted.examples {
        "the examples"
    } else if found.recipe != wanted.recipe {
        "the recipe"
    } else {
        return Ok(());
    };
    Err(Error::invalid_input(format!(
        "taking up {}: {differs} changed since; go on with what the run began with, or choose \
         another folder",
        path.display()
    )))
}

/// Whole states, oldest first.
fn states(dir: &Path) -> Result<Vec<(usize, PathBuf)>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::io("listing", dir, source))?,
    };
    let mut states = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("listing", dir, source))?;
        let name = entry.file_name();
        let step = name
            .to_str()
            .and_then(|name| name.strip_prefix("step-")?.parse().ok());
        states.extend(step.map(|step| (step, entry.path())));
    }
    states.sort();
    Ok(states)
}

fn hash_of(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| Error::io("reading", path, source))?;
    Ok(format!("{:032x}", xxh3_128(&bytes)))
}
