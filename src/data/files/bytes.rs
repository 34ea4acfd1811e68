//! The bytes of a file, read where and when they are needed, or built into the program.
//!
//! Files are not memory-mapped: one that is cut short while it is mapped kills the process (SIGBUS), and one that is written
//! to changes under the reader unseen. Reads by position cost one copy more, and each finds both out.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::regular;
use crate::data::error::{DataError, Result};
use crate::data::progress;

/// Bytes read at a time where a whole file goes by.
const PIECE: usize = 1 << 20;
/// From this length on, hashing shows a bar.
const LONG: usize = 512 << 20;

/// Read-only bytes that can be shared between threads.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    File(Arc<OpenFile>),
    /// Out of an archive, or decoded.
    Owned(Arc<Vec<u8>>),
    Static(&'static [u8]),
}

/// A file as it was when it was opened.
#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    file: File,
    length: u64,
    modified: Option<SystemTime>,
}

impl Bytes {
    /// Opens a file. A pipe or a device is refused without being opened: that could wait for ever.
    ///
    /// # Errors
    /// [`DataError::Read`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = regular::open(path).map_err(DataError::read(path))?;
        let metadata = file.metadata().map_err(DataError::read(path))?;
        if usize::try_from(metadata.len()).is_err() {
            let source = io::Error::new(ErrorKind::FileTooLarge, "the file is larger than this machine's addresses");
            return Err(DataError::Read { path: path.to_owned(), source });
        }
        let (length, modified) = (metadata.len(), metadata.modified().ok());
        Ok(Bytes::File(Arc::new(OpenFile { path: path.to_owned(), file, length, modified })))
    }

    /// Length in bytes; of a file, that at its opening.
    pub(crate) fn len(&self) -> usize {
        match self {
            Bytes::File(file) => file.length as usize,
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Static(bytes) => bytes.len(),
        }
    }

    /// Fills `out` with the bytes from `start` on.
    ///
    /// # Errors
    /// [`DataError::Read`]; [`DataError::Changed`] for a file that is no longer as it was opened; [`DataError::Bounds`]
    /// beyond the end.
    pub(crate) fn read(&self, start: usize, out: &mut [u8]) -> Result<()> {
        match self {
            Bytes::File(file) => file.read(start as u64, out),
            Bytes::Owned(_) | Bytes::Static(_) => {
                let end = start.saturating_add(out.len());
                out.copy_from_slice(&self.range(start..end)?);
                Ok(())
            }
        }
    }

    /// The bytes of a range.
    ///
    /// # Errors
    /// As [`Bytes::read`].
    pub(crate) fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        let held: &[u8] = match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::File(file) => {
                if range.start > range.end || range.end > self.len() {
                    return Err(self.beyond(range.end));
                }
                let mut bytes = vec![0; range.len()];
                file.read(range.start as u64, &mut bytes)?;
                return Ok(Cow::Owned(bytes));
            }
        };
        let end = range.end;
        held.get(range).map(Cow::Borrowed).ok_or_else(|| self.beyond(end))
    }

    fn beyond(&self, end: usize) -> DataError {
        DataError::Bounds { what: "the end of the bytes to read", got: end, limit: format!("there are {}", self.len()) }
    }

    /// SHA-256 of a range, with a bar on stderr (if it is a terminal) where that takes seconds.
    ///
    /// # Errors
    /// As [`Bytes::read`].
    pub(crate) fn sha256(&self, range: Range<usize>) -> Result<[u8; 32]> {
        let bar = progress::bytes("verifying", range.len() as u64, range.len() >= LONG);
        let mut hash = Sha256::new();
        self.pieces(range, |piece| {
            hash.update(piece);
            bar.inc(piece.len() as u64);
        })?;
        bar.finish_and_clear();
        Ok(hash.finalize().into())
    }

    /// Shows a range piece by piece, in order.
    ///
    /// # Errors
    /// As [`Bytes::read`].
    pub(crate) fn pieces(&self, range: Range<usize>, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; PIECE.min(range.len())];
        for start in range.clone().step_by(PIECE) {
            let piece = &mut buffer[..PIECE.min(range.end - start)];
            self.read(start, piece)?;
            each(piece);
        }
        Ok(())
    }

    /// A reader of a range with a position of its own.
    pub(crate) fn reader(&self, range: Range<usize>) -> Reader {
        let end = range.end.min(self.len());
        Reader { bytes: self.clone(), start: range.start.min(end) as u64, end: end as u64, at: 0 }
    }
}

impl OpenFile {
    fn read(&self, start: u64, out: &mut [u8]) -> Result<()> {
        match read_exact_at(&self.file, out, start) {
            // The reason for a read beyond the end is looked up below.
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(DataError::read(&self.path)(error)),
            Err(error) => self.check().and(Err(DataError::read(&self.path)(error))),
            Ok(()) => self.check(),
        }
    }

    /// Refuses a file that is no longer as it was opened.
    fn check(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(DataError::read(&self.path))?;
        let (before, now) = (self.length, metadata.len());
        let how = if now < before {
            format!("was cut short while in use: it had {before} bytes and has {now} now")
        } else if now != before || metadata.modified().ok() != self.modified {
            format!("was written to while in use: it had {before} bytes and has {now} now, or other times")
        } else {
            return Ok(());
        };
        Err(DataError::Changed { path: self.path.clone(), how })
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut start: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !out.is_empty() {
        match file.seek_read(out, start) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => (out, start) = (&mut out[count..], start + count as u64),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a range of bytes from its start.
#[derive(Clone)]
pub(crate) struct Reader {
    bytes: Bytes,
    start: u64,
    end: u64,
    /// Position in the range; may lie behind its end.
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let start = self.start.saturating_add(self.at).min(self.end);
        let count = out.len().min((self.end - start) as usize);
        self.bytes.read(start as usize, &mut out[..count]).map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (self.end - self.start).checked_add_signed(by),
        };
        self.at = at.ok_or(io::Error::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_short_or_written_to_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, [7; 100]).unwrap();
        let bytes = Bytes::open(&path).unwrap();
        assert_eq!((bytes.len(), &*bytes.range(90..100).unwrap()), (100, &[7; 10][..]));
        assert!(matches!(bytes.range(90..101), Err(DataError::Bounds { .. })));

        // Cut short: whether the bytes that are asked for are still there or not.
        std::fs::File::options().write(true).open(&path).unwrap().set_len(95).unwrap();
        for range in [0..10, 90..100] {
            let error = bytes.range(range).unwrap_err().to_string();
            assert!(error.contains("a.bin was cut short while in use: it had 100 bytes and has 95 now"), "{error}");
        }

        // As long as it was, but written to since.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(100).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(bytes.range(0..10).unwrap_err().to_string().contains("was written to while in use"));

        // Another file of the same name is none of its business.
        std::fs::write(&path, [7; 100]).unwrap();
        let bytes = Bytes::open(&path).unwrap();
        std::fs::write(folder.path().join("b"), [8; 3]).unwrap();
        std::fs::rename(folder.path().join("b"), &path).unwrap();
        assert_eq!(&*bytes.range(0..3).unwrap(), [7; 3]);
        assert!(Bytes::open(folder.path()).is_err());
    }

    #[test]
    fn readers_stay_within_their_range() {
        let mut reader = Bytes::Static(b"0123456789").reader(2..6);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), reader.seek(SeekFrom::End(-1)).unwrap()), ("2345", 3));
        let mut byte = [0; 2];
        assert_eq!((reader.read(&mut byte).unwrap(), byte[0]), (1, b'5'));
        reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(reader.read(&mut byte).unwrap(), 0);
        assert!(reader.seek(SeekFrom::Current(1)).is_err());
    }
}
