//! Settings in layers: what is given lies over defaults, some of which depend on it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::settings_error::{Result, SettingsError};
use crate::data::DataSpec;
use crate::model::{Objective, Preset};
use crate::optim::ScheduleKind;
use crate::run::folder::next_free_run;
use crate::run::images::TrainedOn;

/// The given settings that defaults depend on.
#[derive(Deserialize)]
pub(super) struct Known {
    data: Option<DataSpec>,
    pub(super) model: Option<Preset>,
    pub(super) objective: Option<Objective>,
    pub(super) steps: Option<u64>,
    pub(super) schedule: Option<ScheduleKind>,
    out: Option<PathBuf>,
    init: Option<PathBuf>,
}

impl Known {
    pub(super) fn of(given: &toml::Table) -> Result<Self> {
        Ok(given.clone().try_into()?)
    }

    /// Steps of the cool-down of a run of `steps` steps, where its schedule has one: a fifth, as llm.c has it.
    pub(super) fn cooldown(&self, steps: u64) -> Option<u64> {
        self.schedule.is_some_and(ScheduleKind::has_cooldown).then_some(steps / 5)
    }

    pub(super) fn is_sample(&self) -> bool {
        self.data.as_ref().is_none_or(|data| *data == DataSpec::Sample)
    }

    /// What decides the images, from the run that the initial weights are of: filter and alpha, and of the same data the part
    /// that is held out, so that no image is validated on that was trained on.
    pub(super) fn of_pretraining_run(&self) -> Result<toml::Table> {
        let run = self.init.as_deref().map(TrainedOn::of).transpose();
        let Some(run) = run.map_err(|error| SettingsError::new(error.to_string()))?.flatten() else {
            return Ok(toml::Table::new());
        };

        let mut table = toml::Table::from_iter([entry("filter", run.filter)?, entry("alpha", run.alpha)?]);
        if self.data.clone().unwrap_or_default().is_same_place(&run.data) {
            table.extend([entry("seed", run.seed)?]);
            if let Some(holdout) = run.holdout.filter(|_| !run.data.is_tokens()) {
                table.extend([entry("holdout", holdout)?]);
            }
        }
        Ok(table)
    }

    pub(super) fn out_or_next(&self, name: &str) -> Result<PathBuf> {
        match &self.out {
            Some(out) => Ok(out.clone()),
            None => next_free_run(name, Path::new("runs")).map_err(|error| SettingsError::new(error.to_string())),
        }
    }

    /// The name of a run that gets a number, where no folder was named.
    pub(super) fn numbered(&self, name: &str) -> Option<String> {
        self.out.is_none().then(|| name.to_owned())
    }
}

/// Replaces the images of a step by the micro-batches that it takes, which is what a run keeps.
pub(super) fn take_global_batch(given: &mut toml::Table) -> Result<()> {
    let Some(global) = given.remove("global-batch").map(usize::deserialize).transpose()? else { return Ok(()) };
    let given_batch = given.get("batch").cloned().map(usize::deserialize).transpose()?;
    // Of a step that the default does not divide, as many as do.
    let divides = |batch: &usize| global.is_multiple_of(*batch);
    let batch = given_batch.or_else(|| (1..=DEFAULT_BATCH).rev().find(divides)).unwrap_or(DEFAULT_BATCH);
    if global == 0 || batch == 0 || !global.is_multiple_of(batch) {
        return Err(SettingsError::new(format!(
            "--global-batch {global} is not a multiple of --batch {batch}, the images of a micro-batch; change one of them"
        )));
    }
    given.extend([entry("batch", batch)?, entry("accumulate", global / batch)?]);
    Ok(())
}

/// `--batch` where none is given.
pub(super) const DEFAULT_BATCH: usize = 16;

pub(super) fn entry(key: &str, value: impl Serialize) -> Result<(String, toml::Value)> {
    Ok((key.to_owned(), toml::Value::try_from(value)?))
}

/// `above` where it says something, `below` where it does not.
pub(super) fn merged(above: toml::Table, mut below: toml::Table) -> toml::Table {
    below.extend(above);
    below
}

pub(super) fn over<T: DeserializeOwned>(above: toml::Table, below: toml::Table) -> Result<T> {
    Ok(merged(above, below).try_into()?)
}
