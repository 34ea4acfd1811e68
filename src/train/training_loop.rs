//! The loop: steps, validations, samples and checkpoints until the last step or a stop.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::loop_schedule::LoopSchedule;
use super::skipping::Skipping;
use super::together::Together;
use super::under_way::Saving;
use super::{Events, Pace, PendingStep, StepOutcome, TrainError, Trainer};
use crate::checkpoint::Progress;
use crate::data::{Examples, Palette, Prefetcher, tokens_of};
use crate::device::nvml::Monitor;
use crate::device::{self, Device, SampleOptions};
use crate::model::Objective;
use crate::report::compute::Compute;
use crate::run::checkpoints;
use crate::run::folder::RunFolder;
use crate::run::metrics::{PeakSource, Record, TrainRecord};
use crate::run::restore::restore;
use crate::run::run_log::RunLog;
use crate::sample::Generation;
use crate::sample::grid::{GRID_COMPLETIONS, GRID_ROWS, comfortable_scale, completion_grid, drawn_at_once, write_png};

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// All steps were taken.
    Finished,
    /// The accuracy on the validation images has not risen for as long as the settings' patience.
    StoppedEarly,
    /// Somebody asked it to stop; it can be resumed.
    Interrupted,
}

/// A run in progress: what it trains, on what, and where its files go.
pub(super) struct TrainingLoop<'a, D: Device> {
    /// FLOPs of a token, and the device's peak.
    pub compute: Compute,
    /// Watches the card, where there is one and NVML.
    pub monitor: Option<Monitor>,
    /// The model and its optimiser.
    pub trainer: Trainer<'a, D>,
    /// Micro-batches in order, from the next step on.
    pub batches: Prefetcher,
    /// Tokens per image.
    pub length: usize,
    /// Images to validate on, if any.
    pub validation: Option<&'a dyn Examples>,
    /// Colours, for pictures and for the checkpoints.
    pub palette: &'a Palette,
    /// What the run leaves; only rank 0 of several has it.
    pub records: Option<Records<'a>>,
    /// The ranks that train.
    pub together: Together<D>,
    /// When what is done.
    pub schedule: LoopSchedule,
    /// The counters that a checkpoint saves.
    pub progress: Progress,
    /// When the last step was done; `None` before the first.
    pub finished: Option<Instant>,
    /// Tokens of an image of the last step that was made, `[length]`, on which weights are checked before they are saved.
    pub check_image: Vec<u16>,
    /// Ends the run after too many skipped steps.
    pub skipping: Skipping,
    /// Whether a rank of several was asked to stop.
    pub asked_to_stop: bool,
    /// Whether a rank of several could not write its part of a checkpoint.
    pub saving_failed: bool,
    /// The checkpoint that is being written.
    pub saving: Saving<D>,
}

/// What a run leaves.
pub(super) struct Records<'a> {
    /// The run folder.
    pub folder: &'a mut RunFolder,
    /// What its `config.toml` says.
    pub config: String,
    /// Its metrics, and its curves for TensorBoard.
    pub log: RunLog,
}

/// A step in flight on the device, and what will be logged once it is done.
struct InFlightStep<D: Device> {
    pending: PendingStep<D>,
    start: Instant,
    /// Tokens of all its images.
    tokens: usize,
    /// Tokens of its first image, `[length]`.
    first_image: Vec<u16>,
}

impl<D: Device> TrainingLoop<'_, D> {
    /// Trains until the last step, until patience ends, or until `stop` is set; then saves, whatever the schedule of
    /// checkpoints says. Saves too where anything fails that leaves the weights sound: a bad image, a full disk.
    pub fn run(&mut self, events: &mut dyn Events, stop: &AtomicBool) -> Result<StopReason, TrainError> {
        events.started(self.trainer.step_count(), self.schedule.steps);
        // A session that was killed between a checkpoint and the removal of the oldest has left one too many.
        if let Some(records) = &self.records {
            checkpoints::prune(records.folder.root(), self.schedule.keep)?;
        }

        let mut attempted = self.trainer.step_count();
        let reason = match self.make_steps(events, stop, &mut attempted) {
            Ok(reason) => return self.settle_saving(events).map(|()| reason),
            Err(reason) => reason,
        };
        self.settle_alone(events);

        // Sound are weights whose every step came to its end with finite results.
        let step = self.progress.step;
        // Where another rank is gone, the device may wait for it for ever.
        let is_lost = matches!(reason, TrainError::Diverged { .. } | TrainError::Device(device::Error::Peer(_)));
        // Nor can this one save alone what each has parts of.
        let is_whole = self.trainer.sharded().is_none();
        let is_sound = self.trainer.step_count() == step && !is_lost && is_whole;
        let Some(out) = self.records.as_ref().map(|records| records.folder.root().to_owned()) else {
            return Err(reason);
        };
        if !is_sound || step == attempted {
            return Err(reason);
        }
        let reason = Box::new(reason);
        Err(match self.save_alone(events) {
            Ok(()) => TrainError::Kept { reason, step, out },
            Err(failure) => TrainError::NotKept { reason, failure: Box::new(failure) },
        })
    }

    /// The steps and what is due between them; `attempted` is the last step that was saved, or was to be.
    fn make_steps(
        &mut self,
        events: &mut dyn Events,
        stop: &AtomicBool,
        attempted: &mut u64,
    ) -> Result<StopReason, TrainError> {
        let LoopSchedule { steps, eval_every, sample_every, save_every, .. } = self.schedule;
        let mut in_flight: Option<InFlightStep<D>> = None;

        while self.trainer.step_count() < steps && !self.stalled() && !self.stops(stop)? {
            // What could not be written is not tried again at once.
            if let Err(error) = self.look_at_saving(events) {
                *attempted = self.trainer.step_count();
                return Err(error);
            }
            let started = self.start();
            let step = self.trainer.step_count();
            if let Some(before) = in_flight.take() {
                self.finish(before, events)?;
            }
            let started = started?;

            // An asynchronous device is given the next step before the host reads this one's results.
            let due = |every: u64| every > 0 && (step.is_multiple_of(every) || step == steps);
            let is_due = [eval_every, sample_every, save_every].into_iter().any(due);
            if D::ASYNCHRONOUS && step < steps && !is_due && self.skipping.check().is_ok() {
                in_flight = Some(started);
                continue;
            }

            // What is due after this step, unless it was one too many that was skipped.
            self.finish(started, events)?;
            self.skipping.check()?;
            if is_due || step == steps {
                self.refresh()?;
            }
            if due(eval_every) {
                self.evaluate(step, events)?;
            }
            if due(sample_every) {
                self.led("the drawing of samples", |it| it.draw_samples(step, events))?;
            }
            if due(save_every) || step == steps || self.stalled() {
                *attempted = step;
                self.save(events)?;
            }
        }

        // The step still in flight, and why the loop ended.
        if let Some(last) = in_flight {
            self.finish(last, events)?;
            self.skipping.check()?;
        }
        if self.trainer.step_count() == steps {
            return Ok(StopReason::Finished);
        }
        if self.stalled() {
            return Ok(StopReason::StoppedEarly);
        }
        if *attempted < self.trainer.step_count() {
            *attempted = self.trainer.step_count();
            self.refresh()?;
            self.save(events)?;
        }
        Ok(StopReason::Interrupted)
    }

    /// Looks after the run folder, before anything is written into it.
    pub(super) fn keep_folder(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        let Some(Records { folder, config, log }) = &mut self.records else { return Ok(()) };
        if let Some(told) = restore(folder, config, log)? {
            events.note(&told);
        }
        Ok(())
    }

    /// Has all ranks gather the weights of the last step, for what is done with them between steps.
    fn refresh(&mut self) -> Result<(), TrainError> {
        let together = self.together.clone();
        let _watched = together.waits("the weights of all ranks", false);
        Ok(self.trainer.refresh()?)
    }

    /// Whether patience has ended.
    fn stalled(&self) -> bool {
        let since = self.progress.best.map_or(0, |best| best.validations_since);
        self.schedule.patience.is_some_and(|patience| since >= patience)
    }

    /// Asks the device for the next step.
    fn start(&mut self) -> Result<InFlightStep<D>, TrainError> {
        let start = Instant::now();
        // Of the step's micro-batches this rank's.
        let share = self.schedule.accumulate / self.together.size();
        let micro_batches = (0..share).map_while(|_| self.batches.next()).collect::<Result<Vec<_>, _>>()?;
        let together = self.together.clone();
        let _watched = together.waits(&format!("step {}", self.trainer.step_count() + 1), self.finished.is_none());
        let pending = self.trainer.start(&micro_batches, self.length)?;

        let first = micro_batches.first().map(|first| first.tokens.iter().take(self.length).copied().collect());
        let own: usize = micro_batches.iter().map(|batch| batch.tokens.len()).sum();
        let tokens = own * self.together.size();
        Ok(InFlightStep { pending, start, tokens, first_image: first.unwrap_or_default() })
    }

    /// Waits for a step, checks that its results are finite or that it was skipped, and logs them.
    fn finish(&mut self, step: InFlightStep<D>, events: &mut dyn Events) -> Result<(), TrainError> {
        let InFlightStep { pending, start, tokens, first_image } = step;
        let outcome = {
            let together = self.together.clone();
            let _watched = together.waits(&format!("step {}", self.progress.step + 1), self.finished.is_none());
            self.trainer.finish(pending)?
        };
        self.asked_to_stop |= outcome.asked_to_stop;
        self.saving_failed |= outcome.saving_failed;
        if !outcome.was_skipped() {
            self.check_finite("loss", outcome.loss, outcome.step)?;
            self.check_image = first_image;
        }

        // Steps that overlap share the time between them: each has what passed since the one before was done.
        let start = self.finished.map_or(start, |finished| finished.max(start));
        let seconds = start.elapsed().as_secs_f64();
        self.finished = Some(Instant::now());
        self.progress.step = outcome.step;
        self.progress.skipped = outcome.skipped;
        self.progress.samples += (tokens / self.length) as u64;
        self.progress.tokens += tokens as u64;
        self.progress.elapsed += seconds;

        self.log_step(&outcome, tokens as f64 / seconds, events)?;
        self.skipping.note(&outcome, events);
        let lost = self.monitor.as_ref().and_then(Monitor::complaint);
        let lost = lost
            .map(|why| format!("note: the card's sensors do not answer (NVML: {why}); the run goes on without them"));
        self.batches.complaint().iter().chain(&lost).for_each(|complaint| events.note(complaint));
        Ok(())
    }

    /// Logs and shows a step that was finished.
    fn log_step(
        &mut self,
        outcome: &StepOutcome,
        tokens_per_second: f64,
        events: &mut dyn Events,
    ) -> Result<(), TrainError> {
        let data_wait = self.batches.wait().fraction();
        let sensed = self.monitor.as_ref().and_then(Monitor::latest);
        let ranks = self.together.size();
        let each = tokens_per_second / ranks as f64;
        let pace = Pace {
            tokens_per_second,
            images_per_second: tokens_per_second / self.length as f64,
            utilisation: self.compute.utilisation(tokens_per_second),
            gpu: sensed.map(|(reading, _)| reading),
            gpu_is_new: sensed.is_some_and(|(_, is_new)| is_new),
            elapsed: self.progress.elapsed,
            data_wait,
        };

        let [stall, write] = self.saving.take_times().map_or([None; 2], |times| times.map(Some));
        let learns_classes = self.trainer.criterion().classification_weight != 0.0;
        self.append(&Record::Train(TrainRecord {
            step: outcome.step,
            skipped: outcome.skipped.in_a_row,
            loss: outcome.loss,
            generative_loss: outcome.generative_loss.filter(|_| learns_classes),
            class_loss: outcome.class_loss,
            lr: outcome.learning_rate,
            grad_norm: outcome.gradient_norm,
            tokens_per_second,
            images_per_second: Some(pace.images_per_second),
            tokens_per_second_per_rank: (ranks > 1).then_some(each),
            exchange_ms: outcome.spent.map(|spent| spent.exchanging),
            skew_ms: outcome.spent.map(|spent| spent.skew),
            slowest_rank: outcome.spent.map(|spent| spent.slowest as u64),
            save_stall_ms: stall,
            save_write_ms: write,
            data_wait: Some(data_wait),
            mfu: pace.utilisation.map(|share| share.needed),
            mfu_palm: pace.utilisation.map(|share| share.palm),
            peak: pace.utilisation.map_or(PeakSource::DataSheet, |share| share.peak),
            gpu: pace.gpu.filter(|_| pace.gpu_is_new),
            elapsed: pace.elapsed,
        }))?;
        events.stepped(outcome, &pace);
        Ok(())
    }

    /// Logs a record, if this rank keeps the run's records.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), TrainError> {
        match &mut self.records {
            Some(records) => Ok(records.log.append(record)?),
            None => Ok(()),
        }
    }

    /// Refuses a NaN or infinite `value`: training has diverged at `step`.
    pub(super) fn check_finite(&self, what: &'static str, value: f64, step: u64) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        self.saving.wait();
        let last_good = match self.records.as_ref().map(|records| checkpoints::latest(records.folder.root())) {
            Some(Ok(Some((_, path)))) => format!("the last good checkpoint is {}", path.display()),
            Some(Ok(None) | Err(_)) => "no checkpoint had been saved yet".to_owned(),
            None => "rank 0 says where the last good checkpoint is".to_owned(),
        };
        Err(TrainError::Diverged { what, value, step, last_good })
    }

    /// Completes the first validation images and writes the grid; a BERT model completes none.
    fn draw_samples(&mut self, step: u64, events: &mut dyn Events) -> Result<(), TrainError> {
        let side = self.length.isqrt();
        let Some(examples) = self.validation else { return Ok(()) };
        let draws = self.trainer.criterion().objective == Objective::Ar;
        if side * side != self.length || side < 2 || !draws {
            return Ok(());
        }

        // Completions of the first halves, with temperature 1 and the run's seed.
        let start = Instant::now();
        let originals = tokens_of(examples, 0, GRID_ROWS.min(examples.len()))?;
        let (length, options, seed) = (self.length, SampleOptions::PLAIN, self.schedule.seed);
        let generation = Generation { length, options, seed, first: 0, guidance: None };
        let (device, model, parameters) = (self.trainer.device(), self.trainer.model(), self.trainer.parameters());
        let at_once = drawn_at_once(self.schedule.batch, model.recompute());
        let (grid, _) = self.trainer.between_steps(|| {
            let (palette, count) = (self.palette, GRID_COMPLETIONS);
            completion_grid(device, model, parameters, palette, &originals, side, count, at_once, generation, |_| {})
        })?;

        self.keep_folder(events)?;
        let Some(Records { folder, log, .. }) = &mut self.records else { return Ok(()) };
        let path = folder.sample_grid(step);
        let picture = grid.draw(comfortable_scale(side));
        let png = write_png(&path, &picture).map_err(|source| TrainError::Write { path: path.clone(), source })?;
        if self.schedule.shows(step) {
            log.append_grid(step, &png, picture.dimensions().into())?;
        }
        self.progress.elapsed += start.elapsed().as_secs_f64();
        events.sampled(step, &path);
        Ok(())
    }
}
