//! `pytorch_model.bin`: what `torch.save` makes of a dictionary of tensors.
//!
//! A pickle says which tensor is which part of which storage; the storages lie beside it, in a zip archive or, as before
//! PyTorch 1.6, one after the other behind the pickle. The pickle is read and not run ([`crate::data::pickle`]): of the
//! functions that it may name, those that make tensors, everything else is refused.

mod legacy;
mod state;
mod storages;
mod zipped;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};
use super::numbers::Number;
use super::source::TensorSource;
use state::StoredTensor;
use storages::Place;

/// The weights in one file.
pub(crate) const PYTORCH_FILE: &str = "pytorch_model.bin";
/// What lists the files of weights that are split.
pub(crate) const PYTORCH_INDEX: &str = "pytorch_model.bin.index.json";

/// An open file whose tensors have been checked to lie within their storages, and those within the file.
#[derive(Debug)]
pub(super) struct PyTorchFile {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, StoredTensor>,
    storages: BTreeMap<String, Place>,
    /// Storages whose checksum was compared.
    verified: BTreeSet<String>,
}

impl PyTorchFile {
    /// Opens a file and reads its pickle. No tensor is read.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; [`CheckpointError::Weights`] for anything but a sound file of tensors.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
        let mut start = [0; 4];
        let length = file.read(&mut start).map_err(CheckpointError::io("read", path))?;

        let problem = |problem: String| CheckpointError::Weights { path: path.to_owned(), problem };
        let (tensors, storages) = match &start[..length] {
            b"PK\x03\x04" => zipped::open(&file),
            [0x80, ..] => legacy::open(&mut file),
            [] => Err("it is empty; download it again".into()),
            _ => Err(
                "it is neither of PyTorch's formats (a zip archive, or a pickle); download it again, or save it again \
                      with torch.save(model.state_dict(), \"pytorch_model.bin\")"
                    .into(),
            ),
        }
        .map_err(problem)?;

        for (name, tensor) in &tensors {
            let place = storages.get(&tensor.storage);
            let place =
                place.ok_or_else(|| problem(format!("the storage of tensor {name} is missing; it is truncated")))?;
            tensor.check(place).map_err(|why| problem(format!("tensor {name} {why}; the file is damaged")))?;
        }
        Ok(Self { path: path.to_owned(), file, tensors, storages, verified: BTreeSet::new() })
    }

    /// Compares a storage with its checksum, once, where it has one.
    fn verify(&mut self, storage: &str, place: Place) -> Result<()> {
        if self.verified.contains(storage) {
            return Ok(());
        }
        let sound = place.is_sound(&mut self.file).map_err(CheckpointError::io("read", &self.path))?;
        if !sound {
            let problem =
                format!("storage {storage} does not have its checksum; the file is damaged, download it again");
            return Err(CheckpointError::Weights { path: self.path.clone(), problem });
        }
        self.verified.insert(storage.to_owned());
        Ok(())
    }
}

impl TensorSource for PyTorchFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        let missing = || CheckpointError::MissingTensor { path: self.path.clone(), name: name.to_owned() };
        let tensor = self.tensors.get(name).cloned().ok_or_else(missing)?;
        let place = self.storages.get(&tensor.storage).copied().ok_or_else(missing)?;
        if let Number::Other(size) = tensor.number {
            let dtype = format!("integer of {size} bytes");
            return Err(CheckpointError::WrongType { path: self.path.clone(), name: name.to_owned(), dtype });
        }

        // The part of the storage from the tensor's first value to its last, then the values in their order.
        self.verify(&tensor.storage, place)?;
        let span = tensor.span();
        let start = place.start + (tensor.offset * tensor.number.size()) as u64;
        let values = tensor.number.read(&mut self.file, start, span, |_| {});
        let values = tensor.gather(values.map_err(CheckpointError::io("read", &self.path))?);
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(CheckpointError::NotFinite { path: self.path.clone(), name: name.to_owned() })
        }
    }
}
