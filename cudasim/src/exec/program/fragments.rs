//! How a lack of values travels through a product of matrices in the registers of a warp: a row of A that lacks something
//! spoils that row of D, a column of B that column. Rows and columns past the end of a matrix are computed all the same by
//! kernels that store them nowhere.

use crate::exec::program::definedness::{Place, Undefined};
use crate::ptx::form::Form;
use crate::ptx::types::ScalarType;

/// How the fragments of an `mma` lie in its registers (see [`tensor::fragment`](crate::exec::tensor::fragment)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragments {
    /// Registers of A.
    a: usize,
    /// Registers of B.
    b: usize,
    /// Rows of A: 8 or 16.
    rows: usize,
    /// Two elements of D in a register.
    half: bool,
}

impl Fragments {
    /// Those of a form; `None` where they lie otherwise.
    pub fn of(form: &Form) -> Option<Self> {
        let (shape, [d, a, ..]) = (form.shape?, form.types.as_slice()) else { return None };
        if *a == ScalarType::F16 && (shape.m, shape.k) == (8, 4) {
            return None;
        }
        let word = if *a == ScalarType::F64 { 64 } else { 32 };
        let words = shape.k * a.bits() / word;
        Some(Self {
            a: (shape.m * words / 32) as usize,
            b: (shape.n * words / 32) as usize,
            rows: shape.m as usize,
            half: *d == ScalarType::F16,
        })
    }

    /// What each register of D lacks. `reads`: the registers of A, B and C.
    pub fn lacks(self, reads: &[Place], writes: &[Place], undefined: &Undefined) -> Vec<[u64; 32]> {
        let Self { a, b, rows, half } = self;
        if reads.len() != a + b + writes.len() {
            // Constants among the operands: which register is which is not known here.
            return vec![[u64::MAX; 32]; writes.len()];
        }

        // Rows of A and columns of B that lack anything, as bits.
        let groups = |place: &Place| {
            let lanes = undefined.lanes(*place);
            (0..8).fold(0_u32, |all, group| all | u32::from(lanes >> (4 * group) & 0xf != 0) << group)
        };
        let bad_rows =
            reads[..a].iter().enumerate().fold(0, |all, (r, place)| all | groups(place) << (8 * (r % (rows / 8))));
        let bad_columns = reads[a..a + b].iter().fold(0, |all, place| all | groups(place));

        // Of each element of D: its row, its column, and its own accumulator.
        let bad = |row: usize, column: usize| bad_rows >> row & 1 != 0 || bad_columns >> column & 1 != 0;
        let of = |(i, c): (usize, &Place)| {
            let own = undefined.get(*c).map_or([0; 32], |(bits, _)| bits);
            std::array::from_fn(|lane| {
                let (group, pair) = (lane / 4, lane % 4 * 2);
                if half {
                    let row = i % (rows / 8) * 8 + group;
                    let part = |n: usize| bad(row, pair + n) || own[lane] >> (16 * n) & 0xffff != 0;
                    (if part(0) { 0xffff } else { 0 }) | if part(1) { 0xffff_0000 } else { 0 }
                } else {
                    let part = i % (rows / 4);
                    let lacks = bad(part / 2 * 8 + group, pair + part % 2) || own[lane] != 0;
                    if lacks { u64::MAX } else { 0 }
                }
            })
        };
        reads[a + b..].iter().enumerate().map(of).collect()
    }
}
