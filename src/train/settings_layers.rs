//! Settings in layers: what is given lies over defaults, some of which depend on it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::settings_error::{Result, SettingsError};
use crate::data::DataSpec;
use crate::model::{Objective, Preset};
use crate::run::folder::next_free_run;

/// The given settings that defaults depend on.
#[derive(Deserialize)]
pub(super) struct Known {
    data: Option<DataSpec>,
    pub(super) model: Option<Preset>,
    pub(super) objective: Option<Objective>,
    pub(super) steps: Option<u64>,
    out: Option<PathBuf>,
}

impl Known {
    pub(super) fn of(given: &toml::Table) -> Result<Self> {
        Ok(given.clone().try_into()?)
    }

    pub(super) fn is_sample(&self) -> bool {
        self.data.as_ref().is_none_or(|data| *data == DataSpec::Sample)
    }

    pub(super) fn out_or_next(&self, name: &str) -> Result<PathBuf> {
        match &self.out {
            Some(out) => Ok(out.clone()),
            None => next_free_run(name, Path::new("runs")).map_err(|error| SettingsError::new(error.to_string())),
        }
    }
}

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
