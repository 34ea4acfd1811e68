//! Graphs of many launches, timed as a whole: neither the host's time for a launch nor an event's is in them.

use anyhow::Context;
use igpt_engine::device::cuda::{CudaTensor, Recording};
use igpt_engine::device::prelude::*;
use igpt_engine::device::{CudaDevice, Result};

use crate::effort::Effort;

/// Work of one launch, or of a few that belong together, on the buffers of a set; what it made is kept until the set is used
/// again, so that results are rotated as operands are.
pub type Work<'a> = Box<dyn FnMut(usize) -> Result<Option<CudaTensor>> + 'a>;

/// A graph that can be timed.
pub trait Graph {
    /// Milliseconds of all of it.
    fn milliseconds(&self) -> anyhow::Result<f64>;
    /// How often the work is in it.
    fn launches(&self) -> usize;
}

/// A graph of the engine's kernels.
pub struct Recorded<'a> {
    recording: Recording,
    device: &'a CudaDevice,
    launches: usize,
    /// The results, which every replay writes again.
    _results: Vec<Option<CudaTensor>>,
    /// The operands, which every replay reads.
    _work: Work<'a>,
}

impl<'a> Recorded<'a> {
    /// Captures `work` as often as makes a graph that is long enough, on `sets` sets of buffers in turn.
    ///
    /// # Errors
    /// Those of the work.
    pub fn new(device: &'a CudaDevice, effort: &Effort, sets: usize, mut work: Work<'a>) -> anyhow::Result<Self> {
        // Every set once: kernels are loaded, and operands have their copies in bf16.
        for set in 0..sets {
            work(set)?;
        }
        let tried = sets.min(8);
        let ms = device.elapsed(|| (0..tried).try_for_each(|set| work(set).map(drop)))?;
        let launches = effort.launches(f64::from(ms) / tried as f64);

        let (results, recording) = device.record(|| {
            let mut results: Vec<Option<CudaTensor>> = (0..sets).map(|_| None).collect();
            for launch in 0..launches {
                results[launch % sets] = work(launch % sets)?;
            }
            Ok(results)
        })?;
        let recording = recording.context("the device captures no graphs")?;
        Ok(Self { recording, device, launches, _results: results, _work: work })
    }
}

impl Graph for Recorded<'_> {
    fn milliseconds(&self) -> anyhow::Result<f64> {
        // One before, untimed: the host puts thousands of nodes into the timed one's queue while the device is busy.
        self.device.replay(&self.recording)?;
        Ok(f64::from(self.device.elapsed(|| self.device.replay(&self.recording))?))
    }

    fn launches(&self) -> usize {
        self.launches
    }
}

/// Graphs whose times are added or taken away: what one of several kernels of an op takes.
pub type Sum<'a> = Vec<(f64, Box<dyn Graph + 'a>)>;

/// Microseconds of a launch of each competitor, `repeats` of them, taken in turn (A B A B): all see the same clock.
///
/// # Errors
/// When a graph cannot be launched.
pub fn race(competitors: &[Sum<'_>], empty_ms: f64, repeats: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut times = vec![Vec::with_capacity(repeats); competitors.len()];
    for round in 0..=repeats {
        for (competitor, times) in competitors.iter().zip(&mut times) {
            let mut us = 0.0;
            for (sign, graph) in competitor {
                us += sign * (graph.milliseconds()? - empty_ms) * 1e3 / graph.launches() as f64;
            }
            // The first round warms up.
            if round > 0 {
                times.push(us);
            }
        }
    }
    Ok(times)
}
