//! The loop: steps, validations, samples and checkpoints until the last step or a stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::checkpoint::{self, BestAccuracy, CheckpointContents, Progress, TrainingState};
use crate::data::{Examples, Palette, Prefetcher};
use crate::device::{Device, SampleOptions};
use crate::eval::{Evaluation, EvaluationPlan, Masks, evaluate_with, score, tokens_of};
use crate::model::{Criterion, Generation, Objective};
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::run::metrics::{MetricsLog, Record, TrainRecord, ValidationRecord};
use crate::sample::grid::{comfortable_scale, completion_grid, write_png};
use crate::train::{Events, MicroBatch, Pace, PendingStep, StepOutcome, TrainError, Trainer};

/// When the loop does what.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Steps in all.
    pub steps: u64,
    /// Micro-batches a step.
    pub accumulate: usize,
    /// Images a micro-batch.
    pub batch: usize,
    /// Steps between validations; 0 for none.
    pub eval_every: u64,
    /// Validation images scored each time; 0 for all.
    pub eval_images: usize,
    /// Steps between sample grids; 0 for none.
    pub sample_every: u64,
    /// Steps between checkpoints; 0 for the last step only.
    pub save_every: u64,
    /// Checkpoints kept.
    pub keep: usize,
    /// Fine-tuning: validations in a row without a better accuracy after which to stop; never if `None`.
    pub patience: Option<u64>,
    /// Seed of the samples.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// The accuracy on the validation images has not risen for as long as the plan waits for it.
    StoppedEarly,
    /// Somebody asked it to stop; it can be resumed.
    Interrupted,
}

/// A run under way: what it trains, on what, and where it leaves its traces.
pub struct Run<'a, D: Device> {
    /// The model and its optimiser.
    pub trainer: Trainer<'a, D>,
    /// Micro-batches in order, from the next step on.
    pub batches: Prefetcher,
    /// Tokens of an image.
    pub length: usize,
    /// Images to validate on, if any.
    pub validation: Option<&'a dyn Examples>,
    /// Colours, for pictures and for the checkpoints.
    pub palette: &'a Palette,
    /// The run folder.
    pub folder: &'a RunFolder,
    /// Its metrics.
    pub log: MetricsLog,
    /// When what is done.
    pub plan: Plan,
    /// Counters that a checkpoint carries.
    pub progress: Progress,
    /// When the last step was done; none at first.
    pub finished: Option<Instant>,
}

/// A step that the device has been asked for, and what will be noted once it is done.
struct StepOnItsWay<D: Device> {
    pending: PendingStep<D>,
    start: Instant,
    /// Tokens of all its images.
    tokens: usize,
    /// Tokens of its first image, `[length]`.
    witness: Vec<u16>,
}

/// Images in a grid of samples, and drawings of each.
const GRID_ROWS: usize = 6;
const GRID_COMPLETIONS: usize = 4;

impl<D: Device> Run<'_, D> {
    /// Trains until the plan's last step, until its patience ends, or until `stop` is set; then saves, whatever the schedule
    /// of checkpoints says.
    pub fn train(&mut self, events: &mut dyn Events, stop: &AtomicBool) -> Result<Ending, TrainError> {
        let Plan { steps, eval_every, sample_every, save_every, .. } = self.plan;
        events.started(self.trainer.step_count(), steps);
        let mut saved = self.trainer.step_count();
        // Tokens of an image of the last step, [length].
        let mut witness = Vec::new();
        let mut on_its_way: Option<StepOnItsWay<D>> = None;
        while self.trainer.step_count() < steps && !self.stalled() && !stop.load(Ordering::Relaxed) {
            let started = self.start()?;
            let step = self.trainer.step_count();
            if let Some(before) = on_its_way.take() {
                self.finish(before, &mut witness, events)?;
            }
            let due = |every: u64| every > 0 && (step.is_multiple_of(every) || step == steps);
            // A device that works on its own is given the next step before the host reads this one's numbers.
            if D::ASYNCHRONOUS && step < steps && ![eval_every, sample_every, save_every].into_iter().any(due) {
                on_its_way = Some(started);
                continue;
            }
            self.finish(started, &mut witness, events)?;
            if due(eval_every) {
                self.evaluate(step, events)?;
            }
            if due(sample_every) {
                self.draw_samples(step, events)?;
            }
            if due(save_every) || step == steps || self.stalled() {
                self.save(&witness, events)?;
                saved = step;
            }
        }
        if let Some(last) = on_its_way {
            self.finish(last, &mut witness, events)?;
        }
        if self.trainer.step_count() == steps {
            return Ok(Ending::Finished);
        }
        if self.stalled() {
            return Ok(Ending::StoppedEarly);
        }
        if saved < self.trainer.step_count() {
            self.save(&witness, events)?;
        }
        Ok(Ending::Interrupted)
    }

    /// Whether patience has ended.
    fn stalled(&self) -> bool {
        let since = self.progress.best.map_or(0, |best| best.validations_since);
        self.plan.patience.is_some_and(|patience| since >= patience)
    }

    fn start(&mut self) -> Result<StepOnItsWay<D>, TrainError> {
        let start = Instant::now();
        let micro_batches = (0..self.plan.accumulate)
            .map_while(|_| self.batches.next())
            .map(|batch| Ok(MicroBatch::from(batch?)))
            .collect::<Result<Vec<_>, TrainError>>()?;
        let pending = self.trainer.start(&micro_batches, self.length)?;
        let first = micro_batches.first().map(|first| first.tokens.iter().take(self.length).copied().collect());
        let tokens = micro_batches.iter().map(|batch| batch.tokens.len()).sum();
        Ok(StepOnItsWay { pending, start, tokens, witness: first.unwrap_or_default() })
    }

    fn finish(
        &mut self,
        step: StepOnItsWay<D>,
        witness: &mut Vec<u16>,
        events: &mut dyn Events,
    ) -> Result<(), TrainError> {
        let StepOnItsWay { pending, start, tokens, witness: image } = step;
        let outcome = self.trainer.finish(pending)?;
        self.refuse_divergence(&outcome)?;
        *witness = image;
        // Steps that overlap share the time between them: each has what passed since the one before was done.
        let start = self.finished.map_or(start, |finished| finished.max(start));
        let seconds = start.elapsed().as_secs_f64();
        self.finished = Some(Instant::now());
        self.progress.step = outcome.step;
        self.progress.samples += (tokens / self.length) as u64;
        self.progress.tokens += tokens as u64;
        self.progress.elapsed += seconds;
        let data_wait = self.batches.wait().fraction();
        let pace = Pace { tokens_per_second: tokens as f64 / seconds, elapsed: self.progress.elapsed, data_wait };
        let learns_classes = self.trainer.criterion().classification_weight != 0.0;
        self.log.append(&Record::Train(TrainRecord {
            step: outcome.step,
            loss: outcome.loss,
            generative_loss: outcome.generative_loss.filter(|_| learns_classes),
            class_loss: outcome.class_loss,
            lr: outcome.learning_rate,
            grad_norm: outcome.gradient_norm,
            tokens_per_second: pace.tokens_per_second,
            elapsed: pace.elapsed,
        }))?;
        events.stepped(&outcome, &pace);
        if let Some(complaint) = self.batches.complaint() {
            events.note(&complaint);
        }
        Ok(())
    }

    fn refuse_divergence(&self, outcome: &StepOutcome) -> Result<(), TrainError> {
        self.finite("loss", outcome.loss, outcome.step)?;
        self.finite("gradient norm", outcome.gradient_norm, outcome.step)
    }

    fn finite(&self, what: &'static str, value: f64, step: u64) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        let last_good = match checkpoints::latest(self.folder.root()) {
            Ok(Some((_, path))) => format!("the last good checkpoint is {}", path.display()),
            Ok(None) | Err(_) => "no checkpoint had been saved yet".to_owned(),
        };
        Err(TrainError::Diverged { what, value, step, last_good })
    }

    /// An update can ruin weights whose loss was still good before it. Saving them would push a good checkpoint out, so
    /// they must be numbers and score `witness`, an image of the last step.
    fn refuse_ruined(&self, witness: &[u16]) -> Result<(), TrainError> {
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let step = self.progress.step;
        for tensor in parameters.values() {
            let ruined = device.download(tensor)?.into_iter().find(|weight| !weight.is_finite());
            self.finite("weight after the update", f64::from(ruined.unwrap_or(0.0)), step)?;
        }
        let loss: f64 = score(device, model, parameters, witness, self.length)?.into_iter().map(f64::from).sum();
        self.finite("loss after the update", loss, step)
    }

    fn evaluate(&mut self, step: u64, events: &mut dyn Events) -> Result<(), TrainError> {
        let Some(validation) = self.validation else { return Ok(()) };
        let start = Instant::now();
        let images = if self.plan.eval_images == 0 { usize::MAX } else { self.plan.eval_images };
        let Criterion { objective, masking, .. } = *self.trainer.criterion();
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let masks = Masks::Drawn { masking, draws: 1 };
        let plan = EvaluationPlan { images, batch: self.plan.batch, objective, masks };
        let evaluation: Evaluation =
            evaluate_with(device, model, parameters, validation, &plan, |_| Ok::<_, TrainError>(()))?;
        self.finite("validation loss", evaluation.nats_per_token, step)?;
        let classification = evaluation.classification;
        self.finite("class loss on the validation images", classification.map_or(0.0, |found| found.loss), step)?;
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
            Some(found) => self.note_accuracy(step, found.accuracy),
            None => Ok(()),
        }
    }

    /// Keeps the weights that were best so far, whatever becomes of those after them.
    fn note_accuracy(&mut self, step: u64, accuracy: f64) -> Result<(), TrainError> {
        if let Some(best) = self.progress.best.as_mut().filter(|best| accuracy <= best.accuracy) {
            best.validations_since += 1;
            return Ok(());
        }
        self.progress.best = Some(BestAccuracy { step, accuracy, validations_since: 0 });
        let contents = CheckpointContents {
            config: self.trainer.model().config(),
            parameters: self.trainer.parameters(),
            device: self.trainer.device(),
            palette: Some(self.palette.colours()),
            training: None,
        };
        Ok(checkpoint::save(&self.folder.best(), &contents)?)
    }

    /// Completes the first validation images and writes the grid; a BERT model completes none.
    fn draw_samples(&mut self, step: u64, events: &mut dyn Events) -> Result<(), TrainError> {
        let side = self.length.isqrt();
        let Some(examples) = self.validation else { return Ok(()) };
        let draws = self.trainer.criterion().objective == Objective::Ar;
        if side * side != self.length || side < 2 || !draws {
            return Ok(());
        }
        let start = Instant::now();
        let originals = tokens_of(examples, 0, GRID_ROWS.min(examples.len()))?;
        let generation = Generation {
            length: self.length,
            options: SampleOptions { temperature: 1.0, top_k: None },
            seed: self.plan.seed,
            first: 0,
        };
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let (grid, _) = completion_grid(
            device,
            model,
            parameters,
            self.palette,
            &originals,
            side,
            GRID_COMPLETIONS,
            generation,
            |_| {},
        )?;
        let path = self.folder.sample_grid(step);
        write_png(&path, &grid.draw(comfortable_scale(side)))
            .map_err(|source| TrainError::Write { path: path.clone(), source })?;
        self.progress.elapsed += start.elapsed().as_secs_f64();
        events.sampled(step, &path);
        Ok(())
    }

    fn save(&mut self, witness: &[u16], events: &mut dyn Events) -> Result<(), TrainError> {
        self.refuse_ruined(witness)?;
        let (device, parameters, adam) = (self.trainer.device(), self.trainer.parameters(), self.trainer.adam());
        // A record that a checkpoint vouches for must not be lost to a power cut that the checkpoint survives.
        self.log.sync()?;
        let contents = CheckpointContents {
            config: self.trainer.model().config(),
            parameters,
            device,
            palette: Some(self.palette.colours()),
            training: Some(TrainingState {
                first_moments: adam.first_moments(),
                second_moments: adam.second_moments(),
                progress: self.progress,
            }),
        };
        let path = self.folder.checkpoint(self.progress.step);
        checkpoint::save(&path, &contents)?;
        checkpoints::prune(self.folder.root(), self.plan.keep)?;
        events.saved(self.progress.step, &path);
        Ok(())
    }
}
