//! Import and export: one Hugging Face folder to another, tensor by tensor, without a device.

use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};
use super::huggingface::{ModelFile, expressible, load_config, write_config};
use super::tensors::TensorHeader;
use super::{MODEL_FILE, palette_of, write_hashed, write_palette};
use crate::fs::atomic_dir;
use crate::model::{ModelConfig, parameter_specs};

/// What an import or export did.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    /// The model as written.
    pub config: ModelConfig,
    /// Parameters written.
    pub parameters: usize,
    /// The source's tensors that were left out: zero biases, mask buffers.
    pub dropped: Vec<String>,
    /// Zero biases that were added.
    pub added: Vec<String>,
    /// Colours of the palette that went along.
    pub colours: Option<usize>,
    /// SHA-256 of the `model.safetensors` written.
    pub sha256: String,
}

/// Brings a Hugging Face ImageGPT folder into our form: f32, only what the model needs. Biases that are all zero, as in
/// the official models, are dropped unless `keep_biases`.
///
/// # Errors
/// As [`load_config`] and [`ModelFile::check`]; [`CheckpointError::Occupied`] and [`CheckpointError::NotACheckpoint`] for an
/// `out` that is not replaced; [`CheckpointError::Io`].
pub fn import(source: &Path, out: &Path, keep_biases: bool, force: bool) -> Result<Conversion> {
    let mut config = load_config(source)?;
    config.bias |= keep_biases;
    copy(source, out, config, force, false)
}

/// Writes the checkpoint `source` as a folder that Hugging Face's ImageGPT loads without a warning: only its keys, and biases
/// of zero where the model has none, unless `no_biases`. A model with biases keeps them; `no_biases` then is an error.
///
/// # Errors
/// [`CheckpointError::NotExpressible`], and as [`import`].
pub fn export(source: &Path, out: &Path, no_biases: bool, force: bool) -> Result<Conversion> {
    let mut config = load_config(source)?;
    expressible(&config)?;
    if no_biases && config.bias && ModelFile::open(source)?.has_bias()? {
        let problem = "its biases are not zero, so they cannot be left out; export without --no-biases".to_owned();
        return Err(CheckpointError::NotExpressible { problem });
    }
    config.bias = !no_biases;
    copy(source, out, config, force, true)
}

/// Writes the weights in `source` as those of `config`, with biases of zero where it has none.
fn copy(source: &Path, out: &Path, config: ModelConfig, force: bool, strict: bool) -> Result<Conversion> {
    check_replaceable(out, force)?;

    // What the file has, and what is written in place of biases that it does not have.
    let mut file = ModelFile::open(source)?;
    let specs = parameter_specs(&config);
    let biases: Vec<_> = specs.iter().map(|spec| &spec.name).filter(|name| name.ends_with(".bias")).cloned().collect();
    // All or none: a file that lacks only some of its biases is damaged.
    let added = if biases.iter().any(|name| file.has(name)) { Vec::new() } else { biases };
    let dropped = file.check_except(&config, &added)?;

    let palette = palette_of(source)?;
    let headers: Vec<TensorHeader> = specs.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
    let mut sha256 = String::new();
    atomic_dir::write_folder(out, |folder| {
        write_config(folder, &config, strict)?;
        sha256 = write_hashed(&folder.join(MODEL_FILE), &headers, |i| match specs.get(i) {
            Some(spec) if file.has(&spec.name) => file.read(&spec.name),
            Some(spec) => Ok(vec![0.0; spec.elements()]),
            None => Ok(Vec::new()),
        })?;
        write_palette(folder, palette.as_deref(), &config)
    })?;

    let colours = palette.map(|palette| palette.len());
    Ok(Conversion { parameters: config.parameter_count(), config, dropped, added, colours, sha256 })
}

/// Refuses to write where something is, unless `force` says so and what is there is a checkpoint: a mistyped `--out` must
/// not cost anybody another folder.
fn check_replaceable(out: &Path, force: bool) -> Result<()> {
    let occupied = CheckpointError::Occupied { path: PathBuf::from(out) };
    // Nothing there, or an empty folder: nothing is lost.
    let Ok(mut entries) = std::fs::read_dir(out) else {
        return if out.exists() { Err(occupied) } else { Ok(()) };
    };
    if entries.next().is_none() {
        return Ok(());
    }

    if !force {
        return Err(occupied);
    }
    if out.join(MODEL_FILE).is_file() {
        return Ok(());
    }
    let problem = "it holds other files, so --force does not replace it; choose another --out".to_owned();
    Err(CheckpointError::NotACheckpoint { path: out.to_owned(), problem })
}
