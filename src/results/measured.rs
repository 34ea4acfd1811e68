//! One figure of a run, and what to know beside it.

use std::path::PathBuf;

use serde::Serialize;

use super::key::ResultKey;
use crate::fs::serialize_path;
use crate::recipe::Recipe;

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredResult {
    /// Its folder, or the file.
    #[serde(serialize_with = "serialize_path")]
    pub run: PathBuf,
    /// What it is about.
    #[serde(flatten)]
    pub key: ResultKey,
    /// The figure: nats per token of pre-training, else % accuracy.
    pub value: f64,
    /// Standard deviation over seeds.
    pub deviation: Option<f64>,
    /// Whether it was measured on test images, rather than on those held out of training.
    pub on_test: bool,
    /// Updates of the model.
    pub steps: Option<u64>,
    /// What to know beside the figure.
    pub remarks: Vec<String>,
    /// The run's settings.
    #[serde(skip)]
    pub settings: Option<Recipe>,
}
