//! SHA-256 and MD5 of files.

use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::regular;
use crate::data::error::{DataError, Result};

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    digest::<Sha256>(path, |_| {})
}

/// A hash as its publisher gave it, in hex. MD5 tells damaged downloads, which is what it is used for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedHash {
    /// SHA-256.
    Sha256(&'static str),
    /// MD5.
    Md5(&'static str),
}

impl PublishedHash {
    /// What it is, for people.
    pub fn name(self) -> &'static str {
        match self {
            PublishedHash::Sha256(_) => "SHA-256",
            PublishedHash::Md5(_) => "MD5",
        }
    }

    /// Whether a file has it. `read` is told the bytes of each piece read, for a progress bar.
    ///
    /// # Errors
    /// [`DataError::Read`].
    pub fn is_of(self, path: &Path, read: impl FnMut(u64)) -> Result<bool> {
        Ok(match self {
            PublishedHash::Sha256(hash) => digest::<Sha256>(path, read)? == hash,
            PublishedHash::Md5(hash) => digest::<Md5>(path, read)? == hash,
        })
    }
}

fn digest<D: Digest>(path: &Path, mut read: impl FnMut(u64)) -> Result<String> {
    let mut file = regular::open(path).map_err(DataError::read(path))?;
    let mut hash = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(DataError::read(path))? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
        read(buffer.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_hashes_of_abc() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // RFC 1321, A.5, and FIPS 180-2, B.1.
        let md5 = PublishedHash::Md5("900150983cd24fb0d6963f7d28e17f72");
        let sha256 = PublishedHash::Sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for hash in [md5, sha256] {
            std::fs::write(&path, "abc").unwrap();
            assert!(hash.is_of(&path, |_| {}).unwrap(), "{hash:?}");
            std::fs::write(&path, "abd").unwrap();
            assert!(!hash.is_of(&path, |_| {}).unwrap(), "{hash:?}");
        }
    }
}
