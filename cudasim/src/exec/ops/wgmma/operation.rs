//! One `wgmma.mma_async`: its operands, and what one warp of the four computes of it.

use super::descriptor::Descriptor;
use crate::exec::state::context::Context;
use crate::exec::state::wgmma::{Issued, Operation, Packed, SourceA};
use crate::exec::tensor::fragment::gather_a;
use crate::exec::tensor::product::{Columns, Multiplicands};
use crate::memory::{ByteState, SHARED_WINDOW};
use crate::report::{Fault, FaultKind};

/// Bytes of a chunk: what the layouts of matrices keep together.
const CHUNK: usize = 16;

/// 32-bit words of k: every shape has 32 bytes.
const WORDS: usize = 8;

/// Rows of D that a warp computes.
pub const ROWS: usize = 16;

impl Operation {
    /// Checks what the operation reads of shared memory when it is issued: of A the warp's rows, of B a quarter.
    ///
    /// # Errors
    /// Outside shared memory, never written, still being copied, or written with nothing that orders it before.
    pub fn check(&self, context: &mut Context<'_>, descriptors: [u64; 2]) -> Result<(), Fault> {
        let quarter = u64::from(context.warp.id % 4);
        if let SourceA::Shared(rows) = self.a {
            let a = Descriptor::new(descriptors[0])?;
            for eight in 2 * quarter..2 * quarter + 2 {
                check_eight(context, 0, &a, rows, eight)?;
            }
        }
        let b = Descriptor::new(descriptors[1])?;
        for eight in (quarter..self.tile.n as u64 / 8).step_by(4) {
            check_eight(context, 1, &b, self.b_rows, eight)?;
        }
        Ok(())
    }
}

/// Computes the warp's rows of operation `number` of its warpgroup and writes them to its registers. What lies in shared
/// memory is read now; for the other warps as well where the warp will know the operation to be `complete`, since then it
/// may be overwritten.
///
/// # Errors
/// A multiplicand has changed into something that cannot be read since the operation was issued.
pub fn land(context: &mut Context<'_>, issued: &Issued, number: u64, complete: bool) -> Result<(), Fault> {
    let operation = &*issued.operation;
    let warp = context.warp.id;
    let quarter = warp as usize % 4;
    let known = context.block().state.warpgroups.take_operands(warp, number);
    let shared = complete || known.is_some();

    let mut packed = match known {
        Some(packed) => packed,
        None => {
            let mut packed = context.block().state.warpgroups.room(warp);
            packed.a.resize(4 * ROWS * WORDS, 0);
            packed.b.resize(256 * WORDS, 0);
            let quarters = if complete { 0..4 } else { quarter..quarter + 1 };
            read(context, issued, &mut packed, quarters)?;
            packed
        }
    };

    if !issued.landed {
        let own = quarter * ROWS * WORDS..(quarter + 1) * ROWS * WORDS;
        if let SourceA::Registers(slots) = &operation.a {
            gather_a(&context.warp.registers, slots, ROWS, WORDS, &mut packed.a[own.clone()]);
        }
        let b = &packed.b[..operation.tile.n * WORDS];
        let from = Multiplicands {
            a: &packed.a[own],
            b: if operation.b_rows { Columns::Rows(b) } else { Columns::Whole(b) },
            negate_a: operation.negate_a,
            negate_b: operation.negate_b,
        };
        let sums = context.grid.options.mma;
        let own = &mut *context.warp;
        operation.tile.multiply(&mut own.registers, &from, !issued.accumulate, sums, &mut own.state.tensor);
    }

    let groups = &mut context.block().state.warpgroups;
    if shared {
        groups.put_operands(warp, number, packed);
    } else {
        groups.keep(warp, packed);
    }

    groups.landed(warp, number);
    Ok(())
}

/// Reads B, and of A the rows of these warps where it lies in shared memory.
fn read(
    context: &Context<'_>,
    issued: &Issued,
    packed: &mut Packed,
    quarters: std::ops::Range<usize>,
) -> Result<(), Fault> {
    let operation = &*issued.operation;
    if let SourceA::Shared(rows) = operation.a {
        let a = Descriptor::new(issued.descriptors[0])?;
        for eight in 2 * quarters.start..2 * quarters.end {
            let mut eight_rows = [0; 8 * WORDS];
            each_chunk(&a, rows, eight as u64, |place, address| {
                eight_rows[4 * place..][..4].copy_from_slice(&words(chunk(context, address)?));
                Ok(())
            })?;
            let out = &mut packed.a[eight * 8 * WORDS..][..8 * WORDS];

            if rows {
                transpose(&eight_rows, out);
            } else {
                out.copy_from_slice(&eight_rows);
            }
        }
    }

    let b = Descriptor::new(issued.descriptors[1])?;
    let across = operation.tile.n / 2;

    for eight in 0..operation.tile.n / 8 {
        each_chunk(&b, operation.b_rows, eight as u64, |place, address| {
            // By rows, B is [k][n]: chunk `place` is k; by columns [n][words]: two chunks for each column.
            let to = if operation.b_rows { place * across + 4 * eight } else { (16 * eight + place) * 4 };
            packed.b[to..][..4].copy_from_slice(&words(chunk(context, address)?));
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

/// Checks the chunks of eight rows of multiplicand 0 (A) or 1 (B), and counts their two core matrices.
fn check_eight(
    context: &mut Context<'_>,
    multiplicand: usize,
    descriptor: &Descriptor,
    rows: bool,
    eight: u64,
) -> Result<(), Fault> {
    let mut chunks = [0; 16];
    each_chunk(descriptor, rows, eight, |place, address| {
        chunks[place] = address;
        check_chunk(context, address)
    })?;

    if let Some(counts) = &mut context.worker.counts {
        for half in 0..2 {
            // MN-major eight of k; K-major one half of k of all rows.
            let place = |chunk: usize| if rows { 8 * half + chunk } else { 2 * chunk + half };
            counts.wgmma[multiplicand].matrix(std::array::from_fn(|chunk| chunks[place(chunk)]));
        }
    }
    Ok(())
}

/// Checks a chunk that an operation reads which is issued now, and notes that it is read.
fn check_chunk(context: &mut Context<'_>, address: u64) -> Result<(), Fault> {
    let asynchronous = context.clocks.asynchronous(context.rank, context.warp.id);
    let rank = context.rank;
    let offset = context.blocks[rank].shared.offset(address, CHUNK as u64);
    let offset = offset.map_err(|fault| fault.at(SHARED_WINDOW + address))?;
    context.read_shared_as(asynchronous, false, 0, address, &mut [0; CHUNK])?;
    if !context.grid.options.shared_races {
        return Ok(());
    }
    let Some(shadow) = context.blocks[rank].shared.shadow() else { return Ok(()) };
    let mut warning = None;

    for word in (offset..offset + CHUNK).step_by(4) {
        for (agent, time) in shadow.last_writers(word as u64) {
            // Cells of shared memory count agents from 1.
            let agent = agent as usize - 1;
            let (_, warp, by_proxy) = context.clocks.describe(agent);
            if !by_proxy && !context.clocks.is_fenced(asynchronous, agent, time) {
                let message = format!(
                    "a wgmma reads shared memory that a thread of warp {warp} has written with an ordinary store, and no \
                     fence.proxy.async followed"
                );
                let fault = Fault::new(FaultKind::MissingFence, message).at(SHARED_WINDOW + address);
                // Behind a barrier the store has taken effect on every GPU so far: CUTLASS's cp.async kernels rely on it.
                if !context.clocks.is_drained(asynchronous, agent, time) {
                    return Err(fault);
                }
                warning.get_or_insert(fault);
            }
        }
    }

    warning.map_or(Ok(()), |fault| context.warn(fault))
}

/// A chunk of the block's shared memory, which was checked when the operation was issued.
#[inline(always)]
fn chunk<'a>(context: &'a Context<'_>, address: u64) -> Result<&'a [u8], Fault> {
    let memory = &context.blocks[context.rank].shared;
    let at = |fault: Fault| fault.at(SHARED_WINDOW + address);
    let offset = memory.offset(address, CHUNK as u64).map_err(at)?;
    if memory.states(offset, CHUNK).contains(&ByteState::InFlight) {
        let message = "an asynchronous copy overwrites shared memory while a wgmma in flight still reads it";
        return Err(at(Fault::new(FaultKind::MissingWait, message)));
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
