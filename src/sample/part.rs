//! Tokens drawn so far: the file `NAME.part` beside the one that they will go into, from which a later run goes on.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | `IGPTDRW1` |
//! | 4, 4 | length of the header in bytes, u32; zero |
//! | 32 | SHA-256 of the header |
//! | header | [`Header`] as JSON |
//! | batches | of `batch` images (the last of what is left): tokens u16 `[b, length]`, and their SHA-256 |
//!
//! All numbers are little-endian. A batch is whole or it is drawn again, so that all batches have the shapes, and with them
//! the bits, of a run that nothing disturbed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::SampleError;
use crate::data::DataError;

const MAGIC: &[u8; 8] = b"IGPTDRW1";
/// Bytes before the header.
const FIXED: usize = 48;
/// Bytes of a SHA-256.
const HASH: usize = 32;
/// Bytes of the longest header that is read.
const MAX_HEADER: usize = 1 << 20;

type Result<T> = std::result::Result<T, SampleError>;

/// What is drawn, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Images in all.
    pub images: usize,
    /// Tokens of an image.
    pub length: usize,
    /// Images at a time.
    pub batch: usize,
    /// Everything else that decides the tokens: what people call it, and its value.
    pub origin: Vec<(String, String)>,
}

impl Header {
    fn batches(&self) -> usize {
        self.images.div_ceil(self.batch)
    }

    /// The images of a batch.
    fn images_of(&self, batch: usize) -> Range<usize> {
        let first = batch.saturating_mul(self.batch).min(self.images);
        first..self.images.min(first.saturating_add(self.batch))
    }

    /// In what it differs from `other`, of which each thing is said: this, then the other's value.
    fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let flags = |header: &Self| {
            let sizes = [("--count", header.images), ("tokens of an image", header.length), ("--batch", header.batch)];
            let sizes = sizes.map(|(name, size)| (name.to_owned(), size.to_string()));
            sizes.into_iter().chain(header.origin.iter().cloned()).collect::<Vec<_>>()
        };
        let (mine, others) = (flags(self), flags(other));
        let missing = || "nothing".to_owned();
        let value = |list: &[(String, String)], name: &str| {
            list.iter().find(|(known, _)| known == name).map_or_else(missing, |(_, value)| value.clone())
        };
        let names = mine.iter().chain(&others).map(|(name, _)| name);
        names
            .map(|name| (name.clone(), value(&mine, name), value(&others, name)))
            .find(|(_, mine, others)| mine != others)
    }

    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(Sha256::digest(&json));
        bytes.extend(json);
        bytes
    }

    /// Reads the header at the start of `file`, and where it ends. `None` for a file that was ended before the header was
    /// whole: then nothing is lost.
    fn read(file: &mut File) -> io::Result<std::result::Result<Option<(Self, u64)>, &'static str>> {
        let mut fixed = Vec::new();
        file.rewind()?;
        Read::by_ref(file).take(FIXED as u64).read_to_end(&mut fixed)?;
        if !fixed.starts_with(&MAGIC[..fixed.len().min(MAGIC.len())]) {
            return Ok(Err("it is not what `sample --npz` keeps its drawings in; move it away"));
        }
        if fixed.len() < FIXED {
            return Ok(Ok(None));
        }

        let length = u32::from_le_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]) as usize;
        let damaged = "its header is damaged; remove it, and the images are drawn from the first on";
        if length > MAX_HEADER {
            return Ok(Err(damaged));
        }
        let mut json = Vec::new();
        Read::by_ref(file).take(length as u64).read_to_end(&mut json)?;
        if json.len() < length {
            return Ok(Ok(None));
        }
        let sound = fixed[12..16] == [0; 4] && Sha256::digest(&json)[..] == fixed[16..];
        let header: Option<Self> = serde_json::from_slice(&json).ok().filter(|_| sound);
        let sane = header.filter(|header| {
            let tokens = header.batch.checked_mul(header.length).and_then(|tokens| tokens.checked_mul(8));
            header.batch > 0 && header.length > 0 && header.images > 0 && tokens.is_some()
        });
        Ok(sane.map(|header| Some((header, (FIXED + length) as u64))).ok_or(damaged))
    }
}

/// The file of the tokens that will go into `target`.
pub(super) fn part_of(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".part");
    path.into()
}

/// The file of the tokens drawn so far, open and this process's own.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    header: Header,
    /// Where the batches begin.
    start: u64,
    /// Batches that are whole.
    batches: usize,
}

impl Part {
    /// Starts the tokens that will go into `target`, or goes on with those of an earlier run. Without a `batch`, it is that of
    /// the earlier run, or else what `usual` says; `header` is given it.
    ///
    /// # Errors
    /// [`SampleError::Part`] for a file that is damaged, of other drawings, or in use; [`SampleError::Write`].
    pub fn open(
        target: &Path,
        batch: Option<usize>,
        usual: impl FnOnce() -> usize,
        header: impl Fn(usize) -> Header,
    ) -> Result<Self> {
        let path = part_of(target);
        let failed = |source| SampleError::Write { path: path.clone(), source };
        let wrong = |problem: String| SampleError::Part { path: path.clone(), problem };

        // Only one process draws.
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(wrong("another process draws into it; wait for it, or name another file".to_owned()));
        }

        // What an earlier run has left; without a whole batch, it is as good as nothing.
        let earlier = Header::read(&mut file).map_err(failed)?.map_err(|problem| wrong(problem.to_owned()))?;
        let Some((earlier, start)) = earlier else {
            return Self::begin(path, file, header(batch.unwrap_or_else(usual)));
        };
        let mut part = Self { path: path.clone(), file, header: earlier, start, batches: 0 };
        part.batches = part.sound_batches()?;
        if part.batches == 0 {
            return Self::begin(path, part.file, header(batch.unwrap_or_else(usual)));
        }

        let header = header(batch.unwrap_or(part.header.batch));
        if let Some((what, asked, begun)) = header.difference(&part.header) {
            return Err(wrong(format!(
                "these drawings were begun with other settings: {what} was {begun} and is {asked}. Give the same to go on, or \
                 remove this file to begin anew"
            )));
        }
        part.file.set_len(part.offset(part.batches)).map_err(failed)?;
        Ok(part)
    }

    /// Begins anew, with nothing but the header.
    fn begin(path: PathBuf, mut file: File, header: Header) -> Result<Self> {
        let bytes = header.encode();
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&bytes));
        written.map_err(|source| SampleError::Write { path: path.clone(), source })?;
        Ok(Self { path, file, header, start: bytes.len() as u64, batches: 0 })
    }

    /// Images drawn so far.
    pub fn drawn(&self) -> usize {
        self.header.images_of(self.batches).start
    }

    /// Images at a time.
    pub fn batch(&self) -> usize {
        self.header.batch
    }

    /// The images to draw next; `None` when all are there.
    pub fn next(&self) -> Option<Range<usize>> {
        Some(self.header.images_of(self.batches)).filter(|images| !images.is_empty())
    }

    /// Adds the tokens `[b, length]` of the images that [`Part::next`] named, in one write.
    ///
    /// # Errors
    /// [`SampleError::Write`].
    ///
    /// # Panics
    /// For tokens of more or fewer images.
    pub fn append(&mut self, tokens: &[u16]) -> Result<()> {
        let images = self.next().map_or(0, |images| images.len());
        assert!(tokens.len() == images * self.header.length, "tokens of the images that are next");
        let mut bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        bytes.extend(Sha256::digest(&bytes));
        let end = self.offset(self.batches);
        let written = self.file.seek(SeekFrom::Start(end)).and_then(|_| self.file.write_all(&bytes));
        written.map_err(|source| SampleError::Write { path: self.path.clone(), source })?;
        self.batches += 1;
        Ok(())
    }

    /// The tokens of each batch in order, `[b, length]`, checked.
    pub fn tokens(&self) -> impl Iterator<Item = std::result::Result<Vec<u16>, DataError>> + '_ {
        (0..self.batches).map(|batch| {
            let tokens = self.batch_tokens(batch).map_err(DataError::read(&self.path))?;
            tokens.ok_or_else(|| DataError::Cache { path: self.path.clone(), problem: "it was damaged".to_owned() })
        })
    }

    /// Removes the file, when its tokens are where they should be.
    ///
    /// # Errors
    /// [`SampleError::Write`].
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|source| SampleError::Write { path: self.path, source })
    }

    /// Where a batch begins, and the one before it ends.
    fn offset(&self, batch: usize) -> u64 {
        let Header { length, .. } = self.header;
        let tokens = self.header.images_of(batch).start as u64 * length as u64;
        self.start + tokens * size_of::<u16>() as u64 + (batch * HASH) as u64
    }

    /// The tokens of a batch; `None` if they are not whole.
    fn batch_tokens(&self, batch: usize) -> io::Result<Option<Vec<u16>>> {
        let wanted = self.header.images_of(batch).len() * self.header.length * size_of::<u16>() + HASH;
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.offset(batch)))?;
        file.take(wanted as u64).read_to_end(&mut bytes)?;
        let Some(end) = (bytes.len() == wanted).then(|| wanted - HASH) else { return Ok(None) };
        let (tokens, hash) = bytes.split_at(end);
        let sound = Sha256::digest(tokens)[..] == *hash;
        let (tokens, _) = tokens.as_chunks::<2>();
        Ok(sound.then(|| tokens.iter().map(|token| u16::from_le_bytes(*token)).collect()))
    }

    /// Batches from the first on that are whole.
    fn sound_batches(&self) -> Result<usize> {
        for batch in 0..self.header.batches() {
            if self.batch_tokens(batch).map_err(DataError::read(&self.path))?.is_none() {
                return Ok(batch);
            }
        }
        Ok(self.header.batches())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(batch: usize) -> Header {
        Header { images: 7, length: 2, batch, origin: vec![("--sample-seed".to_owned(), "5".to_owned())] }
    }

    fn open(target: &Path) -> Result<Part> {
        Part::open(target, None, || 3, header)
    }

    /// The tokens of a batch of images.
    fn drawn(images: Range<usize>) -> Vec<u16> {
        images.flat_map(|image| [image as u16, 1000 + image as u16]).collect()
    }

    fn finish(part: &mut Part) -> Vec<u16> {
        while let Some(images) = part.next() {
            part.append(&drawn(images)).unwrap();
        }
        part.tokens().map(|batch| batch.unwrap()).collect::<Vec<_>>().concat()
    }

    #[test]
    fn what_is_cut_off_anywhere_or_damaged_is_drawn_again() {
        let place = tempfile::tempdir().unwrap();
        let (target, path) = (place.path().join("a.npz"), place.path().join("a.npz.part"));
        assert_eq!(finish(&mut open(&target).unwrap()), drawn(0..7));
        let whole = std::fs::read(&path).unwrap();
        let start = whole.len() - 2 * (12 + HASH) - 4 - HASH;

        for end in 0..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let mut part = open(&target).unwrap();
            let batches = end.saturating_sub(start) / (12 + HASH) + usize::from(end == whole.len());
            assert_eq!(part.drawn(), (3 * batches).min(7), "cut off at {end}");
            assert_eq!(finish(&mut part), drawn(0..7));
            drop(part);
            assert!(std::fs::read(&path).unwrap() == whole, "cut off at {end}");
        }

        for damaged in start..whole.len() {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(open(&target).unwrap().drawn(), 3 * ((damaged - start) / (12 + HASH)), "byte {damaged}");
        }
        for damaged in 0..start {
            let mut bytes = whole.clone();
            bytes[damaged] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            // A length of another size may look like a header that was never finished.
            if let Err(error) = open(&target) {
                assert!(error.to_string().contains("a.npz.part"), "{error}");
            } else {
                assert!((8..12).contains(&damaged), "byte {damaged}");
            }
        }
    }

    #[test]
    fn other_drawings_and_other_files_are_refused_and_the_batch_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("a.npz");
        // Of what was begun without a batch nothing is lost.
        drop(Part::open(&target, Some(5), || 3, |batch| Header { images: 9, ..header(batch) }).unwrap());
        open(&target).unwrap().append(&drawn(0..3)).unwrap();
        assert_eq!(Part::open(&target, None, || 99, header).unwrap().batch(), 3);

        let refused =
            |batch, header: fn(usize) -> Header| Part::open(&target, batch, || 3, header).unwrap_err().to_string();
        assert!(refused(Some(2), header).contains("--batch was 3 and is 2"));
        assert!(refused(None, |batch| Header { images: 8, ..header(batch) }).contains("--count was 7 and is 8"));
        let seed = |batch| Header { origin: vec![("--sample-seed".to_owned(), "6".to_owned())], ..header(batch) };
        assert!(refused(None, seed).contains("--sample-seed was 5 and is 6"));
        assert!(refused(None, |batch| Header { origin: vec![], ..header(batch) }).contains("was 5 and is nothing"));

        let held = open(&target).unwrap();
        assert!(refused(None, header).contains("another process"));
        drop(held);
        std::fs::write(place.path().join("a.npz.part"), "a letter").unwrap();
        assert!(refused(None, header).contains("move it away"));
    }
}
