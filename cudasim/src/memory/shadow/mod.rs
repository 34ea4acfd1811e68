//! Who touched each word of memory last: what races are told from.
//!
//! After FastTrack (Flanagan & Freund 2009): a word of 4 bytes has cells for the last writes and reads, each with its agent
//! and epoch. An agent is what has a vector clock of its own: a warp, or the asynchronous operations of a block. Two accesses
//! race where neither happens before the other. FastTrack keeps any number of readers; here there are two. Of more
//! concurrent readers the others are not noted, so a race may be missed, but none is invented. Two agents that touch
//! different bytes of a word do not race.
//!
//! Whole warps mostly use whole rows of 32 words, for which one cell does (`rows.rs`).

mod rows;

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::MemoryError;
use super::zeroed::zeroed;
use rows::Taken;

/// One access: its agent, its epoch, and which bytes of the word it touched. 0 stands for no access.
///
/// From the top: agent (24 bits), time of the agent's clock (15), whether the slot behind this one is used (1), bytes (4), strong (1),
/// lane (5), step (14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(pub u64);

const MORE: u64 = 1 << 24;
const BYTES_SHIFT: u32 = 20;
const STRONG: u64 = 1 << 19;
const LANE_SHIFT: u32 = 14;
const UNKNOWN_STEP: u64 = (1 << LANE_SHIFT) - 1;

/// More agents than this do not fit.
pub const AGENTS: u64 = 1 << 24;

impl Cell {
    /// An access by lane 0, of no bytes yet; `None` where the time is past what fits.
    pub fn new(agent: u64, time: u32, strong: bool, step: u32) -> Option<Self> {
        let step = u64::from(step).min(UNKNOWN_STEP);
        let strong = if strong { STRONG } else { 0 };
        (time < 1 << 15).then_some(Self(agent << 40 | u64::from(time) << 25 | strong | step))
    }

    /// Who.
    pub fn agent(self) -> u64 {
        self.0 >> 40
    }

    /// When.
    pub fn time(self) -> u32 {
        (self.0 >> 25) as u32 & 0x7fff
    }

    /// The epoch, as FastTrack calls it: agent and time as one number.
    pub fn epoch(self) -> u64 {
        self.0 >> 25
    }

    /// Which lane.
    pub fn lane(self) -> u32 {
        (self.0 >> LANE_SHIFT) as u32 & 31
    }

    /// At which step of the kernel; `None` where it has more than fit.
    pub fn step(self) -> Option<usize> {
        let step = self.0 & UNKNOWN_STEP;
        (step != UNKNOWN_STEP).then_some(step as usize)
    }

    fn bytes(self) -> u64 {
        self.0 >> BYTES_SHIFT & 15
    }

    /// Whether both touch a byte and not both are atomic or the like.
    fn clashes(self, other: Self) -> bool {
        self.bytes() & other.bytes() != 0 && self.0 & other.0 & STRONG == 0
    }
}

/// The cells of a piece of memory.
pub struct Shadow {
    /// First writers, second writers, first readers, second readers of all words.
    cells: Box<[AtomicU64]>,
    words: usize,
    /// Of each row of 32 words what [`rows`] says.
    rows: Box<[AtomicU64]>,
}

const WRITERS: usize = 0;
const READERS: usize = 2;

/// The happens-before relation of a launch.
pub trait HappensBefore {
    /// Whether `other` happens before `mine`.
    fn happens_before(&mut self, other: Cell, mine: Cell) -> bool;
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

impl Shadow {
    /// Of `bytes` bytes that nobody has touched; takes memory only where cells are used.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(bytes: u64) -> Result<Self, MemoryError> {
        let words = usize::try_from(bytes.div_ceil(4)).map_err(|_| MemoryError::OutOfMemory)?;
        let cells = words.checked_mul(4).ok_or(MemoryError::OutOfMemory)?;
        Ok(Self { cells: zeroed(cells)?, words, rows: zeroed(rows::slots(words))? })
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for cell in self.cells.iter().chain(&self.rows) {
            // Untouched pages stay untouched.
            if cell.load(Ordering::Relaxed) != 0 {
                cell.store(0, Ordering::Relaxed);
            }
        }
    }

    #[inline(always)]
    fn get(&self, slot: usize, word: usize) -> Cell {
        Cell(self.cells[slot * self.words + word].load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn set(&self, slot: usize, word: usize, cell: u64) {
        self.cells[slot * self.words + word].store(cell, Ordering::Relaxed);
    }

    /// Who wrote the word at this offset last, and when: one, or two that are concurrent.
    pub fn last_writers(&self, offset: u64) -> impl Iterator<Item = (u64, u32)> {
        let word = offset as usize / 4;
        let writers = match self.row_writer(word) {
            Some(writer) => [writer, Cell(0)],
            None => {
                let first = self.get(WRITERS, word);
                [first, if first.0 & MORE != 0 { self.get(WRITERS + 1, word) } else { Cell(0) }]
            }
        };
        writers.into_iter().filter(|cell| cell.0 != 0).map(|cell| (cell.agent(), cell.time()))
    }

    /// Notes an access by the lanes of `mask` of `bytes` bytes at each of these offsets; multiples of `bytes`, which is a power
    /// of two. The first race, if there is one.
    #[inline(always)]
    pub fn visit<K: HappensBefore>(
        &self,
        visit: &mut Visit<K>,
        offsets: &[u64; 32],
        mask: u32,
        bytes: u64,
    ) -> Option<Race> {
        // Two common shapes of a whole warp: lanes side by side, and all lanes at one place.
        if mask == u32::MAX && !visit.lanes {
            let (mut contiguous, mut same) = (0, 0);
            for lane in 0..32 {
                contiguous |= offsets[lane] ^ (offsets[0].wrapping_add(lane as u64 * bytes));
                same |= offsets[lane] ^ offsets[0];
            }
            if contiguous == 0 {
                return self.visit_run(visit, offsets[0], bytes);
            }
            if same == 0 && !visit.write {
                return self.visit_lane(visit, 0, offsets[0], bytes);
            }
        }

        // Any other access goes lane by lane.
        let mut rest = mask;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let race = self.visit_lane(visit, lane, offsets[lane], bytes);
            if race.is_some() {
                return race;
            }
        }
        None
    }

    /// The same of 32 lanes side by side, the first at `offset`. `visit.lanes` must be false.
    #[inline]
    pub fn visit_run<K: HappensBefore>(&self, visit: &mut Visit<K>, offset: u64, bytes: u64) -> Option<Race> {
        // Whole rows have cells of their own.
        let each = bytes as usize / 4;
        if each != 0 && offset.is_multiple_of(rows::BYTES) {
            let lanes = 32 / each;
            for part in 0..each {
                let row = offset as usize / rows::BYTES as usize + part;
                let race = self.visit_row(visit, row, Taken { each, first: part * lanes, step: 1 });
                if race.is_some() {
                    return race;
                }
            }
            return None;
        }

        // Words side by side, all of them quiet: noted without a look at each.
        self.part(visit, offset, 32 * bytes);
        let (first, count) = (offset as usize / 4, 8 * bytes as usize);
        if offset.is_multiple_of(4) && self.is_quiet(visit, first, count) {
            // Of the lanes that share a word the last one is noted.
            let sharing = 4 / bytes.min(4) as usize;
            self.fill(visit, first, count, Taken { each: each.max(1), first: sharing - 1, step: sharing });
            return None;
        }

        (0..32).find_map(|lane| self.visit_words(visit, lane, offset + lane as u64 * bytes, bytes))
    }

    /// Whether all that an access of a run of words finds is old, its agent's own or known, and one cell each.
    #[inline(always)]
    fn is_quiet<K>(&self, visit: &Visit<K>, first: usize, count: usize) -> bool {
        let row = |slot: usize| &self.cells[slot * self.words + first..][..count];
        let (mine, old, known) = (visit.cell.0, visit.old, visit.known);
        let strange = |cell: u64| {
            let other = cell >= old && (cell ^ mine) >> 40 != 0 && cell >> 25 != known;
            // With a second slot in use, or bytes of a word, it is a case for `visit_words`.
            u64::from(other) | u64::from(cell & MORE != 0)
        };
        let mut bad = 0;
        for (writer, reader) in row(WRITERS).iter().zip(row(READERS)) {
            bad |= strange(writer.load(Ordering::Relaxed)) | strange(reader.load(Ordering::Relaxed));
        }
        bad == 0
    }

    /// Notes an access of a run of words that is quiet. A write takes the place of the readers as well.
    #[inline(always)]
    fn fill<K>(&self, visit: &Visit<K>, first: usize, count: usize, taken: Taken) {
        let row = |slot: usize| &self.cells[slot * self.words + first..][..count];
        let cells = row(if visit.write { WRITERS } else { READERS });
        if visit.write {
            row(READERS).iter().for_each(|place| place.store(0, Ordering::Relaxed));
        }
        for (index, cells) in cells.chunks_exact(taken.each.min(count)).enumerate() {
            let lane = taken.first + index * taken.step;
            let cell = visit.cell.0 | 15 << BYTES_SHIFT | (lane as u64) << LANE_SHIFT;
            for place in cells {
                place.store(cell, Ordering::Relaxed);
            }
        }
    }

    /// Notes an access by one lane of any `bytes` at `offset`.
    pub fn visit_lane<K: HappensBefore>(
        &self,
        visit: &mut Visit<K>,
        lane: usize,
        offset: u64,
        bytes: u64,
    ) -> Option<Race> {
        // Whole rows.
        if (offset | bytes).is_multiple_of(rows::BYTES) && !visit.lanes {
            let row = |offset: u64| (offset / rows::BYTES) as usize;
            let taken = Taken { each: rows::WORDS, first: lane, step: 1 };
            return (row(offset)..row(offset + bytes)).find_map(|row| self.visit_row(visit, row, taken));
        }

        // Several whole words, all of them quiet.
        self.part(visit, offset, bytes);
        let (first, count) = (offset as usize / 4, bytes as usize / 4);
        if count > 1 && (offset | bytes).is_multiple_of(4) && !visit.lanes {
            // Mostly all words have the writer of the first one.
            let (writer, mine) = (self.get(WRITERS, first), visit.cell);
            let after = writer.0 < visit.old || visit.has_seen(writer, mine);
            if after && self.is_quiet(visit, first, count) {
                self.fill(visit, first, count, Taken { each: count, first: lane, step: 1 });
                return None;
            }
        }

        self.visit_words(visit, lane, offset, bytes)
    }

    /// The same, word by word, of rows that are taken apart.
    #[inline(always)]
    fn visit_words<K: HappensBefore>(
        &self,
        visit: &mut Visit<K>,
        lane: usize,
        offset: u64,
        bytes: u64,
    ) -> Option<Race> {
        let end = offset + bytes;
        for word in offset / 4..end.div_ceil(4) {
            let first = offset.saturating_sub(word * 4);
            let last = (end - word * 4).min(4);
            let touched = (1 << last) - (1 << first);
            let mine = Cell(visit.cell.0 | touched << BYTES_SHIFT | (lane as u64) << LANE_SHIFT);
            if let Some((other, wrote)) = self.visit_word(visit, mine, word as usize) {
                return Some(Race { lane, other, wrote });
            }
        }
        None
    }

    #[inline(always)]
    fn visit_word<K: HappensBefore>(&self, visit: &mut Visit<K>, mine: Cell, word: usize) -> Option<(Cell, bool)> {
        // Racing with a writer, or with a reader where this access writes.
        let after_writers = match self.comes_after(visit, mine, WRITERS, word) {
            Ok(after) => after,
            Err(other) => return Some((other, true)),
        };

        if visit.write {
            let after_readers = match self.comes_after(visit, mine, READERS, word) {
                Ok(after) => after,
                Err(other) => return Some((other, false)),
            };
            let all = Cell(merged(mine, self.get(WRITERS, word)));
            if after_writers && after_readers && all.bytes() == 15 {
                // What this write happens before, all that it comes after happens before as well.
                self.set(WRITERS, word, all.0);
                self.set(READERS, word, 0);
                return None;
            }
        }

        // Take the place of an access that this one comes after; of others it takes none.
        let slot = if visit.write { WRITERS } else { READERS };
        let first = self.get(slot, word);
        let more = if first.0 >= visit.old { first.0 & MORE } else { 0 };
        if first.0 < visit.old || visit.has_seen(first, mine) {
            self.set(slot, word, merged(mine, first) | more);
            return None;
        }

        let second = self.get(slot + 1, word);
        if more == 0 || second.0 < visit.old || visit.has_seen(second, mine) {
            self.set(slot + 1, word, if more == 0 { mine.0 } else { merged(mine, second) });
            if more == 0 {
                self.set(slot, word, first.0 | MORE);
            }
        }
        None
    }

    /// Whether an access comes after both accesses of a word that are noted as its writers or readers.
    ///
    /// # Errors
    /// One of them, where it does not and the two race.
    #[inline(always)]
    fn comes_after<K: HappensBefore>(
        &self,
        visit: &mut Visit<K>,
        mine: Cell,
        pair: usize,
        word: usize,
    ) -> Result<bool, Cell> {
        let first = self.get(pair, word);
        if first.0 < visit.old {
            return Ok(true);
        }
        let mut after = visit.has_seen(first, mine);
        if !after && first.clashes(mine) {
            return Err(first);
        }

        if first.0 & MORE != 0 {
            let second = self.get(pair + 1, word);
            if second.0 >= visit.old && !visit.has_seen(second, mine) {
                if second.clashes(mine) {
                    return Err(second);
                }
                after = false;
            }
        }
        Ok(after)
    }
}

/// `mine`, with the bytes that the same agent touched in the same epoch in the same way.
fn merged(mine: Cell, before: Cell) -> u64 {
    let same = mine.epoch() == before.epoch() && (mine.0 ^ before.0) & STRONG == 0;
    mine.0 | if same { before.bytes() << BYTES_SHIFT } else { 0 }
}

impl<K: HappensBefore> Visit<K> {
    #[inline]
    fn has_seen(&mut self, cell: Cell, mine: Cell) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An access after those of its own agent and of `friend`, and of no other.
    fn visit(agent: u64, friend: u64, write: bool) -> Visit<impl FnMut(Cell, Cell) -> bool> {
        let order = move |other: Cell, _: Cell| other.agent() == agent || other.agent() == friend;
        Visit { cell: Cell::new(agent, 7, false, 3).unwrap(), old: 1 << 40, known: 0, order, lanes: false, write }
    }

    #[test]
    fn unordered_accesses_to_the_same_byte_race() {
        let shadow = Shadow::new(256).unwrap();
        let row: [u64; 32] = std::array::from_fn(|lane| lane as u64 * 4);
        assert_eq!(shadow.visit(&mut visit(1, 0, true), &row, u32::MAX, 4), None);
        let Race { lane, other, wrote } = shadow.visit(&mut visit(2, 0, false), &row, u32::MAX, 4).unwrap();
        assert!(wrote);
        assert_eq!((lane, other.agent(), other.time(), other.lane(), other.step()), (0, 1, 7, 0, Some(3)));
        assert_eq!(shadow.visit(&mut visit(2, 1, false), &row, u32::MAX, 4), None);
        assert_eq!(shadow.visit_lane(&mut visit(3, 1, true), 5, 12, 4).unwrap().other.agent(), 2, "write after read");
        assert_eq!(shadow.visit_lane(&mut visit(3, 0, true), 5, 128, 4), None);
    }

    /// Whatever warps do, whole rows tell the same races as their words one by one.
    #[test]
    fn rows_and_words_tell_the_same() {
        let run = |offset: u64, bytes: u64| -> [u64; 32] { std::array::from_fn(|lane| offset + lane as u64 * bytes) };
        let mut seed = 7_u64;
        let mut below = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % limit
        };

        let (mut races, mut quiet) = (0, 0);
        for _ in 0..3000 {
            let (rows, words) = (Shadow::new(1024).unwrap(), Shadow::new(1024).unwrap());
            // The vector clocks of agents 1 to 3.
            let mut clocks = [[0_u32; 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
            for _ in 0..12 {
                let agent = 1 + below(3) as usize;
                // A barrier of two or of all, more often than not.
                if below(5) < 3 {
                    let who = if below(2) == 0 { vec![1, 2, 3] } else { vec![agent, 1 + below(3) as usize] };
                    let joined =
                        who.iter().fold([0; 4], |all, &one| std::array::from_fn(|i| clocks[one][i].max(all[i])));
                    who.iter().for_each(|&one| clocks[one] = joined);
                    who.iter().for_each(|&one| clocks[one][one] += 1);
                }
                let (clock, write, strong) = (clocks[agent], below(2) == 0, below(6) == 0);
                let visit = || {
                    let order = move |other: Cell, _: Cell| clock[other.agent() as usize] >= other.time();
                    let cell = Cell::new(agent as u64, clock[agent], strong, 3).unwrap();
                    Visit { cell, old: 1 << 40, known: 0, order, lanes: false, write }
                };
                let bytes = 1 << below(5);
                let (offsets, mask) = match below(6) {
                    0..3 => (run(128 * below(4), bytes), u32::MAX),
                    3 => (run(bytes * below(16), bytes), u32::MAX),
                    4 => (run(128 * below(4), bytes), 1 + below(u64::from(u32::MAX)) as u32),
                    _ => (run(128 * below(4), bytes).map(|x| x ^ bytes), u32::MAX),
                };
                let got = rows.visit(&mut visit(), &offsets, mask, bytes);
                // Lane by lane and word by word, so that no row is ever whole.
                let expected = (0..32).filter(|lane| mask >> lane & 1 != 0).find_map(|lane| {
                    words.part(&visit(), offsets[lane], bytes);
                    words.visit_words(&mut visit(), lane, offsets[lane], bytes)
                });
                assert_eq!(got, expected);
                for word in 0..256 {
                    let writers = |shadow: &Shadow| shadow.last_writers(word * 4).collect::<Vec<_>>();
                    assert_eq!(writers(&rows), writers(&words), "word {word}");
                }
                if got.is_some() {
                    races += 1;
                    break;
                }
                quiet += 1;
            }
        }

        assert!(races > 500 && quiet > 5000, "{races} races, {quiet} not");
    }

    #[test]
    fn a_range_of_one_lane_and_an_earlier_launch() {
        let shadow = Shadow::new(512).unwrap();
        let row: [u64; 32] = std::array::from_fn(|lane| 128 + lane as u64 * 4);
        assert_eq!(shadow.visit_lane(&mut visit(1, 0, true), 9, 0, 384), None);
        let race = shadow.visit(&mut visit(2, 0, false), &row, u32::MAX, 4).unwrap();
        assert_eq!((race.lane, race.other.lane(), race.other.agent(), race.wrote), (0, 9, 1, true));
        // In the next launch, whose agents are numbered from 2, none of that counts; nor do rows that were taken apart.
        let later = |agent: u64, write: bool| Visit { old: 2 << 40, ..visit(agent, 0, write) };
        assert_eq!(shadow.visit(&mut later(2, true), &row, u32::MAX, 4), None);
        assert_eq!(shadow.visit_lane(&mut later(3, true), 0, 0, 4), None);
        assert_eq!(shadow.visit_lane(&mut later(3, false), 0, 132, 4).unwrap().other.lane(), 1);
        assert_eq!(shadow.visit_lane(&mut Visit { old: 4 << 40, ..visit(4, 0, false) }, 0, 132, 4), None);
    }

    #[test]
    fn two_readers_are_remembered_and_bytes_are_told_apart() {
        let shadow = Shadow::new(16).unwrap();
        for agent in [1, 2] {
            assert_eq!(shadow.visit_lane(&mut visit(agent, 0, false), 0, 4, 2), None);
        }
        for (writer, friend, other) in [(1, 0, 2), (2, 0, 1), (3, 1, 2), (3, 2, 1)] {
            let race = shadow.visit_lane(&mut visit(writer, friend, true), 0, 4, 1);
            assert_eq!(race.unwrap().other.agent(), other);
        }
        assert_eq!(shadow.visit_lane(&mut visit(3, 0, true), 0, 6, 2), None, "the other half");
        assert_eq!(shadow.visit_lane(&mut visit(4, 0, true), 0, 0, 4), None);
        assert_eq!(shadow.visit_lane(&mut visit(4, 0, true), 0, 4, 4).unwrap().other.agent(), 3);
        shadow.clear();
        assert_eq!(shadow.visit_lane(&mut visit(4, 0, true), 0, 4, 4), None);
    }
}
