//! The folder that a run leaves behind.
//!
//! ```text
//! config.toml     the settings, to the last number     metrics.jsonl   a line per step and per validation
//! checkpoints/    the latest ones                      samples/        grids of completions, by step
//! report.html     curves, samples and settings on one page
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::TrainError;

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder, or with `resume` opens it.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] where a run has left something and `resume` is not set; [`TrainError::Write`].
    pub fn open(path: &Path, resume: bool) -> Result<Self, TrainError> {
        let folder = Self { path: path.to_owned() };
        if !resume && (folder.config().exists() || folder.metrics().exists() || path.join("checkpoints").exists()) {
            return Err(TrainError::RunExists(path.to_owned()));
        }
        let samples = path.join("samples");
        fs::create_dir_all(&samples).map_err(|source| TrainError::Write { path: samples, source })?;
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's settings.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// A line of JSON per step and per validation.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The grid of samples drawn after `step`.
    pub fn sample(&self, step: u64) -> PathBuf {
        self.path.join("samples").join(format!("step-{step:08}.png"))
    }

    /// All grids by step, oldest first.
    pub fn samples(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(self.path.join("samples")).into_iter().flatten().flatten();
        let step_of =
            |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".png")?.parse().ok();
        let mut found: Vec<(u64, PathBuf)> =
            entries.map(|entry| entry.path()).filter_map(|path| Some((step_of(&path)?, path))).collect();
        found.sort();
        found
    }

    /// The page to look at.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Writes a file of the folder aside and renames it.
    ///
    /// # Errors
    /// [`TrainError::Write`].
    pub fn write(&self, path: &Path, text: &str) -> Result<(), TrainError> {
        let aside = path.with_extension("tmp");
        fs::write(&aside, text)
            .and_then(|()| fs::File::open(&aside)?.sync_all())
            .and_then(|()| fs::rename(&aside, path))
            .map_err(|source| TrainError::Write { path: path.to_owned(), source })
    }
}
