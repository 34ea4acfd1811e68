//! Files that appear whole or not at all: written under a temporary name, synced, renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Between a name and the process id, while it is being written.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// A file under construction. Dropped without [`AtomicFile::commit`], it leaves nothing behind.
pub(crate) struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Starts writing what will become `path`, in the same folder.
    ///
    /// # Errors
    /// Those of the file system, and a path without a last part.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let temporary = beside(path, TEMPORARY)?;
        let file = File::create(&temporary)?;
        Ok(AtomicFile { path: path.to_owned(), temporary, writer: Some(BufWriter::with_capacity(1 << 18, file)) })
    }

    /// Syncs and renames into place.
    ///
    /// # Errors
    /// Those of the file system; the file that was there is intact then.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let result = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        if result.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&self.temporary);
        }
        result?;
        sync_parent(&self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.as_mut().map_or(Ok(0), |writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes the file `path` through `fill`: the old content, if any, stays until the new is safe on disk.
///
/// # Errors
/// Those of the file system and of `fill`.
pub(crate) fn write_file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    fill(&mut file)?;
    file.commit()
}

/// `path` with a marker and this process's id behind its name.
pub(crate) fn beside(path: &Path, marker: &str) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let problem = "the path has no last part; name a file or folder";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    };
    let mut name = OsString::from(name);
    name.push(format!("{marker}{}", std::process::id()));
    Ok(path.with_file_name(name))
}

/// The folder that holds `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the renaming of `path` last.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    sync_folder(parent_of(path))
}

/// Makes renames within `folder` last; only Unix can open a folder to do so.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_leaves_the_old_one_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_file(&path, |file| file.write_all(b"old")).unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half of the new").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_file(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_failed_file_leaves_the_old_one_and_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_file(&path, |out| out.write_all(b"old")).unwrap();
        let outcome = write_file(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
