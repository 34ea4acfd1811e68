//! Bulk copies: operands, and the bulk groups of each thread.

use super::bytes::{check_global, read_global, update_global, write_global};
use super::lands_now;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::copies::in_flight;
use crate::exec::ops::copies::in_flight::{free_source, guard_source};
use crate::exec::ops::{mbarriers, shared_address};
use crate::exec::program::address::{Address, Space, Window, window};
use crate::exec::program::reduction::Reduction;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::state::copies::{Copy, From, Issued, Piece, Place, Store, StorePiece};
use crate::mask::{Mask, lanes};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::{ScalarType, StateSpace};
use crate::report::{Fault, FaultKind};

impl Issued {
    fn read(&mut self, context: &mut Context<'_>) {
        if self.read.is_some() {
            return;
        }
        let rank = context.rank;
        let mut bytes = Vec::new();
        for piece in &self.store.pieces {
            bytes.extend_from_slice(context.blocks[rank].shared.bytes(piece.from as usize, piece.bytes as usize));
            free_source(context, rank, piece.from as usize, piece.bytes as usize);
        }
        self.read = Some(bytes);
    }

    fn write(&mut self, context: &mut Context<'_>) {
        self.read(context);
        let bytes = self.read.take().unwrap_or_default();
        let mut rest = bytes.as_slice();
        for piece in &self.store.pieces {
            let (from, after) = rest.split_at(piece.bytes as usize);
            rest = after;
            match self.store.reduction {
                None => write_global(context, piece.to, from),
                Some(reduction) => {
                    update_global(context, piece.to, from, reduction.width(), |old, new| reduction.apply(old, new));
                }
            }
        }
    }
}

/// Issues a copy out of the running block's shared memory; it lands now or when the options say.
///
/// # Errors
/// What it reads is in flight, or never written.
pub fn launch_store(context: &mut Context<'_>, lane: usize, store: Store) -> Result<(), Fault> {
    let rank = context.rank;
    let agent = context.clocks.warp(context.rank, context.warp.id);
    context.clocks.issue(agent);
    let asynchronous = context.clocks.asynchronous(context.rank, context.warp.id);

    for piece in &store.pieces {
        let mut bytes = vec![0; piece.bytes as usize];
        let address = crate::memory::SHARED_RESERVED + u64::from(piece.from);
        context.read_shared_as(asynchronous, false, lane, address, &mut bytes)?;
    }

    // What it writes comes after what it reads, and who waits for the one need not know of the other. Reductions are atomic.
    let clock = context.clocks.release(asynchronous);
    if store.reduction.is_none() {
        for piece in &store.pieces {
            if let Some(index) = context.grid.memory.find(piece.to) {
                context.check_global_copy(index, lane, piece.to, piece.bytes.into())?;
            }
        }
    }
    let written = context.clocks.release(asynchronous);
    let group = context.warp.state.bulk.committed[lane];
    let mut issued = Issued { lane, group, store, read: None, clock, written };

    if lands_now(context) {
        // It stays in its group, with nothing left to do: who waits for that acquires its clock.
        issued.write(context);
        issued.store.pieces.clear();
        issued.read = Some(Vec::new());
    }

    for piece in &issued.store.pieces {
        guard_source(context, rank, piece.from as usize, piece.bytes as usize);
    }
    context.warp.state.bulk.stores.push(issued);
    Ok(())
}

/// `cp.async.bulk.wait_group`: all but the last `pending` groups of each lane are read, and unless `.read` written.
fn wait(context: &mut Context<'_>, mask: Mask, pending: u32, only_read: bool) {
    let committed = context.warp.state.bulk.committed;
    let mut stores = std::mem::take(&mut context.warp.state.bulk.stores);
    stores.retain_mut(|issued| {
        let waits = mask >> issued.lane & 1 != 0 && issued.group.saturating_add(pending) < committed[issued.lane];
        if waits {
            let agent = context.clocks.warp(context.rank, context.warp.id);
            context.clocks.acquire(agent, if only_read { &issued.clock } else { &issued.written });
        }
        if waits && only_read {
            issued.read(context);
        } else if waits {
            issued.write(context);
        }
        !waits || only_read
    });
    context.warp.state.bulk.stores = stores;
}

/// Threads leave: what they have copied must have been read, and is written now at the latest.
pub(super) fn leave(context: &mut Context<'_>, gone: Mask) -> Result<(), Fault> {
    if context.warp.state.bulk.stores.is_empty() {
        return Ok(());
    }

    let mut stores = std::mem::take(&mut context.warp.state.bulk.stores);
    if let Some(unread) = stores.iter().find(|issued| gone >> issued.lane & 1 != 0 && issued.read.is_none()) {
        let message = "a thread leaves while its bulk copies may still read shared memory: \
                       cp.async.bulk.wait_group.read must come first";
        return Err(Fault::new(FaultKind::MissingWait, message).lane(unread.lane));
    }

    stores.retain_mut(|issued| {
        let leaves = gone >> issued.lane & 1 != 0;
        if leaves {
            issued.write(context);
        }
        !leaves
    });
    context.warp.state.bulk.stores = stores;
    Ok(())
}

/// Where a copy into shared memory goes: there, and to which mbarrier.
#[derive(Clone, Copy)]
pub struct Destination {
    /// The address.
    pub to: Address,
    /// The mbarrier.
    pub mbarrier: Address,
    /// Ranks of the blocks that get it, as bits; `None`: the block of the address.
    pub multicast: Option<Slot>,
}

impl Destination {
    /// The places of a copy of `bytes` bytes, which take up `room`, and its mbarriers.
    ///
    /// # Errors
    /// Alignment, bounds, and what an mbarrier must be.
    pub fn places(
        &self,
        context: &mut Context<'_>,
        lane: usize,
        room: u64,
        align: u64,
    ) -> Result<Vec<(Place, Place)>, Fault> {
        let to = context.addresses(&self.to)[lane];
        let mbarrier = context.addresses(&self.mbarrier)[lane];
        let to = shared_address::shared(context, self.to.space, lane, to, room, align)?;
        let mbarrier = shared_address::shared(context, self.mbarrier.space, lane, mbarrier, 8, 8)?;
        let mut pairs = Vec::new();

        match self.multicast {
            None if to.rank != mbarrier.rank => {
                let message = "an asynchronous copy and its mbarrier are in different blocks";
                return Err(mbarriers::at(Fault::new(FaultKind::InvalidUse, message), lane, mbarrier));
            }
            None => pairs.push((to, mbarrier)),
            Some(slot) => {
                let ranks = u32::from(context.registers().get_lane::<u16>(slot, lane));
                for rank in lanes(ranks) {
                    if rank >= context.blocks.len() || context.blocks[rank].live_threads == 0 {
                        let message =
                            format!("a multicast to block {rank}, which the cluster does not have or which has ended");
                        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
                    }
                    pairs.push((Place { rank, ..to }, Place { rank, ..mbarrier }));
                }
            }
        }

        let agent = context.clocks.warp(context.rank, context.warp.id);
        for &(_, mbarrier) in &pairs {
            mbarriers::check_asynchronous(context, mbarrier, agent)
                .map_err(|fault| mbarriers::at(fault, lane, mbarrier))?;
        }
        Ok(pairs)
    }
}

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);
    if has(Modifier::CommitGroup) || has(Modifier::WaitGroup) {
        return groups(decoder, instruction);
    }

    let reduction = match has(Modifier::Reduce) {
        false => None,
        true => Some(Reduction::new(form, form.types[0]).ok_or_else(|| super::super::unsupported(instruction))?),
    };
    let to = decoder.address(&o[0], Some(form.spaces[0]))?;
    let from = decoder.address(&o[1], Some(form.spaces[1]))?;
    let size = decoder.value(&o[2], ScalarType::B32)?;

    if form.spaces[0] == StateSpace::Global {
        return Ok(Decoded::effect(move |context, mask| {
            let (targets, sources) = (context.addresses(&to), context.addresses(&from));
            let sizes = context.registers().get::<u32>(size);
            for lane in lanes(mask) {
                store(context, lane, targets[lane], (from.space, sources[lane]), sizes[lane], reduction)?;
            }
            Ok(Flow::Next)
        }));
    }

    let mbarrier = decoder.address(&o[3], Some(StateSpace::SharedCluster))?;
    let multicast = match has(Modifier::MulticastCluster) {
        true => Some(decoder.value(&o[4], ScalarType::B16)?),
        false => None,
    };
    let destination = Destination { to, mbarrier, multicast };
    let from_global = form.spaces[1] == StateSpace::Global;

    Ok(Decoded::effect(move |context, mask| {
        let (sources, sizes) = (context.addresses(&from), context.registers().get::<u32>(size));
        for lane in lanes(mask) {
            let bytes = check_size(lane, sizes[lane])?;
            let from = if from_global {
                check_address(context, lane, sources[lane], bytes)?;
                From::Global(sources[lane])
            } else {
                let place = shared_address::shared(context, from.space, lane, sources[lane], bytes, 16)?;
                super::check_fenced(context, lane, place, bytes)?;
                From::Shared(place.rank, place.offset as u32)
            };
            load(context, lane, from, &destination, bytes, reduction)?;
        }
        Ok(Flow::Next)
    }))
}

/// `cp.async.bulk.commit_group` and `wait_group`.
fn groups(decoder: &Decoder<'_>, instruction: &Instruction) -> Decode {
    if instruction.form.has(Modifier::CommitGroup) {
        return Ok(Decoded::effect(|context, mask| {
            let committed = &mut context.warp.state.bulk.committed;
            lanes(mask).for_each(|lane| committed[lane] += 1);
            Ok(Flow::Next)
        }));
    }

    let pending = u32::try_from(decoder.integer(&instruction.operands[0])?)
        .map_err(|_| "cp.async.bulk.wait_group takes a number of groups from 0")?;
    let only_read = instruction.form.has(Modifier::Read);
    Ok(Decoded::effect(move |context, mask| {
        wait(context, mask, pending, only_read);
        Ok(Flow::Next)
    }))
}

/// One lane's copy from the shared memory of its block to global memory.
///
/// # Errors
/// Size, alignment, bounds and fences.
fn store(
    context: &mut Context<'_>,
    lane: usize,
    target: u64,
    (space, source): (Space, u64),
    size: u32,
    reduction: Option<Reduction>,
) -> Result<(), Fault> {
    let bytes = check_size(lane, size)?;
    let place = shared_address::shared(context, space, lane, source, bytes, 16)?;
    if place.rank != context.rank {
        let message = "a bulk copy reads the shared memory of its own block only";
        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane).at(source));
    }
    check_address(context, lane, target, bytes)?;
    super::check_fenced(context, lane, place, bytes)?;

    let piece = StorePiece { from: place.offset as u32, to: target, bytes: bytes as u32 };
    let store = Store { pieces: vec![piece], reduction };
    super::traffic::count_store(context, &store);
    launch_store(context, lane, store)
}

/// One lane's copy to the shared memory of one or more blocks, which their mbarriers count.
///
/// # Errors
/// What an mbarrier must be, and copies in flight.
fn load(
    context: &mut Context<'_>,
    lane: usize,
    from: From,
    destination: &Destination,
    bytes: u64,
    reduction: Option<Reduction>,
) -> Result<(), Fault> {
    let places = destination.places(context, lane, bytes, 16)?;
    for (index, (to, mbarrier)) in places.into_iter().enumerate() {
        let piece = Piece { from, to: to.offset as u32, bytes: bytes as u32 };
        let copy = Copy { pieces: vec![piece], bytes: bytes as u32, reduction, flush: false };
        super::check_overwritten(context, lane, to.rank, &copy)?;
        super::traffic::count_copy(context, &copy, index != 0);
        in_flight::launch(context, mbarrier, copy).map_err(|fault| fault.lane(lane))?;
    }
    Ok(())
}

fn check_size(lane: usize, bytes: u32) -> Result<u64, Fault> {
    if bytes == 0 || !bytes.is_multiple_of(16) {
        let message = format!("a bulk copy of {bytes} bytes; it must be a multiple of 16");
        return Err(Fault::new(FaultKind::Misaligned, message).lane(lane));
    }
    Ok(bytes.into())
}

/// That a bulk copy may use global memory at `address`.
fn check_address(context: &mut Context<'_>, lane: usize, address: u64, bytes: u64) -> Result<(), Fault> {
    if window(address).0 != Window::Global {
        let message = format!("{address:#x} is not an address of global memory");
        return Err(Fault::new(FaultKind::InvalidAddressSpace, message).lane(lane).at(address));
    }
    if !address.is_multiple_of(16) {
        let message = format!("address {address:#x} of a bulk copy is not a multiple of 16");
        return Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(address));
    }
    check_global(context, lane, address, bytes)
}

/// Reads 128 bytes at a generic address: a tensor map.
pub(super) fn read_words(
    context: &mut Context<'_>,
    space: Space,
    lane: usize,
    address: u64,
) -> Result<[u8; 128], Fault> {
    let mut bytes = [0; 128];
    if matches!(space, Space::Generic | Space::Global) && window(address).0 == Window::Global {
        check_global(context, lane, address, 128)?;
        read_global(context, address, &mut bytes);
        return Ok(bytes);
    }
    for (index, place) in bytes.chunks_exact_mut(8).enumerate() {
        let word: u64 = context.load(space, lane, address + 8 * index as u64)?;
        place.copy_from_slice(&word.to_le_bytes());
    }
    Ok(bytes)
}
