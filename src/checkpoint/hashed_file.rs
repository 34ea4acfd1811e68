//! A file that is hashed on the side while it is read: verified, and still read only once.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{CheckpointError, Result};
use crate::data::hex;

/// Bytes hashed at once where nobody else reads them.
const CHUNK: usize = 1 << 20;

/// What a file should be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// The file that says so, in the same folder.
    pub list: &'static str,
    /// What to do where it is another.
    pub remedy: &'static str,
}

/// An open file. Reads from front to back feed the hash; a gap between two of them is read for the hash alone.
#[derive(Debug)]
pub(super) struct HashedFile {
    path: PathBuf,
    file: File,
    length: u64,
    /// Taken once it has been compared.
    expected: Option<Expected>,
    hash: Sha256,
    /// Bytes from the front that the hash has seen.
    hashed: u64,
}

impl HashedFile {
    /// Opens a file; without `expected` nothing is hashed.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn open(path: &Path, expected: Option<Expected>) -> Result<Self> {
        let file = File::open(path).map_err(CheckpointError::io("open", path))?;
        let length = file.metadata().map_err(CheckpointError::io("read", path))?.len();
        Ok(Self { path: path.to_owned(), file, length, expected, hash: Sha256::new(), hashed: 0 })
    }

    /// Bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `bytes` from `offset` on.
    pub fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        if self.expected.is_some() {
            self.hash_up_to(offset)?;
        }
        self.peek_at(offset, bytes)?;

        // Those that the hash has not seen: all, or the rest of a part that is read again.
        let end = offset + bytes.len() as u64;
        if self.expected.is_some() && end > self.hashed {
            self.hash.update(bytes.get((self.hashed - offset) as usize..).unwrap_or_default());
            self.hashed = end;
        }
        Ok(())
    }

    /// [`Self::read_at`] beside the hash.
    pub fn peek_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(bytes)
    }

    /// Hashes what is left of the file and compares.
    ///
    /// # Errors
    /// [`CheckpointError::Torn`] for another file than expected; [`CheckpointError::Io`].
    pub fn verify(&mut self) -> Result<()> {
        let Some(expected) = self.expected.clone() else { return Ok(()) };
        self.hash_up_to(u64::MAX).map_err(CheckpointError::io("read", &self.path))?;

        if hex(&std::mem::take(&mut self.hash).finalize()) != expected.sha256 {
            let Expected { list, remedy, .. } = expected;
            return Err(CheckpointError::Torn { path: self.path.clone(), list, remedy });
        }
        self.expected = None;
        Ok(())
    }

    /// Hashes the bytes before `end`, or all that there are.
    fn hash_up_to(&mut self, end: u64) -> io::Result<()> {
        if self.hashed >= end {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(self.hashed))?;
        let mut buffer = vec![0; CHUNK.min(usize::try_from(end - self.hashed).unwrap_or(CHUNK))];

        while self.hashed < end {
            let count = buffer.len().min(usize::try_from(end - self.hashed).unwrap_or(CHUNK));
            match self.file.read(&mut buffer[..count])? {
                0 => break,
                count => {
                    self.hash.update(&buffer[..count]);
                    self.hashed += count as u64;
                }
            }
        }
        Ok(())
    }
}
