//! Spikes of a run: what the device is given to tell them by, and what it says of them.

use crate::comm::Comm;
use crate::device::{self, Device, RECENT};

/// What ranks exchange losses by, and what remembers that they do.
pub(super) type Ranks<'a, D> = (&'a dyn Comm<D>, &'a dyn Fn(&str));

/// Tells spikes from steps, on the device.
pub(super) struct Spikes<D: Device> {
    /// Standard deviations above the mean.
    sigmas: f32,
    /// What is known of the steps before, `[RECENT]`, as a checkpoint has it.
    recent: D::Tensor,
    /// This rank's losses of a step `[k]`, and those of all ranks `[world · k]` if there are several.
    losses: Option<(D::Tensor, Option<D::Tensor>)>,
}

impl<D: Device> Spikes<D> {
    /// Steps more than `sigmas` deviations above the mean, going on from what is known; `in_a_row` were skipped just before.
    pub fn new(device: &D, sigmas: f32, known: Option<[f64; RECENT]>, in_a_row: u64) -> device::Result<Self> {
        let mut known = known.unwrap_or_default();
        known[0] = in_a_row as f64;
        let recent = device.upload(&[RECENT], &known.map(|number| number as f32))?;
        Ok(Self { sigmas, recent, losses: None })
    }

    /// What is known by now, for a checkpoint.
    pub fn known(&self, device: &D) -> device::Result<[f64; RECENT]> {
        let recent = device.download(&self.recent)?;
        Ok(std::array::from_fn(|index| recent.get(index).copied().map_or(f64::NAN, f64::from)))
    }

    /// The same on the device.
    pub fn recent(&self) -> &D::Tensor {
        &self.recent
    }

    /// Judges the step of these losses, one float each, with those of the ranks of `comm`, and with the norm in `verdict`.
    pub fn judge(
        &mut self,
        device: &D,
        losses: &[D::Tensor],
        ranks: Option<Ranks<'_, D>>,
        verdict: &mut D::Tensor,
    ) -> device::Result<()> {
        let (count, world) = (losses.len(), ranks.map_or(1, |(comm, _)| comm.size()));
        if self.losses.as_ref().is_none_or(|(own, _)| device.shape(own) != [count]) {
            let all = (world > 1).then(|| device.zeros(&[world * count])).transpose()?;
            self.losses = Some((device.zeros(&[count])?, all));
        }
        let Some((own, all)) = &mut self.losses else { return Ok(()) };
        for (at, loss) in losses.iter().enumerate() {
            device.copy(loss, 0, own, at, 1)?;
        }
        if let (Some(all), Some((comm, note))) = (all.as_mut(), ranks) {
            note("the all-gather of losses, for spikes");
            comm.all_gather(device, own, all)?;
        }
        device.judge_spike(all.as_ref().unwrap_or(own), self.sigmas, &mut self.recent, verdict)
    }
}
