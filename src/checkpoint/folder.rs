//! Folders that appear whole or not at all, and the ones that a run keeps.
//!
//! A checkpoint is written under a temporary name beside its place, every file and the folder are synced, and the folder is
//! renamed: whenever the process or the machine dies, what carries a checkpoint's name is a whole checkpoint.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Result};

/// Marks a folder that is being written.
const TEMPORARY: &str = ".tmp-";
/// The folder of a run's checkpoints.
const CHECKPOINTS: &str = "checkpoints";
const STEP: &str = "step-";

/// Writes a folder through `fill`, which is given the temporary one. An existing folder of that name is replaced.
///
/// # Errors
/// Whatever `fill` returns, and [`CheckpointError::Write`]; the temporary folder is gone then, and the old one intact.
pub(super) fn write_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(CheckpointError::write(&parent))?;
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path has no name of its own");
        return Err(CheckpointError::Write { path: path.to_owned(), source });
    };
    let aside = |what: &str| {
        let mut temporary = OsString::from(name);
        temporary.push(format!("{TEMPORARY}{}{what}", std::process::id()));
        parent.join(temporary)
    };
    let (temporary, replaced) = (aside(""), aside("-old"));
    let written = (|| {
        fs::create_dir(&temporary).map_err(CheckpointError::write(&temporary))?;
        fill(&temporary)?;
        sync_folder(&temporary).map_err(CheckpointError::write(path))?;
        // A folder cannot be renamed over one that is not empty, so an old one steps aside first.
        if path.exists() {
            fs::rename(path, &replaced).map_err(CheckpointError::write(path))?;
        }
        fs::rename(&temporary, path).map_err(CheckpointError::write(path))?;
        File::open(&parent).and_then(|parent| parent.sync_all()).map_err(CheckpointError::write(&parent))
    })();
    if written.is_err() {
        // The error that is returned matters more than one of the cleaning up.
        let _ = fs::remove_dir_all(&temporary);
        if !path.exists() && replaced.exists() {
            let _ = fs::rename(&replaced, path);
        }
    } else if replaced.exists() {
        fs::remove_dir_all(&replaced).map_err(CheckpointError::write(&replaced))?;
    }
    written
}

/// Syncs every file of a folder, then the folder.
fn sync_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

/// Where a run's checkpoint of `step` is.
pub fn step_folder(run: &Path, step: u64) -> PathBuf {
    run.join(CHECKPOINTS).join(format!("{STEP}{step:08}"))
}

/// A run's checkpoints by step, oldest first.
///
/// # Errors
/// [`CheckpointError::Read`].
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let folder = run.join(CHECKPOINTS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(CheckpointError::Read { path: folder, source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(CheckpointError::read(&folder))?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix(STEP)?.parse().ok());
        if let Some(step) = step.filter(|_| path.join(super::MODEL).is_file()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A run's latest checkpoint, if it has any.
///
/// # Errors
/// [`CheckpointError::Read`].
pub fn latest(run: &Path) -> Result<Option<PathBuf>> {
    Ok(list(run)?.pop().map(|(_, path)| path))
}

/// Removes all but a run's `keep` latest checkpoints, and what killed processes left half-written.
///
/// # Errors
/// [`CheckpointError::Read`], [`CheckpointError::Write`].
pub fn prune(run: &Path, keep: usize) -> Result<()> {
    let checkpoints = list(run)?;
    let surplus = checkpoints.len().saturating_sub(keep.max(1));
    for (_, path) in &checkpoints[..surplus] {
        // Renamed first, so that a kill in between leaves nothing that looks like a checkpoint.
        let mut doomed = path.clone().into_os_string();
        doomed.push(format!("{TEMPORARY}pruned"));
        let doomed = PathBuf::from(doomed);
        fs::rename(path, &doomed).map_err(CheckpointError::write(path))?;
    }
    remove_leftovers(&run.join(CHECKPOINTS))
}

/// Removes temporary folders; only one process may write to a run at a time.
fn remove_leftovers(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(CheckpointError::read(folder))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains(TEMPORARY)) {
            fs::remove_dir_all(&path).map_err(CheckpointError::write(&path))?;
        }
    }
    Ok(())
}

/// The checkpoint that a path given by a user means: itself, or the latest of the run that it is.
///
/// # Errors
/// [`CheckpointError::NotACheckpoint`], [`CheckpointError::Read`].
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if path.join(super::MODEL).is_file() {
        return Ok(path.to_owned());
    }
    latest(path)?.ok_or_else(|| CheckpointError::NotACheckpoint(path.to_owned()))
}
