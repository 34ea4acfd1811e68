//! A file of the run folder that grows while the run trains.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::folder::{RunFolderError, is_at};
use crate::fs::atomic_file;

/// A file, open for appending.
#[derive(Debug)]
pub(super) struct GrowingFile {
    path: PathBuf,
    file: File,
}

impl GrowingFile {
    /// Opens a file that is there.
    pub fn open(path: &Path) -> Result<Self, RunFolderError> {
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(|source| RunFolderError::Io { action: "open", path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends all of `bytes`, in one write: what is killed leaves no more than one part torn.
    pub fn append(&mut self, bytes: io::Result<Vec<u8>>) -> Result<(), RunFolderError> {
        bytes.and_then(|bytes| self.file.write_all(&bytes)).map_err(|source| self.failed("write", source))
    }

    /// Waits until all is on the disk.
    pub fn sync(&self) -> Result<(), RunFolderError> {
        self.file.sync_data().map_err(|source| self.failed("sync", source))
    }

    /// Whether the file is still at its path, not removed nor replaced.
    pub fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Writes the file again, with its content so far, where it has been removed.
    pub fn put_back(&mut self) -> Result<(), RunFolderError> {
        let Self { path, file } = self;
        let copied = file.rewind().and_then(|()| atomic_file::write_file(path, |out| io::copy(file, out).map(drop)));
        copied.map_err(|source| self.failed("write", source))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> RunFolderError {
        RunFolderError::Io { action, path: self.path.clone(), source }
    }
}
