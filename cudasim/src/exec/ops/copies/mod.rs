//! `cp.async`, bulk and tensor copies, `st.async`, `red.async` and `tensormap`.
//!
//! An asynchronous operation is checked when it is issued and *lands* later: as late as its program allows, at once, or
//! by chance ([`Completion`]). Until it lands, what it writes is in flight and what it reads must not be
//! overwritten, which shared memory records ([`ByteState`](crate::memory::ByteState)).
//!
//! ```text
//! cp_async   each thread's groups, landing at cp.async.wait_group
//! in_flight  operations that an mbarrier counts: each failed test of it lets one of them complete
//! bulk       operands of bulk copies; bulk groups, landing at cp.async.bulk.wait_group
//! tensor     tensor copies; layout: which pieces of memory one is
//! stores     st.async and red.async
//! traffic    counts
//! ```

mod bulk;
mod bytes;
mod cp_async;
mod in_flight;
mod layout;
mod stores;
mod tensor;
mod tensormap;
mod traffic;

pub use in_flight::land_one;

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::state::copies::{Copy, Place};
use crate::mask::Mask;
use crate::options::Completion;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    match form.opcode {
        Opcode::Tensormap => return tensormap::decode(decoder, instruction),
        Opcode::St | Opcode::Red => return stores::decode(decoder, instruction),
        _ => {}
    }
    if !form.has(Modifier::Bulk) {
        return cp_async::decode(decoder, instruction);
    }
    if form.has(Modifier::Prefetch) {
        // Caches are not simulated.
        return Ok(Decoded::effect(|_, _| Ok(Flow::Next)));
    }
    if form.has(Modifier::Tensor) { tensor::decode(decoder, instruction) } else { bulk::decode(decoder, instruction) }
}

/// Whether an operation that is issued now lands at once.
fn lands_now(context: &mut Context<'_>) -> bool {
    match context.grid.options.completion {
        Completion::Late => false,
        Completion::Early => true,
        Completion::Random => context.worker.rng.below(2) == 0,
    }
}

/// That what an asynchronous copy is to read of shared memory was made visible to it.
///
/// # Errors
/// An ordinary store has written it, and no `fence.proxy.async` came after: a warning where a barrier did.
fn check_fenced(context: &mut Context<'_>, lane: usize, place: Place, bytes: u64) -> Result<(), Fault> {
    check_proxy(context, lane, place.rank, place.offset..place.offset + bytes as usize, false)
}

/// That what an asynchronous copy is to overwrite in the shared memory of block `rank` cannot be written again by an earlier
/// store that takes effect late. Reading it earlier needs no fence, only an order.
///
/// # Errors
/// As [`check_fenced`].
fn check_overwritten(context: &mut Context<'_>, lane: usize, rank: usize, copy: &Copy) -> Result<(), Fault> {
    for piece in &copy.pieces {
        check_proxy(context, lane, rank, piece.to as usize..(piece.to + piece.bytes) as usize, true)?;
    }
    Ok(())
}

fn check_proxy(
    context: &mut Context<'_>,
    lane: usize,
    rank: usize,
    range: std::ops::Range<usize>,
    overwrites: bool,
) -> Result<(), Fault> {
    if !context.grid.options.shared_races {
        return Ok(());
    }
    let agent = context.agent();
    let clocks = &*context.clocks;
    let Some(shadow) = context.blocks[rank].shared.shadow() else { return Ok(()) };
    let mut warning = None;

    for offset in (range.start & !3..range.end).step_by(4) {
        for (writer, time) in shadow.last_writers(offset as u64) {
            // Cells of shared memory count agents from 1.
            let writer = writer as usize - 1;
            let (_, warp, by_proxy) = clocks.describe(writer);
            // A store that is not ordered before an overwriting copy at all is a race, and reported as one.
            if by_proxy
                || clocks.is_fenced(agent, writer, time)
                || overwrites && !clocks.happens_before(agent, writer, time)
            {
                continue;
            }
            let uses = if overwrites { "overwrites" } else { "reads" };
            let message = format!(
                "an asynchronous copy {uses} shared memory that a thread of warp {warp} has written with an ordinary store, \
                 and no fence.proxy.async followed"
            );
            let address = crate::memory::SHARED_WINDOW + crate::memory::SHARED_RESERVED + offset as u64;
            let fault = Fault::new(FaultKind::MissingFence, message).lane(lane).at(address);
            // Behind a barrier the store has taken effect on every GPU so far.
            if !clocks.is_drained(agent, writer, time) {
                return Err(fault);
            }
            warning.get_or_insert(fault);
        }
    }

    warning.map_or(Ok(()), |fault| context.warn(fault))
}

/// Lanes leave with what they have not waited for.
///
/// # Errors
/// A copy may still read the block's shared memory, or is on its way into it when its last thread leaves.
pub(super) fn leave(context: &mut Context<'_>, gone: Mask) -> Result<(), Fault> {
    bulk::leave(context, gone)?;
    in_flight::leave(context)
}
