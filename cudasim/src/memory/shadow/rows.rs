//! Rows of 32 words: 128 bytes that whole warps use at once.
//!
//! As long as each access of a row takes all of it, a row has one cell for its writer and two for its readers, in place of
//! four cells for each word. The first access that takes only some of it writes the words' cells from the row's and goes on
//! with these; the next whole write that comes after all of them makes it one again.

use std::sync::atomic::Ordering;

use super::cell::{BYTES_SHIFT, Cell, LANE_SHIFT, MORE};
use super::{HappensBefore, READERS, Race, Shadow, Visit, WRITERS};

/// Words of a row.
pub(super) const WORDS: usize = 32;

/// Bytes of a row.
pub(super) const BYTES: u64 = 4 * WORDS as u64;

const WRITER: usize = 0;
const READER: usize = 1;
const SECOND_READER: usize = 2;
/// Places of a row; the last is unused.
const PLACES: usize = 4;

/// Which lane takes which word of a row.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    /// Words of each lane: 1, 2, 4, or all 32.
    pub each: usize,
    /// The lane of the first word.
    pub first: usize,
    /// From the lane of a word to the lane of the next one that another takes.
    pub step: usize,
}

/// A row's cell holds in place of the bytes (which are all) how many words each lane takes: 1, 2, 4, and 8 for all 32. With 0
/// it says that the words' cells count.
const ALL: u64 = 8;
const PARTED: u64 = 0;

/// How many cells the rows of `words` words have.
pub(super) fn slots(words: usize) -> usize {
    words.div_ceil(WORDS) * PLACES
}

/// The cell of one word, from its row's.
fn of_word(row: Cell, word: usize) -> u64 {
    let each = row.bytes();
    let shift = if each == ALL { 5 } else { each.trailing_zeros() };
    let lane = u64::from(row.lane()) + (word as u64 >> shift);
    row.0 & !(15 << BYTES_SHIFT | 31 << LANE_SHIFT) | 15 << BYTES_SHIFT | lane << LANE_SHIFT
}

impl Shadow {
    #[inline(always)]
    fn row(&self, row: usize, place: usize) -> Cell {
        Cell(self.rows[row * PLACES + place].load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn set_row(&self, row: usize, place: usize, cell: u64) {
        self.rows[row * PLACES + place].store(cell, Ordering::Relaxed);
    }

    /// The writer of a word's row (0 for none); `None` where the words' cells count.
    pub(super) fn row_writer(&self, word: usize) -> Option<Cell> {
        let writer = self.row(word / WORDS, WRITER);
        (writer.0 == 0 || writer.bytes() != PARTED).then_some(writer)
    }

    /// Notes an access of a whole row. The first race, if there is one.
    #[inline(always)]
    pub(super) fn visit_row<K: HappensBefore>(&self, visit: &mut Visit<K>, row: usize, taken: Taken) -> Option<Race> {
        let each = if taken.each == WORDS { ALL } else { taken.each as u64 };
        let mine = Cell(visit.cell.0 | each << BYTES_SHIFT | (taken.first as u64) << LANE_SHIFT);
        if self.take_row(visit, row, mine) { None } else { self.visit_row_by_words(visit, row, taken, mine) }
    }

    /// Notes an access of a whole row, where it comes after the others that must come before it; else notes nothing.
    #[inline(always)]
    fn take_row<K: HappensBefore>(&self, visit: &mut Visit<K>, row: usize, mine: Cell) -> bool {
        // The writer must come before, and the row must be whole.
        let writer = self.row(row, WRITER);
        if writer.0 >= visit.old && (writer.bytes() == PARTED || !visit.has_seen(writer, mine)) {
            return false;
        }

        let (reader, second) = (self.row(row, READER), self.row(row, SECOND_READER));
        let free = |visit: &mut Visit<K>, cell: Cell| cell.0 < visit.old || visit.has_seen(cell, mine);

        // A write must come after both readers, and takes their place.
        if visit.write {
            let after = free(visit, reader) && free(visit, second);
            if after {
                self.write_row(row, mine);
            }
            return after;
        }

        // Of more than two concurrent readers the others are not noted.
        if free(visit, reader) {
            self.set_row(row, READER, mine.0);
        } else if free(visit, second) {
            self.set_row(row, SECOND_READER, mine.0);
        }
        true
    }

    /// What this write happens before, all that it comes after happens before as well.
    #[inline(always)]
    fn write_row(&self, row: usize, mine: Cell) {
        self.set_row(row, READER, 0);
        self.set_row(row, SECOND_READER, 0);
        self.set_row(row, WRITER, mine.0);
    }

    #[inline(never)]
    fn visit_row_by_words<K: HappensBefore>(
        &self,
        visit: &mut Visit<K>,
        row: usize,
        taken: Taken,
        mine: Cell,
    ) -> Option<Race> {
        self.part_row(visit, row);
        let first = row * WORDS;

        if self.is_quiet(visit, first, WORDS) {
            if visit.write {
                self.write_row(row, mine);
            } else {
                self.fill(visit, first, WORDS, taken);
            }
            return None;
        }

        (0..WORDS / taken.each).find_map(|lane| {
            let offset = 4 * (first + lane * taken.each) as u64;
            self.visit_words(visit, taken.first + lane, offset, 4 * taken.each as u64)
        })
    }

    /// Takes the rows apart that a range is in.
    #[inline(always)]
    pub(super) fn part<K>(&self, visit: &Visit<K>, offset: u64, bytes: u64) {
        for row in offset / BYTES..(offset + bytes).div_ceil(BYTES) {
            let writer = self.row(row as usize, WRITER);
            if writer.0 < visit.old || writer.bytes() != PARTED {
                self.part_row(visit, row as usize);
            }
        }
    }

    #[inline(never)]
    fn part_row<K>(&self, visit: &Visit<K>, row: usize) {
        let [writer, reader, second] = [WRITER, READER, SECOND_READER].map(|place| self.row(row, place));
        let is_new = |cell: Cell| cell.0 >= visit.old;
        if is_new(writer) && writer.bytes() == PARTED {
            return;
        }

        // Where all is old the words' cells are as well.
        if is_new(writer) || is_new(reader) {
            let more = if is_new(second) { MORE } else { 0 };
            for (index, word) in (row * WORDS..self.words.min((row + 1) * WORDS)).enumerate() {
                self.set(WRITERS, word, if is_new(writer) { of_word(writer, index) } else { 0 });
                self.set(READERS, word, if is_new(reader) { of_word(reader, index) | more } else { 0 });
                if more != 0 {
                    self.set(READERS + 1, word, of_word(second, index));
                }
            }
        }

        self.set_row(row, WRITER, visit.cell.0);
    }
}
