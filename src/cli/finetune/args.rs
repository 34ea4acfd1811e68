//! The flags of `finetune`: those of `train` that make sense for a model that exists already, and a few of its own.
//! They are layered as those of `train` are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::train::args::{TrainArgs, whole};
use crate::cli::train::layers::Layer;
use crate::recipe::{Command, Recipe};
use crate::train::{FineTuning, Settings};

/// One layer of the settings that `train` does not have.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TuningArgs {
    /// Factor of the generative loss, nats per token [default: 1]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, help_heading = "Fine-tuning")]
    pub generative_weight: Option<f64>,
    /// Factor of the class head's cross-entropy, nats per image [default: 1]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, help_heading = "Fine-tuning")]
    pub classification_weight: Option<f64>,
    /// Stop after this many validations in a row without a better accuracy; 0 to make all steps [default: 5]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(), help_heading = "Fine-tuning")]
    pub patience: Option<u64>,
    /// Afterwards train anew on training and validation images together, for as many steps as were best, into
    /// OUT/folded
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Fine-tuning")]
    pub fold_validation: Option<bool>,
}

/// One layer of settings.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct FinetuneArgs {
    #[command(flatten)]
    pub tuning: TuningArgs,
    #[command(flatten)]
    pub train: TrainArgs,
}

impl Layer for FinetuneArgs {
    fn from_file(path: &Path, scale_down: u64) -> Result<Self> {
        let mut table = Recipe::read(path)?.scaled_down(scale_down)?.settings_for(Command::Finetune)?;
        let tuning: toml::Table = FineTuning::KEYS.iter().filter_map(|key| table.remove_entry(*key)).collect();
        if let Some(init) = table.remove("checkpoint") {
            table.insert("init".to_owned(), init);
        }

        let parse = || -> Result<Self> { Ok(Self { tuning: tuning.try_into()?, train: table.try_into()? }) };
        parse().with_context(|| {
            format!(
                "{} is not a configuration of fine-tuning (keys are the flags of `igpt-engine finetune --help`)",
                path.display()
            )
        })
    }

    fn over(self, below: Self) -> Result<Self> {
        let mut tuning = toml::Table::try_from(below.tuning)?;
        tuning.extend(toml::Table::try_from(self.tuning)?);
        Ok(Self { tuning: tuning.try_into()?, train: self.train.over(below.train)? })
    }

    fn check_used(&self, settings: &Settings) -> Result<()> {
        self.train.check_used(settings)
    }

    fn resolve(self) -> Result<Settings> {
        self.train.check_paths()?;
        let mut given = toml::Table::try_from(self.train)?;
        given.extend(toml::Table::try_from(self.tuning)?);
        Ok(Settings::complete_fine_tuning(given)?)
    }

    fn out(&mut self) -> &mut Option<PathBuf> {
        &mut self.train.out
    }
}
