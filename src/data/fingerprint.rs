//! What a data set held when it was opened: enough to notice that it has changed since.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{DataError, Result};
use super::files::hash::hex;

/// What tells an image apart from another one in its place.
pub enum Stamp {
    /// A file that is not read for it.
    File {
        /// Its name within the data set, as bytes.
        name: Vec<u8>,
        /// Its size.
        bytes: u64,
        /// When it was last written, nanoseconds since 1970; 0 where the file system does not say.
        modified: u64,
    },
    /// SHA-256 of the contents themselves.
    Contents([u8; 32]),
}

/// A data set in three values. Two that are equal in `contents` are the same images with the same labels, as far as names,
/// sizes and labels tell of files in folders; of all other data the pixels or tokens themselves are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Images or sequences.
    pub count: u64,
    /// SHA-256 of every example's name, size or contents, and label, in order.
    pub contents: String,
    /// SHA-256 of the times of the files, in order: a file that was written anew under its name and in its size changes
    /// this alone, and so does a copy of the data set.
    pub times: String,
}

/// Examples whose stamps are taken between two looks at the hash.
const CHUNK: usize = 1 << 14;

impl Fingerprint {
    /// Of `count` examples; `stamp` gives the stamp and the label of each.
    ///
    /// # Errors
    /// The first of `stamp`.
    pub fn of(count: usize, stamp: impl Fn(usize) -> Result<(Stamp, Option<u16>)> + Sync) -> Result<Self> {
        let (mut contents, mut times) = (Sha256::new(), Sha256::new());
        for first in (0..count).step_by(CHUNK) {
            let part = first..count.min(first + CHUNK);
            let stamps: Vec<_> = part.into_par_iter().map(&stamp).collect::<Result<_>>()?;

            for (stamp, label) in stamps {
                match stamp {
                    Stamp::File { name, bytes, modified } => {
                        contents.update((name.len() as u64).to_le_bytes());
                        contents.update(&name);
                        contents.update(bytes.to_le_bytes());
                        times.update(modified.to_le_bytes());
                    }
                    Stamp::Contents(hash) => contents.update(hash),
                }
                // No label is 2^16, which no label is.
                contents.update(label.map_or(1 << 16, u32::from).to_le_bytes());
            }
        }
        Ok(Self { count: count as u64, contents: hex(&contents.finalize()), times: hex(&times.finalize()) })
    }
}

impl Stamp {
    /// Of contents.
    pub fn of(contents: &[u8]) -> Self {
        Stamp::Contents(Sha256::digest(contents).into())
    }

    /// Of a file, under its `name` within the data set. Links are followed.
    ///
    /// # Errors
    /// [`DataError::Read`].
    pub fn of_file(path: &std::path::Path, name: &[u8]) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(DataError::read(path))?;
        let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).ok();
        let modified = metadata.modified().ok().and_then(since).map_or(0, |time| time.as_nanos() as u64);
        Ok(Stamp::File { name: name.to_vec(), bytes: metadata.len(), modified })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one-byte contents with labels.
    fn of(contents: &[u8], labels: &[u16]) -> Fingerprint {
        let stamp = |index: usize| Ok((Stamp::of(&contents[index..=index]), labels.get(index).copied()));
        Fingerprint::of(contents.len(), stamp).unwrap()
    }

    #[test]
    fn contents_order_labels_and_count_are_in_it() {
        let whole = of(b"abc", &[0, 1, 0]);
        assert_eq!(whole, of(b"abc", &[0, 1, 0]));
        for (contents, labels) in [
            (&b"abd"[..], &[0, 1, 0][..]),
            (b"acb", &[0, 1, 0]),
            (b"abc", &[0, 1, 1]),
            (b"abc", &[0, 1]),
            (b"ab", &[0, 1]),
            (b"abc", &[]),
        ] {
            assert_ne!(whole.contents, of(contents, labels).contents, "{contents:?} {labels:?}");
        }
    }

    #[test]
    fn a_file_of_another_size_or_name_is_other_contents_and_a_rewritten_one_another_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let of = |name: &str| Fingerprint::of(1, |_| Ok((Stamp::of_file(&path, name.as_bytes())?, None))).unwrap();
        std::fs::write(&path, "abc").unwrap();
        let first = of("a.png");
        assert_ne!(first.contents, of("b.png").contents);

        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
        let rewritten = of("a.png");
        assert_eq!((&first.contents, first.count), (&rewritten.contents, rewritten.count));
        assert_ne!(first.times, rewritten.times);

        std::fs::write(&path, "abcd").unwrap();
        assert_ne!(first.contents, of("a.png").contents);
    }
}
