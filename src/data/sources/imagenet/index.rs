//! Where the images of a tar lie, kept in a file beside it.
//!
//! `NAME.tar.index`, little-endian: 8 bytes `IGPTTAR1`; u64 length of the tar; u64 seconds and u32 nanoseconds of its
//! modification; u32 classes, each a u16 length and a name; u64 images, each u64 offset, u32 length, u16 class; SHA-256 of
//! everything before. It only saves time: whatever does not fit the tar is read anew, and a folder that cannot be written
//! to goes without.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use byteorder::{LittleEndian, ReadBytesExt as _, WriteBytesExt as _};
use sha2::{Digest, Sha256};

use crate::fs::atomic_file;

const MAGIC: &[u8] = b"IGPTTAR1";
const HASH: usize = 32;
/// Bytes of an image's entry.
const ENTRY: usize = 14;

/// An image in a mapped tar.
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
    pub(super) fn load(tar: &Path, length: u64) -> Option<Self> {
        let file = std::fs::read(Self::path(tar)).ok()?;
        let (body, hash) = file.split_at_checked(file.len().checked_sub(HASH)?)?;
        let mut rest = body.strip_prefix(&*Self::preamble(tar, length)?)?;
        if Sha256::digest(body)[..] != *hash {
            return None;
        }

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
            let _ = atomic_file::write_file(&Self::path(tar), |file| file.write_all(&bytes));
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
        assert_eq!(Index::load(&tar, 4096), None);

        index.save(&tar, 4096);
        assert_eq!(Index::load(&tar, 4096).as_ref(), Some(&index));
        assert_eq!(Index::load(&tar, 4095), None);

        let path = Index::path(&tar);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(Index::load(&tar, 4096), None, "cut at {cut}");
            let mut altered = whole.clone();
            altered[cut] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            assert_eq!(Index::load(&tar, 4096), None, "altered at {cut}");
        }

        // Right hash, wrong contents: an image beyond the tar's end, an unknown class.
        for image in [Located { offset: 4000, length: 97, class: 0 }, Located { offset: 0, length: 1, class: 2 }] {
            Index { classes: index.classes.clone(), images: vec![image] }.save(&tar, 4096);
            assert_eq!(Index::load(&tar, 4096), None, "{image:?}");
        }

        // The tar was written again.
        index.save(&tar, 4096);
        let file = std::fs::File::options().write(true).open(&tar).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
        assert_eq!(Index::load(&tar, 4096), None);
    }
}
