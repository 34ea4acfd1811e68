//! Pieces of global memory of any length.

use crate::exec::state::context::Context;
use crate::memory::{Allocation, Word};
use crate::report::Fault;

/// That `bytes` bytes of global memory at `address` are there.
///
/// # Errors
/// They are in no allocation.
pub fn check_global(context: &mut Context<'_>, lane: usize, address: u64, bytes: u64) -> Result<(), Fault> {
    context.global(lane, address, bytes).map(|_| ())
}

/// The allocation and the offset of a checked address.
fn locate<'g>(context: &Context<'g>, address: u64) -> Option<(&'g Allocation, u64)> {
    let map = context.grid.memory;
    let allocation = map.get(map.find(address)?)?;
    Some((allocation, address - allocation.base()))
}

/// Reads checked global memory; `false` where some of it was never written.
pub fn read_global(context: &Context<'_>, address: u64, into: &mut [u8]) -> bool {
    let Some((allocation, offset)) = locate(context, address) else { return true };
    let bytes = into.len() as u64;
    match alignment(offset, bytes) {
        8 => read::<u64>(allocation, offset, into),
        4 => read::<u32>(allocation, offset, into),
        _ => read::<u8>(allocation, offset, into),
    }
    allocation.is_written(offset, bytes)
}

/// Writes checked global memory.
pub fn write_global(context: &Context<'_>, address: u64, from: &[u8]) {
    let Some((allocation, offset)) = locate(context, address) else { return };
    let bytes = from.len() as u64;
    match alignment(offset, bytes) {
        8 => write::<u64>(allocation, offset, from),
        4 => write::<u32>(allocation, offset, from),
        _ => write::<u8>(allocation, offset, from),
    }
    allocation.set_written(offset, bytes, true);
}

/// Replaces each word of `width` bytes of checked global memory by what `f` makes of it, atomically.
pub fn update_global(context: &Context<'_>, address: u64, from: &[u8], width: usize, f: impl Fn(u64, u64) -> u64) {
    let Some((allocation, offset)) = locate(context, address) else { return };
    for (index, operand) in from.chunks_exact(width).enumerate() {
        let at = offset + (index * width) as u64;
        match width {
            2 => update::<u16>(allocation, at, operand, &f),
            4 => update::<u32>(allocation, at, operand, &f),
            _ => update::<u64>(allocation, at, operand, &f),
        }
    }
}

fn alignment(offset: u64, bytes: u64) -> u64 {
    1 << (offset | bytes | 8).trailing_zeros()
}

fn read<T: Word>(allocation: &Allocation, offset: u64, into: &mut [u8]) {
    for (index, place) in into.chunks_exact_mut(T::BYTES as usize).enumerate() {
        allocation.load::<T>(offset + index as u64 * T::BYTES).to_slice(place);
    }
}

fn write<T: Word>(allocation: &Allocation, offset: u64, from: &[u8]) {
    for (index, piece) in from.chunks_exact(T::BYTES as usize).enumerate() {
        allocation.store(offset + index as u64 * T::BYTES, T::from_slice(piece));
    }
}

fn update<T: Word>(allocation: &Allocation, offset: u64, operand: &[u8], f: impl Fn(u64, u64) -> u64) {
    let operand = T::from_slice(operand).into();
    let mut old = allocation.load::<T>(offset);
    while let Err(other) = allocation.exchange(offset, old, T::cut(f(old.into(), operand))) {
        old = other;
    }
}
