//! The ranks of a run between its steps: who leads, what rank 0 tells the others, and what is agreed before the first step.

use std::path::Path;
use std::rc::Rc;

use super::TrainError;
use crate::comm::{Comm, Single, Watchdog, Watched};
use crate::device::{self, Device, Error};

/// The ranks of a run, and what watches this one.
pub struct Together<D: Device> {
    comm: Rc<dyn Comm<D>>,
    watchdog: Option<Rc<Watchdog>>,
    /// How many there are on this machine.
    beside: usize,
}

impl<D: Device> Clone for Together<D> {
    fn clone(&self) -> Self {
        Self { comm: Rc::clone(&self.comm), watchdog: self.watchdog.clone(), beside: self.beside }
    }
}

/// Numbers that are gathered at a time: 4 MB of device memory of each of 8 ranks.
const GATHERED: usize = 32 * 1024;
/// What each number on its way to other ranks is cut into: floats that hold 16 bits exactly.
const PIECES: usize = 4;

fn to_floats(bits: u64) -> [f32; PIECES] {
    std::array::from_fn(|piece| f32::from((bits >> (16 * piece)) as u16))
}

fn from_floats(floats: &[f32]) -> u64 {
    floats.iter().enumerate().fold(0, |bits, (piece, float)| bits | (u64::from(*float as u16) << (16 * piece)))
}

impl<D: Device> Together<D> {
    /// One process.
    pub fn alone() -> Self {
        Self::unwatched(Rc::new(Single))
    }

    /// Ranks that nothing watches.
    pub fn unwatched(comm: Rc<dyn Comm<D>>) -> Self {
        Self::new(comm, None)
    }

    /// Ranks, this one of which is watched.
    pub fn new(comm: Rc<dyn Comm<D>>, watchdog: Option<Rc<Watchdog>>) -> Self {
        let beside = comm.size();
        Self { comm, watchdog, beside }
    }

    /// The same, of which only so many are on this machine and share its memory.
    pub fn on_machines_of(mut self, ranks: usize) -> Self {
        self.beside = ranks;
        self
    }

    /// Ranks on this machine, this one among them.
    pub(super) fn beside(&self) -> usize {
        self.beside
    }

    /// Their collectives.
    pub fn comm(&self) -> &dyn Comm<D> {
        &*self.comm
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.comm.size()
    }

    /// This one.
    pub fn rank(&self) -> usize {
        self.comm.rank()
    }

    /// Whether this rank writes the run's files and shows its progress.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// What went wrong with collectives of before.
    pub(super) fn check(&self) -> device::Result<()> {
        self.comm.check().map_err(|error| Error::Peer(format!("rank {} of {}: {error}", self.rank(), self.size())))
    }

    /// Remembers a collective.
    pub fn note(&self, what: &str) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.note(what);
        }
    }

    /// While what is returned lives, the others are waited for no longer than a step may take. The first of a process has as long
    /// as the meeting, for in it kernels are loaded and memory is taken.
    pub fn waits(&self, what: &str, is_first: bool) -> Option<Watched<'_>> {
        let watchdog = self.watchdog.as_ref();
        watchdog.map(|watchdog| if is_first { watchdog.meets(what) } else { watchdog.steps(what) })
    }

    /// Ends the other ranks, for this one has failed with `message`.
    pub fn give_up(&self, message: &str) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.give_up(message);
        }
    }

    /// From here on the ranks write what they do into `folder`.
    pub(super) fn settle(&self, folder: &Path) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.settle(folder);
        }
    }

    /// Rank 0 alone does `work`, and all ranks get what comes of it. Where it fails, rank 0 has its error and the others know
    /// that there is one.
    pub(super) fn led<const N: usize>(
        &self,
        device: &D,
        what: &str,
        work: impl FnOnce() -> Result<[f64; N], TrainError>,
    ) -> Result<[f64; N], TrainError> {
        if self.size() == 1 {
            return work();
        }
        // Others wait for rank 0 as long as it lives; it waits for them no longer than for a step.
        let watchdog = self.watchdog.as_ref();
        let mut _watched = watchdog.filter(|_| !self.leads()).map(|watchdog| watchdog.leads(what));
        let done = if self.leads() { work().map(Some) } else { Ok(None) };
        if self.leads() {
            _watched = self.waits(what, false);
        }

        // Whether it was done, and the numbers.
        let mut told = vec![0.0; 1 + N * PIECES];
        if let Ok(Some(values)) = &done {
            told[0] = 1.0;
            let floats = values.iter().flat_map(|value| to_floats(value.to_bits()));
            told[1..].iter_mut().zip(floats).for_each(|(to, float)| *to = float);
        }
        self.note(what);
        let mut tensor = device.upload(&[told.len()], &told)?;
        self.comm.broadcast(device, &mut tensor, 0)?;
        let told = device.download(&tensor)?;
        self.check()?;
        match done? {
            Some(values) => Ok(values),
            None if told[0] == 1.0 => {
                Ok(std::array::from_fn(|index| f64::from_bits(from_floats(&told[1 + index * PIECES..][..PIECES]))))
            }
            None => Err(Error::Peer(format!("rank 0 failed at {what}, as it says itself")).into()),
        }
    }

    /// What every rank has `found`, at most `most` numbers, on all of them in the order of the ranks. Other than [`Together::led`] all
    /// work at the same time, and who is done waits for the others no longer than for the first step.
    ///
    /// # Errors
    /// This rank's, or that another has failed.
    pub(super) fn gathered(
        &self,
        device: &D,
        what: &str,
        found: Result<Vec<f64>, TrainError>,
        most: usize,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        if self.size() == 1 {
            return Ok(vec![found?]);
        }
        let _watched = self.waits(what, true);

        // How many there are, or that there are none; then the numbers, a piece at a time.
        let own = found.as_ref().map_or(&[][..], Vec::as_slice);
        let said = if found.is_ok() { own.len() as f64 } else { f64::NAN };
        let numbers: Vec<f64> = [said].into_iter().chain(own.iter().copied()).collect();
        let mut all = vec![Vec::with_capacity(1 + most); self.size()];
        for start in (0..=most).step_by(GATHERED) {
            let count = GATHERED.min(1 + most - start);
            let number = |at: usize| to_floats(numbers.get(start + at).map_or(0, |number| number.to_bits()));
            let floats: Vec<f32> = (0..count).flat_map(number).collect();
            self.note(what);
            let mut send = device.upload(&[floats.len()], &floats)?;
            let mut received = device.zeros(&[self.size() * floats.len()])?;
            self.comm.all_gather(device, &mut send, &mut received)?;
            let received = device.download(&received)?;
            for (all, received) in all.iter_mut().zip(received.chunks_exact(floats.len())) {
                all.extend(received.chunks_exact(PIECES).map(|floats| f64::from_bits(from_floats(floats))));
            }
        }
        self.check()?;

        found?;
        if let Some(rank) = all.iter().position(|numbers| numbers[0].is_nan()) {
            return Err(Error::Peer(format!("rank {rank} failed at {what}, as it says itself")).into());
        }
        let of_rank = |numbers: Vec<f64>| numbers[1..].iter().take(numbers[0] as usize).copied().collect();
        Ok(all.into_iter().map(of_rank).collect())
    }

    /// Rank 0's text on every rank.
    pub(super) fn tell_text(&self, device: &D, text: &str) -> Result<String, TrainError> {
        let [length] = self.led(device, "the run's folder", || Ok([text.len() as f64]))?;
        let mut bytes: Vec<f32> = text.bytes().map(f32::from).collect();
        bytes.resize((length as usize).max(1), 0.0);
        let mut tensor = device.upload(&[bytes.len()], &bytes)?;
        self.comm.broadcast(device, &mut tensor, 0)?;
        let bytes = device.download(&tensor)?.into_iter().take(length as usize).map(|byte| byte as u8);
        Ok(String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned())
    }

    /// Compares what every rank has before the first step; `facts` are what, in words, and a number for what it is. Returns whether all
    /// of them `can` do what each can or cannot.
    ///
    /// # Errors
    /// The first rank and fact that differ from those of rank 0.
    pub(super) fn agree(&self, device: &D, facts: &[(&str, u64)], can: bool) -> Result<bool, TrainError> {
        if self.size() == 1 {
            return Ok(can);
        }
        let _watched = self.waits("what every rank starts from", true);
        let numbers = facts.iter().map(|(_, fact)| *fact).chain([u64::from(can)]);
        let own: Vec<f32> = numbers.flat_map(to_floats).collect();
        let mut send = device.upload(&[own.len()], &own)?;
        let mut all = device.zeros(&[self.size() * own.len()])?;
        self.comm.all_gather(device, &mut send, &mut all)?;
        let all = device.download(&all)?;
        self.check()?;

        let of = |rank: usize, fact: usize| from_floats(&all[rank * own.len() + fact * PIECES..][..PIECES]);
        for rank in 1..self.size() {
            if let Some(fact) = (0..facts.len()).find(|fact| of(rank, *fact) != of(0, *fact)) {
                return Err(Error::Peer(format!(
                    "rank {rank} has another {} than rank 0; all ranks must be started with the same flags and build, on the \
                     same files",
                    facts[fact].0
                ))
                .into());
            }
        }
        Ok((0..self.size()).all(|rank| of(rank, facts.len()) == 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_travel_whole() {
        for bits in [0, 1, u64::MAX, f64::NAN.to_bits(), (-0.0f64).to_bits(), 0x1234_5678_9abc_def0] {
            assert_eq!(from_floats(&to_floats(bits)), bits);
        }
    }
}
