//! What `finetune` can be told: the settings of `train` that make sense for a model that is there, and a few of its own.
//! They are layered as those of `train` are.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cli::train::args::{TrainArgs, TrainSettings, next_free_run};
use crate::data::DataSpec;
use crate::optim::ScheduleKind;
use crate::recipe::{Command, Recipe};

/// Settings of `train` that a checkpoint or the method decides: neither flags nor keys here.
pub const DECIDED: [&str; 12] = [
    "model",
    "layers",
    "width",
    "heads",
    "norm",
    "activation",
    "bias",
    "order",
    "resolution",
    "objective",
    "schedule",
    "sample-every",
];

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
    #[arg(long, value_name = "N", value_parser = crate::cli::train::args::whole::<u64>(), help_heading = "Fine-tuning")]
    pub patience: Option<u64>,
    /// Afterwards train anew on training and validation images together, for as many steps as were best, into OUT/folded
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          help_heading = "Fine-tuning")]
    pub fold_validation: Option<bool>,
}

/// The merged layers of [`TuningArgs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs)] // each field is the flag of the same name
pub struct TuningSettings {
    pub generative_weight: f64,
    pub classification_weight: f64,
    pub patience: u64,
    pub fold_validation: bool,
}

impl TuningSettings {
    fn check(&self) -> Result<()> {
        let weight = |weight: f64| (weight as f32).is_finite() && weight >= 0.0;
        if !weight(self.generative_weight) {
            bail!("--generative-weight {} must be 0 or more; the paper's is 1", self.generative_weight);
        }
        if !weight(self.classification_weight) || self.classification_weight as f32 == 0.0 {
            bail!("--classification-weight {} must be above 0; the paper's is 1", self.classification_weight);
        }
        Ok(())
    }
}

/// One layer of settings.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct FinetuneArgs {
    #[command(flatten)]
    pub tuning: TuningArgs,
    #[command(flatten)]
    pub train: TrainArgs,
}

/// The merged layers: what a run does.
#[derive(Clone, Debug, PartialEq)]
pub struct FinetuneSettings {
    /// The part that `train` has too.
    pub train: TrainSettings,
    /// The rest.
    pub tuning: TuningSettings,
}

impl FinetuneArgs {
    /// Reads a layer from a file: the `config.toml` of a run, or a recipe, divided by `scale_down`.
    pub fn from_file(path: &Path, scale_down: u64) -> Result<Self> {
        let mut table = Recipe::read(path)?.scaled_down(scale_down)?.settings_for(Command::Finetune)?;
        let parse = || -> Result<Self> {
            let own = toml::Table::try_from(TuningSettings {
                generative_weight: 0.0,
                classification_weight: 0.0,
                patience: 0,
                fold_validation: false,
            })?;
            let tuning: toml::Table = own.keys().filter_map(|key| table.remove_entry(key)).collect();
            if let Some(init) = table.remove("checkpoint") {
                table.insert("init".to_owned(), init);
            }
            Ok(Self { tuning: tuning.try_into()?, train: table.try_into()? })
        };
        parse().with_context(|| {
            format!(
                "{} is not a configuration of fine-tuning (keys are the flags of `igpt-engine finetune --help`)",
                path.display()
            )
        })
    }

    /// This layer where it says something, `below` where it does not.
    pub fn over(self, below: Self) -> Result<Self> {
        Ok(Self { tuning: over(&self.tuning, &below.tuning)?, train: self.train.over(below.train)? })
    }

    /// Fills what no layer said with defaults and checks the numbers.
    pub fn resolve(self) -> Result<FinetuneSettings> {
        let given = toml::Table::try_from(&self.train)?;
        if let Some(key) = DECIDED.iter().find(|key| given.contains_key(**key)) {
            bail!("{key} is no setting of fine-tuning: the checkpoint and the method decide it, so leave it out");
        }
        if self.train.init.is_none() {
            bail!("fine-tuning needs --checkpoint DIR: a pre-trained checkpoint, a run, or a Hugging Face folder");
        }
        let defaults = TuningArgs {
            generative_weight: Some(1.0),
            classification_weight: Some(1.0),
            patience: Some(5),
            fold_validation: Some(false),
        };
        let tuning: TuningSettings = over(&self.tuning, &defaults)?;
        tuning.check()?;
        let sample = self.train.data.as_ref().is_none_or(|data| *data == DataSpec::Sample);
        let steps = self.train.steps.unwrap_or(if sample { 400 } else { 5000 });
        let defaults = TrainArgs {
            // Ten times smaller than in pre-training, as the paper found best.
            lr: Some(0.0003),
            steps: Some(steps),
            warmup: Some(0),
            eval_every: Some(steps.div_ceil(20)),
            eval_images: Some(0),
            sample_every: Some(0),
            schedule: Some(ScheduleKind::Constant),
            out: Some(match &self.train.out {
                Some(out) => out.clone(),
                None => next_free_run("finetune", Path::new("runs"))?,
            }),
            ..TrainArgs::default()
        };
        // The objective is the checkpoint's; whether masks go with it is checked once it is known.
        let mask_rate = self.train.mask_rate;
        let mut train = TrainArgs { mask_rate: None, ..self.train }.over(defaults)?.resolve()?;
        train.mask_rate = mask_rate;
        Ok(FinetuneSettings { train, tuning })
    }
}

impl FinetuneSettings {
    /// What `config.toml` says: all that is a setting here.
    pub fn table(&self) -> Result<toml::Table> {
        let mut table = toml::Table::try_from(&self.train)?;
        table.retain(|key, _| !DECIDED.contains(&key));
        if let Some(init) = table.remove("init") {
            table.insert("checkpoint".to_owned(), init);
        }
        table.extend(toml::Table::try_from(&self.tuning)?);
        Ok(table)
    }
}

/// `above` where it says something, `below` where it does not.
fn over<A: Serialize, T: DeserializeOwned>(above: &A, below: &A) -> Result<T> {
    let mut merged = toml::Table::try_from(below)?;
    merged.extend(toml::Table::try_from(above)?);
    Ok(merged.try_into()?)
}
