//! Writing folders so that a reader, now or after a power cut, finds the old or the new whole and never a mixture.
//!
//! A folder is written under a temporary name in the same parent, synced to disk, and renamed. A folder that
//! replaces another needs two renames; a kill between them leaves the old one under `NAME.old-PID`, and [`clean_leftovers`]
//! puts it back.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{FsError, Result};
use crate::fs::atomic_file::{TEMPORARY, beside, parent_of, sync_folder, sync_parent};

/// Between a name and the process id, while the folder is being replaced.
const OLD: &str = ".old-";

/// Removed on drop unless it was renamed away first, so that no error path can leave it behind.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

/// Writes the folder `path` through `fill`, which is given an empty folder to write flat files into; whatever was at
/// `path` stays intact until they are safe on disk, and for good if anything fails.
///
/// # Errors
/// [`FsError`], and those of `fill`.
pub fn write_folder<E: From<FsError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let scratch = create_scratch(path)?;
    fill(&scratch.0)?;
    sync_contents(&scratch.0)?;
    swap_in(&scratch.0, path)?;
    Ok(sync_parent(path).map_err(FsError::io("sync", path))?)
}

/// An empty folder beside `path`, once leftovers of its name are cleared.
fn create_scratch(path: &Path) -> Result<Scratch> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(FsError::io("create the folder", parent))?;
    clean_name(path)?;

    let scratch = beside(path, TEMPORARY).map_err(FsError::io("write", path))?;
    fs::create_dir(&scratch).map_err(FsError::io("create the folder", &scratch))?;
    Ok(Scratch(scratch))
}

/// Makes the files in `folder`, and that they are in it, last.
fn sync_contents(folder: &Path) -> Result<()> {
    for entry in entries(folder)? {
        File::options()
            .write(true)
            .open(&entry)
            .and_then(|file| file.sync_all())
            .map_err(FsError::io("sync", &entry))?;
    }
    sync_folder(folder).map_err(FsError::io("sync", folder))
}

/// Removes a folder so that a kill on the way leaves nothing that looks like it: it is renamed first.
///
/// # Errors
/// [`FsError`].
pub fn remove_folder(path: &Path) -> Result<()> {
    let scratch = Scratch(beside(path, TEMPORARY).map_err(FsError::io("write", path))?);
    fs::rename(path, &scratch.0).map_err(FsError::io("remove", path))?;
    remove(&scratch.0).map_err(FsError::io("remove", path))
}

/// Clears `folder` of what killed processes left half-written, and puts back what they had moved aside. Call it only
/// where nobody else is writing. A folder that does not exist is clean.
///
/// # Errors
/// [`FsError`].
pub fn clean_leftovers(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in entries(folder)? {
        clean_entry(&entry, None)?;
    }
    Ok(())
}

/// [`clean_leftovers`] for those of one name.
fn clean_name(path: &Path) -> Result<()> {
    for entry in entries(parent_of(path))? {
        clean_entry(&entry, path.file_name().and_then(|name| name.to_str()))?;
    }
    Ok(())
}

/// Cleans one entry if it is a leftover (of `name`, if given).
fn clean_entry(entry: &Path, name: Option<&str>) -> Result<()> {
    let Some((found, marker)) = entry.file_name().and_then(|file_name| leftover(file_name.to_str()?)) else {
        return Ok(());
    };
    if name.is_some_and(|name| name != found) {
        return Ok(());
    }
    let home = entry.with_file_name(found);
    if marker == OLD && !home.exists() {
        fs::rename(entry, &home).map_err(FsError::io("restore", &home))
    } else {
        remove(entry).map_err(FsError::io("remove the leftover", entry))
    }
}

/// Splits `NAME.tmp-123` and `NAME.old-123` into name and marker.
fn leftover(file_name: &str) -> Option<(&str, &'static str)> {
    [TEMPORARY, OLD].into_iter().find_map(|marker| {
        let (name, process) = file_name.rsplit_once(marker)?;
        let numbered = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        (numbered && !name.is_empty()).then_some((name, marker))
    })
}

/// Gives the finished folder its name.
fn swap_in(finished: &Path, path: &Path) -> Result<()> {
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(FsError::io("rename to", to));
    if !path.exists() {
        return rename(finished, path);
    }
    let old = beside(path, OLD).map_err(FsError::io("write", path))?;
    rename(path, &old)?;
    if let Err(error) = rename(finished, path) {
        rename(&old, path)?;
        return Err(error);
    }
    remove(&old).map_err(FsError::io("remove", &old))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed: io::Result<Vec<_>> =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(FsError::io("list", folder))
}

/// Removes a file, link or folder.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> FsError {
        FsError::io("write", Path::new("x"))(io::Error::other("injected"))
    }

    /// Fills a folder with one file.
    fn put(name: &'static str, content: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |folder| {
            fs::write(folder.join(name), content).unwrap();
            Ok(())
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = entries(folder)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_folder_leaves_the_old_one_and_no_trace() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("step");
        write_folder(&path, put("a", "old")).unwrap();
        let outcome = write_folder(&path, |folder| {
            fs::write(folder.join("a"), "new").unwrap();
            Err(failing())
        });
        assert!(outcome.is_err());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "old");
        assert_eq!(names(place.path()), ["step"]);
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("step");
        write_folder(&path, put("a", "old")).unwrap();
        write_folder(&path, put("b", "new")).unwrap();
        assert_eq!(names(&path), ["b"]);
        assert_eq!(names(place.path()), ["step"]);
    }

    #[test]
    fn leftovers_of_killed_processes_are_cleaned() {
        let place = tempfile::tempdir().unwrap();
        for name in ["a.tmp-12", "a.old-12", "b", "b.old-3", "c.tmp-x", "d.tmp-"] {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("content"), name).unwrap();
        }
        clean_leftovers(place.path()).unwrap();
        assert_eq!(names(place.path()), ["a", "b", "c.tmp-x", "d.tmp-"]);
        assert_eq!(fs::read_to_string(place.path().join("a/content")).unwrap(), "a.old-12");
        assert_eq!(fs::read_to_string(place.path().join("b/content")).unwrap(), "b");
        clean_leftovers(&place.path().join("nowhere")).unwrap();
    }
}
