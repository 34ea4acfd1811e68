//! `wmma`: matrices of a warp that are loaded, multiplied and stored as a whole. The ISA leaves open which lane holds which
//! element; here they lie as those of `mma` do ([`fragment`](crate::exec::tensor::fragment)), over all rows and columns.
//!
//! A and B of f16 always take eight registers. Where the matrix needs fewer, they hold it several times, as on hardware.

use crate::counters::Direction;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::matrix_warp::whole_warp;
use crate::exec::program::address::Address;
use crate::exec::program::registers::{Registers, Slot};
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::tensor::element::Float;
use crate::exec::tensor::fragment::{gather_a, gather_c, scatter_d};
use crate::exec::tensor::product::{Accumulators, Columns, Kind, Multiplicands, double};
use crate::mask::FULL;
use crate::memory::Word;
use crate::numerics::Rounding;
use crate::numerics::dot::Accumulator;
use crate::numerics::formats::f16_to_f32;
use crate::ptx::form::{Form, OperandKind};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Shape};
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};

/// Words of the largest A or B: 32 rows of 16 elements of 16 bits.
const WORDS: usize = 32 * 8;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    if form.has(Modifier::Mma) { multiply(decoder, instruction) } else { transfer(decoder, instruction) }
}

/// Which matrix, of D = A B + C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matrix {
    A,
    B,
    Accumulator,
}

/// How a matrix lies in registers and in memory.
#[derive(Clone, Copy, Debug)]
struct Tile {
    matrix: Matrix,
    /// Rows of A and the accumulators, columns of B.
    lines: usize,
    /// Elements of a line; of A and B along k.
    length: usize,
    /// Bits of an element.
    bits: usize,
    /// Neighbours of a line are neighbours in memory.
    along: bool,
}

impl Tile {
    fn new(form: &Form, shape: Shape) -> Self {
        let (m, n, k) = (shape.m as usize, shape.n as usize, shape.k as usize);
        let (matrix, lines, length) = if form.has(Modifier::A) {
            (Matrix::A, m, k)
        } else if form.has(Modifier::B) {
            (Matrix::B, n, k)
        } else {
            (Matrix::Accumulator, m, n)
        };
        let along = form.has(Modifier::Row) != (matrix == Matrix::B);
        Self { matrix, lines, length, bits: form.types[0].bits() as usize, along }
    }

    /// Elements of a register.
    fn per_register(self) -> usize {
        (32 / self.bits).max(1)
    }

    /// Registers that hold the matrix once.
    fn registers(self) -> usize {
        self.lines * self.length / 32 / self.per_register()
    }

    /// Line and first element of a lane's register.
    fn place(self, register: usize, lane: usize) -> (usize, usize) {
        let (group, thread) = (lane / 4, lane % 4);
        let blocks = self.lines / 8;
        if self.matrix == Matrix::Accumulator && self.bits > 16 {
            let (eight, part) = (register / (2 * blocks), register % (2 * blocks));
            return (part / 2 * 8 + group, 8 * eight + 2 * thread + part % 2);
        }
        (register % blocks * 8 + group, (4 * (register / blocks) + thread) * self.per_register())
    }

    /// Bytes from the matrix's start to an element, in rows or columns that are `stride` elements apart.
    fn offset(self, line: usize, element: usize, stride: u64) -> u64 {
        let (far, near) = if self.along { (line, element) } else { (element, line) };
        (far as u64).wrapping_mul(stride).wrapping_add(near as u64).wrapping_mul(self.bits as u64) / 8
    }
}

/// `wmma.load` and `wmma.store`.
fn transfer(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let shape = form.shape.ok_or("wmma without its shape")?;
    let tile = Tile::new(form, shape);
    let loads = form.has(Modifier::Load);
    let o = &instruction.operands;
    let (data, address) = if loads { (0, 1) } else { (1, 0) };
    let ty = vector_type(instruction, data)?;
    let slots = if loads { decoder.targets(&o[data], ty)? } else { decoder.values(&o[data], ty)? };
    let address = decoder.address(&o[address], form.space())?;

    // Without a stride, lines follow one another.
    let stride = match o.get(2) {
        Some(stride) => decoder.value(stride, ScalarType::B32)?,
        None => decoder.constant(32, if tile.along { tile.length } else { tile.lines } as u64),
    };

    Ok(Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        let (base, stride) = (same(context.addresses(&address))?, same(context.registers().get::<u32>(stride))?);
        match (loads, tile.bits) {
            (true, 8) => load::<u8>(context, &tile, &slots, &address, base, stride.into())?,
            (true, 16) => load::<u16>(context, &tile, &slots, &address, base, stride.into())?,
            (true, 64) => load::<u64>(context, &tile, &slots, &address, base, stride.into())?,
            (true, _) => load::<u32>(context, &tile, &slots, &address, base, stride.into())?,
            (false, 16) => store::<u16>(context, &tile, &slots, &address, base, stride.into())?,
            (false, 64) => store::<u64>(context, &tile, &slots, &address, base, stride.into())?,
            (false, _) => store::<u32>(context, &tile, &slots, &address, base, stride.into())?,
        }
        Ok(Flow::Next)
    }))
}

/// What all lanes have in common.
fn same<T: PartialEq + Copy>(values: [T; 32]) -> Result<T, Fault> {
    match values.iter().position(|&value| value != values[0]) {
        None => Ok(values[0]),
        Some(lane) => {
            let message = "the lanes of wmma have different addresses or strides";
            Err(Fault::new(FaultKind::InvalidUse, message).lane(lane))
        }
    }
}

/// Loads a matrix; `T` is an element, or a word of elements that are narrower than a byte.
fn load<T: Word>(
    context: &mut Context<'_>,
    tile: &Tile,
    slots: &[Slot],
    address: &Address,
    base: u64,
    stride: u64,
) -> Result<(), Fault> {
    let pieces = tile.per_register().min(4 / (T::BYTES as usize).min(4));
    for (register, &slot) in slots.iter().enumerate() {
        let mut values = [0_u64; 32];
        for piece in 0..pieces {
            let addresses = places(tile, register % tile.registers(), piece, base, stride);
            context.count(address.space, Direction::Load, &addresses, FULL, T::BYTES);
            for (lane, value) in values.iter_mut().enumerate() {
                let part: u64 = context.load::<T>(address.space, lane, addresses[lane])?.into();
                *value |= part << (8 * T::BYTES * piece as u64);
            }
        }
        put(context.registers(), slot, tile.bits, &values);
    }
    Ok(())
}

/// Stores a matrix.
fn store<T: Word>(
    context: &mut Context<'_>,
    tile: &Tile,
    slots: &[Slot],
    address: &Address,
    base: u64,
    stride: u64,
) -> Result<(), Fault> {
    for (register, &slot) in slots.iter().enumerate() {
        let values: [u64; 32] = match tile.bits {
            64 => context.registers().get::<u64>(slot),
            _ => context.registers().get::<u32>(slot).map(u64::from),
        };
        for piece in 0..tile.per_register() {
            let addresses = places(tile, register, piece, base, stride);
            context.count(address.space, Direction::Store, &addresses, FULL, T::BYTES);
            for (lane, &value) in values.iter().enumerate() {
                let part = T::cut(value >> (8 * T::BYTES * piece as u64));
                context.store::<T>(address.space, lane, addresses[lane], part)?;
            }
        }
    }
    Ok(())
}

/// Where each lane has a piece of a register.
fn places(tile: &Tile, register: usize, piece: usize, base: u64, stride: u64) -> [u64; 32] {
    std::array::from_fn(|lane| {
        let (line, first) = tile.place(register, lane);
        base.wrapping_add(tile.offset(line, first + piece, stride))
    })
}

fn put(registers: &mut Registers, slot: Slot, bits: usize, values: &[u64; 32]) {
    match bits {
        64 => registers.set::<u64>(slot, FULL, values),
        _ => registers.set::<u32>(slot, FULL, &values.map(|value| value as u32)),
    }
}

/// Pairs of f16 to f32, two registers of each.
fn widen_pairs(registers: &mut Registers, pairs: &[Slot], sums: &[Slot]) {
    for (&pair, sums) in pairs.iter().zip(sums.chunks(2)) {
        let pair = registers.get::<u32>(pair);
        registers.set(sums[0], FULL, &pair.map(|pair| f16_to_f32(pair as u16)));
        registers.set(sums[1], FULL, &pair.map(|pair| f16_to_f32((pair >> 16) as u16)));
    }
}

/// Two registers of f32 each to a pair of f16.
fn narrow_pairs(registers: &mut Registers, sums: &[Slot], pairs: &[Slot]) {
    let half = |x: f32| u32::from(<u16 as Accumulator>::store(x.into()));
    for (&pair, sums) in pairs.iter().zip(sums.chunks(2)) {
        let (low, high) = (registers.get::<f32>(sums[0]), registers.get::<f32>(sums[1]));
        let packed = std::array::from_fn(|lane| half(high[lane]) << 16 | half(low[lane]));
        registers.set::<u32>(pair, FULL, &packed);
    }
}

/// `wmma.mma`.
fn multiply(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let shape = form.shape.ok_or("wmma without its shape")?;
    let [d, a, b, c] = instruction.operands.as_slice() else { return Err("wmma.mma takes four operands".into()) };
    let mut d = decoder.targets(d, vector_type(instruction, 0)?)?;
    let (a, b) = (decoder.values(a, vector_type(instruction, 1)?)?, decoder.values(b, vector_type(instruction, 2)?)?);
    let mut c = decoder.values(c, vector_type(instruction, 3)?)?;

    // Of f16 only the types of D and C are named.
    let halves = form.types.len() == 2;
    let kind = match halves {
        true => Kind::Float { a: Float::F16, b: Float::F16, half: form.types == [ScalarType::F16; 2] },
        false => Kind::of(form).ok_or_else(|| super::unsupported(instruction))?,
    };
    if let Kind::Double(rounding) = kind {
        return Ok(doubles(rounding, shape, d, a, b, c));
    }

    // Where D and C differ the sum is f32, in registers of its own.
    let (mut widen, mut narrow) = (Vec::new(), Vec::new());
    if halves && form.types[0] != form.types[1] {
        let sums: Vec<Slot> = (0..8).map(|_| decoder.new_slot(32)).collect();
        match form.types[0] {
            ScalarType::F16 => (narrow, d) = (d, sums),
            _ => (widen, c) = (c, sums),
        }
    }

    let bits = if halves { 16 } else { form.types[1].bits() };
    let words = (shape.k * bits / 32) as usize;
    let (m, n) = (shape.m as usize, shape.n as usize);
    let tile = Accumulators { kind, m, n, words, warpgroup: false, d, c };
    if m * words > WORDS || n * words > WORDS {
        return Err(super::unsupported(instruction));
    }

    Ok(Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        let sums = context.grid.options.mma;
        let warp = &mut *context.warp;
        widen_pairs(&mut warp.registers, &widen, &tile.c);

        let (mut packed_a, mut packed_b) = ([0; WORDS], [0; WORDS]);
        gather_a(&warp.registers, &a[..m * words / 32], m, words, &mut packed_a);
        gather_a(&warp.registers, &b[..n * words / 32], n, words, &mut packed_b);
        let from =
            Multiplicands { a: &packed_a, b: Columns::Whole(&packed_b[..n * words]), negate_a: false, negate_b: false };
        tile.multiply(&mut warp.registers, &from, false, sums, &mut warp.state.tensor);

        narrow_pairs(&mut warp.registers, &tile.d, &narrow);
        Ok(Flow::Next)
    }))
}

/// `wmma.mma` of f64: 8 by 8 by 4.
fn doubles(rounding: Rounding, shape: Shape, d: Vec<Slot>, a: Vec<Slot>, b: Vec<Slot>, c: Vec<Slot>) -> Decoded {
    let (m, n, k) = (shape.m as usize, shape.n as usize, shape.k as usize);
    let product = move |registers: &mut Registers| {
        let (mut wide_a, mut wide_b, mut tile) = ([0.0; 8 * 4], [0.0; 8 * 4], [0.0; 8 * 8]);
        gather_a::<f64>(registers, &a, m, k, &mut wide_a);
        gather_a::<f64>(registers, &b, n, k, &mut wide_b);
        gather_c::<f64>(registers, &c, m, n, &mut tile);
        double(rounding, &mut tile, &wide_a, &wide_b, n, k);
        scatter_d(registers, &d, m, n, &tile);
    };
    Decoded::effect(move |context, mask| {
        if whole_warp(context, mask)? == Flow::Wait {
            return Ok(Flow::Wait);
        }
        product(context.registers());
        Ok(Flow::Next)
    })
}

/// Type of the registers of an operand that is a fragment.
fn vector_type(instruction: &Instruction, operand: usize) -> Result<ScalarType, String> {
    match instruction.rules().get(operand).map(|rule| rule.kind) {
        Some(OperandKind::Vector { ty, .. }) => Ok(ty),
        _ => Err("an operand of wmma that is not a fragment".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_has_one_place() {
        for (matrix, lines, length, bits) in [
            (Matrix::A, 16, 16, 16),
            (Matrix::A, 8, 16, 16),
            (Matrix::B, 32, 16, 16),
            (Matrix::A, 32, 16, 8),
            (Matrix::B, 16, 8, 32),
            (Matrix::A, 8, 4, 64),
            (Matrix::B, 8, 32, 4),
            (Matrix::A, 8, 128, 1),
            (Matrix::Accumulator, 16, 16, 32),
            (Matrix::Accumulator, 32, 8, 16),
            (Matrix::Accumulator, 8, 32, 32),
            (Matrix::Accumulator, 8, 8, 64),
        ] {
            let tile = Tile { matrix, lines, length, bits, along: true };
            let mut seen = vec![0; lines * length];
            for register in 0..tile.registers() {
                for lane in 0..32 {
                    let (line, first) = tile.place(register, lane);
                    seen[line * length + first..][..tile.per_register()].iter_mut().for_each(|count| *count += 1);
                }
            }
            assert!(seen.iter().all(|&count| count == 1), "{tile:?}");
        }
    }

    #[test]
    fn offsets_count_bytes_by_rows_or_columns() {
        let tile = Tile { matrix: Matrix::A, lines: 16, length: 16, bits: 16, along: true };
        assert_eq!(tile.offset(3, 5, 20), (3 * 20 + 5) * 2);
        assert_eq!(Tile { along: false, ..tile }.offset(3, 5, 20), (5 * 20 + 3) * 2);
        let bits = Tile { matrix: Matrix::B, lines: 8, length: 128, bits: 1, along: true };
        assert_eq!(bits.offset(2, 32, 256), (2 * 256 + 32) / 8);
    }
}
