//! The bytes of a file: memory-mapped, or built into the program.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use crate::data::error::{DataError, Result};

/// Read-only bytes that can be shared between threads.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Mapped(Arc<memmap2::Mmap>),
    Static(&'static [u8]),
}

impl Bytes {
    /// Maps a file.
    ///
    /// # Errors
    /// [`DataError::Read`].
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let metadata = file.metadata().map_err(DataError::read(path))?;
        if !metadata.is_file() {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file");
            return Err(DataError::Read { path: path.to_owned(), source });
        }
        if metadata.len() == 0 {
            return Ok(Bytes::Static(&[]));
        }
        // SAFETY: the map is read-only and private to this type. That the file is neither changed nor truncated while it
        // is mapped is the one assumption; data sets are not written to while they are trained on, and everything in
        // this crate that writes such files makes a new file and renames it, which leaves the mapped one as it was.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(DataError::read(path))?;
        Ok(Bytes::Mapped(Arc::new(map)))
    }

    /// Tells the system not to read ahead. Advice only: where it is ignored, only time is lost.
    pub(crate) fn expect_random_access(&self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            let _ = map.advise(memmap2::Advice::Random);
        }
    }

    /// Tells the system that a part is needed at once, so that it comes in one read and not page by page. Advice only.
    pub(crate) fn expect_soon(&self, part: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self
            && part.start < part.end
            && part.end <= map.len()
        {
            let _ = map.advise_range(memmap2::Advice::WillNeed, part.start, part.end - part.start);
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Static(bytes) => bytes,
        }
    }
}
