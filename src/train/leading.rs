//! What the loop of several ranks does in common: stopping at the same step, and waiting for rank 0.

use std::sync::atomic::{AtomicBool, Ordering};

use super::TrainError;
use super::training_loop::TrainingLoop;
use crate::device::Device;

impl<D: Device> TrainingLoop<'_, D> {
    /// Whether the run is to stop, as somebody asked: of several ranks when all know it, which is with the results of a step.
    pub(super) fn stops(&mut self, stop: &AtomicBool) -> Result<bool, TrainError> {
        let asked = stop.load(Ordering::Relaxed);
        if self.together.size() == 1 {
            return Ok(asked);
        }
        self.trainer.tell([asked, self.saving.has_failed()])?;
        Ok(self.asked_to_stop)
    }

    /// Rank 0 does `work`, and the others wait for it.
    pub(super) fn led(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let (together, device) = (self.together.clone(), self.trainer.device());
        together.led(device, what, || work(self).map(|()| [])).map(|_| ())
    }
}
