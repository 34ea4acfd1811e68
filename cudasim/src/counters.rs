//! Exact counts of a launch.

use crate::exec::kernel::Kernel;
use crate::exec::registers::Mask;

/// What a launch did, added up over its warps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions, one for each warp that ran it with at least one lane.
    pub warp_instructions: u64,
    /// Instructions, one for each lane that ran it.
    pub thread_instructions: u64,
    /// Branches after which the lanes of a warp went different ways.
    pub divergences: u64,
}

impl Counts {
    /// No counts yet.
    pub fn new(_kernel: &Kernel) -> Self {
        Self::default()
    }

    /// Adds those of another worker.
    pub fn add(&mut self, other: &Self) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        self.divergences += other.divergences;
    }

    /// Counts a step that `active` lanes run.
    #[inline]
    pub fn step(&mut self, _kernel: &Kernel, _pc: u32, active: Mask) {
        self.warp_instructions += u64::from(active != 0);
        self.thread_instructions += u64::from(active.count_ones());
    }

    /// The counts as a JSON object.
    pub fn json(&self) -> String {
        let Self { warp_instructions, thread_instructions, divergences } = self;
        format!(
            "{{\"warp_instructions\":{warp_instructions},\"thread_instructions\":{thread_instructions},\
             \"divergences\":{divergences}}}"
        )
    }

    /// Counts that a warp now has this many splits.
    pub fn diverged(&mut self, splits: usize) {
        self.divergences += u64::from(splits > 1);
    }
}
