//! The mbarriers of a block.

use crate::exec::race::clocks::Clock;
use crate::mask::Mask;

/// An mbarrier.
pub(in crate::exec) struct Mbarrier {
    pub(in crate::exec) offset: usize,
    pub(in crate::exec) expected: u32,
    pub(in crate::exec) pending: u32,
    pub(in crate::exec) bytes: i32,
    pub(in crate::exec) phase: u64,
    /// What the threads have released that arrived in this phase, and what those acquire who see that a phase is over.
    pub(in crate::exec) clock: Clock,
    pub(in crate::exec) passed: Clock,
    /// Who initialised it when, and whether a fence has made that visible to asynchronous copies.
    pub(in crate::exec) agent: usize,
    pub(in crate::exec) warp: u32,
    pub(in crate::exec) time: u32,
    pub(in crate::exec) fenced: bool,
    /// Warps whose last test failed, with the lanes.
    pub(in crate::exec) asked: Vec<(u32, Mask)>,
}

/// The mbarriers of a block.
#[derive(Default)]
pub struct Mbarriers {
    pub(in crate::exec) live: Vec<Mbarrier>,
}

impl Mbarrier {
    pub(in crate::exec) fn word(&self) -> u64 {
        let bytes = self.bytes as u64 & ((1 << 22) - 1);
        u64::from(self.pending) | u64::from(self.expected) << 20 | bytes << 40 | (self.phase & 1) << 63
    }

    pub(in crate::exec) fn state(&self) -> u64 {
        u64::from(self.pending) | u64::from(self.expected) << 20 | self.phase << 40
    }

    /// Begins the next phase if this one has all that it waits for.
    pub(in crate::exec) fn turn(&mut self) -> bool {
        if self.pending != 0 || self.bytes != 0 {
            return false;
        }
        self.phase += 1;
        self.pending = self.expected;
        std::mem::swap(&mut self.clock, &mut self.passed);
        // Nothing need order who arrives from now on after the phases before.
        self.clock.clear();
        self.asked.clear();
        true
    }
}

impl Mbarriers {
    /// What the mbarriers wait for that threads have tested, for the report of a deadlock.
    pub fn describe(&self) -> Vec<String> {
        let waited = self.live.iter().filter(|barrier| !barrier.asked.is_empty());
        waited
            .map(|barrier| {
                let threads: u32 = barrier.asked.iter().map(|(_, mask)| mask.count_ones()).sum();
                format!(
                    "{threads} threads at the mbarrier at shared address {:#x}, whose phase {} lacks {} of {} arrivals \
                     and {} bytes",
                    barrier.offset as u64 + crate::memory::SHARED_RESERVED,
                    barrier.phase,
                    barrier.pending,
                    barrier.expected,
                    barrier.bytes
                )
            })
            .collect()
    }

    /// `fence.mbarrier_init` by a warp.
    pub fn fence_initialisation(&mut self, warp: u32) {
        self.live.iter_mut().filter(|barrier| barrier.warp == warp).for_each(|barrier| barrier.fenced = true);
    }
}
