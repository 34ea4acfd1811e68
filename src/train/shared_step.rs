//! The trainer as one of several ranks: what it has for them, tells them and learns from them.

use super::Trainer;
use super::reduce::{Reducer, Shared, Told};
use super::together::Together;
use crate::comm::Reduction;
use crate::device::{self, Device, VERDICT};
use crate::model::Criterion;

impl<D: Device> Trainer<'_, D> {
    /// Shares every step with the ranks of `together`, each of which takes its own micro-batches; see [`Reduction`]. One rank shares
    /// only with [`Reduction::Exact`], to have the sums of several.
    pub(super) fn with_ranks(mut self, together: &Together<D>, reduction: Reduction) -> device::Result<Self> {
        if together.size() > 1 || reduction == Reduction::Exact {
            let reducer = Reducer::new(self.device, together.comm(), reduction, self.parameters.specs())?;
            self.shared = Some(Shared { together: together.clone(), reducer });
        }
        Ok(self)
    }

    /// Tells the other ranks with the next step whether this one was asked to stop; alone, nobody.
    pub(super) fn tell(&mut self, stop: bool) -> device::Result<()> {
        match &mut self.shared {
            Some(Shared { reducer, .. }) => reducer.tell(self.device, stop),
            None => Ok(()),
        }
    }

    /// Losses and verdict of a step; of all ranks, where several share it.
    pub(super) fn told(&self, pending: D::PendingRead) -> device::Result<Told> {
        let Some(Shared { together, reducer }) = &self.shared else {
            let values = self.device.wait(pending)?;
            let (losses, verdict) = values.split_last_chunk::<VERDICT>().unwrap_or((&[], &[f32::NAN; VERDICT]));
            return Ok(Told { losses: losses.to_vec(), verdict: *verdict, stop: false });
        };
        let values = self.device.wait(pending)?;
        together.check()?;
        let Criterion { generative_weight, classification_weight, .. } = self.criterion;
        let losses = [generative_weight, classification_weight].iter().filter(|weight| **weight != 0.0).count();
        reducer.read(&values, losses)
    }
}
