//! The loop's validations: scores, the best accuracy, and fewer images at a time where memory ends.

use std::time::Instant;

use super::training_loop::TrainingLoop;
use super::{Events, TrainError};
use crate::data::Examples;
use crate::device::{Device, Error};
use crate::eval::{Evaluation, EvaluationPlan, Masks, evaluate_with};
use crate::model::Criterion;
use crate::run::metrics::{Record, ValidationRecord};

impl<D: Device> TrainingLoop<'_, D> {
    /// Scores the validation images: rank 0, and all ranks know how good it was, for the same decisions.
    pub(super) fn evaluate(&mut self, step: u64, events: &mut dyn Events) -> Result<(), TrainError> {
        if self.validation.is_none() {
            return Ok(());
        }
        let (together, device) = (self.together.clone(), self.trainer.device());
        let [nats, accuracy] = together.led(device, "the validation", || self.evaluate_here(step, events))?;

        // The counters of those that have not seen it.
        let best = self.progress.best_validation.unwrap_or(f64::INFINITY);
        self.progress.best_validation = Some(best.min(nats));
        if accuracy.is_nan() { Ok(()) } else { self.note_accuracy(step, accuracy, events) }
    }

    /// Scores the validation images and logs the result; returns nats per token, and the accuracy or NaN.
    fn evaluate_here(&mut self, step: u64, events: &mut dyn Events) -> Result<[f64; 2], TrainError> {
        let Some(validation) = self.validation else { return Ok([f64::NAN; 2]) };
        let start = Instant::now();
        let evaluation = self.score(validation, events)?;
        self.check_finite("validation loss", evaluation.nats_per_token, step)?;
        let classification = evaluation.classification;
        self.check_finite("class loss on the validation images", classification.map_or(0.0, |found| found.loss), step)?;

        // Log and show.
        self.progress.elapsed += start.elapsed().as_secs_f64();
        self.append(&Record::Validation(ValidationRecord {
            step,
            val_loss: evaluation.nats_per_token,
            unigram_entropy: evaluation.unigram_entropy,
            class_loss: classification.map(|found| found.loss),
            accuracy: classification.map(|found| found.accuracy),
            images: evaluation.images,
            elapsed: self.progress.elapsed,
        }))?;

        events.evaluated(step, &evaluation);
        Ok([evaluation.nats_per_token, classification.map_or(f64::NAN, |found| found.accuracy)])
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

    /// Saves the weights if their accuracy is the best so far, else counts one more validation without a better one: on all ranks.
    fn note_accuracy(&mut self, step: u64, accuracy: f64, events: &mut dyn Events) -> Result<(), TrainError> {
        if !self.progress.is_best(accuracy) {
            self.progress.note_accuracy(step, accuracy);
            return Ok(());
        }

        self.led("the look at the run's folder", |it| it.keep_folder(events))?;
        self.progress.note_accuracy(step, accuracy);
        let best = self.records.as_ref().map(|records| records.folder.best());
        self.write(best.as_deref(), None)
    }
}
