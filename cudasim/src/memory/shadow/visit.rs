//! An access that is to be checked and noted, and what is found.

use super::Cell;

/// The happens-before relation of a launch.
pub trait HappensBefore {
    /// Whether `other` happens before `mine`.
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool;

    /// Whether `mine` writes to a word what `other`, which nothing orders, has written there: then it does not matter which
    /// of them is the last.
    fn writes_the_same(&mut self, _other: Cell, _mine: Cell, _word: usize) -> bool {
        false
    }
}

impl<F: FnMut(Cell, Cell) -> bool> HappensBefore for F {
    #[inline]
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool {
        self(other, mine)
    }
}

/// An access that is to be checked and noted.
pub struct Visit<K> {
    /// Who and when.
    pub cell: Cell,
    /// Cells below this are of an earlier launch.
    pub old: u64,
    /// An epoch that is known to happen before: the newest answer of `order`.
    pub known: u64,
    /// Which accesses happen before this one.
    pub order: K,
    /// Whether accesses by lanes of the same agent may race.
    pub lanes: bool,
    /// Whether it writes.
    pub write: bool,
}

/// Two accesses that nothing orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race {
    /// The lane of the later one.
    pub lane: usize,
    /// The earlier one.
    pub other: Cell,
    /// Whether that one wrote.
    pub wrote: bool,
}

impl<K: HappensBefore> Visit<K> {
    #[inline(always)]
    pub(super) fn has_seen(&mut self, cell: Cell, mine: Cell) -> bool {
        if cell.epoch() == self.known || !self.lanes && cell.agent() == self.cell.agent() {
            return true;
        }

        let known = self.order.happens_before(cell, mine);
        if known && cell.agent() != self.cell.agent() {
            self.known = cell.epoch();
        }
        known
    }
}
