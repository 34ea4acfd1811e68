//! Small files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::error::FsError;
use super::output::{Output, has_other_names};

/// Writes the file `path` through `fill`: the old content, if any, stays until the new is safe on disk. Links are followed; a
/// pipe or a device is written as it is.
///
/// # Errors
/// Those of the file system and of `fill`.
pub(crate) fn write_file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let source = |error: FsError| error.source;
    let mut file = Output::internal(path).map_err(source)?;
    fill(&mut file)?;
    file.commit().map_err(source)
}

/// Cuts the file `path` off behind its first `length` bytes; one that is not there is made, empty. Its other names keep all of
/// it, and what is written to it from then on is not theirs. A pipe or a device has nothing to cut off.
///
/// # Errors
/// Those of the file system.
pub(crate) fn cut(path: &Path, length: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => Ok(()),
        Ok(there) if has_other_names(&there) => {
            let mut kept = File::open(path)?.take(length);
            write_file(path, |out| io::copy(&mut kept, out).map(drop))
        }
        Ok(there) if there.len() <= length => Ok(()),
        Ok(_) => {
            let file = File::options().write(true).open(path)?;
            file.set_len(length)?;
            file.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_file(path, |_| Ok(())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_files_of_a_run_copied_by_hard_links_part_from_the_original() {
        let folder = tempfile::tempdir().unwrap();
        let (path, original) = (folder.path().join("copy"), folder.path().join("original"));
        fs::write(&original, "old").unwrap();
        fs::hard_link(&original, &path).unwrap();
        write_file(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&original).unwrap(), b"old");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
