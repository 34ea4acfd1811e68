//! Writing so that a reader, now or after a power cut, finds the old or the new whole and never a mixture.
//!
//! A file or folder is written beside its place under a temporary name, synced to disk, and renamed. A folder that
//! replaces another needs two renames; a kill between them leaves the old one under `NAME.old-PID`, and [`clean_leftovers`]
//! puts it back.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};

/// Between a name and the process id, while it is being written.
const TEMPORARY: &str = ".tmp-";
/// Between a name and the process id, while its replacement takes its place.
const OLD: &str = ".old-";

/// Removed on drop unless it was renamed away first, so that no error path can leave it behind.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

/// Writes the file `path` through `fill`: the old content, if any, stays until the new is safe on disk.
pub fn write_file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let scratch = Scratch(beside(path, TEMPORARY)?);
    let written = File::create(&scratch.0).and_then(|file| {
        let mut buffered = BufWriter::new(file);
        fill(&mut buffered)?;
        buffered.into_inner()?.sync_all()
    });
    written.map_err(CheckpointError::io("write", path))?;
    fs::rename(&scratch.0, path).map_err(CheckpointError::io("replace", path))?;
    sync_parent(path)
}

/// Writes the folder `path` through `fill`, which is given an empty folder to write flat files into; whatever was at
/// `path` stays intact until they are safe on disk, and for good if anything fails.
pub fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(CheckpointError::io("create the folder", parent))?;
    clean_name(path)?;
    let scratch = Scratch(beside(path, TEMPORARY)?);
    fs::create_dir(&scratch.0).map_err(CheckpointError::io("create the folder", &scratch.0))?;
    fill(&scratch.0)?;
    for entry in entries(&scratch.0)? {
        File::options()
            .write(true)
            .open(&entry)
            .and_then(|file| file.sync_all())
            .map_err(CheckpointError::io("sync", &entry))?;
    }
    sync_folder(&scratch.0)?;
    swap_in(&scratch.0, path)?;
    sync_parent(path)
}

/// Removes a folder so that a kill on the way leaves nothing that looks like it: it is renamed first.
pub fn remove_folder(path: &Path) -> Result<()> {
    let scratch = Scratch(beside(path, TEMPORARY)?);
    fs::rename(path, &scratch.0).map_err(CheckpointError::io("remove", path))?;
    remove(&scratch.0).map_err(CheckpointError::io("remove", path))
}

/// Clears `folder` of what killed processes left half-written, and puts back what they had moved aside. Call it only
/// where nobody else is writing. A folder that does not exist is clean.
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
        fs::rename(entry, &home).map_err(CheckpointError::io("restore", &home))
    } else {
        remove(entry).map_err(CheckpointError::io("remove the leftover", entry))
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
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(CheckpointError::io("rename to", to));
    if !path.exists() {
        return rename(finished, path);
    }
    let old = beside(path, OLD)?;
    rename(path, &old)?;
    if let Err(error) = rename(finished, path) {
        rename(&old, path)?;
        return Err(error);
    }
    remove(&old).map_err(CheckpointError::io("remove", &old))
}

/// `path` with a marker and this process's id behind its name.
fn beside(path: &Path, marker: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path has no last part; name a file or folder");
        return Err(CheckpointError::Io { action: "write", path: path.to_owned(), source });
    };
    let mut name = OsString::from(name);
    name.push(format!("{marker}{}", std::process::id()));
    Ok(path.with_file_name(name))
}

/// The folder that holds `path`.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed: io::Result<Vec<_>> =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(CheckpointError::io("list", folder))
}

fn sync_parent(path: &Path) -> Result<()> {
    sync_folder(parent_of(path))
}

/// Makes renames within `folder` last; only Unix can open a folder to do so.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|handle| handle.sync_all()).map_err(CheckpointError::io("sync", folder))?;
    }
    Ok(())
}

/// Removes a file, link or folder.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> CheckpointError {
        CheckpointError::json(Path::new("x"), "injected")
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
    fn a_failed_file_leaves_the_old_one_and_no_trace() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        write_file(&path, |out| out.write_all(b"old")).unwrap();
        let outcome = write_file(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(outcome.unwrap_err().to_string().contains("cannot write"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(place.path()), ["file"]);
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
