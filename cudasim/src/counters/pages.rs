//! Which pages of global memory a launch touched: what of its arguments it reads, and what it writes.

use std::collections::BTreeSet;

use super::Direction;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Numbers of pages, by direction. Of an access by a warp its first and last lane count, of a piece of a copy its first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    read: BTreeSet<u64>,
    written: BTreeSet<u64>,
    /// The last page read and written, which is mostly the next one too.
    last: [u64; 2],
}

impl Pages {
    /// Notes an access; an atomic one reads and writes.
    pub fn touch(&mut self, direction: Direction, address: u64) {
        let page = address / PAGE;
        if direction != Direction::Store && self.last[0] != page {
            self.last[0] = page;
            self.read.insert(page);
        }
        if direction != Direction::Load && self.last[1] != page {
            self.last[1] = page;
            self.written.insert(page);
        }
    }

    /// Whether any of the `bytes` bytes at `address` was read, and whether any was written, to the page.
    pub fn touched(&self, address: u64, bytes: u64) -> (bool, bool) {
        let pages = address / PAGE..address.saturating_add(bytes).div_ceil(PAGE);
        let any = |among: &BTreeSet<u64>| !pages.is_empty() && among.range(pages.clone()).next().is_some();
        (any(&self.read), any(&self.written))
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.read.extend(&other.read);
        self.written.extend(&other.written);
        // Which page came last hangs on the host's threads; no count may.
        self.last = [0; 2];
    }
}

#[test]
fn pages_are_known_by_direction() {
    let mut pages = Pages::default();
    pages.touch(Direction::Load, 3 * PAGE + 5);
    pages.touch(Direction::Store, 9 * PAGE);
    pages.touch(Direction::Atomic, 20 * PAGE);
    assert_eq!(pages.touched(3 * PAGE, 6 * PAGE), (true, false));
    assert_eq!(pages.touched(9 * PAGE + 100, 1), (false, true));
    assert_eq!((pages.touched(20 * PAGE, PAGE), pages.touched(0, 3 * PAGE)), ((true, true), (false, false)));
    assert_eq!(pages.touched(9 * PAGE, 0), (false, false));
}
