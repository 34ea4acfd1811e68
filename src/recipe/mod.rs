//! Recipes: a row of the paper's tables as a configuration file, with what the paper reports beside it.
//!
//! A recipe is the TOML file that `train`, `finetune` or `probe` takes as `--config` (the flags' names as keys), with three
//! things more, which the commands themselves do not read:
//!
//! * `command`: which of the three it is for (`train` if it does not say);
//! * `[pretrained]`: for the other two, which model the checkpoint holds (the shape comes from it and is not a setting);
//! * `[paper]`: which row of the paper it is, and the published figure.

mod builtin;
mod scale;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Palette;
use crate::model::{ConfigError, ModelConfig, Preset};

pub use builtin::built_in;
pub use scale::{ScaleError, scale_down};

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML, or has impossible values.
    #[error("{path} is not a recipe: {problem}. Recipes are in recipes/; their keys are the flags of their command")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// It is for another command.
    #[error("{path} is a recipe for `igpt-engine {command}`; pass it to that command")]
    Command {
        /// The file.
        path: String,
        /// The command that it is for.
        command: Command,
    },
    /// A number to divide by that is out of range.
    #[error("--scale-down must be from 1 (nothing changes) to {max}")]
    Scale {
        /// The largest.
        max: u64,
    },
    /// The model is given by a checkpoint alone.
    #[error(
        "{path} takes its model from a checkpoint and does not say which it is; add a table such as [pretrained] model = \"l\", \
         resolution = 32, objective = \"ar\""
    )]
    NoModel {
        /// The file.
        path: String,
    },
    /// An impossible model.
    #[error(transparent)]
    Model(#[from] ConfigError),
}

/// What a recipe is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Pre-training.
    #[default]
    Train,
    /// Fine-tuning.
    Finetune,
    /// Linear probing.
    Probe,
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Command::Train => "train",
            Command::Finetune => "finetune",
            Command::Probe => "probe",
        })
    }
}

/// Which row of the paper it is, and the published figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Paper {
    /// Which of the tables of `results` it belongs to.
    pub table: Table,
    /// What the row is called there.
    pub row: String,
    /// The published figure, in the table's unit; `None` where the paper prints none.
    pub expected: Option<f64>,
    /// Its standard deviation over seeds.
    pub deviation: Option<f64>,
    /// Where figure and settings come from.
    pub source: String,
    /// What the sources leave open, and what this recipe does about it.
    pub open: Option<String>,
}

/// A table of the paper's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Loss of pre-training.
    PreTraining,
    /// Accuracy of linear probes.
    LinearProbe,
    /// Accuracy of fine-tuned models.
    FineTuning,
    /// Accuracy of linear probes on few labels.
    LowData,
}

impl Table {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Table; 4] = [Table::PreTraining, Table::LinearProbe, Table::FineTuning, Table::LowData];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Table::PreTraining => "Generative pre-training",
            Table::LinearProbe => "Linear probes",
            Table::FineTuning => "Fine-tuning",
            Table::LowData => "CIFAR-10 with few labels",
        }
    }

    /// Unit of its figures.
    pub fn unit(self) -> &'static str {
        match self {
            Table::PreTraining => "nats per token",
            _ => "% accuracy",
        }
    }
}

/// The model that a checkpoint holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pretrained {
    model: Preset,
    resolution: usize,
    #[serde(default)]
    objective: Option<String>,
}

/// A recipe, or the `config.toml` of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What it is called in messages.
    pub path: String,
    /// What it is for.
    pub command: Command,
    /// Whether the file says which command; one that does not is accepted by any command, which then reads its keys as its own flags.
    has_command: bool,
    /// What the paper says.
    pub paper: Option<Paper>,
    pretrained: Option<Pretrained>,
    /// The command's settings.
    pub settings: toml::Table,
}

/// A setting that only fine-tuning writes into a run's `config.toml`.
const OF_FINETUNING: &str = "generative-weight";

impl Recipe {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RecipeError::Read`] and [`RecipeError::Content`].
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecipeError::Read { path: path.display().to_string(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a text; `path` names it in messages.
    ///
    /// # Errors
    /// [`RecipeError::Content`].
    pub fn parse(path: &str, text: &str) -> Result<Self, RecipeError> {
        let wrong = |problem: String| RecipeError::Content { path: path.to_owned(), problem };
        let mut settings: toml::Table = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;

        fn take<T: serde::de::DeserializeOwned>(settings: &mut toml::Table, key: &str) -> Result<Option<T>, String> {
            let value = settings.remove(key).map(toml::Value::try_into).transpose();
            value.map_err(|error: toml::de::Error| format!("{key}: {}", error.message()))
        }

        let command = take(&mut settings, "command").map_err(wrong)?;
        let stated = command.or_else(|| settings.contains_key(OF_FINETUNING).then_some(Command::Finetune));
        let command = stated.unwrap_or(Command::Train);
        let paper = take(&mut settings, "paper").map_err(wrong)?;
        let pretrained = take(&mut settings, "pretrained").map_err(wrong)?;
        Ok(Recipe { path: path.to_owned(), command, has_command: stated.is_some(), paper, pretrained, settings })
    }

    /// The settings, for the command that they are for.
    ///
    /// # Errors
    /// [`RecipeError::Command`] for another one.
    pub fn settings_for(self, command: Command) -> Result<toml::Table, RecipeError> {
        if self.has_command && self.command != command {
            return Err(RecipeError::Command { path: self.path, command: self.command });
        }
        Ok(self.settings)
    }

    /// The settings as a command line has them, for a command that is not layered as `train` is.
    ///
    /// # Errors
    /// [`RecipeError::Command`] for another command, [`RecipeError::Content`] for values that no flag has.
    pub fn flags_for(self, command: Command) -> Result<Vec<String>, RecipeError> {
        let path = self.path.clone();
        let text = |key: &str, value: &toml::Value| match value {
            toml::Value::String(text) => Ok(text.clone()),
            toml::Value::Integer(number) => Ok(number.to_string()),
            toml::Value::Float(number) => Ok(number.to_string()),
            other => Err(RecipeError::Content {
                path: path.clone(),
                problem: format!("{key} = {other} cannot be the value of a flag"),
            }),
        };

        let mut flags = Vec::new();
        for (key, value) in &self.settings_for(command)? {
            match value {
                toml::Value::Boolean(true) => flags.push(format!("--{key}")),
                toml::Value::Boolean(false) => {}
                toml::Value::Array(values) => {
                    let values = values.iter().map(|value| text(key, value)).collect::<Result<Vec<_>, _>>()?;
                    flags.push(format!("--{key}={}", values.join(",")));
                }
                value => flags.push(format!("--{key}={}", text(key, value)?)),
            }
        }
        Ok(flags)
    }

    /// The recipe for a smaller machine: see [`scale_down`].
    ///
    /// # Errors
    /// [`RecipeError::Scale`]; [`RecipeError::Content`] for settings that are not numbers.
    pub fn scaled_down(mut self, by: u64) -> Result<Self, RecipeError> {
        scale_down(&mut self.settings, by).map_err(|problem| match problem {
            scale::ScaleError::By => RecipeError::Scale { max: scale::MAX_SCALE },
            scale::ScaleError::Value(problem) => RecipeError::Content { path: self.path.clone(), problem },
        })?;
        Ok(self)
    }

    /// A whole number among the settings.
    ///
    /// # Errors
    /// [`RecipeError::Content`] for a setting that is not a whole number of at least 0.
    pub fn number(&self, key: &str) -> Result<Option<u64>, RecipeError> {
        scale::number(&self.settings, key).map_err(|problem| RecipeError::Content { path: self.path.clone(), problem })
    }

    /// A text among the settings.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.as_str()
    }

    /// Whether the model is trained on masked pixels.
    pub fn is_bert(&self) -> bool {
        let pretrained = self.pretrained.as_ref().and_then(|pretrained| pretrained.objective.as_deref());
        self.text("objective").or(pretrained) == Some("bert")
    }

    /// The model that is trained, or that the checkpoint holds. A recipe of pre-training that does not say has the default
    /// size.
    ///
    /// # Errors
    /// [`RecipeError::Content`] and [`RecipeError::Model`]; [`RecipeError::NoModel`] where only a checkpoint says.
    pub fn model(&self) -> Result<ModelConfig, RecipeError> {
        let wrong = |problem: String| RecipeError::Content { path: self.path.clone(), problem };
        let preset = match (self.settings.get("model"), &self.pretrained) {
            (Some(model), _) => {
                model.clone().try_into().map_err(|error: toml::de::Error| wrong(error.message().into()))?
            }
            (None, Some(pretrained)) => pretrained.model,
            (None, None) if self.command != Command::Train || self.settings.contains_key("init") => {
                return Err(RecipeError::NoModel { path: self.path.clone() });
            }
            (None, None) => Preset::default(),
        };

        let number = |key| Ok::<_, RecipeError>(self.number(key)?.map(|value| value as usize));
        let built_in = self.text("data").is_none_or(|data| data == "sample");
        let resolution = number("resolution")?
            .or(self.pretrained.as_ref().map(|pretrained| pretrained.resolution))
            .unwrap_or(if built_in { 16 } else { 32 });
        // Checked before it is squared.
        if !(1..=256).contains(&resolution) {
            return Err(wrong(format!("resolution = {resolution} must be from 1 to 256")));
        }

        // A palette that is not made yet is taken for one of the paper's size.
        let palette = self.text("palette").map(Path::new).filter(|palette| palette.exists());
        let palette = palette.map(Palette::load).transpose().map_err(|error| wrong(error.to_string()))?;

        let config = ModelConfig::preset(preset, resolution);
        let config = ModelConfig {
            vocabulary: palette.map_or(config.vocabulary, |palette| palette.len()),
            layers: number("layers")?.unwrap_or(config.layers),
            width: number("width")?.unwrap_or(config.width),
            heads: number("heads")?.unwrap_or(config.heads),
            bias: self.settings.get("bias").and_then(toml::Value::as_bool).unwrap_or(config.bias),
            sos: !self.is_bert(),
            ..config
        };
        config.validate()?;
        Ok(config)
    }
}
