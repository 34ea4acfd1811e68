//! What ranks tell each other of a step: losses, the verdict on the gradient, whether one was asked to stop, and whether one could not write
//! its part of a checkpoint.

use crate::comm::Comm;
use crate::device::{self, Device, VERDICT, stopwatch};

/// What this rank tells, and what all have told.
pub(super) struct Telling<D: Device> {
    rank: usize,
    world: usize,
    /// What this rank tells the others of a step, `[k]`, and what all tell, `[world · k]`: losses, verdict, laps, the word.
    reports: Option<[D::Tensor; 2]>,
    /// What this rank has to say beside, `[1]`: [`STOP`] and [`UNSAVED`], or neither.
    word: D::Tensor,
    /// Where the step spends its time on this rank: a stopwatch of [`LAPS`].
    watch: D::Tensor,
}

/// What a step is timed by: what this rank computes, and where it waits for others and their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lap {
    /// A step begins.
    Start,
    /// This rank has computed.
    Computing,
    /// It has waited for numbers that ranks exchange.
    Exchanging,
}

/// How many there are.
const LAPS: usize = 2;

/// Bits of a rank's word: that it was asked to stop, and that its part of a checkpoint could not be written.
const STOP: u8 = 1;
const UNSAVED: u8 = 2;

/// What all ranks told of a step.
pub(super) struct Told {
    /// Losses in the order of the micro-batches.
    pub losses: Vec<f32>,
    /// The verdict on the gradient, the same on every rank.
    pub verdict: [f32; VERDICT],
    /// Whether any rank was asked to stop.
    pub stop: bool,
    /// Whether any rank could not write its part of a checkpoint.
    pub unsaved: bool,
    /// Where the ranks spent their time, if there are several.
    pub spent: Option<Spent>,
    /// The norm of the gradient, which the verdict has no more where it is that of a spike; if spikes are looked for.
    pub norm: Option<f32>,
}

/// Where the ranks of a step spent their time until the update, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// What the exchange of gradients and weights kept computing waiting: of the rank that waited least, which waited for no other.
    pub exchanging: f64,
    /// What the slowest rank computed longer than the fastest.
    pub skew: f64,
    /// The slowest rank.
    pub slowest: usize,
}

impl Spent {
    /// From the milliseconds of each rank, computing and exchanging.
    fn of(ranks: &[[f32; LAPS]]) -> Option<Self> {
        let by = |one: &f64, other: &f64| one.total_cmp(other);
        let computing = |rank: usize| f64::from(ranks[rank][0]);
        let slowest = (0..ranks.len()).max_by(|one, other| by(&computing(*one), &computing(*other)))?;
        let fastest = (0..ranks.len()).map(computing).min_by(by)?;
        let exchanging = ranks.iter().map(|laps| f64::from(laps[1])).min_by(by)?;
        Some(Self { exchanging, skew: computing(slowest) - fastest, slowest })
    }
}

impl<D: Device> Telling<D> {
    /// Rank `rank` of `world`.
    pub fn new(device: &D, [rank, world]: [usize; 2]) -> device::Result<Self> {
        let (word, watch) = (device.zeros(&[1])?, device.zeros(&[stopwatch(LAPS)])?);
        Ok(Self { rank, world, reports: None, word, watch })
    }

    /// What the device has done since the last lap was this.
    pub fn lap(&mut self, device: &D, lap: Lap) -> device::Result<()> {
        match lap {
            _ if self.world == 1 => Ok(()),
            Lap::Start => device.lap(&mut self.watch, None),
            Lap::Computing => device.lap(&mut self.watch, Some(0)),
            Lap::Exchanging => device.lap(&mut self.watch, Some(1)),
        }
    }

    /// Tells the others, with the next step, whether this rank was asked to stop, and whether it could not write its part of a checkpoint.
    pub fn tell(&mut self, device: &D, [stop, unsaved]: [bool; 2]) -> device::Result<()> {
        let word = STOP * u8::from(stop) + UNSAVED * u8::from(unsaved);
        device.overwrite(&mut self.word, &[f32::from(word)])
    }

    /// Tells the others this rank's losses and verdict, and learns theirs.
    pub fn report(
        &mut self,
        device: &D,
        comm: &dyn Comm<D>,
        losses: &[D::Tensor],
        verdict: &D::Tensor,
        note: &dyn Fn(&str),
    ) -> device::Result<()> {
        let count = losses.len() + VERDICT + LAPS + 1;
        let fits = |reports: &[D::Tensor; 2]| device.shape(&reports[0]) == [count];
        if !self.reports.as_ref().is_some_and(fits) {
            self.reports = Some([device.zeros(&[count])?, device.zeros(&[self.world * count])?]);
        }
        let Some([own, all]) = &mut self.reports else { return Ok(()) };

        for (at, loss) in losses.iter().enumerate() {
            device.copy(loss, 0, own, at, 1)?;
        }
        device.copy(verdict, 0, own, losses.len(), VERDICT)?;
        device.copy(&self.watch, stopwatch(0), own, losses.len() + VERDICT, LAPS)?;
        device.copy(&self.word, 0, own, count - 1, 1)?;
        note("the all-gather of losses");
        comm.all_gather(device, own, all)
    }

    /// What all ranks told, on the device.
    pub fn told(&self) -> Option<&D::Tensor> {
        self.reports.as_ref().map(|[_, all]| all)
    }

    /// The same on the host; `per_batch` losses are those of one micro-batch.
    ///
    /// # Errors
    /// Ranks whose gradients are not the same: their models would drift apart.
    pub fn read(&self, values: &[f32], per_batch: usize) -> device::Result<Told> {
        let count = values.len() / self.world;
        let ranks: Vec<&[f32]> = values.chunks_exact(count).collect();
        let losses = count - VERDICT - LAPS - 1;
        let verdict_of = |rank: &[f32]| std::array::from_fn(|index| rank[losses + index]);
        let verdict: [f32; VERDICT] = verdict_of(ranks[self.rank]);
        for (rank, told) in ranks.iter().enumerate() {
            let theirs: [f32; VERDICT] = verdict_of(told);
            let is_same =
                |(one, other): (&f32, &f32)| one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
            if !theirs.iter().zip(&verdict).all(is_same) {
                return Err(device::Error::Peer(format!(
                    "rank {rank} has a gradient of norm {}, and rank {} one of {}: they would train different models. Suspect the \
                     hardware of one of them, or builds that differ; the steps since the last checkpoint are lost",
                    theirs[0], self.rank, verdict[0]
                )));
            }
        }

        // Micro-batch m is the (m / world)-th of rank m mod world.
        let batches = losses / per_batch;
        let of_batch =
            |batch: usize| ranks.iter().flat_map(move |rank| rank[batch * per_batch..][..per_batch].iter().copied());
        let says = |bit: u8| ranks.iter().any(|rank| rank[count - 1] as u8 & bit != 0);
        let (stop, unsaved) = (says(STOP), says(UNSAVED));
        let laps: Vec<[f32; LAPS]> =
            ranks.iter().map(|rank| std::array::from_fn(|lap| rank[losses + VERDICT + lap])).collect();
        let spent = Spent::of(&laps).filter(|_| self.world > 1);
        Ok(Told { losses: (0..batches).flat_map(of_batch).collect(), verdict, stop, unsaved, spent, norm: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CpuDevice;

    #[test]
    fn ranks_that_disagree_are_named_and_losses_come_in_order() {
        let device = CpuDevice::new(Some(1)).unwrap();
        let telling = Telling::new(&device, [0, 2]).unwrap();
        // Two micro-batches of each of two ranks, two losses of each.
        let told = [
            [0.0, 0.5, 2.0, 2.5, 7.0, 0.0, 0.0, 80.0, 25.0, 0.0],
            [1.0, 1.5, 3.0, 3.5, 7.0, 0.0, 0.0, 95.0, 10.0, 3.0],
        ];
        let told = told.concat();
        let Told { losses, verdict, stop, unsaved, spent, .. } = telling.read(&told, 2).unwrap();
        assert_eq!(spent, Some(Spent { exchanging: 10.0, skew: 15.0, slowest: 1 }));
        assert_eq!(losses, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        assert_eq!((verdict, stop, unsaved), ([7.0, 0.0, 0.0], true, true));

        let mut other = told;
        other[14] = 7.5;
        let error = telling.read(&other, 2).err().expect("other norms").to_string();
        assert!(error.contains("rank 1 has a gradient of norm 7.5, and rank 0 one of 7"), "{error}");
    }
}
