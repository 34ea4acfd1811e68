//! What every kind of weight file can do.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use super::error::Result;

/// Named tensors of one model, in one file or several, of whatever format. Opening one checks everything but the values;
/// [`super::weights`] knows the formats.
pub trait TensorSource: Debug {
    /// The file, or of several the one that lists them: what errors name.
    fn path(&self) -> &Path;

    /// The files that hold the tensors, in a fixed order.
    fn files(&self) -> Vec<PathBuf>;

    /// Names in alphabetical order.
    fn names(&self) -> Vec<String>;

    /// A tensor's dimensions, if it is there.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// Bytes that a tensor takes in its file, if it is there and the format tells.
    fn bytes(&self, name: &str) -> Option<u64> {
        let _ = name;
        None
    }

    /// Reads one tensor as f32, row-major; finite values only.
    ///
    /// # Errors
    /// [`super::CheckpointError::MissingTensor`], [`super::CheckpointError::WrongType`],
    /// [`super::CheckpointError::NotFinite`], [`super::CheckpointError::Io`].
    fn read(&mut self, name: &str) -> Result<Vec<f32>>;

    /// [`Self::read`] of a tensor that will be read again: its bytes are not hashed on the way, so that those before it
    /// need not be.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn peek(&mut self, name: &str) -> Result<Vec<f32>> {
        self.read(name)
    }

    /// Reads and hashes what was not read yet, and compares with the hash that the file was saved with, if that is known.
    ///
    /// # Errors
    /// [`super::CheckpointError::Torn`] for another file; [`super::CheckpointError::Io`].
    fn verify(&mut self) -> Result<()> {
        Ok(())
    }
}
