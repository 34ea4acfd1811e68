//! Import and export: one Hugging Face folder to another, tensor by tensor, without a device.

use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};
use super::huggingface::{ModelFile, expressible, load_config, write_config};
use super::manifest::write_manifest;
use super::sharded::write_sharded;
use super::tensors::TensorHeader;
use super::weights::WeightKind;
use super::weights::joint_hash;
use super::{palette_of, write_palette};
use crate::fs::atomic_dir;
use crate::model::{ModelConfig, TOKEN_HEAD, parameter_specs};
use crate::tape::ParameterSpec;

/// Bytes of a file of tensors that an export has at most unless told otherwise: transformers' own 5 GB.
pub const MAX_SHARD_SIZE: u64 = 5_000_000_000;

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
    /// SHA-256 of the `model.safetensors` written, of several files that of their hashes.
    pub sha256: String,
    /// The files of tensors written, each with its SHA-256.
    pub files: Vec<(String, String)>,
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
    copy(source, out, config, force, None)
}

/// Writes the checkpoint `source` as a folder that Hugging Face's ImageGPT loads without a warning: only its keys, and biases
/// of zero where the model has none, unless `no_biases`. A model with biases keeps them; `no_biases` then is an error.
///
/// # Errors
/// [`CheckpointError::NotExpressible`], and as [`import`].
pub fn export(source: &Path, out: &Path, no_biases: bool, force: bool) -> Result<Conversion> {
    export_sharded(source, out, no_biases, force, MAX_SHARD_SIZE)
}

/// [`export`] with weights in files of at most `max_shard_size` bytes, of [`MAX_SHARD_SIZE`] there.
///
/// # Errors
/// As [`export`].
pub fn export_sharded(
    source: &Path,
    out: &Path,
    no_biases: bool,
    force: bool,
    max_shard_size: u64,
) -> Result<Conversion> {
    let mut config = load_config(source)?;
    expressible(&config)?;
    if no_biases && config.bias && ModelFile::open(source)?.has_bias()? {
        let problem = "its biases are not zero, so they cannot be left out; export without --no-biases".to_owned();
        return Err(CheckpointError::NotExpressible { problem });
    }
    config.bias = !no_biases;
    copy(source, out, config, force, Some(max_shard_size))
}

/// Writes the weights in `source` as those of `config`, with biases of zero where it has none: for Hugging Face in files of at
/// most `shards` bytes, for us in one.
fn copy(source: &Path, out: &Path, config: ModelConfig, force: bool, shards: Option<u64>) -> Result<Conversion> {
    check_replaceable(out, force)?;

    // What the file has, and what is written in place of biases that it does not have.
    let mut file = ModelFile::open(source)?;
    let mut specs = parameter_specs(&config);
    // A classifier or a bare model stays one.
    specs.retain(|spec| spec.name != TOKEN_HEAD || file.has(TOKEN_HEAD));
    let biases: Vec<_> = specs.iter().map(|spec| &spec.name).filter(|name| name.ends_with(".bias")).cloned().collect();
    // All or none: a file that lacks only some of its biases is damaged.
    let added = if biases.iter().any(|name| file.has(name)) { Vec::new() } else { biases };

    let palette = palette_of(source)?;
    let headers: Vec<TensorHeader> = specs.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
    let (mut files, mut dropped) = (Vec::new(), Vec::new());
    atomic_dir::write_folder(out, |folder| {
        let headless = !file.has(TOKEN_HEAD) && config.classes.is_empty();
        write_config(folder, &config, shards.is_some(), headless)?;
        files = file.verified(|file| {
            dropped = file.check_except(&config, &added)?;
            write_sharded(folder, &headers, shards.unwrap_or(u64::MAX), |i| match specs.get(i) {
                Some(spec) if file.has(&spec.name) => file.read(&spec.name),
                Some(spec) => Ok(vec![0.0; spec.elements()]),
                None => Ok(Vec::new()),
            })
        })?;
        write_palette(folder, palette.as_deref(), &config)?;
        write_manifest(folder, None, &files)
    })?;

    let sha256 = joint_hash(files.iter().map(|(_, hash)| hash.as_str()));
    let parameters = specs.iter().map(ParameterSpec::elements).sum();
    let colours = palette.map(|palette| palette.len());
    Ok(Conversion { parameters, config, dropped, added, colours, sha256, files })
}

/// Refuses to write where something is, unless `force` says so and what is there is a checkpoint: a mistyped `--out` must
/// not cost anybody another folder.
fn check_replaceable(out: &Path, force: bool) -> Result<()> {
    atomic_dir::check_replaceable(out)?;
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
    if WeightKind::of(out).is_some() {
        return Ok(());
    }
    let problem = "it holds other files, so --force does not replace it; choose another --out".to_owned();
    Err(CheckpointError::NotACheckpoint { path: out.to_owned(), problem })
}
