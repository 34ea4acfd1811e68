//! What becomes of a checkpoint that a thread writes: looked for between steps, waited for where the next one comes, at the end and where a
//! run fails. A failure reaches every rank after the same step.

use std::time::{Duration, Instant};

use super::events::Saved;
use super::training_loop::TrainingLoop;
use super::under_way::PATIENCE;
use super::writer::{WHAT, Writer, Written};
use super::{Events, TrainError};
use crate::device::Device;
use crate::run::checkpoints;

/// A wait from which on it is said.
const SAID: Duration = Duration::from_millis(100);
impl<D: Device> TrainingLoop<'_, D> {
    /// Looks whether a checkpoint is done, without waiting for it.
    ///
    /// # Errors
    /// What went wrong with it: of several ranks on all of them after the same step.
    pub(super) fn look_at_saving(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        if self.saving.writer.as_ref().is_some_and(Writer::is_done) {
            self.end_writing(events);
        }
        let has_failed = if self.together.size() == 1 { self.saving.has_failed() } else { self.saving_failed };
        if has_failed { self.settle_saving(events) } else { Ok(()) }
    }

    /// Waits for the checkpoint on its way, if there is one, and for what all ranks have to say of it.
    ///
    /// # Errors
    /// Those of this rank, or that another has failed.
    pub(super) fn settle_saving(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        if !self.saving.unsettled {
            return Ok(());
        }
        let together = self.together.clone();
        let start = Instant::now();
        if let Some(writer) = &self.saving.writer {
            writer.wait_for_own();
            // Others may be slower.
            let _watched = together.waits(WHAT, true).filter(|_| together.leads());
            writer.wait();
        }
        let waited = start.elapsed();
        let step = self.saving.step;
        self.end_writing(events);
        if let Some(step) = step.filter(|step| *step < self.progress.step && waited > SAID) {
            let seconds = waited.as_secs_f64();
            events.note(&format!(
                "note: training stood still for {seconds:.1} s, until the checkpoint of step {step} was written"
            ));
        }

        self.saving.unsettled = false;
        let own = self.saving.failure.take().map_or(Ok(()), Err);
        match own {
            Err(error) if self.has_vanished() => self.save_again(&error, events),
            own if together.size() == 1 => own,
            own if together.leads() => together.led(self.trainer.device(), WHAT, || own.map(|()| [])).map(|_| ()),
            own => {
                // Whatever this one has to say, rank 0 tells all whether there is a checkpoint.
                let led = together.led(self.trainer.device(), WHAT, || Ok([])).map(|_| ());
                own.and(led)
            }
        }
    }

    /// The same where this rank fails and no other may be there: its error is only said, for there is another that ends the run.
    pub(super) fn settle_alone(&mut self, events: &mut dyn Events) {
        if let Some(writer) = &self.saving.writer {
            writer.wait_at_most(PATIENCE);
            writer.abandon();
        }
        self.end_writing(events);
        self.saving.unsettled = false;
        if let Some(error) = self.saving.failure.take() {
            events.note(&format!("note: {error}"));
        }
    }

    /// Takes what the thread leaves, which is waited for.
    fn end_writing(&mut self, events: &mut dyn Events) {
        let Some(writer) = self.saving.writer.take() else { return };
        let Written { outcome, buffers } = writer.end();
        self.saving.free.extend(buffers);
        match outcome {
            Ok(writing) => {
                self.saving.times[1] = writing;
                if let Err(error) = self.saved(events) {
                    self.saving.failed(error);
                }
            }
            Err(error) => self.saving.failed(error),
        }
    }

    /// After a checkpoint.
    pub(super) fn saved(&mut self, events: &mut dyn Events) -> Result<(), TrainError> {
        let times @ [stood_still, writing] = self.saving.times;
        self.saving.told = Some(times);
        let (Some(records), Some(path), Some(step)) = (&self.records, self.saving.path.take(), self.saving.step) else {
            return Ok(());
        };
        checkpoints::prune(records.folder.root(), self.schedule.keep)?;
        events.saved(&Saved { step, path: &path, stood_still, writing });
        Ok(())
    }

    /// Whether the run folder was removed, which the next save would have noticed: of one process, which can make it again alone.
    fn has_vanished(&self) -> bool {
        let gone = self.records.as_ref().is_some_and(|records| !records.folder.root().exists());
        gone && self.together.size() == 1
    }

    /// Saves what there is now in the place of what was lost.
    fn save_again(&mut self, error: &TrainError, events: &mut dyn Events) -> Result<(), TrainError> {
        events.note(&format!("note: {error}; a checkpoint is written anew"));
        self.save_alone(events)
    }
}
