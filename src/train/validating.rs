//! The loop's validations: scores, the best accuracy, and fewer images at a time where memory ends.

use std::time::Instant;

use super::training_loop::TrainingLoop;
use super::{Events, TrainError};
use crate::checkpoint::{self, BestAccuracy, CheckpointContents};
use crate::data::Examples;
use crate::device::{Device, Error};
use crate::eval::{Evaluation, EvaluationPlan, Masks, evaluate_with};
use crate::model::Criterion;
use crate::run::metrics::{Record, ValidationRecord};

impl<D: Device> TrainingLoop<'_, D> {
    /// Scores the validation images and logs the result.
    pub(super) fn evaluate(&mut self, step: u64, events: &mut dyn Events) -> Result<(), TrainError> {
        let Some(validation) = self.validation else { return Ok(()) };
        let start = Instant::now();
        let evaluation = self.score(validation, events)?;
        self.check_finite("validation loss", evaluation.nats_per_token, step)?;
        let classification = evaluation.classification;
        self.check_finite("class loss on the validation images", classification.map_or(0.0, |found| found.loss), step)?;

        // Log and show.
        self.progress.elapsed += start.elapsed().as_secs_f64();
        self.log.append(&Record::Validation(ValidationRecord {
            step,
            val_loss: evaluation.nats_per_token,
            unigram_entropy: evaluation.unigram_entropy,
            class_loss: classification.map(|found| found.loss),
            accuracy: classification.map(|found| found.accuracy),
            images: evaluation.images,
            elapsed: self.progress.elapsed,
        }))?;

        let best = self.progress.best_validation.unwrap_or(f64::INFINITY);
        self.progress.best_validation = Some(best.min(evaluation.nats_per_token));
        events.evaluated(step, &evaluation);
        match classification {
            Some(found) => self.note_accuracy(step, found.accuracy, events),
            None => Ok(()),
        }
    }

    /// Scores images, fewer at a time from where memory ends on.
    fn score(&mut self, validation: &dyn Examples, events: &mut dyn Events) -> Result<Evaluation, TrainError> {
        let images = if self.schedule.eval_images == 0 { usize::MAX } else { self.schedule.eval_images };
        let Criterion { objective, masking, .. } = *self.trainer.criterion();
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let masks = Masks::Random { masking, per_image: 1 };

        loop {
            let batch = self.schedule.eval_batch;
            let plan = EvaluationPlan { images, batch, objective, masks };
            let scored = self.trainer.between_steps(|| {
                evaluate_with(device, model, parameters, validation, &plan, |_| Ok::<_, TrainError>(()))
            });
            match scored {
                Err(TrainError::Device(Error::OutOfMemory { .. })) if batch > 1 => {
                    self.schedule.eval_batch = batch.div_ceil(2);
                    let fewer = self.schedule.eval_batch;
                    events.note(&format!(
                        "note: memory ended while {batch} images were validated at a time; it is {fewer} from here on \
                         (--eval-batch)"
                    ));
                }
                scored => return scored,
            }
        }
    }

    /// Saves the weights if their accuracy is the best so far, else counts one more validation without a better one.
    fn note_accuracy(&mut self, step: u64, accuracy: f64, events: &mut dyn Events) -> Result<(), TrainError> {
        if let Some(best) = self.progress.best.as_mut().filter(|best| accuracy <= best.accuracy) {
            best.validations_since += 1;
            return Ok(());
        }

        self.keep_folder(events)?;
        self.progress.best = Some(BestAccuracy { step, accuracy, validations_since: 0 });
        let contents = CheckpointContents {
            config: self.trainer.model().config(),
            parameters: self.trainer.parameters(),
            average: self.trainer.average(),
            device: self.trainer.device(),
            palette: Some(self.palette.colours()),
            training: None,
        };
        Ok(checkpoint::save(&self.folder.best(), &contents)?)
    }
}
