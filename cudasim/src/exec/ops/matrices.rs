//! `ldmatrix`, `stmatrix` and `movmatrix`: 8x8 matrices of 16-bit elements between shared memory and registers.
//!
//! Of a matrix, lane l holds elements 2 (l mod 4) and the next of row l / 4 in one register; with `.trans`, of column l / 4.
//! In memory each row is 16 bytes; the addresses of the rows of matrix i come from lanes 8 i to 8 i + 7.

use crate::counters::Direction;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::matrix_warp::whole_warp;
use crate::exec::program::address::{Address, Space, Window, window};
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::{FULL, Mask};
use crate::memory::SHARED_WINDOW;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};

/// Bytes of a row.
const ROW: usize = 16;

/// A matrix as 32-bit words, two elements each: row r is words 4 r to 4 r + 3, which is how lanes hold it.
type Matrix = [u32; 32];

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let transposed = form.has(Modifier::Trans);

    let o = instruction.operands.as_slice();
    match (form.opcode, o) {
        (Opcode::Ldmatrix, [targets, address]) => {
            let targets = decoder.targets(targets, ScalarType::B32)?;
            let address = decoder.address(address, form.space())?;
            Ok(Decoded::effect(move |context, mask| load(context, mask, &address, &targets, transposed)))
        }
        (Opcode::Stmatrix, [address, sources]) => {
            let sources = decoder.values(sources, ScalarType::B32)?;
            let address = decoder.address(address, form.space())?;
            Ok(Decoded::effect(move |context, mask| store(context, mask, &address, &sources, transposed)))
        }
        (Opcode::Movmatrix, [target, source]) => {
            let (d, a) = (decoder.target(target, ScalarType::B32)?, decoder.value(source, ScalarType::B32)?);
            Ok(Decoded::effect(move |context, mask| {
                if whole_warp(context, mask)? == Flow::Wait {
                    return Ok(Flow::Wait);
                }
                let matrix = context.registers().get::<u32>(a);
                context.registers().set::<u32>(d, FULL, &transpose(&matrix));
                Ok(Flow::Next)
            }))
        }
        _ => Err(super::unsupported(instruction)),
    }
}

/// `ldmatrix`: a matrix into each of the targets.
fn load(
    context: &mut Context<'_>,
    mask: Mask,
    address: &Address,
    targets: &[Slot],
    transposed: bool,
) -> Result<Flow, Fault> {
    if whole_warp(context, mask)? == Flow::Wait {
        return Ok(Flow::Wait);
    }

    let rows = rows(context, address, targets.len())?;
    let lanes = (u64::from(u32::MAX) >> (32 - 8 * targets.len())) as u32;
    context.count(address.space, Direction::Load, &rows, lanes, ROW as u64);

    // Bytes of each row that were never written; mostly there are none.
    let mut lacking = [0; 32];
    for (i, &target) in targets.iter().enumerate() {
        let mut matrix = [0; 32];
        for (row, words) in matrix.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut bytes = [0; ROW];
            lacking[8 * i + row] = context.read_row(8 * i + row, rows[8 * i + row], &mut bytes)?;
            *words = words_of(&bytes);
        }
        let matrix = if transposed { transpose(&matrix) } else { matrix };
        context.registers().set::<u32>(target, FULL, &matrix);
    }
    if lacking != [0; 32] {
        lack(context, targets, &rows, &lacking, transposed);
    }
    Ok(Flow::Next)
}

/// What the rows lacked the targets lack as well.
#[cold]
fn lack(context: &mut Context<'_>, targets: &[Slot], rows: &[u64; 32], lacking: &[u16; 32], transposed: bool) {
    let mut lacks: Vec<(Slot, [u64; 32])> = Vec::new();
    let mut from = [0; 32];
    for ((&target, rows), lacking) in targets.iter().zip(rows.as_chunks::<8>().0).zip(lacking.as_chunks::<8>().0) {
        if *lacking == [0; 8] {
            continue;
        }
        let mut missing = [0; 32];
        for (words, lacking) in missing.as_chunks_mut::<4>().0.iter_mut().zip(lacking) {
            *words = words_of(&std::array::from_fn(|byte| if lacking >> byte & 1 != 0 { 0xff } else { 0 }));
        }
        let missing = if transposed { transpose(&missing) } else { missing };
        from = std::array::from_fn(|lane| match transposed {
            true => SHARED_WINDOW + rows[lane % 4 * 2],
            false => SHARED_WINDOW + rows[lane / 4] + 4 * (lane as u64 % 4),
        });
        lacks.push((target, missing.map(u64::from)));
    }
    context.lack("shared", from, FULL, lacks.iter().map(|(slot, bits)| (*slot, bits)));
}

fn words_of(row: &[u8; ROW]) -> [u32; 4] {
    std::array::from_fn(|word| u32::from_le_bytes(std::array::from_fn(|byte| row[4 * word + byte])))
}

/// `stmatrix`: a matrix from each of the sources.
fn store(
    context: &mut Context<'_>,
    mask: Mask,
    address: &Address,
    sources: &[Slot],
    transposed: bool,
) -> Result<Flow, Fault> {
    if whole_warp(context, mask)? == Flow::Wait {
        return Ok(Flow::Wait);
    }

    let rows = rows(context, address, sources.len())?;
    let lanes = (u64::from(u32::MAX) >> (32 - 8 * sources.len())) as u32;
    context.count(address.space, Direction::Store, &rows, lanes, ROW as u64);

    for (i, &source) in sources.iter().enumerate() {
        let matrix = context.registers().get::<u32>(source);
        let matrix = if transposed { transpose(&matrix) } else { matrix };
        for (row, words) in matrix.as_chunks::<4>().0.iter().enumerate() {
            let mut bytes = [0; ROW];
            for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *place = word.to_le_bytes();
            }
            context.write_shared(8 * i + row, rows[8 * i + row], &bytes)?;
        }
        if !context.worker.carried.is_empty() {
            unwrite(context, source, &rows[8 * i..], transposed);
        }
    }
    context.worker.carried.clear();
    Ok(Flow::Next)
}

/// What a source lacked is missing in memory as well.
#[cold]
fn unwrite(context: &mut Context<'_>, source: Slot, rows: &[u64], transposed: bool) {
    let Some(lacks) = context.carried(source) else { return };
    let lacks = lacks.map(|bits| bits as u32);
    let lacks = if transposed { transpose(&lacks) } else { lacks };
    for (word, lacks) in lacks.iter().enumerate() {
        for byte in (0..4).filter(|byte| lacks >> (8 * byte) & 0xff != 0) {
            context.unwrite_byte(Window::Shared, 0, rows[word / 4] + word as u64 % 4 * 4 + byte);
        }
    }
}

fn transpose(matrix: &Matrix) -> Matrix {
    let element = |row: usize, column: usize| matrix[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
    std::array::from_fn(|word| {
        let (row, column) = (word / 4, word % 4 * 2);
        element(column + 1, row) << 16 | element(column, row)
    })
}

/// The shared addresses of the rows of `matrices` matrices.
fn rows(context: &Context<'_>, address: &Address, matrices: usize) -> Result<[u64; 32], Fault> {
    let mut rows = context.addresses(address);
    for (lane, row) in rows.iter_mut().enumerate().take(8 * matrices) {
        let fault = |kind, message: String| {
            let generic = if address.space == Space::Generic { *row } else { SHARED_WINDOW + *row };
            Err(Fault::new(kind, message).lane(lane).at(generic))
        };
        if !row.is_multiple_of(ROW as u64) {
            return fault(FaultKind::Misaligned, format!("row address {row:#x} is not a multiple of {ROW}"));
        }
        if address.space == Space::Generic {
            match window(*row) {
                (Window::Shared, inside) => *row = inside,
                _ => return fault(FaultKind::InvalidAddressSpace, format!("row address {row:#x} is not shared")),
            }
        }
    }
    Ok(rows)
}
