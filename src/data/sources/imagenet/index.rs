//! Where the images of a tar lie, kept in a file beside it.
//!
//! `NAME.tar.index`, little-endian: 8 bytes `IGPTTAR1`; u64 length of the tar; u64 seconds and u32 nanoseconds of its
//! modification; u32 classes, each a u16 length and a name; u64 images, each u64 offset, u32 length, u16 class; SHA-256 of
//! everything before. It only saves time: an index of another tar is made anew, a damaged one is an error, and a folder that
//! cannot be written to goes without.

use std::io::{Read as _, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use byteorder::{LittleEndian, ReadBytesExt as _, WriteBytesExt as _};
use sha2::{Digest, Sha256};

use crate::data::error::{DataError, Result};
use crate::data::files::regular;
use crate::fs::Output;

const MAGIC: &[u8] = b"IGPTTAR1";
const HASH: usize = 32;
/// Bytes of an image's entry.
const ENTRY: usize = 14;

/// An image in a tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    /// First byte, from the start of the outermost tar.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u32,
    /// Label; 0 in a tar without classes.
    pub(super) class: u16,
}

impl Located {
    pub(super) fn range(self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.length as usize
    }
}

/// The images of a tar, ordered by class and name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Names of the classes, sorted; empty for a tar of images alone.
    pub(super) classes: Vec<String>,
    pub(super) images: Vec<Located>,
}

impl Index {
    fn path(tar: &Path) -> PathBuf {
        let mut name = tar.as_os_str().to_owned();
        name.push(".index");
        name.into()
    }

    /// The index of a tar of `length` bytes, if one that fits it was written before.
    ///
    /// # Errors
    /// [`DataError::Cache`] for a file that is not as it was written.
    pub(super) fn load(tar: &Path, length: u64) -> Result<Option<Self>> {
        let path = Self::path(tar);
        let mut file = Vec::new();
        let read = regular::open(&path).and_then(|mut index| index.read_to_end(&mut file));
        if read.is_err() {
            return Ok(None);
        }
        let (body, hash) = file.split_at(file.len().saturating_sub(HASH));
        if !body.starts_with(MAGIC) || Sha256::digest(body)[..] != *hash {
            let problem = "it is damaged (its SHA-256 is not the one at its end), or no index of a tar".into();
            return Err(DataError::Cache { path, problem });
        }
        Ok(Self::decode(body, tar, length))
    }

    /// What an undamaged file says, if it says it of this tar.
    fn decode(body: &[u8], tar: &Path, length: u64) -> Option<Self> {
        let mut rest = body.strip_prefix(&*Self::preamble(tar, length)?)?;

        // Classes.
        let mut classes = Vec::new();
        for _ in 0..rest.read_u32::<LittleEndian>().ok()? {
            let length = usize::from(rest.read_u16::<LittleEndian>().ok()?);
            let (name, after) = rest.split_at_checked(length)?;
            classes.push(String::from_utf8(name.to_vec()).ok()?);
            rest = after;
        }

        // Images: each must lie inside the tar and be of a known class.
        let count = usize::try_from(rest.read_u64::<LittleEndian>().ok()?).ok()?;
        if count == 0 || count.checked_mul(ENTRY)? != rest.len() {
            return None;
        }
        let image = |mut entry: &[u8]| {
            let (offset, bytes) = (entry.read_u64::<LittleEndian>().ok()?, entry.read_u32::<LittleEndian>().ok()?);
            let class = entry.read_u16::<LittleEndian>().ok()?;
            let inside = offset.checked_add(bytes.into())? <= length;
            let known = usize::from(class) < classes.len().max(1);
            (inside && known).then_some(Located { offset, length: bytes, class })
        };
        let images = rest.chunks_exact(ENTRY).map(image).collect::<Option<_>>()?;
        Some(Index { classes, images })
    }

    /// Writes the index beside the tar, if that can be.
    pub(super) fn save(&self, tar: &Path, length: u64) {
        if let Some(bytes) = self.bytes(tar, length) {
            let written = Output::open(&Self::path(tar)).map(|mut file| file.write_all(&bytes).is_ok().then_some(file));
            let _ = written.map(|file| file.map(Output::commit));
        }
    }

    fn bytes(&self, tar: &Path, length: u64) -> Option<Vec<u8>> {
        let mut bytes = Self::preamble(tar, length)?;
        bytes.write_u32::<LittleEndian>(self.classes.len() as u32).ok()?;
        for class in &self.classes {
            bytes.write_u16::<LittleEndian>(u16::try_from(class.len()).ok()?).ok()?;
            bytes.extend_from_slice(class.as_bytes());
        }
        bytes.write_u64::<LittleEndian>(self.images.len() as u64).ok()?;
        for image in &self.images {
            bytes.write_u64::<LittleEndian>(image.offset).ok()?;
            bytes.write_u32::<LittleEndian>(image.length).ok()?;
            bytes.write_u16::<LittleEndian>(image.class).ok()?;
        }
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        Some(bytes)
    }

    /// What identifies the tar: another one, or a changed one, has another preamble.
    fn preamble(tar: &Path, length: u64) -> Option<Vec<u8>> {
        let modified = std::fs::metadata(tar).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let mut bytes = MAGIC.to_vec();
        bytes.write_u64::<LittleEndian>(length).ok()?;
        bytes.write_u64::<LittleEndian>(modified.as_secs()).ok()?;
        bytes.write_u32::<LittleEndian>(modified.subsec_nanos()).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_only_whole_and_for_its_own_tar() {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("a.tar");
        std::fs::write(&tar, [0; 4096]).unwrap();
        let index = Index {
            classes: vec!["n01".into(), "n02".into()],
            images: vec![
                Located { offset: 512, length: 100, class: 0 },
                Located { offset: 1536, length: 2560, class: 1 },
            ],
        };
        assert_eq!(Index::load(&tar, 4096).unwrap(), None);

        index.save(&tar, 4096);
        assert_eq!(Index::load(&tar, 4096).unwrap().as_ref(), Some(&index));
        assert_eq!(Index::load(&tar, 4095).unwrap(), None);

        let path = Index::path(&tar);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Index::load(&tar, 4096), Err(DataError::Cache { .. })), "cut at {cut}");
            let mut altered = whole.clone();
            altered[cut] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            let error = Index::load(&tar, 4096).unwrap_err().to_string();
            assert!(error.contains("a.tar.index") && error.contains("damaged"), "altered at {cut}: {error}");
        }

        // Right hash, wrong contents: an image beyond the tar's end, an unknown class.
        for image in [Located { offset: 4000, length: 97, class: 0 }, Located { offset: 0, length: 1, class: 2 }] {
            Index { classes: index.classes.clone(), images: vec![image] }.save(&tar, 4096);
            assert_eq!(Index::load(&tar, 4096).unwrap(), None, "{image:?}");
        }

        // The tar was written again.
        index.save(&tar, 4096);
        let file = std::fs::File::options().write(true).open(&tar).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
        assert_eq!(Index::load(&tar, 4096).unwrap(), None);
    }
}
