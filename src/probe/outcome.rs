//! What a probe found, as `probe.json` holds it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ProbeError, Result};
use super::protocol::Tried;
use super::solver::fit::FitSummary;
use super::solver_choice::Choice;
use crate::fs::atomic_file;
use crate::fs::path_text;
use crate::report::probe::{FewLabels, ProbeReport, Row, Source, best_of};
use crate::run::folder::RunFolder;

/// One classifier, fitted and tested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FittedClassifier {
    /// Whose features.
    pub source: Source,
    /// At which depths, side by side; none for pixels.
    pub depths: Vec<usize>,
    /// Number of features.
    pub features: usize,
    /// The number chosen on the held-out images.
    pub choice: Choice,
    /// Accuracy on the held-out images, fitted on the others.
    pub validation_accuracy: f64,
    /// Accuracy on the test images, fitted on all training images; none where only held-out images were asked for.
    pub test_accuracy: Option<f64>,
    /// Of a BERT model, the accuracy of the class that most masks of an image name.
    pub ensemble_accuracy: Option<f64>,
    /// The fit behind the test accuracy, or else behind the validation accuracy.
    #[serde(flatten)]
    pub fit: FitSummary,
    /// Everything tried on the held-out images.
    pub tried: Vec<Tried>,
    /// Seconds that all its fits took.
    pub seconds: f64,
}

impl From<&FittedClassifier> for Row {
    fn from(fitted: &FittedClassifier) -> Self {
        Row {
            source: fitted.source,
            depths: fitted.depths.clone(),
            features: fitted.features,
            choice: fitted.choice.to_string(),
            validation_accuracy: fitted.validation_accuracy,
            test_accuracy: fitted.test_accuracy,
            iterations: fitted.fit.iterations,
            converged: fitted.fit.converged,
        }
    }
}

/// The trained model's classifier that did best on the held-out images; of equals the first.
pub fn best_trained(fitted: &[FittedClassifier]) -> Option<&FittedClassifier> {
    best_of(fitted, Source::Trained, |fitted| (fitted.source, fitted.validation_accuracy))
}

/// What is read of a `probe.json`: enough to show it.
#[derive(Clone, Debug, Deserialize)]
pub struct Saved {
    /// The classifiers.
    pub rows: Vec<FittedClassifier>,
    /// Classes of the images.
    pub classes: usize,
    /// Training images used.
    pub train_images: usize,
    /// Test images used.
    pub test_images: usize,
}

impl Saved {
    /// What its chart and its table are drawn from.
    pub fn report(&self) -> ProbeReport {
        ProbeReport {
            title: String::new(),
            facts: Vec::new(),
            classes: self.classes,
            rows: self.rows.iter().map(Into::into).collect(),
            few_labels: Vec::new(),
        }
    }
}

/// How a session ended, and what it found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The classifiers.
    pub fitted: Vec<FittedClassifier>,
    /// With few labels.
    pub few_labels: Vec<FewLabels>,
    /// Classes of the images.
    pub classes: usize,
    /// The images, as `--data` names them.
    pub data: String,
    /// Training images used.
    pub train_images: usize,
    /// Test images used.
    pub test_images: usize,
    /// The checkpoint that was probed.
    pub checkpoint: Option<PathBuf>,
    /// Whether the moving average of its weights was probed.
    pub ema: bool,
    /// The solver in words.
    pub solver: String,
    /// The seed.
    pub seed: u64,
    /// Whether it came to the end; if not, the same session continues from the features that are there.
    pub finished: bool,
    /// Where the results are.
    pub folder: PathBuf,
}

impl Outcome {
    /// The trained model's classifier that did best on the held-out images.
    pub fn best(&self) -> Option<&FittedClassifier> {
        best_trained(&self.fitted)
    }

    /// The page with the accuracy by depth.
    pub fn report_path(&self) -> PathBuf {
        self.folder.join(RunFolder::REPORT)
    }

    /// The file with all figures.
    pub fn json_path(&self) -> PathBuf {
        self.folder.join(RunFolder::PROBE)
    }

    /// What the file with all figures holds.
    pub fn json(&self) -> Value {
        let mut value = json!({
            "rows": self.fitted,
            "best": self.best(),
            "few_labels": self.few_labels,
            "classes": self.classes,
            "data": self.data,
            "train_images": self.train_images,
            "test_images": self.test_images,
            "checkpoint": self.checkpoint.as_ref().map(path_text),
            "solver": self.solver,
            "seed": self.seed,
            "finished": self.finished,
            "report": path_text(self.report_path()),
        });
        if self.ema {
            value["ema"] = true.into();
        }
        value
    }

    /// Writes the page and the file with all figures, each whole or not at all.
    pub(super) fn write(&self, report: &ProbeReport) -> Result<()> {
        let files = [(self.report_path(), report.render()), (self.json_path(), format!("{:#}\n", self.json()))];
        for (path, text) in files {
            atomic_file::write_file(&path, |file| file.write_all(text.as_bytes()))
                .map_err(|source| ProbeError::Write { path, source })?;
        }
        Ok(())
    }
}
