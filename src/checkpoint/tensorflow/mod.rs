//! OpenAI's own release: TensorFlow checkpoints `model.ckpt-N.index` and `.data-…`, with `kmeans_centers.npy`.
//!
//! Names and shapes are those of OpenAI's `model.py`. They become Hugging Face's, which are ours, as `transformers` converts
//! them: `sos` is one more row of the embedding; the projections `[heads, d / heads, d]` of queries, keys and values,
//! transposed, are columns of `c_attn`; the output projection is `[d, d]` as it is; there are no biases.

mod bundle;
mod names;
mod proto;
mod sstable;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};
use super::source::TensorSource;
use crate::data::Palette;
use crate::model::ModelConfig;
use bundle::{Bundle, with_suffix};
use names::{Mapped, Parts};

/// OpenAI's palette.
const PALETTE_FILE: &str = "kmeans_centers.npy";
/// Entries of a folder that are looked at.
const MAX_LISTED: usize = 1 << 14;

/// TensorFlow stores checksums so that one of data that holds checksums is none of them.
fn masked_crc(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The prefix of the checkpoint that a user means by `path`: the prefix itself (`model.ckpt-1000000`), one of its files, or a
/// folder, of which the checkpoint of the most steps is taken.
pub(super) fn prefix_of(path: &Path) -> Option<PathBuf> {
    let is_prefix = |prefix: &Path| with_suffix(prefix, ".index").is_file();
    if !path.is_dir() {
        let name = path.file_name()?.to_str()?;
        let ends = [".index", ".meta", ".data-"];
        let stem = ends.iter().find_map(|end| name.rfind(end).map(|at| &name[..at])).unwrap_or(name);
        let prefix = path.with_file_name(stem);
        return is_prefix(&prefix).then_some(prefix);
    }

    let names = std::fs::read_dir(path).ok()?.take(MAX_LISTED).flatten();
    let names = names.filter_map(|entry| entry.file_name().to_str().map(str::to_owned));
    let prefixes = names.filter_map(|name| {
        let prefix = name.strip_suffix(".index").filter(|prefix| prefix.contains(".ckpt"))?.to_owned();
        let steps: u64 = prefix.rsplit('-').next().and_then(|steps| steps.parse().ok()).unwrap_or(0);
        Some((steps, prefix))
    });
    prefixes.max().map(|(_, prefix)| path.join(prefix)).filter(|prefix| is_prefix(prefix))
}

/// The palette that lies beside a checkpoint, or in the folder above.
///
/// # Errors
/// [`CheckpointError::Data`] for one that cannot be read.
pub(super) fn palette_beside(prefix: &Path) -> Result<Option<Vec<[f32; 3]>>> {
    let folder = prefix.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folders = folder.into_iter().flat_map(|folder| [folder.to_owned(), folder.join("..")]);
    match folders.map(|folder| folder.join(PALETTE_FILE)).find(|path| path.is_file()) {
        Some(path) => Ok(Some(Palette::load(&path)?.colours().to_vec())),
        None => Ok(None),
    }
}

/// A checkpoint under Hugging Face's names.
#[derive(Debug)]
pub(super) struct TensorFlowCheckpoint {
    bundle: Bundle,
    config: ModelConfig,
    tensors: BTreeMap<String, Mapped>,
}

impl TensorFlowCheckpoint {
    /// Opens the checkpoint of a prefix: its variables must be those of an Image GPT.
    ///
    /// # Errors
    /// As [`Bundle::open`]; [`CheckpointError::Weights`] for variables of another model.
    pub(super) fn open(prefix: &Path) -> Result<Self> {
        let bundle = Bundle::open(prefix)?;
        let problem = |problem: String| CheckpointError::Weights { path: bundle.index().to_owned(), problem };
        let shapes: BTreeMap<&str, &[usize]> =
            bundle.names().filter_map(|name| Some((name, bundle.shape(name)?))).collect();
        let config = names::config(&shapes).map_err(problem)?;
        let tensors = names::mapping(&config, &shapes).map_err(problem)?;
        let path = bundle.index().to_owned();
        config.validate().map_err(|source| CheckpointError::Model { path, source })?;
        Ok(Self { bundle, config, tensors })
    }

    /// The model that the variables are of.
    pub(super) fn config(&self) -> &ModelConfig {
        &self.config
    }
}

impl TensorSource for TensorFlowCheckpoint {
    fn path(&self) -> &Path {
        self.bundle.index()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.bundle.files()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|mapped| mapped.shape.as_slice())
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        let missing = || CheckpointError::MissingTensor { path: self.bundle.index().to_owned(), name: name.to_owned() };
        match &self.tensors.get(name).ok_or_else(missing)?.parts {
            Parts::Rows(names) => {
                let mut values = Vec::new();
                for name in names {
                    values.extend(self.bundle.read(name)?);
                }
                Ok(values)
            }
            // [d, d] each, transposed and side by side: [d, 3d].
            Parts::Columns(names) => {
                let width = self.config.width;
                let mut values = vec![0.0; 3 * width * width];
                for (part, name) in names.iter().enumerate() {
                    for (at, value) in self.bundle.read(name)?.into_iter().enumerate() {
                        values[at % width * 3 * width + part * width + at / width] = value;
                    }
                }
                Ok(values)
            }
        }
    }
}
