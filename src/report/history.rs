//! What a run recorded, as far as its page shows it: of a size that does not grow with the run.

use std::path::Path;

use super::card::CardHistory;
use super::median::Median;
use super::thinned::Thinned;
use crate::run::folder::RunFolderError;
use crate::run::metrics::{Record, TrainRecord, ValidationRecord};
use crate::run::metrics_reader::MetricsReader;

/// A run's records, taken one by one: the curves thinned, and the records that the summary names.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(super) training: TrainingCurves,
    pub(super) validation: ValidationCurves,
    /// Tokens per second of the median step: the first one, and pauses, do not count.
    pub(super) speed: Median,
    pub(super) card: CardHistory,
    last_step: Option<TrainRecord>,
    last_made: Option<TrainRecord>,
    skipped: u64,
    last_validation: Option<ValidationRecord>,
    best_validation: Option<ValidationRecord>,
    best_accuracy: Option<(u64, f64)>,
}

/// Curves of the training steps.
#[derive(Clone, Debug, Default)]
pub(super) struct TrainingCurves {
    /// The generative loss, nats per token.
    pub loss: Thinned,
    /// Nats per image.
    pub class_loss: Thinned,
    pub learning_rate: Thinned,
    pub gradient_norm: Thinned,
}

/// Curves of the validations.
#[derive(Clone, Debug, Default)]
pub(super) struct ValidationCurves {
    /// Nats per token.
    pub loss: Thinned,
    /// Nats per image.
    pub class_loss: Thinned,
    /// Percent.
    pub accuracy: Thinned,
}

impl History {
    /// Reads `metrics.jsonl`.
    ///
    /// # Errors
    /// [`RunFolderError::Io`], [`RunFolderError::Metrics`].
    pub fn read(path: &Path) -> Result<Self, RunFolderError> {
        let mut history = Self::default();
        for record in MetricsReader::open(path)? {
            history.push(&record?);
        }
        Ok(history)
    }

    /// Takes the next record.
    pub fn push(&mut self, record: &Record) {
        match record {
            Record::Train(record) => self.push_step(record),
            Record::Validation(record) => self.push_validation(record),
        }
    }

    fn push_step(&mut self, record: &TrainRecord) {
        let step = record.step as f64;
        self.training.loss.push((step, record.generative()));
        self.training.class_loss.push((step, record.class_loss.unwrap_or(f64::NAN)));
        self.training.learning_rate.push((step, record.lr));
        self.training.gradient_norm.push((step, record.grad_norm));
        self.speed.push(record.tokens_per_second);
        if let Some(reading) = &record.gpu {
            self.card.push(record.step, reading);
        }
        self.last_step = Some(*record);
        if record.skipped > 0 {
            self.skipped += 1;
        } else {
            self.last_made = Some(*record);
        }
    }

    fn push_validation(&mut self, record: &ValidationRecord) {
        let step = record.step as f64;
        self.validation.loss.push((step, record.val_loss));
        self.validation.class_loss.push((step, record.class_loss.unwrap_or(f64::NAN)));
        if let Some(accuracy) = record.accuracy {
            self.validation.accuracy.push((step, 100.0 * accuracy));
            // The first of equals is the one that was kept.
            if self.best_accuracy.is_none_or(|(_, best)| accuracy > best) {
                self.best_accuracy = Some((record.step, accuracy));
            }
        }

        let is_best = |best: ValidationRecord| record.val_loss.total_cmp(&best.val_loss).is_lt();
        if self.best_validation.is_none_or(is_best) {
            self.best_validation = Some(*record);
        }
        self.last_validation = Some(*record);
    }

    /// The last training step.
    pub fn last_step(&self) -> Option<&TrainRecord> {
        self.last_step.as_ref()
    }

    /// The last training step that was made, not skipped.
    pub fn last_made(&self) -> Option<&TrainRecord> {
        self.last_made.as_ref()
    }

    /// Training steps that were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Joules that the card used, as far as it was measured.
    pub fn joules(&self) -> Option<f64> {
        self.card.joules()
    }

    /// The last validation.
    pub fn last_validation(&self) -> Option<&ValidationRecord> {
        self.last_validation.as_ref()
    }

    /// The validation of the lowest loss, the first of equals.
    pub fn best_validation(&self) -> Option<&ValidationRecord> {
        self.best_validation.as_ref()
    }

    /// The step of the highest accuracy on the validation images, and that accuracy; the first of equals.
    pub fn best_accuracy(&self) -> Option<(u64, f64)> {
        self.best_accuracy
    }

    /// Entropy of the validation tokens' histogram, nats, if there was a validation.
    pub fn unigram_entropy(&self) -> Option<f64> {
        self.last_validation.map(|record| record.unigram_entropy).filter(|entropy| entropy.is_finite())
    }
}

impl FromIterator<Record> for History {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut history = Self::default();
        records.into_iter().for_each(|record| history.push(&record));
        history
    }
}
