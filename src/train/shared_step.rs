//! A step as one of several ranks: whose gradients are taken, who updates what, and what is told.

use super::buckets::Buckets;
use super::reduce::Reducer;
use super::settings::Settings;
use super::spikes::Spikes;
use super::telling::{Lap, Telling, Told};
use super::together::Together;
use super::traffic::Traffic;
use crate::comm::Reduction;
use crate::device::{self, AdamStep, Device};
use crate::model::{Criterion, MicroBatch, Transformer};
use crate::optim::{Adam, Average};
use crate::plan::Shares;
use crate::tape::{ParameterSpec, Parameters};

/// How the ranks of a run share its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// How gradients are added up.
    pub reduction: Reduction,
    /// Level of ZeRO (Rajbhandari et al. 2020): 0, all ranks have all; 1, each has its parts of moments, master weights and summed
    /// gradients; 2, and of its own gradients no more than a bucket.
    pub zero: u8,
    /// Whether ranks exchange gradients and weights beside what they compute.
    pub overlap: bool,
    /// Whether moments and master weights lie in the host's memory.
    pub offload: bool,
}

impl Sharing {
    /// That of a run's `settings` on the ranks of `together`.
    pub fn of<D: Device>(settings: &Settings, together: &Together<D>) -> Self {
        let zero = settings.zero_of(together.size());
        let (overlap, offload) = (!settings.no_overlap, settings.offload_optimizer);
        Self { reduction: settings.reduction, zero, overlap, offload }
    }

    /// What `ranks` ranks take of memory.
    pub fn shares(self, ranks: usize) -> Shares {
        let Self { reduction, zero, offload, .. } = self;
        Shares { ranks, zero, reduction, offload }
    }

    /// The buckets of which a rank has parts; `None` where each has all.
    pub fn buckets<D: Device>(self, together: &Together<D>, specs: &[ParameterSpec]) -> Option<Buckets> {
        (self.zero > 0).then(|| Buckets::new(specs, [together.rank(), together.size()]))
    }
}

/// Ranks that share every step.
pub(super) struct Shared<D: Device> {
    pub together: Together<D>,
    pub reducer: Reducer<D>,
    /// With ZeRO: this rank's parts of the weights, by bucket, which Adam and the average change in the place of the model's own.
    pub masters: Option<Parameters<D>>,
    telling: Telling<D>,
    overlap: bool,
    /// Whether the model's weights are those of before the last update: a step gathers them at its beginning.
    is_stale: bool,
}

impl<D: Device> Shared<D> {
    /// Ranks of a model of these `specs`, and the tensors that its gradients are taken in. `None` for the first where one process does
    /// all of it, in whatever order.
    ///
    /// With ZeRO `weights` become what the `masters` of all ranks are.
    pub fn new(
        device: &D,
        together: &Together<D>,
        sharing: Sharing,
        weights: &mut Parameters<D>,
        masters: Option<Parameters<D>>,
    ) -> device::Result<(Option<Self>, Vec<D::Tensor>)> {
        let Sharing { reduction, zero, overlap, .. } = sharing;
        if together.size() == 1 && reduction != Reduction::Exact {
            return Ok((None, weights.zeros_like(device)?));
        }
        let (specs, place) = (weights.specs(), [together.rank(), together.size()]);
        let buckets = Buckets::new(specs, place);
        let (places, shapes) = buckets.gradients(specs, zero == 2);
        let gradients = shapes.iter().map(|shape| device.zeros(shape)).collect::<device::Result<_>>()?;
        let elements = specs.iter().map(ParameterSpec::elements).collect();

        let reducer = Reducer::new(device, sharing.shares(together.size()), buckets, (places, elements))?;
        let (together, telling) = (together.clone(), Telling::new(device, place)?);
        let mut shared = Self { together, reducer, masters, telling, overlap, is_stale: true };
        shared.refresh(device, weights)?;
        Ok((Some(shared), gradients))
    }

    /// A step begins, which will update the master weights.
    pub fn begin(&mut self) {
        self.is_stale = self.masters.is_some();
    }

    /// Makes what the model computes with what the master weights of all ranks are, unless it is: for whoever reads weights between two
    /// steps. All ranks do it together.
    pub fn refresh(&mut self, device: &D, weights: &mut Parameters<D>) -> device::Result<()> {
        let Self { together, reducer, masters: Some(masters), is_stale, .. } = self else { return Ok(()) };
        if std::mem::take(is_stale) {
            for bucket in reducer.buckets.as_read() {
                reducer.gather(device, together, bucket, (&mut *masters, &mut *weights))?;
            }
        }
        Ok(())
    }

    /// The gradients of this rank's micro-batches, added up with those of the others, of the newest weights, which `parameters` become.
    /// Returns this rank's losses.
    pub fn gradients(
        &mut self,
        device: &D,
        (model, criterion): (&Transformer, &Criterion),
        parameters: &mut Parameters<D>,
        batches: &[MicroBatch<D>],
        gradients: &mut [D::Tensor],
    ) -> device::Result<Vec<D::Tensor>> {
        let Self { together, reducer, masters, telling, overlap, .. } = self;
        telling.lap(device, Lap::Start)?;
        let (places, rounds) = (reducer.places.clone(), batches.chunks(reducer.round_of(batches.len()).max(1)));
        let mut traffic = Traffic::new(device, together, (reducer, telling), *overlap, gradients.len());
        if let Some(masters) = masters {
            traffic.gather(masters, parameters)?;
        }

        let (count, mut losses) = (rounds.len(), Vec::new());
        for (round, part) in rounds.enumerate() {
            traffic.begin([round, count]);
            let to = (&mut *gradients, &places[..]);
            losses.extend(model.gradients_with(device, parameters, criterion, part, to, &mut traffic)?);
            traffic.end(gradients)?;
        }
        traffic.join()?;
        Ok(losses)
    }

    /// The update that the gradients make, if they are finite, and what all ranks are told of the step.
    pub fn update(
        &mut self,
        device: &D,
        (parameters, gradients): (&mut Parameters<D>, &[D::Tensor]),
        (adam, average, spikes): (&mut Adam<D>, Option<&mut Average<D>>, Option<&mut Spikes<D>>),
        step: AdamStep,
        losses: &[D::Tensor],
    ) -> device::Result<()> {
        let Self { together, reducer, masters, telling, .. } = self;
        let (comm, note) = (together.comm(), |what: &str| together.note(what));
        if !reducer.judge(device, together, adam.verdict_mut())? {
            adam.judge(device, gradients)?;
        }
        if let Some(spikes) = spikes {
            spikes.judge(device, losses, Some((comm, &note)), adam.verdict_mut())?;
        }

        // Of all, or of this rank's parts.
        let (updated, sum) = match masters {
            Some(masters) => (masters, reducer.totals()),
            None => (&mut *parameters, gradients),
        };
        adam.apply_judged(device, updated, sum, step)?;
        if let Some(average) = average {
            average.update(device, updated, adam.verdict())?;
        }
        telling.report(device, comm, losses, adam.verdict(), &note)
    }

    /// Tells the other ranks with the next step whether this one was asked to stop, and whether it could not write a checkpoint.
    pub fn tell(&mut self, device: &D, words: [bool; 2]) -> device::Result<()> {
        self.telling.tell(device, words)
    }

    /// What all ranks told of the last step, on the device.
    pub fn told(&self) -> Option<&D::Tensor> {
        self.telling.told()
    }

    /// The same on the host; `per_batch` losses are those of one micro-batch.
    pub fn read(&self, values: &[f32], per_batch: usize) -> device::Result<Told> {
        self.together.check()?;
        self.telling.read(values, per_batch)
    }
}
