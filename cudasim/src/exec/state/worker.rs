//! What a host thread keeps while it runs clusters.

use crate::counters::Counts;
use crate::exec::rng::Rng;

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
}
