//! `mma.m8n8k4` of f16, the oldest shape: four products at once, each by a quad of lanes and the quad 16 lanes on
//! (PTX ISA, "Matrix Fragments for mma.m8n8k4 with .f16 floating point type"). Either multiplicand lies by rows or by
//! columns.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::ops::matrix_warp::whole_warp;
use crate::exec::program::registers::{Registers, Slot};
use crate::exec::program::step::Flow;
use crate::mask::FULL;
use crate::numerics::dot::{Accumulator, sum};
use crate::numerics::formats::f16_to_f32;
use crate::ptx::form::Form;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::ScalarType;

/// The operands.
struct Quads {
    d: Vec<Slot>,
    a: Vec<Slot>,
    b: Vec<Slot>,
    c: Vec<Slot>,
    /// A's fragments are pieces of rows.
    a_rows: bool,
    /// B's fragments are pieces of rows.
    b_rows: bool,
    d_half: bool,
    c_half: bool,
}

pub(super) fn decode(form: &Form, d: Vec<Slot>, a: Vec<Slot>, b: Vec<Slot>, c: Vec<Slot>) -> Decode {
    let layouts: Vec<bool> = form
        .modifiers
        .iter()
        .filter(|modifier| matches!(modifier, Modifier::Row | Modifier::Col))
        .map(|&modifier| modifier == Modifier::Row)
        .collect();
    let [a_rows, b_rows] = layouts.as_slice() else { return Err("mma.m8n8k4 without its two layouts".into()) };
    let half = |place: usize| form.types.get(place) == Some(&ScalarType::F16);
    let quads = Quads { d, a, b, c, a_rows: *a_rows, b_rows: *b_rows, d_half: half(0), c_half: half(3) };
    Ok(Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        quads.run(context.registers());
        Ok(Flow::Next)
    }))
}

/// Row and column of element `i` of a lane's f32 accumulators.
fn place_f32(lane: usize, i: usize) -> (usize, usize) {
    (lane / 16 * 4 + (lane & 1) + (i & 2), (i & 4) + (lane & 2) + (i & 1))
}

/// Row and column of element `i` of a lane's f16 accumulators.
fn place_f16(lane: usize, i: usize) -> (usize, usize) {
    (lane / 16 * 4 + lane % 4, i)
}

impl Quads {
    fn run(&self, registers: &mut Registers) {
        let (mut a, mut b, mut c) = ([[[0.0; 4]; 8]; 4], [[[0.0; 4]; 8]; 4], [[[0.0_f64; 8]; 8]; 4]);
        for lane in 0..32 {
            let quad = lane / 4 % 4;
            let (inner, outer) = (lane % 4, lane / 16 * 4);

            for i in 0..4 {
                let half = |slots: &[Slot]| {
                    f16_to_f32((registers.get_lane::<u32>(slots[i / 2], lane) >> (16 * (i % 2))) as u16)
                };
                // By rows, a lane has four neighbours of one row of A; by columns, of one column.
                let (row, k) = if self.a_rows { (outer + inner, i) } else { (outer + i, inner) };
                a[quad][row][k] = half(&self.a);
                let (k, column) = if self.b_rows { (inner, outer + i) } else { (i, outer + inner) };
                b[quad][column][k] = half(&self.b);
            }

            for i in 0..8 {
                if self.c_half {
                    let (row, column) = place_f16(lane, i);
                    let word = registers.get_lane::<u32>(self.c[i / 2], lane);
                    c[quad][row][column] = ((word >> (16 * (i % 2))) as u16).load();
                } else {
                    let (row, column) = place_f32(lane, i);
                    c[quad][row][column] = registers.get_lane::<f32>(self.c[i], lane).load();
                }
            }
        }

        for quad in 0..4 {
            for row in 0..8 {
                for column in 0..8 {
                    c[quad][row][column] = sum(c[quad][row][column], &a[quad][row], &b[quad][column]);
                }
            }
        }

        if self.d_half {
            for (r, &slot) in self.d.iter().enumerate() {
                let words = std::array::from_fn(|lane| {
                    let half = |i| {
                        let (row, column) = place_f16(lane, i);
                        u32::from(u16::store(c[lane / 4 % 4][row][column]))
                    };
                    half(2 * r + 1) << 16 | half(2 * r)
                });
                registers.set::<u32>(slot, FULL, &words);
            }
        } else {
            for (i, &slot) in self.d.iter().enumerate() {
                let values = std::array::from_fn(|lane| {
                    let (row, column) = place_f32(lane, i);
                    f32::store(c[lane / 4 % 4][row][column])
                });
                registers.set::<f32>(slot, FULL, &values);
            }
        }
    }
}
