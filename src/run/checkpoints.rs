//! Checkpoints within a run folder: `checkpoints/step-00000100/` and so on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::checkpoint::error::{CheckpointError, Result};
use crate::checkpoint::weights::{WeightKind, missing_weights};
use crate::checkpoint::{
    CONFIG_FILE, INDEX_FILE, MANIFEST_FILE, MODEL_FILE, PYTORCH_FILE, PYTORCH_INDEX, step_of, verify,
};
use crate::fs::atomic_dir;

/// The folder of a run that holds its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// The checkpoint of a fine-tuning run that was best on the validation images, within the run folder.
pub const BEST: &str = "best";

/// Where a run's checkpoint after `step` updates lies.
pub fn checkpoint_path(run: &Path, step: u64) -> PathBuf {
    run.join(CHECKPOINTS).join(format!("step-{step:08}"))
}

/// The complete checkpoints of a run, earliest step first. A run without any has an empty list.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let folder = run.join(CHECKPOINTS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }

    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(CheckpointError::io("list", &folder))? {
        let path = entry.map_err(CheckpointError::io("list", &folder))?.path();
        let step = path.file_name().and_then(|name| name.to_str()).and_then(step_of);
        if let Some(step) = step.filter(|_| is_checkpoint(&path)) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The run's latest complete checkpoint.
pub fn latest(run: &Path) -> Result<Option<(u64, PathBuf)>> {
    Ok(list(run)?.pop())
}

/// Sets the latest checkpoints of a run aside as long as they are damaged, so that the newest whole one is the latest: their folders
/// get `.damaged` behind their names. Returns what was wrong with each.
///
/// # Errors
/// What the operating system refuses.
pub fn set_damaged_aside(run: &Path) -> Result<Vec<CheckpointError>> {
    let mut damaged = Vec::new();
    while let Some((_, path)) = latest(run)? {
        let problem = match verify(&path) {
            Ok(()) => break,
            // What cannot be read now may be whole.
            Err(problem @ CheckpointError::Io { .. }) => return Err(problem),
            Err(problem) => problem,
        };
        let mut aside = path.clone().into_os_string();
        aside.push(".damaged");
        if Path::new(&aside).exists() {
            atomic_dir::remove_folder(Path::new(&aside))?;
        }
        std::fs::rename(&path, &aside).map_err(CheckpointError::io("set aside", &path))?;
        damaged.push(problem);
    }
    Ok(damaged)
}

/// Removes all but the last `keep` checkpoints of a run; the very last always stays. Returns what was removed.
pub fn prune(run: &Path, keep: usize) -> Result<Vec<PathBuf>> {
    let mut removed = list(run)?;
    removed.truncate(removed.len().saturating_sub(keep.max(1)));
    removed
        .into_iter()
        .map(|(_, path)| {
            atomic_dir::remove_folder(&path)?;
            Ok(path)
        })
        .collect()
}

/// The checkpoint that a user means by `dir`: itself if it is one; of a run folder the best one if it keeps one, else
/// the latest.
pub fn resolve(dir: &Path) -> Result<PathBuf> {
    // A file of TensorFlow's stands for its checkpoint, of which a folder may hold several.
    if dir.is_file() && WeightKind::of(dir).is_none() {
        return folder_of(dir);
    }
    if WeightKind::of(dir).is_some() || dir.join(MANIFEST_FILE).is_file() {
        return Ok(dir.to_owned());
    }
    // A run: its best checkpoint, else its latest.
    if is_checkpoint(&dir.join(BEST)) {
        return Ok(dir.join(BEST));
    }
    if let Some((_, path)) = latest(dir)? {
        return Ok(path);
    }

    let problem = if dir.join(CHECKPOINTS).is_dir() {
        "the run has not saved a checkpoint yet".to_owned()
    } else {
        missing_weights(dir)
    };
    Err(CheckpointError::NotACheckpoint { path: dir.to_owned(), problem })
}

/// The folder that is meant by one of its files: that of the weights or the configuration.
fn folder_of(file: &Path) -> Result<PathBuf> {
    let names = [CONFIG_FILE, INDEX_FILE, MODEL_FILE, PYTORCH_FILE, PYTORCH_INDEX];
    let named = names.iter().any(|name| file.file_name() == Some(OsStr::new(name)));
    match file.parent() {
        Some(folder) if named && folder.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        Some(folder) if named => Ok(folder.to_owned()),
        _ => {
            let problem = "that is a file: give its folder".to_owned();
            Err(CheckpointError::NotACheckpoint { path: file.to_owned(), problem })
        }
    }
}

/// A list of files makes a checkpoint too: one that lost its weights must be noticed, not passed over for an earlier one.
fn is_checkpoint(dir: &Path) -> bool {
    dir.join(MANIFEST_FILE).is_file() || dir.join(CONFIG_FILE).is_file() && WeightKind::of(dir).is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fake(run: &Path, name: &str) {
        let path = run.join(CHECKPOINTS).join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(CONFIG_FILE), "{}").unwrap();
        fs::write(path.join(MODEL_FILE), "").unwrap();
    }

    #[test]
    fn lists_complete_checkpoints_in_order_and_prunes_the_earliest() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(latest(run.path()).unwrap(), None);
        for name in ["step-00000100", "step-00000020", "step-100000000", "step-00000300.tmp-7", "step-3", "other"] {
            fake(run.path(), name);
        }

        fs::create_dir(run.path().join(CHECKPOINTS).join("step-00000400")).unwrap();
        let steps = |run: &Path| list(run).unwrap().into_iter().map(|(step, _)| step).collect::<Vec<_>>();
        assert_eq!(steps(run.path()), [20, 100, 100_000_000]);
        assert_eq!(resolve(run.path()).unwrap(), checkpoint_path(run.path(), 100_000_000));

        // The best checkpoint goes first once it is complete.
        let best = run.path().join(BEST);
        fs::create_dir(&best).unwrap();
        assert_eq!(
            resolve(run.path()).unwrap(),
            checkpoint_path(run.path(), 100_000_000),
            "an empty folder is not a best one"
        );

        fs::write(best.join(CONFIG_FILE), "{}").unwrap();
        fs::write(best.join(MODEL_FILE), "").unwrap();
        assert_eq!(resolve(run.path()).unwrap(), best);
        assert_eq!(latest(run.path()).unwrap().unwrap().0, 100_000_000, "to go on is to go on from the last one");
        fs::remove_dir_all(best).unwrap();

        // Pruning always keeps the last one.
        assert_eq!(prune(run.path(), 2).unwrap(), [checkpoint_path(run.path(), 20)]);
        assert_eq!(steps(run.path()), [100, 100_000_000]);
        prune(run.path(), 0).unwrap();
        assert_eq!(steps(run.path()), [100_000_000]);

        atomic_dir::clean_leftovers(&run.path().join(CHECKPOINTS)).unwrap();
        assert!(!run.path().join(CHECKPOINTS).join("step-00000300.tmp-7").exists());
    }

    #[test]
    fn says_what_to_give_instead() {
        let place = tempfile::tempdir().unwrap();
        let problem = |dir: &Path| resolve(dir).unwrap_err().to_string();
        assert!(problem(&place.path().join("nowhere")).contains("no such folder"));
        assert!(problem(place.path()).contains("no model.safetensors"));
        let index = place.path().join("model.safetensors.index.json");
        fs::write(&index, "").unwrap();
        assert_eq!(resolve(place.path()).unwrap(), place.path(), "weights in several files are weights");
        fs::remove_file(index).unwrap();
        fs::create_dir(place.path().join(CHECKPOINTS)).unwrap();
        assert!(problem(place.path()).contains("not saved a checkpoint yet"));
    }
}
