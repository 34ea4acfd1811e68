//! `demo.json`: which stages of the walk are done, and with which settings.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{DemoError, Result};
use super::settings::Settings;
use super::stages::Stage;
use crate::data::Fingerprint;
use crate::fs::{atomic_dir, atomic_file};

/// What decides the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedSettings {
    /// The images.
    pub data: String,
    /// Whether it is the small demo.
    pub quick: bool,
    /// The seed.
    pub seed: u64,
    /// What the training and the test images held; demos of earlier versions do not say.
    #[serde(default)]
    pub images: Option<[Fingerprint; 2]>,
}

impl From<&Settings> for SavedSettings {
    fn from(settings: &Settings) -> Self {
        let Settings { data, quick, seed, .. } = settings;
        Self { data: data.to_string(), quick: *quick, seed: *seed, images: None }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    settings: SavedSettings,
    /// Seconds of each stage that is done.
    done: BTreeMap<String, f64>,
}

/// The file, open.
pub(super) struct State {
    path: PathBuf,
    saved: Saved,
    _lock: File,
}

/// Locked while a process walks through the demo.
const LOCK: &str = "demo.lock";

impl State {
    /// Opens the demo in `out`, or begins one.
    ///
    /// # Errors
    /// A folder that holds anything else, or a demo of other settings.
    pub fn open(out: &Path, settings: SavedSettings) -> Result<Self> {
        let path = out.join("demo.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(out, path, settings),
            Err(source) => return Err(DemoError::Read { path, source }),
        };

        let mut saved: Saved =
            serde_json::from_slice(&text).map_err(|source| DemoError::Damaged { path: path.clone(), source })?;
        let images = saved.settings.images.take();
        if images.is_some() && images != settings.images {
            return Err(DemoError::OtherImages { path: out.to_owned(), data: settings.data });
        }
        saved.settings.images = settings.images.clone();
        if saved.settings != settings {
            let SavedSettings { data, quick, seed, .. } = saved.settings;
            let flags = format!("--data {data} --seed {seed}{}", if quick { " --quick" } else { "" });
            return Err(DemoError::OtherSettings { path: out.to_owned(), flags });
        }
        let lock = Self::lock(out)?;
        atomic_dir::clean_leftovers(out)
            .map_err(|error| DemoError::Folder { path: out.to_owned(), source: error.source })?;
        Ok(Self { path, saved, _lock: lock })
    }

    /// Locks the folder for this process until it ends, however it ends.
    fn lock(out: &Path) -> Result<File> {
        let path = out.join(LOCK);
        let failed = |source| DemoError::Write { path: path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Err(DemoError::Busy { path: out.to_owned() }),
            // A file system without locks guards nothing.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(lock),
        }
    }

    /// Begins a demo in a folder that is new or empty.
    fn create(out: &Path, path: PathBuf, settings: SavedSettings) -> Result<Self> {
        let folder = |source| DemoError::Folder { path: out.to_owned(), source };
        atomic_dir::make_folder(out).map_err(|error| folder(error.source))?;
        let lock = Self::lock(out)?;
        for entry in fs::read_dir(out).map_err(folder)? {
            if entry.map_err(folder)?.file_name() != LOCK {
                return Err(DemoError::Occupied { path: out.to_owned() });
            }
        }
        let state = Self { path, saved: Saved { settings, done: BTreeMap::new() }, _lock: lock };
        state.save()?;
        Ok(state)
    }

    /// Whether a stage is done and what it made is still there.
    pub fn is_done(&self, stage: &Stage) -> bool {
        self.saved.done.contains_key(stage.name) && stage.product.exists()
    }

    /// Records that a stage is done.
    pub fn finish(&mut self, stage: &Stage, seconds: f64) -> Result<()> {
        self.saved.done.insert(stage.name.to_owned(), seconds);
        self.save()
    }

    /// Stages that are to be done again, since one before them is.
    pub fn forget_from(&mut self, stages: &[Stage]) -> Result<()> {
        for stage in stages {
            self.saved.done.remove(stage.name);
        }
        self.save()
    }

    /// Seconds that a stage took.
    pub fn seconds_of(&self, stage: &Stage) -> f64 {
        self.saved.done.get(stage.name).copied().unwrap_or(0.0)
    }

    /// Seconds that all stages took; of one that was stopped, only its last session.
    pub fn seconds(&self) -> f64 {
        self.saved.done.values().sum()
    }

    fn save(&self) -> Result<()> {
        let failed = |source| DemoError::Write { path: self.path.clone(), source };
        let text = serde_json::to_string_pretty(&self.saved).map_err(|error| failed(error.into()))? + "\n";
        atomic_file::write_file(&self.path, |file| file.write_all(text.as_bytes())).map_err(failed)
    }
}
