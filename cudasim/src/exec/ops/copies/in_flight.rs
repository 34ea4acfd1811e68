//! Asynchronous operations that an mbarrier counts: copies into shared memory, and arrivals that `cp.async` triggers. They
//! wait with the block whose mbarrier it is, which for copies is the block that they go to.

use super::bytes::read_global;
use super::{cp_async, lands_now};
use crate::exec::ops::mbarriers;
use crate::exec::race::detector::{AccessKind, WRITE};
use crate::exec::state::context::Context;
use crate::exec::state::copies::{Arrivals, Copy, From, Pending, Piece, Place, What};
use crate::mask::lanes;
use crate::memory::ByteState;
use crate::options::Completion;
use crate::report::{Fault, FaultKind};

/// Issues a copy into the mbarrier's block; it lands now or when the options say.
///
/// # Errors
/// What it writes is in flight already.
pub fn launch(context: &mut Context<'_>, mbarrier: Place, copy: Copy) -> Result<(), Fault> {
    let rank = mbarrier.rank;
    let warp = context.clocks.warp(context.rank, context.warp.id);

    for piece in &copy.pieces {
        let target = &context.blocks[rank].shared;

        let states = target.states(piece.to as usize, piece.bytes as usize);
        let word = if states.contains(&ByteState::InFlight) {
            "writes where another asynchronous copy is on its way"
        } else if states.contains(&ByteState::Source) {
            "writes where another asynchronous copy may still read"
        } else {
            continue;
        };

        let address = crate::memory::SHARED_WINDOW + crate::memory::SHARED_RESERVED + u64::from(piece.to);
        return Err(Fault::new(FaultKind::MissingWait, format!("an asynchronous copy {word}")).at(address));
    }

    context.clocks.issue(warp);
    let asynchronous = context.clocks.asynchronous(context.rank, context.warp.id);

    for piece in &copy.pieces {
        let (to, bytes) = (piece.to as usize, piece.bytes as usize);
        if let From::Shared(from, offset) = piece.from {
            let address = crate::memory::SHARED_RESERVED + u64::from(offset);
            let address = address | (from as u64 + 1) << crate::memory::CLUSTER_RANK_SHIFT;
            context.read_shared_as(asynchronous, false, 0, address, &mut vec![0; bytes])?;
        }
        // Reductions are atomic, word by word.
        let kind = AccessKind { strong: copy.reduction.is_some(), ..WRITE };
        context.check_shared_range(asynchronous, rank, 0, to, bytes, kind)?;
    }

    let clock = context.clocks.release(asynchronous);
    let flight = Pending { mbarrier, what: What::Copy(copy), clock };
    if lands_now(context) {
        return land(context, flight);
    }
    let What::Copy(copy) = &flight.what else { return Ok(()) };

    for piece in &copy.pieces {
        if let From::Shared(from, offset) = piece.from {
            guard_source(context, from, offset as usize, piece.bytes as usize);
        }
        context.blocks[rank].shared.mark(piece.to as usize, piece.bytes as usize, ByteState::InFlight);
    }

    context.blocks[rank].state.pending.list.push(flight);
    Ok(())
}

/// Marks written bytes as the source of a copy.
pub(super) fn guard_source(context: &mut Context<'_>, rank: usize, offset: usize, bytes: usize) {
    let shared = &mut context.blocks[rank].shared;
    if shared.states(offset, bytes).iter().all(|state| matches!(state, ByteState::Written | ByteState::Source)) {
        shared.mark(offset, bytes, ByteState::Source);
    }
}

/// The source of a copy may be overwritten from now on.
pub(super) fn free_source(context: &mut Context<'_>, rank: usize, offset: usize, bytes: usize) {
    let shared = &mut context.blocks[rank].shared;
    if shared.states(offset, bytes).contains(&ByteState::Source) {
        shared.mark(offset, bytes, ByteState::Written);
    }
}

/// A test of an mbarrier has failed: one of the operations that it waits for may complete.
///
/// # Errors
/// The mbarrier does not take what lands.
pub fn land_one(context: &mut Context<'_>, mbarrier: Place) -> Result<(), Fault> {
    let list = &context.blocks[mbarrier.rank].state.pending.list;
    let count = list.iter().filter(|flight| flight.mbarrier.offset == mbarrier.offset).count();
    // Asking once is not yet waiting.
    if count == 0 || context.grid.options.completion == Completion::Late && context.worker.rng.below(2) == 0 {
        return Ok(());
    }
    let nth = context.worker.rng.below(count);
    let list = &mut context.blocks[mbarrier.rank].state.pending.list;
    let mut places = list.iter().enumerate().filter(|(_, flight)| flight.mbarrier.offset == mbarrier.offset);
    let Some((place, _)) = places.nth(nth) else { return Ok(()) };
    let flight = list.remove(place);
    land(context, flight)
}

fn land(context: &mut Context<'_>, flight: Pending) -> Result<(), Fault> {
    let Pending { mbarrier, what, clock } = flight;

    match what {
        What::Copy(copy) => {
            let mut buffer = Vec::new();
            for piece in &copy.pieces {
                land_piece(context, mbarrier.rank, piece, &copy, &mut buffer);
            }
            mbarriers::complete_bytes(context, mbarrier, copy.bytes, &clock)
        }

        What::Arrivals(arrivals) => {
            let Arrivals { rank, warp, lanes: mask, before } = arrivals;
            cp_async::land_before(context, rank, warp, mask, before);
            for _ in lanes(mask) {
                mbarriers::arrive_asynchronously(context, mbarrier, &clock)?;
            }
            Ok(())
        }
    }
}

fn land_piece(context: &mut Context<'_>, rank: usize, piece: &Piece, copy: &Copy, buffer: &mut Vec<u8>) {
    let (to, bytes) = (piece.to as usize, piece.bytes as usize);
    buffer.clear();
    buffer.resize(bytes, 0);

    let written = match piece.from {
        From::Global(address) => read_global(context, address, buffer),
        From::Shared(from, offset) => {
            let source = &context.blocks[from].shared;
            let states = source.states(offset as usize, bytes);
            let written = states.iter().all(|state| matches!(state, ByteState::Written | ByteState::Source));
            buffer.copy_from_slice(source.bytes(offset as usize, bytes));
            free_source(context, from, offset as usize, bytes);
            written
        }
        From::Value(value) => {
            buffer.iter_mut().zip(value.iter().cycle()).for_each(|(place, &byte)| *place = byte);
            true
        }
    };

    if copy.flush {
        for word in buffer.chunks_exact_mut(4) {
            if let [_, _, high, top] = word
                && *top & 0x7f == 0
                && *high & 0x80 == 0
            {
                let sign = *top & 0x80;
                word.copy_from_slice(&[0, 0, 0, sign]);
            }
        }
    }

    let target = &mut context.blocks[rank].shared;
    if let Some(reduction) = copy.reduction {
        let mut old = target.bytes(to, bytes).to_vec();
        reduction.into_bytes(&mut old, buffer);
        buffer.copy_from_slice(&old);
    }

    target.put(to, buffer);
    if !written {
        target.mark(to, bytes, ByteState::Unwritten);
    }
}

/// When a block's last thread leaves, nothing may be on its way into its memory.
pub(super) fn leave(context: &mut Context<'_>) -> Result<(), Fault> {
    let block = context.block();
    if block.live_threads != 0 {
        return Ok(());
    }
    let copies = block.state.pending.list.iter().filter(|flight| matches!(flight.what, What::Copy(_))).count();
    if copies == 0 {
        return Ok(());
    }
    let message = format!(
        "the block's last thread leaves while {copies} asynchronous copies into its shared memory are on their way"
    );
    Err(Fault::new(FaultKind::MissingWait, message))
}
