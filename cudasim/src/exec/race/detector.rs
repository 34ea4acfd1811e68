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

/// What a store writes: of a lane the byte that it writes at an address, which is one of those that were given to the check.
pub(in crate::exec) type Written<'a> = &'a dyn Fn(usize, u64) -> u8;

/// Compares what a store is about to write with what is there.
#[derive(Clone, Copy)]
pub(in crate::exec) struct Comparison<'a> {
    /// What it writes.
    pub(in crate::exec) written: Written<'a>,
    /// Address of the first byte of memory, as `written` has it.
    pub(in crate::exec) base: u64,
    /// The bytes of a word in memory.
    pub(in crate::exec) memory: &'a dyn Fn(usize) -> [u8; 4],
    /// Whether another host thread may be about to write what its check has noted.
    pub(in crate::exec) shared: bool,
}

impl Comparison<'_> {
    /// Whether `mine` writes what `other` has written to a word.
    fn is_same(&self, other: Cell, mine: Cell, word: usize) -> bool {
        let new = |lane: Cell, byte: usize| (self.written)(lane.lane() as usize, self.base + (4 * word + byte) as u64);
        let common = (0..4).filter(|byte| (mine.bytes() & other.bytes()) >> byte & 1 != 0);

        // Lanes of one instruction: neither has written yet.
        if other.is_beside(mine) && common.clone().all(|byte| new(other, byte) == new(mine, byte)) {
            return true;
        }

        let is_there = || {
            let old = (self.memory)(word);
            common.clone().all(|byte| old[byte] == new(mine, byte))
        };
        let mut same = is_there();
        for _ in 0..if self.shared { PATIENCE } else { 0 } {
            if same {
                break;
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
            same = is_there();
        }
        same
    }
}

/// How often memory is looked at again until another host thread has surely written what its check has noted.
const PATIENCE: u32 = 200;

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
    /// Of a store, to tell a race from writes of the same value; and the last such write that was found, with the own one.
    pub(in crate::exec) comparison: Option<Comparison<'a>>,
    pub(in crate::exec) same: Option<(Cell, Cell)>,
}

impl crate::memory::shadow::HappensBefore for HappensBeforeInGrid<'_> {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        match other.agent() == self.number {
            true => !self.lanes || other.time() < self.now || other.lane() == mine.lane(),
            false => self.clocks.happens_before_in_grid(self.agent, other.agent(), other.time()),
        }
    }

    fn writes_the_same(&mut self, other: Cell, mine: Cell, word: usize) -> bool {
        let same = self.comparison.is_some_and(|comparison| comparison.is_same(other, mine, word));
        self.same = if same { Some((other, mine)) } else { self.same };
        same
    }
}

/// What happens before the accesses of an agent, among the agents of its cluster.
pub(in crate::exec) struct HappensBeforeInCluster<'a> {
    pub(in crate::exec) clocks: &'a ClockSet,
    pub(in crate::exec) agent: usize,
    pub(in crate::exec) now: u32,
    pub(in crate::exec) lanes: bool,
    /// As in [`HappensBeforeInGrid`].
    pub(in crate::exec) comparison: Option<Comparison<'a>>,
    pub(in crate::exec) same: Option<(Cell, Cell)>,
}

impl crate::memory::shadow::HappensBefore for HappensBeforeInCluster<'_> {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        match other.agent() == self.agent as u64 + 1 {
            true => !self.lanes || other.time() < self.now || other.lane() == mine.lane(),
            false => self.clocks.happens_before(self.agent, other.agent() as usize - 1, other.time()),
        }
    }

    fn writes_the_same(&mut self, other: Cell, mine: Cell, word: usize) -> bool {
        let same = self.comparison.is_some_and(|comparison| comparison.is_same(other, mine, word));
        self.same = if same { Some((other, mine)) } else { self.same };
        same
    }
}
