//! The loop's validations: scores, the best accuracy, and fewer images at a time where memory ends.

use std::time::Instant;

use super::training_loop::TrainingLoop;
use super::{Events, TrainError};
use crate::data::Examples;
use crate::device::{Device, Error};
use crate::eval::{Evaluation, EvaluationPlan, Masks, Part, Scores, evaluate_part};
use crate::model::Criterion;
use crate::run::metrics::{Record, ValidationRecord};

/// What is done, for people.
const WHAT: &str = "the validation";

impl<D: Device> TrainingLoop<'_, D> {
    /// Scores the validation images, which all ranks share out among them; all know how good it was, for the same decisions.
    pub(super) fn evaluate(&mut self, step: u64, events: &mut dyn Events) -> Result<(), TrainError> {
        let Some(validation) = self.validation else { return Ok(()) };
        let start = Instant::now();
        let evaluation = self.score(validation, events)?;
        self.check_finite("validation loss", evaluation.nats_per_token, step)?;
        let classification = evaluation.classification;
        self.check_finite("class loss on the validation images", classification.map_or(0.0, |found| found.loss), step)?;
        self.progress.elapsed += start.elapsed().as_secs_f64();
        self.led("the record of a validation", |it| it.record(step, &evaluation, events))?;

        let best = self.progress.best_validation.unwrap_or(f64::INFINITY);
        self.progress.best_validation = Some(best.min(evaluation.nats_per_token));
        classification.map_or(Ok(()), |found| self.note_accuracy(step, found.accuracy, events))
    }

    /// Logs and shows what was found.
    fn record(&mut self, step: u64, evaluation: &Evaluation, events: &mut dyn Events) -> Result<(), TrainError> {
        let classification = evaluation.classification;
        self.append(&Record::Validation(ValidationRecord {
            step,
            val_loss: evaluation.nats_per_token,
            unigram_entropy: evaluation.unigram_entropy,
            class_loss: classification.map(|found| found.loss),
            accuracy: classification.map(|found| found.accuracy),
            images: evaluation.images,
            elapsed: self.progress.elapsed,
        }))?;
        events.evaluated(step, evaluation);
        Ok(())
    }

    /// Scores images: this rank its own, fewer at a time from where memory ends on. Each image's scores are added up in the order of
    /// the images, so all ranks find what one process finds, to the bit.
    fn score(&mut self, validation: &dyn Examples, events: &mut dyn Events) -> Result<Evaluation, TrainError> {
        let together = self.together.clone();
        let (rank, ranks) = (together.rank(), together.size());
        let part = if ranks == 1 { Part::ALL } else { Part { rank, ranks, images: self.schedule.eval_share } };
        let images = if self.schedule.eval_images == 0 { usize::MAX } else { self.schedule.eval_images };
        let images = images.min(validation.len());
        let own = self.score_part(validation, images, part, events);

        let (device, vocabulary) = (self.trainer.device(), self.trainer.model().config().vocabulary);
        let most = part.most_numbers(images, vocabulary);
        let parts = together.gathered(device, WHAT, own.map(|scores| scores.numbers()), most)?;
        let objective = self.trainer.criterion().objective;
        Ok(Scores::together(&parts, part, images, vocabulary).evaluation(objective))
    }

    /// The images of this rank.
    fn score_part(
        &mut self,
        validation: &dyn Examples,
        images: usize,
        part: Part,
        events: &mut dyn Events,
    ) -> Result<Scores, TrainError> {
        let Criterion { objective, masking, .. } = *self.trainer.criterion();
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let masks = Masks::Random { masking, per_image: 1 };

        // Half as many at a time where memory ends.
        loop {
            let batch = self.schedule.eval_batch;
            let plan = EvaluationPlan { images, batch, objective, masks };
            let scored = self.trainer.between_steps(|| {
                evaluate_part(device, model, parameters, validation, &plan, part, |_| Ok::<_, TrainError>(()))
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

        let start = Instant::now();
        self.led("the look at the run's folder", |it| it.keep_folder(events))?;
        self.progress.note_accuracy(step, accuracy);
        let best = self.records.as_ref().map(|records| records.folder.best());
        self.write(best, None, start, events)
    }
}
