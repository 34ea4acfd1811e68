//! Checks for races: every access of shared and global memory is compared with the last ones of the same word.

use crate::exec::race::clocks::ClockSet;
use crate::memory::shadow::Cell;

/// What is said of an access that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessKind {
    /// Whether it writes.
    pub write: bool,
    /// Whether it is atomic, volatile or relaxed: two of these do not race.
    pub strong: bool,
}

/// What a copy does to shared memory, for the checks for races.
pub(in crate::exec) const WRITE: AccessKind = AccessKind { write: true, strong: false };

/// A location through which threads synchronise: a release there happens before the acquire that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncLocation {
    /// At a global address.
    Global(u64),
    /// At an offset of the shared memory of a block of the cluster.
    Shared(usize, usize),
}

/// What happens before the accesses of an agent, among all agents of all launches.
pub(in crate::exec) struct HappensBeforeInGrid<'a> {
    pub(in crate::exec) clocks: &'a ClockSet,
    pub(in crate::exec) agent: usize,
    /// Its number among those of all launches.
    pub(in crate::exec) number: u64,
    pub(in crate::exec) now: u32,
    pub(in crate::exec) lanes: bool,
}

impl crate::memory::shadow::HappensBefore for HappensBeforeInGrid<'_> {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        match other.agent() == self.number {
            true => !self.lanes || other.time() < self.now || other.lane() == mine.lane(),
            false => self.clocks.happens_before_in_grid(self.agent, other.agent(), other.time()),
        }
    }
}

/// What happens before the accesses of an agent, among the agents of its cluster.
pub(in crate::exec) struct HappensBeforeInCluster<'a> {
    pub(in crate::exec) clocks: &'a ClockSet,
    pub(in crate::exec) agent: usize,
    pub(in crate::exec) now: u32,
    pub(in crate::exec) lanes: bool,
}

impl crate::memory::shadow::HappensBefore for HappensBeforeInCluster<'_> {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        match other.agent() == self.agent as u64 + 1 {
            true => !self.lanes || other.time() < self.now || other.lane() == mine.lane(),
            false => self.clocks.happens_before(self.agent, other.agent() as usize - 1, other.time()),
        }
    }
}
