//! Who touched each word of memory last: what races are told from.
//!
//! After FastTrack (Flanagan & Freund 2009): a word of 4 bytes has cells for the last writes and reads, each with its agent
//! and epoch. An agent is what has a vector clock of its own: a warp, or the asynchronous operations of a block. Two accesses
//! race where neither happens before the other. FastTrack keeps any number of readers; here there are two. Of more
//! concurrent readers the others are not noted, so a race may be missed, but none is invented. Two agents that touch
//! different bytes of a word do not race.
//!
//! Whole warps mostly use whole rows of 32 words, for which one cell does (`rows.rs`).

mod cell;
mod rows;
mod visit;

use std::sync::atomic::Ordering;

use super::error::MemoryError;
use super::zeroed::Zeroed;
use cell::{BYTES_SHIFT, LANE_SHIFT, MORE, STRONG};
use rows::Taken;

pub use cell::{AGENTS, Cell};
pub use visit::{HappensBefore, Race, Visit};

/// The cells of a piece of memory.
pub struct Shadow {
    /// First writers, second writers, first readers, second readers of all words.
    cells: Zeroed,
    words: usize,
    /// Of each row of 32 words what [`rows`] says.
    rows: Zeroed,
}

const WRITERS: usize = 0;
const READERS: usize = 2;

impl Shadow {
    /// Of `bytes` bytes that nobody has touched; takes memory only where cells are used.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(bytes: u64) -> Result<Self, MemoryError> {
        let words = usize::try_from(bytes.div_ceil(4)).map_err(|_| MemoryError::OutOfMemory)?;
        let cells = words.checked_mul(4).ok_or(MemoryError::OutOfMemory)?;
        Ok(Self { cells: Zeroed::new(cells)?, words, rows: Zeroed::new(rows::slots(words))? })
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for cell in self.cells.iter().chain(self.rows.iter()) {
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
    #[inline]
    pub fn visit_lane<K: HappensBefore>(
        &self,
        visit: &mut Visit<K>,
        lane: usize,
        offset: u64,
        bytes: u64,
    ) -> Option<Race> {
        // One word, or a part of one.
        if bytes <= 4 {
            self.part(visit, offset, bytes);
            return self.visit_words(visit, lane, offset, bytes);
        }

        self.visit_range(visit, lane, offset, bytes)
    }

    fn visit_range<K: HappensBefore>(
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
            Err(_) if visit.write && self.writes_the_same(visit, mine, word) => false,
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

    /// Whether a write leaves a word as every writer has left it that it races with.
    #[cold]
    fn writes_the_same<K: HappensBefore>(&self, visit: &mut Visit<K>, mine: Cell, word: usize) -> bool {
        let first = self.get(WRITERS, word);
        let second = if first.0 & MORE != 0 { self.get(WRITERS + 1, word) } else { Cell(0) };
        [first, second].into_iter().all(|other| {
            let ordered = other.0 < visit.old || !other.clashes(mine) || visit.has_seen(other, mine);
            ordered || visit.order.writes_the_same(other, mine, word)
        })
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

#[cfg(test)]
mod tests;
