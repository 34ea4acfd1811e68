//! How matrices lie in the registers of a warp: the fragments of `mma` and `wgmma` (PTX ISA, "Matrix Fragments for mma" and
//! "Register Fragments and Shared Memory Matrix Layouts"). All shapes but the oldest (see `mma::quads`) follow one rule.
//!
//! With group g = lane / 4 and thread t = lane % 4, a register of a multiplicand holds the elements of one 32-bit word
//! (or one f64), and the four lanes of a group hold four words that are neighbours along k:
//!
//! ```text
//! A of 16 rows  register r: row g + 8 (r mod 2), word 4 (r div 2) + t of the row       A of 8 rows: row g, word 4 r + t
//! B             register r: column g, word 4 r + t of the column
//! C, D          for each 8 columns: registers p: row g + 8 (p div 2), column 2 t + p mod 2   (f16: row g + 8 p, both
//! columns)
//! ```

use crate::exec::program::registers::{Lane, Registers, Slot};
use crate::mask::FULL;

/// Reads A: `out[row][word]`, rows of `words` words. `W` is `u32`, or `u64` for f64.
#[inline(always)]
pub fn gather_a<W: Lane>(registers: &Registers, slots: &[Slot], rows: usize, words: usize, out: &mut [W]) {
    let halves = rows / 8;
    for (r, &slot) in slots.iter().enumerate() {
        let lanes = registers.get::<W>(slot);
        let (row, word) = (8 * (r % halves), 4 * (r / halves));
        for (group, four) in lanes.as_chunks::<4>().0.iter().enumerate() {
            out[(row + group) * words + word..][..4].copy_from_slice(four);
        }
    }
}

/// Reads B: `out[column][word]`, columns of `words` words.
#[inline(always)]
pub fn gather_b<W: Lane>(registers: &Registers, slots: &[Slot], words: usize, out: &mut [W]) {
    gather_a(registers, slots, 8, words, out);
}

/// Reads accumulators of one register each: `out[row][column]`, rows of `columns` elements.
#[inline(always)]
pub fn gather_c<W: Lane>(registers: &Registers, slots: &[Slot], rows: usize, columns: usize, out: &mut [W]) {
    for (i, &slot) in slots.iter().enumerate() {
        let lanes = registers.get::<W>(slot);
        let first = place(i, rows, columns);
        for (lane, value) in lanes.into_iter().enumerate() {
            out[first + lane / 4 * columns + lane % 4 * 2] = value;
        }
    }
}

/// Writes accumulators of one register each.
#[inline(always)]
pub fn scatter_d<W: Lane>(registers: &mut Registers, slots: &[Slot], rows: usize, columns: usize, tile: &[W]) {
    for (i, &slot) in slots.iter().enumerate() {
        let first = place(i, rows, columns);
        let lanes = std::array::from_fn(|lane| tile[first + lane / 4 * columns + lane % 4 * 2]);
        registers.set::<W>(slot, FULL, &lanes);
    }
}

/// Element of lane 0 in register `i` of accumulators.
#[inline(always)]
fn place(i: usize, rows: usize, columns: usize) -> usize {
    let each = rows / 4;
    let (eight, part) = (i / each, i % each);
    part / 2 * 8 * columns + eight * 8 + part % 2
}

/// Reads f16 accumulators, two in a register: `out[row][column]`.
#[inline(always)]
pub fn gather_c_f16(registers: &Registers, slots: &[Slot], rows: usize, columns: usize, out: &mut [u16]) {
    for (i, &slot) in slots.iter().enumerate() {
        let lanes = registers.get::<u32>(slot);
        let first = place_f16(i, rows, columns);
        for (lane, value) in lanes.into_iter().enumerate() {
            let place = first + lane / 4 * columns + lane % 4 * 2;
            (out[place], out[place + 1]) = (value as u16, (value >> 16) as u16);
        }
    }
}

/// Writes f16 accumulators, two in a register.
#[inline(always)]
pub fn scatter_d_f16(registers: &mut Registers, slots: &[Slot], rows: usize, columns: usize, tile: &[u16]) {
    for (i, &slot) in slots.iter().enumerate() {
        let first = place_f16(i, rows, columns);
        let lanes = std::array::from_fn(|lane| {
            let place = first + lane / 4 * columns + lane % 4 * 2;
            u32::from(tile[place + 1]) << 16 | u32::from(tile[place])
        });
        registers.set::<u32>(slot, FULL, &lanes);
    }
}

#[inline(always)]
fn place_f16(i: usize, rows: usize, columns: usize) -> usize {
    let each = rows / 8;
    i % each * 8 * columns + i / each * 8
}
