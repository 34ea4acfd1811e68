//! `demo.json`: which stages of the walk are done, and with which settings.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::stages::Planned;
use crate::fs::atomic_file;

/// What decides the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub data: String,
    pub quick: bool,
    pub seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    settings: Settings,
    /// Seconds of each stage that is done.
    done: BTreeMap<String, f64>,
}

/// The file, open.
pub struct State {
    path: PathBuf,
    saved: Saved,
}

impl State {
    /// Opens the demo in `out`, or begins one.
    ///
    /// # Errors
    /// A folder that holds anything else, or a demo of other settings.
    pub fn open(out: &Path, settings: Settings) -> Result<Self> {
        let path = out.join("demo.json");
        match fs::read(&path) {
            Ok(text) => {
                let saved: Saved = serde_json::from_slice(&text).with_context(|| {
                    format!("{} is damaged; give another --out, or remove the folder", path.display())
                })?;
                if saved.settings != settings {
                    let Settings { data, quick, seed } = &saved.settings;
                    let quick = if *quick { " --quick" } else { "" };
                    bail!(
                        "{} holds a demo with --data {data} --seed {seed}{quick}; give the same, or another --out",
                        out.display()
                    );
                }
                Ok(Self { path, saved })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(out)
                    .with_context(|| format!("cannot make the folder {}; give another --out", out.display()))?;
                let mut entries = fs::read_dir(out).with_context(|| format!("cannot list {}", out.display()))?;
                if entries.next().is_some() {
                    bail!("{} holds other files, and no demo; give another --out", out.display());
                }
                let state = Self { path, saved: Saved { settings, done: BTreeMap::new() } };
                state.save()?;
                Ok(state)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}; give another --out", path.display())),
        }
    }

    /// Whether a stage is done and what it made is still there.
    pub fn is_done(&self, stage: &Planned) -> bool {
        self.saved.done.contains_key(stage.name) && stage.product.exists()
    }

    /// Records that a stage is done.
    pub fn finish(&mut self, stage: &Planned, seconds: f64) -> Result<()> {
        self.saved.done.insert(stage.name.to_owned(), seconds);
        self.save()
    }

    /// Stages that are to be done again, since one before them is.
    pub fn forget_from(&mut self, stages: &[Planned]) -> Result<()> {
        for stage in stages {
            self.saved.done.remove(stage.name);
        }
        self.save()
    }

    /// Seconds that a stage took.
    pub fn seconds_of(&self, stage: &Planned) -> f64 {
        self.saved.done.get(stage.name).copied().unwrap_or(0.0)
    }

    /// Seconds that all stages took; of one that was stopped, only its last session.
    pub fn seconds(&self) -> f64 {
        self.saved.done.values().sum()
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.saved)? + "\n";
        atomic_file::write_file(&self.path, |file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
