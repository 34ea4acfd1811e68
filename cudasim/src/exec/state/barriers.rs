//! The barriers of a block, a warp and a cluster: who has arrived.

use crate::exec::program::registers::Predicate;
use crate::exec::race::clocks::Clock;
use crate::mask::Mask;
use crate::report::{Fault, FaultKind};

/// Barriers of a block.
pub(in crate::exec) const BARRIERS: usize = 16;

/// The barriers of a block.
pub struct Barriers {
    pub(in crate::exec) warps: usize,
    pub(in crate::exec) named: [Barrier; BARRIERS],
}

#[derive(Default)]
pub(in crate::exec) struct Barrier {
    /// Threads that it waits for; 0 while nobody is there.
    pub(in crate::exec) expected: u32,
    /// Nobody has named a count: it waits for the threads that are left.
    pub(in crate::exec) all: bool,
    /// Whether those who are there want a reduction.
    pub(in crate::exec) reduces: bool,
    /// Threads that have arrived, warps that are there as a whole counting 32.
    pub(in crate::exec) counted: u32,
    /// Threads that wait or have arrived, those that exist.
    pub(in crate::exec) there: u32,
    pub(in crate::exec) votes: Votes,
    /// By warp; empty until the barrier is first used.
    pub(in crate::exec) warps: Vec<WarpAt>,
    /// What those who have arrived release, and what those who were last let go acquire.
    pub(in crate::exec) clock: Clock,
    pub(in crate::exec) passed: Clock,
}

#[derive(Clone, Copy, Default)]
pub(in crate::exec) struct WarpAt {
    pub(in crate::exec) waiting: Mask,
    pub(in crate::exec) released: Mask,
    pub(in crate::exec) votes: Votes,
}

/// What the predicates of a reduction said.
#[derive(Clone, Copy, Default)]
pub(in crate::exec) struct Votes {
    pub(in crate::exec) yes: u32,
    pub(in crate::exec) all: u32,
}

/// What a barrier instruction wants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) enum Kind {
    Sync,
    Arrive,
    Reduce(Predicate),
}

impl Barriers {
    /// Of a block with this many warps.
    pub fn new(warps: usize) -> Self {
        Self { warps, named: std::array::from_fn(|_| Barrier::default()) }
    }

    /// Who is at which barrier, for the report of a deadlock.
    pub fn describe(&self, live_threads: u32) -> Vec<String> {
        let open = self.named.iter().enumerate().filter(|(_, barrier)| barrier.expected != 0);
        open.map(|(number, barrier)| {
            let (there, expected) =
                if barrier.all { (barrier.there, live_threads) } else { (barrier.counted, barrier.expected) };
            format!("{there} of {expected} threads at barrier {number}")
        })
        .collect()
    }
}

impl Barrier {
    /// Notes that threads of a warp arrive; they wait unless they only arrive.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::exec) fn arrive(
        &mut self,
        number: usize,
        warps: usize,
        warp: usize,
        new: Mask,
        live: Mask,
        threads: u32,
        count: Option<u32>,
        kind: Kind,
    ) -> Result<(), Fault> {
        let expected = count.unwrap_or(threads.next_multiple_of(32));
        let reduces = matches!(kind, Kind::Reduce(_));
        if self.expected == 0 {
            (self.expected, self.all, self.reduces) = (expected, true, reduces);
            self.warps.resize(warps, WarpAt::default());
        }
        let wrong = |message: String| Err(Fault::new(FaultKind::InvalidUse, message));

        if self.expected != expected {
            let already = self.expected;
            return wrong(format!(
                "barrier {number} for {expected} threads, while threads are there that wait for {already}"
            ));
        }

        if self.reduces != reduces {
            return wrong(format!("barrier {number} is used for a reduction and without one at the same time"));
        }
        self.all &= count.is_none();
        let at = &mut self.warps[warp];
        let before = at.waiting;

        // Lanes that do not exist or have left make up the warp's 32 once the others are all there.
        let weight = |mask: Mask| if mask == live { 32 } else { mask.count_ones() };
        if kind == Kind::Arrive {
            self.counted += weight(new);
        } else {
            at.waiting |= new;
            self.counted += weight(at.waiting) - if before == 0 { 0 } else { weight(before) };
        }

        self.there += new.count_ones();
        if !self.all && self.counted > self.expected {
            let (counted, expected) = (self.counted, self.expected);
            return wrong(format!("{counted} threads at barrier {number}, which is for {expected}"));
        }
        Ok(())
    }

    pub(in crate::exec) fn is_complete(&self, live_threads: u32) -> bool {
        self.expected != 0 && if self.all { self.there == live_threads } else { self.counted == self.expected }
    }

    /// Lets everybody go.
    pub(in crate::exec) fn complete(&mut self) {
        for at in &mut self.warps {
            if at.waiting != 0 {
                at.released |= std::mem::take(&mut at.waiting);
                at.votes = self.votes;
            }
        }
        (self.expected, self.counted, self.there, self.votes) = (0, 0, 0, Votes::default());
        std::mem::swap(&mut self.clock, &mut self.passed);
        self.clock.clear();
    }
}

/// Which lanes of a warp are at `bar.warp.sync`, which need not be the same instruction for all.
#[derive(Default)]
pub struct WarpSync {
    /// Member masks, with those who are there.
    pub(in crate::exec) pending: Vec<(Mask, Mask)>,
    pub(in crate::exec) released: Mask,
}

/// The barrier of a cluster; kept with its block of rank 0, but for the number of threads that arrived.
#[derive(Default)]
pub struct ClusterBarrier {
    pub(in crate::exec) phase: u32,
    /// Threads of this block that have arrived.
    pub(in crate::exec) arrived: u32,
    pub(in crate::exec) clock: Clock,
    pub(in crate::exec) passed: Clock,
}

/// The lanes of a warp at its cluster's barrier.
#[derive(Default)]
pub struct ClusterArrivals {
    /// Lanes that have arrived and not waited, and in which phase.
    pub(in crate::exec) arrived: Mask,
    pub(in crate::exec) phases: [u32; 32],
}

impl ClusterBarrier {
    /// How many threads of this block have arrived, for the report of a deadlock.
    pub fn describe(&self, live_threads: u32) -> Option<String> {
        let arrived = self.arrived;
        (arrived != 0).then(|| format!("{arrived} of {live_threads} threads of the block at the cluster's barrier"))
    }
}
