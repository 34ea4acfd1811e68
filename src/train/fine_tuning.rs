//! The settings of fine-tuning, beside those of pre-training.

use serde::{Deserialize, Serialize};

use super::settings_error::{Result, SettingsError};

/// The settings that only fine-tuning has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FineTuning {
    /// Factor of the generative loss, nats per token.
    pub generative_weight: f64,
    /// Factor of the class head's cross-entropy, nats per image.
    pub classification_weight: f64,
    /// Validations in a row without a better accuracy after which to stop; 0 to make all steps.
    pub patience: u64,
    /// Whether a second run follows, on training and validation images together.
    pub fold_validation: bool,
}

impl Default for FineTuning {
    fn default() -> Self {
        Self { generative_weight: 1.0, classification_weight: 1.0, patience: 5, fold_validation: false }
    }
}

impl FineTuning {
    /// Its keys in TOML.
    pub const KEYS: [&str; 4] = ["generative-weight", "classification-weight", "patience", "fold-validation"];

    pub(super) fn check(&self) -> Result<()> {
        let is_weight = |weight: f64| (weight as f32).is_finite() && weight >= 0.0;
        if !is_weight(self.generative_weight) {
            let text = format!("--generative-weight {} must be 0 or more; the paper's is 1", self.generative_weight);
            return Err(SettingsError::new(text));
        }

        if !is_weight(self.classification_weight) || self.classification_weight as f32 == 0.0 {
            let text =
                format!("--classification-weight {} must be above 0; the paper's is 1", self.classification_weight);
            return Err(SettingsError::new(text));
        }
        Ok(())
    }
}

/// Settings of pre-training that in fine-tuning the checkpoint or the method decides: neither flags nor keys there.
pub const DECIDED: [&str; 13] = [
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
    "cooldown",
    "sample-every",
];
