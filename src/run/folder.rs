//! The folder that a training run leaves behind.
//!
//! | path | holds |
//! |---|---|
//! | `config.toml` | every setting, resolved |
//! | `images.json` | what the data held when the run began, see [`super::images`] |
//! | `metrics.jsonl` | see [`super::metrics`] |
//! | `events.out.tfevents.*` | see [`super::event_log`] |
//! | `checkpoints/step-00000100/` | see [`crate::checkpoint`] |
//! | `best/` | fine-tuning: the weights that were best on the validation images |
//! | `samples/step-00000100.png` | sample grids |
//! | `report.html` | see [`crate::report::training`] |
//! | `ranks/` | of several ranks: what each does, see [`crate::comm`]; gone once the run has ended well |
//! | `run.lock` | locked while a process trains here |

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::CheckpointError;
use crate::fs::{FsError, atomic_dir};
use crate::run::checkpoints;

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A new run would mix with an old one.
    #[error("{} already holds a run; go on with it by --resume, or choose another --out", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Something to resume was asked for, and is not there.
    #[error("{} holds no run to resume ({} is not there); leave out --resume to start one", path.display(), RunFolder::CONFIG)]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// Two processes would train in one folder.
    #[error("another process is training in {}; wait for it, or choose another --out", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// While a run was training its folder was replaced by that of another.
    #[error("{} holds another run now: its folder was replaced while this one was training, and nothing is written there. \
             The steps since the last checkpoint are lost", path.display())]
    Replaced {
        /// The folder.
        path: PathBuf,
    },
    /// A line that is not a record.
    #[error("line {line} of {} is not a metrics record; remove that line, or the file", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// All numbers of runs are taken.
    #[error("{} is full; name a folder with --out", parent.display())]
    Full {
        /// The folder of runs.
        parent: PathBuf,
    },
}

/// `runs/NAME-001`, or the first number after it that no folder has.
///
/// # Errors
/// [`RunFolderError::Full`].
pub fn next_free_run(name: &str, parent: &Path) -> Result<PathBuf, RunFolderError> {
    (1..10_000)
        .map(|number| parent.join(format!("{name}-{number:03}")))
        .find(|path| fs::symlink_metadata(path).is_err())
        .ok_or_else(|| RunFolderError::Full { parent: parent.to_owned() })
}

impl From<FsError> for RunFolderError {
    fn from(FsError { action, path, source }: FsError) -> Self {
        RunFolderError::Io { action, path, source }
    }
}

/// A run's folder, locked for this process until it is dropped (or the process ends, however it ends).
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    lock: File,
}

impl RunFolder {
    /// The resolved settings.
    pub const CONFIG: &str = "config.toml";
    /// Which images the run is trained on, see [`super::images`].
    pub const IMAGES: &str = "images.json";
    /// One record per line, see [`super::metrics`].
    pub const METRICS: &str = "metrics.jsonl";
    /// The page that shows the run.
    pub const REPORT: &str = "report.html";
    /// What a probe found, in the folder of a probe.
    pub const PROBE: &str = "probe.json";
    /// The second run of fine-tuning, on the validation images too.
    pub const FOLDED: &str = "folded";
    /// Its folders that hold no run of their own.
    pub const PARTS: [&str; 3] = [checkpoints::CHECKPOINTS, Self::SAMPLES, checkpoints::BEST];
    /// While several ranks train: what each of them does, for the message where one fails.
    pub const RANKS: &str = "ranks";
    /// Sample grids.
    const SAMPLES: &str = "samples";
    /// Locked while a process trains here.
    const LOCK: &str = "run.lock";

    /// Makes the folder of a new run. An existing folder is taken if no run is in it.
    pub fn create(root: &Path) -> Result<Self, RunFolderError> {
        // A folder whose run was killed before it had written anything is as good as new.
        let holds_run = root.join(Self::CONFIG).exists()
            || root.join(Self::METRICS).exists()
            || !checkpoints::list(root)?.is_empty();
        if holds_run {
            return Err(RunFolderError::Occupied { path: root.to_owned() });
        }
        atomic_dir::make_folder(root)?;
        let run = Self::lock(root)?;
        run.clean()?;
        Ok(run)
    }

    /// [`RunFolder::create`] of `PARENT/NAME-001`, or of the first number after it that no folder has. Of several processes
    /// that ask at the same moment, each gets a number of its own.
    ///
    /// # Errors
    /// Those of [`RunFolder::create`]; [`RunFolderError::Full`].
    pub fn create_numbered(name: &str, parent: &Path) -> Result<Self, RunFolderError> {
        atomic_dir::make_folder(parent)?;
        loop {
            let root = next_free_run(name, parent)?;
            match fs::create_dir(&root) {
                Ok(()) => return Self::create(&root),
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(RunFolderError::Io { action: "create the folder", path: root, source }),
            }
        }
    }

    /// Clears the folder of what a killed process left half-written.
    fn clean(&self) -> Result<(), RunFolderError> {
        let Self { root, .. } = self;
        for folder in [root.clone(), root.join(checkpoints::CHECKPOINTS), root.join(Self::SAMPLES)] {
            atomic_dir::clean_leftovers(&folder)?;
        }
        Ok(())
    }

    /// Opens the folder of a run to be resumed, and clears it of what a killed process left half-written.
    pub fn open(root: &Path) -> Result<Self, RunFolderError> {
        if !root.join(Self::CONFIG).is_file() {
            return Err(RunFolderError::NotARun { path: root.to_owned() });
        }
        let run = Self::lock(root)?;
        run.clean()?;
        Ok(run)
    }

    fn lock(root: &Path) -> Result<Self, RunFolderError> {
        let path = root.join(Self::LOCK);
        let io = |source| RunFolderError::Io { action: "lock", path: path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match lock.try_lock() {
            // A file system without locks guards nothing, and training goes on without.
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => return Err(io(error)),
            Err(TryLockError::WouldBlock) => return Err(RunFolderError::Busy { path: root.to_owned() }),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }

        Self::create_parts(root)?;
        Ok(Self { root: root.to_owned(), lock })
    }

    /// Whether the file that this process has locked is still in the folder.
    pub(super) fn is_locked(&self) -> bool {
        is_at(&self.lock, &self.root.join(Self::LOCK))
    }

    /// Makes the folder and its parts where they are missing, and locks it unless it `is_locked`.
    pub(super) fn make(&mut self, is_locked: bool) -> Result<(), RunFolderError> {
        atomic_dir::make_folder(&self.root)?;
        if !is_locked {
            *self = Self::lock(&self.root)?;
        }
        Self::create_parts(&self.root)
    }

    fn create_parts(root: &Path) -> Result<(), RunFolderError> {
        let mut parts = [checkpoints::CHECKPOINTS, Self::SAMPLES].into_iter();
        Ok(parts.try_for_each(|part| atomic_dir::make_folder(&root.join(part)))?)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join(Self::CONFIG)
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.root.join(Self::METRICS)
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.root.join(Self::REPORT)
    }

    /// Where the checkpoint after `step` updates goes.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        checkpoints::checkpoint_path(&self.root, step)
    }

    /// Where a fine-tuning run keeps the weights that were best on the validation images.
    pub fn best(&self) -> PathBuf {
        self.root.join(checkpoints::BEST)
    }

    /// Where the sample grid after `step` updates goes.
    pub fn sample_grid(&self, step: u64) -> PathBuf {
        self.root.join(Self::SAMPLES).join(format!("step-{step:08}.png"))
    }

    /// The sample grids there are, by step.
    pub fn sample_grids(&self) -> Result<Vec<(u64, PathBuf)>, RunFolderError> {
        Self::sample_grids_of(&self.root)
    }

    /// Those of the run in `root`, which another process may be training.
    pub fn sample_grids_of(root: &Path) -> Result<Vec<(u64, PathBuf)>, RunFolderError> {
        let folder = root.join(Self::SAMPLES);
        let listed: io::Result<Vec<_>> =
            fs::read_dir(&folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let listed = listed.map_err(|source| RunFolderError::Io { action: "list", path: folder, source })?;
        let mut grids: Vec<_> = listed.into_iter().filter_map(|path| Some((grid_step(&path)?, path))).collect();
        grids.sort();
        Ok(grids)
    }
}

/// `step-00000100.png` is 100.
fn grid_step(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok()
}

/// Whether `path` is the file that is open as `file`, not removed nor replaced since.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
        id(fs::metadata(path)).is_some_and(|there| Some(there) == id(file.metadata()))
    }
    #[cfg(not(unix))]
    {
        // Files that are open cannot be removed.
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_resumed_and_busy_folders() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("runs/a");
        assert!(matches!(RunFolder::open(&root), Err(RunFolderError::NotARun { .. })));

        // A new folder, and one that is in use or holds a run.
        drop(RunFolder::create(&root).unwrap());
        let run = RunFolder::create(&root).unwrap();
        assert!(matches!(RunFolder::create(&root), Err(RunFolderError::Busy { .. })));
        fs::write(run.config(), "").unwrap();
        assert!(matches!(RunFolder::open(&root), Err(RunFolderError::Busy { .. })));
        assert!(matches!(RunFolder::create(&root), Err(RunFolderError::Occupied { .. })));

        for step in [200, 10] {
            fs::write(run.sample_grid(step), "").unwrap();
        }
        let steps: Vec<_> = run.sample_grids().unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [10, 200]);

        // Resuming removes what an interrupted write left.
        drop(run);
        fs::write(root.join("report.html.tmp-1"), "").unwrap();
        RunFolder::open(&root).unwrap();
        assert!(!root.join("report.html.tmp-1").exists());
    }

    #[test]
    fn runs_that_start_at_once_have_numbers_of_their_own() {
        let place = tempfile::tempdir().unwrap();
        let parent = place.path().join("runs");
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| std::mem::forget(RunFolder::create_numbered("tiny", &parent).unwrap()));
            }
        });
        let mut names: Vec<_> = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let expected: Vec<_> = (1..=12).map(|number| std::ffi::OsString::from(format!("tiny-{number:03}"))).collect();
        assert_eq!(names, expected);
    }
}
