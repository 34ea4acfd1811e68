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
    for (pair, &[even, odd]) in slots.as_chunks::<2>().0.iter().enumerate() {
        let (even, odd) = (registers.get::<W>(even), registers.get::<W>(odd));
        let tile = &mut out[place(pair, rows, columns)..];
        for group in 0..8 {
            let row = &mut tile[group * columns..][..8];
            for t in 0..4 {
                (row[2 * t], row[2 * t + 1]) = (even[4 * group + t], odd[4 * group + t]);
            }
        }
    }
}

/// Writes accumulators of one register each.
#[inline(always)]
pub fn scatter_d<W: Lane>(registers: &mut Registers, slots: &[Slot], rows: usize, columns: usize, tile: &[W]) {
    for (pair, &[to_even, to_odd]) in slots.as_chunks::<2>().0.iter().enumerate() {
        let (mut even, mut odd) = ([W::default(); 32], [W::default(); 32]);
        let tile = &tile[place(pair, rows, columns)..];
        for group in 0..8 {
            let row = &tile[group * columns..][..8];
            for t in 0..4 {
                (even[4 * group + t], odd[4 * group + t]) = (row[2 * t], row[2 * t + 1]);
            }
        }
        registers.set::<W>(to_even, FULL, &even);
        registers.set::<W>(to_odd, FULL, &odd);
    }
}

/// The first element of the 8x8 that registers `2 pair` and `2 pair + 1` of accumulators hold.
#[inline(always)]
fn place(pair: usize, rows: usize, columns: usize) -> usize {
    let stacked = rows / 8;
    pair % stacked * 8 * columns + pair / stacked * 8
}

/// Reads f16 accumulators, two in a register: `out[row][column]`.
#[inline(always)]
pub fn gather_c_f16(registers: &Registers, slots: &[Slot], rows: usize, columns: usize, out: &mut [u16]) {
    for (i, &slot) in slots.iter().enumerate() {
        let lanes = registers.get::<u32>(slot);
        let tile = &mut out[place(i, rows, columns)..];
        for group in 0..8 {
            let row = &mut tile[group * columns..][..8];
            for t in 0..4 {
                let word = lanes[4 * group + t];
                (row[2 * t], row[2 * t + 1]) = (word as u16, (word >> 16) as u16);
            }
        }
    }
}

/// Writes f16 accumulators, two in a register.
#[inline(always)]
pub fn scatter_d_f16(registers: &mut Registers, slots: &[Slot], rows: usize, columns: usize, tile: &[u16]) {
    for (i, &slot) in slots.iter().enumerate() {
        let mut lanes = [0; 32];
        let tile = &tile[place(i, rows, columns)..];
        for group in 0..8 {
            let row = &tile[group * columns..][..8];
            for t in 0..4 {
                lanes[4 * group + t] = u32::from(row[2 * t + 1]) << 16 | u32::from(row[2 * t]);
            }
        }
        registers.set::<u32>(slot, FULL, &lanes);
    }
}
