//! One `wgmma.mma_async`: its operands, and what one warp of the four computes of it.

use super::descriptor::Descriptor;
use super::flight::{Issued, Watched};
use crate::exec::context::Context;
use crate::exec::ops::tensor::fragment::gather_a;
use crate::exec::ops::tensor::product::{Accumulators, Columns, Multiplicands};
use crate::exec::registers::Slot;
use crate::memory::{ByteState, SHARED_WINDOW};
use crate::report::{Fault, FaultKind};

/// Bytes of a chunk: what the layouts of matrices keep together.
const CHUNK: usize = 16;

/// 32-bit words of k: every shape has 32 bytes.
const WORDS: usize = 8;

/// Rows of D that a warp computes.
pub const ROWS: usize = 16;

/// Where A comes from.
#[derive(Clone, Debug)]
pub enum SourceA {
    /// The warp's registers.
    Registers(Vec<Slot>),
    /// Shared memory; M-major if `true`.
    Shared(bool),
}

/// A decoded instruction.
pub struct Operation {
    /// The accumulators of one warp, 16 x N.
    pub tile: Accumulators,
    /// A.
    pub a: SourceA,
    /// B is N-major.
    pub b_rows: bool,
    /// `imm-scale-a` is -1.
    pub negate_a: bool,
    /// `imm-scale-b` is -1.
    pub negate_b: bool,
    /// Operations with the same accumulators and shape have the same number.
    pub family: u32,
    /// The registers of D.
    pub d_watched: Vec<Watched>,
    /// The registers of A.
    pub a_watched: Vec<Watched>,
}

/// Packed words of the multiplicands, kept so that nothing is allocated while kernels run.
#[derive(Default)]
pub struct Packed {
    a: Vec<u32>,
    b: Vec<u32>,
}

impl Operation {
    /// Checks what the operation reads of shared memory when it is issued: of A the warp's rows, of B a quarter.
    ///
    /// # Errors
    /// Outside shared memory, never written, or still being copied.
    pub fn check(&self, context: &Context<'_>, descriptors: [u64; 2]) -> Result<(), Fault> {
        let quarter = u64::from(context.warp.id % 4);
        if let SourceA::Shared(rows) = self.a {
            let a = Descriptor::new(descriptors[0])?;
            for eight in 2 * quarter..2 * quarter + 2 {
                each_chunk(&a, rows, eight, |_, address| chunk(context, address, true).map(|_| ()))?;
            }
        }
        let b = Descriptor::new(descriptors[1])?;
        for eight in (quarter..self.tile.n as u64 / 8).step_by(4) {
            each_chunk(&b, self.b_rows, eight, |_, address| chunk(context, address, true).map(|_| ()))?;
        }
        Ok(())
    }
}

/// Computes the warp's rows of an operation and writes them to its registers.
///
/// # Errors
/// A multiplicand has changed into something that cannot be read since the operation was issued.
pub fn land(context: &mut Context<'_>, issued: &Issued) -> Result<(), Fault> {
    let operation = &*issued.operation;
    let n = operation.tile.n;
    let mut packed = std::mem::take(&mut context.warp.state.wgmma_packed);
    packed.a.resize(ROWS * WORDS, 0);
    packed.b.resize(WORDS * 256, 0);
    let result = read(context, issued, &mut packed);
    if result.is_ok() {
        let b = &packed.b[..n * WORDS];
        let from = Multiplicands {
            a: &packed.a,
            b: if operation.b_rows { Columns::Rows(b) } else { Columns::Whole(b) },
            negate_a: operation.negate_a,
            negate_b: operation.negate_b,
        };
        let warp = &mut *context.warp;
        operation.tile.multiply(&mut warp.registers, &from, !issued.accumulate, &mut warp.state.tensor);
    }
    context.warp.state.wgmma_packed = packed;
    result
}

fn read(context: &Context<'_>, issued: &Issued, packed: &mut Packed) -> Result<(), Fault> {
    let operation = &*issued.operation;
    match &operation.a {
        SourceA::Registers(slots) => gather_a(&context.warp.registers, slots, ROWS, WORDS, &mut packed.a),
        SourceA::Shared(rows) => {
            let a = Descriptor::new(issued.descriptors[0])?;
            let first = 2 * u64::from(context.warp.id % 4);
            for half in 0..2 {
                let mut eight_rows = [0; 8 * WORDS];
                each_chunk(&a, *rows, first + half as u64, |place, address| {
                    eight_rows[4 * place..][..4].copy_from_slice(&words(chunk(context, address, false)?));
                    Ok(())
                })?;
                let out = &mut packed.a[half * 8 * WORDS..][..8 * WORDS];
                if *rows {
                    transpose(&eight_rows, out);
                } else {
                    out.copy_from_slice(&eight_rows);
                }
            }
        }
    }
    let b = Descriptor::new(issued.descriptors[1])?;
    let across = operation.tile.n / 2;
    for eight in 0..operation.tile.n / 8 {
        each_chunk(&b, operation.b_rows, eight as u64, |place, address| {
            // By rows, B is [k][n]: chunk `place` is k; by columns [n][words]: two chunks for each column.
            let to = if operation.b_rows { place * across + 4 * eight } else { (16 * eight + place) * 4 };
            packed.b[to..][..4].copy_from_slice(&words(chunk(context, address, false)?));
            Ok(())
        })?;
    }
    Ok(())
}

/// The 16 chunks of eight rows of a multiplicand: K-major by row, then half of k; MN-major by k.
#[inline(always)]
fn each_chunk(
    descriptor: &Descriptor,
    rows: bool,
    eight: u64,
    mut visit: impl FnMut(usize, u64) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for place in 0..16 {
        let address = match rows {
            true => descriptor.along_rows(eight, place),
            false => descriptor.along_k(8 * eight + place / 2, place % 2),
        };
        visit(place as usize, address)?;
    }
    Ok(())
}

/// A chunk of the block's shared memory.
#[inline(always)]
fn chunk<'a>(context: &'a Context<'_>, address: u64, first: bool) -> Result<&'a [u8], Fault> {
    let memory = &context.blocks[context.rank].shared;
    let at = |fault: Fault| fault.at(SHARED_WINDOW + address);
    let offset = memory.offset(address, CHUNK as u64).map_err(at)?;
    let states = memory.states(offset, CHUNK);
    if states.iter().any(|&state| state != ByteState::Written) {
        if states.contains(&ByteState::InFlight) {
            let message = match first {
                true => "a wgmma reads shared memory while an asynchronous copy into it was not waited for",
                false => "an asynchronous copy overwrites shared memory while a wgmma in flight still reads it",
            };
            return Err(at(Fault::new(FaultKind::MissingWait, message)));
        }
        if context.grid.options.uninitialised {
            let message = "a wgmma reads shared memory that nothing was written to";
            return Err(at(Fault::new(FaultKind::UninitialisedMemory, message)));
        }
    }
    Ok(memory.bytes(offset, CHUNK))
}

#[inline(always)]
fn words(bytes: &[u8]) -> [u32; 4] {
    std::array::from_fn(|word| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * word + byte])))
}

/// `[k][8 rows]` of 16-bit elements to `[8 rows][k]`, k = 16.
fn transpose(from: &[u32; 8 * WORDS], to: &mut [u32]) {
    let element = |k: usize, row: usize| from[4 * k + row / 2] >> (16 * (row % 2)) & 0xffff;
    for row in 0..8 {
        for word in 0..WORDS {
            to[row * WORDS + word] = element(2 * word + 1, row) << 16 | element(2 * word, row);
        }
    }
}
