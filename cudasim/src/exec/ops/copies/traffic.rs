//! Counts what copies move, when they are issued: once, whenever they land.

use crate::counters::Direction;
use crate::exec::state::context::Context;
use crate::exec::state::copies::{Copy, From, Store};
use crate::memory::SHARED_RESERVED;

/// Counts a bulk or tensor copy into the shared memory of a block. `again`: of another block that a multicast reaches, for
/// which nothing more is read.
pub(super) fn count_copy(context: &mut Context<'_>, copy: &Copy, again: bool) {
    let Some(counts) = &mut context.worker.counts else { return };

    // What is written into shared memory.
    let bulk = &mut counts.bulk;
    let written = if copy.reduction.is_some() { Direction::Atomic } else { Direction::Store };
    bulk.shared(written, copy.pieces.iter().map(|piece| shared(piece.to, piece.bytes)));
    if again {
        return;
    }

    // What is read: from the shared memory of a block, or from global memory.
    let inside = |piece: &crate::exec::state::copies::Piece| match piece.from {
        From::Shared(_, offset) => Some(shared(offset, piece.bytes)),
        _ => None,
    };
    if copy.pieces.iter().any(|piece| inside(piece).is_some()) {
        bulk.shared(Direction::Load, copy.pieces.iter().filter_map(inside));
        return;
    }

    let global = copy.pieces.iter().filter_map(|piece| match piece.from {
        From::Global(address) => Some((address, piece.bytes.into())),
        _ => None,
    });
    bulk.global(Direction::Load, global.clone());
    global.for_each(|(address, _)| counts.pages.touch(Direction::Load, address));
}

/// Counts a bulk or tensor copy out of shared memory into global memory.
pub(super) fn count_store(context: &mut Context<'_>, store: &Store) {
    let Some(counts) = &mut context.worker.counts else { return };
    let written = if store.reduction.is_some() { Direction::Atomic } else { Direction::Store };
    counts.bulk.shared(Direction::Load, store.pieces.iter().map(|piece| shared(piece.from, piece.bytes)));
    counts.bulk.global(written, store.pieces.iter().map(|piece| (piece.to, piece.bytes.into())));
    store.pieces.iter().for_each(|piece| counts.pages.touch(written, piece.to));
}

/// Address and length of a piece of shared memory.
fn shared(offset: u32, bytes: u32) -> (u64, u64) {
    (SHARED_RESERVED + u64::from(offset), bytes.into())
}
