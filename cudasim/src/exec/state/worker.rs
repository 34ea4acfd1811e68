//! What a host thread keeps while it runs clusters.

use crate::counters::Counts;
use crate::exec::program::definedness::{Lacks, Place};
use crate::exec::rng::Rng;

/// Bytes that a lane of a load has found without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The lane.
    pub lane: usize,
    /// Address of the word, as the instruction has it.
    pub address: u64,
    /// The same as a generic address.
    pub full: u64,
    /// Its bits that hold nothing.
    pub bits: u64,
    /// Its state space, in words.
    pub space: &'static str,
}

/// What a host thread has of its own while it runs clusters.
pub struct Worker {
    /// Its order of things.
    pub rng: Rng,
    /// Grows when something happens that a waiting warp may wait for.
    pub events: u64,
    /// Counts, where they are wanted.
    pub counts: Option<Counts>,
    /// Indices of the allocations that were hit last, by the low bits of the step's number.
    pub last_allocations: [usize; 16],
    /// What the data of the step that runs lack, where it hands them on itself.
    pub carried: Vec<(Place, Option<Lacks>)>,
    /// Bytes without a value that the load that runs has found.
    pub missing: Vec<Missing>,
}
