//! Checks for races: every access of shared and global memory is compared with the last ones of the same word.

use crate::exec::race::clocks::Order;
use crate::memory::shadow::Cell;

/// What is said of an access that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Whether it writes.
    pub write: bool,
    /// Whether it is atomic, volatile or relaxed: two of these do not race.
    pub strong: bool,
}

/// What a copy does to shared memory, for the checks for races.
pub(in crate::exec) const WRITE: Touch = Touch { write: true, strong: false };

/// Where something is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// At a global address.
    Global(u64),
    /// At an offset of the shared memory of a block of the cluster.
    Shared(usize, usize),
}

/// What an agent knows of all others of the grid.
pub(in crate::exec) struct KnowsGlobal<'a> {
    pub(in crate::exec) order: &'a Order,
    pub(in crate::exec) agent: usize,
    /// Its number among those of all launches.
    pub(in crate::exec) number: u64,
    pub(in crate::exec) now: u32,
    pub(in crate::exec) lanes: bool,
}

impl crate::memory::shadow::HappensBefore for KnowsGlobal<'_> {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        match other.agent() == self.number {
            true => !self.lanes || other.time() < self.now || other.lane() == mine.lane(),
            false => self.order.knows_global(self.agent, other.agent(), other.time()),
        }
    }
}

/// What an agent knows of others in its cluster.
pub(in crate::exec) struct Knows<'a> {
    pub(in crate::exec) order: &'a Order,
    pub(in crate::exec) agent: usize,
    pub(in crate::exec) now: u32,
    pub(in crate::exec) lanes: bool,
}

impl crate::memory::shadow::HappensBefore for Knows<'_> {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        match other.agent() == self.agent as u64 + 1 {
            true => !self.lanes || other.time() < self.now || other.lane() == mine.lane(),
            false => self.order.knows(self.agent, other.agent() as usize - 1, other.time()),
        }
    }
}
