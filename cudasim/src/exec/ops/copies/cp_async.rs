//! `cp.async`: copies of 4, 8 or 16 bytes by each thread, in groups of each thread.

use super::bytes::{check_global, read_global};
use super::lands_now;
use crate::counters::Direction;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::{mbarriers, shared_address};
use crate::exec::program::address::{Address, Space, Window, window};
use crate::exec::program::registers::{Predicate, Slot, holds};
use crate::exec::program::step::Flow;
use crate::exec::race::detector::WRITE;
use crate::exec::state::context::Context;
use crate::exec::state::copies::{Batch, Place};
use crate::mask::{Mask, lanes};
use crate::memory::ByteState;
use crate::ptx::form::OperandKind;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::ScalarType;
use crate::report::{Fault, FaultKind};

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;

    let has = |modifier| form.has(modifier);
    if has(Modifier::CommitGroup) {
        return Ok(Decoded::effect(|context, mask| {
            let warp = context.warp.id as usize;
            let committed = &mut context.block().state.copies.warps[warp].committed;
            lanes(mask).for_each(|lane| committed[lane] += 1);
            Ok(Flow::Next)
        }));
    }

    if has(Modifier::WaitGroup) {
        let pending = u32::try_from(decoder.integer(&instruction.operands[0])?)
            .map_err(|_| "cp.async.wait_group takes a number of groups from 0")?;
        return Ok(Decoded::effect(move |context, mask| {
            let committed = context.blocks[context.rank].state.copies.warps[context.warp.id as usize].committed;
            land(context, context.rank, context.warp.id as usize, mask, |batch, lane| {
                batch.groups[lane].saturating_add(pending) < committed[lane]
            });
            Ok(Flow::Next)
        }));
    }

    if has(Modifier::WaitAll) {
        return Ok(Decoded::effect(|context, mask| {
            land(context, context.rank, context.warp.id as usize, mask, |_, _| true);
            Ok(Flow::Next)
        }));
    }

    if has(Modifier::Mbarrier) {
        let address = decoder.address(&instruction.operands[0], form.space())?;
        let noinc = has(Modifier::Noinc);
        return Ok(Decoded::effect(move |context, mask| arrive(context, mask, &address, noinc)));
    }

    let o = &instruction.operands;
    let to = decoder.address(&o[0], form.spaces.first().copied())?;
    let from = decoder.address(&o[1], form.spaces.get(1).copied())?;
    let bytes = decoder.integer(&o[2])?;
    let allowed: &[i64] = if has(Modifier::Cg) { &[16] } else { &[4, 8, 16] };
    if !allowed.contains(&bytes) {
        return Err(format!("`{}` copies {allowed:?} bytes, not {bytes}", form.mnemonic));
    }

    // The fourth operand may be how many bytes to read, a predicate to ignore the source, or a cache policy.
    let rule = instruction.rules().get(3).map(|rule| rule.kind);
    let read = match (o.get(3), rule) {
        (Some(operand), Some(OperandKind::Predicate)) => Read::Unless(decoder.predicate(operand)?),
        (Some(operand), Some(OperandKind::Value { ty: ScalarType::B32, .. })) => {
            Read::Bytes(decoder.value(operand, ScalarType::B32)?)
        }
        _ => Read::All,
    };

    Ok(Decoded::effect(move |context, mask| issue(context, mask, &to, &from, bytes as u64, read)))
}

/// How much of the source is read.
#[derive(Clone, Copy)]
enum Read {
    All,
    Bytes(Slot),
    Unless(Predicate),
}

fn issue(
    context: &mut Context<'_>,
    mask: Mask,
    to: &Address,
    from: &Address,
    bytes: u64,
    read: Read,
) -> Result<Flow, Fault> {
    let (targets, sources) = (context.addresses(to), context.addresses(from));
    let ignored = match read {
        Read::Unless(predicate) => holds(context.registers(), Some(predicate)),
        _ => 0,
    };
    let sizes = match read {
        Read::Bytes(slot) => context.registers().get::<u32>(slot),
        _ => [bytes as u32; 32],
    };
    let now = lands_now(context);
    let mut batch =
        Batch { number: 0, mask, groups: [0; 32], sources, places: [0; 32], reads: [0; 32], bytes: bytes as u8 };

    for lane in lanes(mask) {
        let size = if ignored >> lane & 1 != 0 { 0 } else { sizes[lane] };
        let place = check(context, lane, (to.space, targets[lane]), (from.space, sources[lane]), bytes, size)?;
        batch.places[lane] = place.offset as u32;
        batch.reads[lane] = size as u8;
        if !now {
            context.block().shared.mark(place.offset, bytes as usize, ByteState::InFlight);
        }
    }

    count(context, mask, to, &batch);
    if now {
        land_lanes(context, context.rank, &batch, mask);
        return Ok(Flow::Next);
    }
    let warp = context.warp.id as usize;
    let copies = &mut context.block().state.copies.warps[warp];
    batch.groups = copies.committed;
    batch.number = copies.next;
    copies.next += 1;
    copies.batches.push(batch);
    Ok(Flow::Next)
}

/// Checks one lane's copy of `bytes` bytes, of which `size` are read; returns where it goes.
///
/// # Errors
/// Alignment, bounds, races and copies in flight.
fn check(
    context: &mut Context<'_>,
    lane: usize,
    (to_space, to): (Space, u64),
    (from_space, from): (Space, u64),
    bytes: u64,
    size: u32,
) -> Result<Place, Fault> {
    // The target: shared memory of the warp's own block.
    let place = shared_address::shared(context, to_space, lane, to, bytes, bytes)?;
    if place.rank != context.rank {
        let message = "cp.async copies into the block's own shared memory only";
        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane).at(to));
    }

    // The source: global memory, where anything is read.
    if u64::from(size) > bytes {
        let message = format!("cp.async of {bytes} bytes is to read {size}");
        return Err(Fault::new(FaultKind::InvalidUse, message).lane(lane));
    }
    if size != 0 {
        if !from.is_multiple_of(bytes) {
            let message = format!("address {from:#x} is not a multiple of {bytes}");
            return Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(from));
        }
        if from_space == Space::Generic && window(from).0 != Window::Global {
            let message = "cp.async reads global memory only";
            return Err(Fault::new(FaultKind::InvalidAddressSpace, message).lane(lane).at(from));
        }
        check_global(context, lane, from, size.into())?;
    }

    // The copy belongs to the thread: a wait and a release after it order it as they order a store.
    let agent = context.clocks.warp(context.rank, context.warp.id);
    context
        .check_shared_range(agent, context.rank, lane, place.offset, bytes as usize, WRITE)
        .map_err(|fault| fault.lane(lane))?;

    if context.block().shared.states(place.offset, bytes as usize).contains(&ByteState::InFlight) {
        let message = "cp.async writes where another asynchronous copy is on its way";
        let fault = Fault::new(FaultKind::MissingWait, message);
        return Err(fault.lane(lane).at(crate::memory::SHARED_WINDOW + place.address));
    }

    Ok(place)
}

/// Counts what the lanes read, where they read something, and write: what is not read becomes zero.
fn count(context: &mut Context<'_>, mask: Mask, to: &Address, batch: &Batch) {
    let Some(counts) = &mut context.worker.counts else { return };
    let reading = lanes(mask).filter(|&lane| batch.reads[lane] != 0).fold(0, |reading, lane| reading | 1 << lane);
    counts.global_each(Direction::Load, &batch.sources, reading, |lane| batch.reads[lane].into());
    let targets = context.addresses(to);
    context.count(to.space, Direction::Store, &targets, mask, batch.bytes.into());
}

/// The copies of some lanes of a batch land.
fn land_lanes(context: &mut Context<'_>, rank: usize, batch: &Batch, mask: Mask) {
    let bytes = usize::from(batch.bytes);
    for lane in lanes(mask) {
        let (read, place) = (usize::from(batch.reads[lane]), batch.places[lane] as usize);
        let mut piece = [0; 16];
        let written = read == 0 || read_global(context, batch.sources[lane], &mut piece[..read]);
        let shared = &mut context.blocks[rank].shared;
        shared.put(place, &piece[..bytes]);
        if !written {
            shared.mark(place, read, ByteState::Unwritten);
        }
    }
}

/// The copies of a warp land that `which` picks.
fn land(context: &mut Context<'_>, rank: usize, warp: usize, mask: Mask, which: impl Fn(&Batch, usize) -> bool) {
    let copies = &mut context.blocks[rank].state.copies.warps[warp];
    if copies.batches.is_empty() {
        return;
    }
    let mut batches = std::mem::take(&mut copies.batches);
    batches.retain_mut(|batch| {
        let landing = lanes(batch.mask & mask).filter(|&lane| which(batch, lane)).fold(0, |m, lane| m | 1 << lane);
        land_lanes(context, rank, batch, landing);
        batch.mask &= !landing;
        batch.mask != 0
    });
    context.blocks[rank].state.copies.warps[warp].batches = batches;
}

/// The copies of some lanes land that were issued before the batch of this number.
pub(super) fn land_before(context: &mut Context<'_>, rank: usize, warp: usize, mask: Mask, number: u64) {
    land(context, rank, warp, mask, |batch, _| batch.number < number);
}

/// `cp.async.mbarrier.arrive`: each lane arrives when its copies so far have landed.
fn arrive(context: &mut Context<'_>, mask: Mask, address: &Address, noinc: bool) -> Result<Flow, Fault> {
    let addresses = context.addresses(address);
    let warp = context.warp.id as usize;
    let agent = context.clocks.warp(context.rank, context.warp.id);
    let clock = context.clocks.release(agent);

    let mut rest = mask;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        let group = lanes(rest).filter(|&l| addresses[l] == addresses[lane]).fold(0, |group, lane| group | 1 << lane);
        rest &= !group;
        let place = shared_address::shared(context, address.space, lane, addresses[lane], 8, 8)?;
        let at = |fault| mbarriers::at(fault, lane, place);
        mbarriers::check(context, place).map_err(at)?;

        if !noinc {
            for _ in lanes(group) {
                mbarriers::add_pending(context, place).map_err(at)?;
            }
        }

        let copies = &context.block().state.copies.warps[warp];
        let number = copies.next;

        let waits = copies.batches.iter().any(|batch| batch.mask & group != 0);
        if waits {
            let flight =
                crate::exec::state::copies::Arrivals { rank: context.rank, warp, lanes: group, before: number };
            context.blocks[place.rank].state.pending.add_arrivals(place, flight, clock.clone());
            continue;
        }

        for _ in lanes(group) {
            mbarriers::arrive_asynchronously(context, place, &clock).map_err(at)?;
        }
    }
    Ok(Flow::Next)
}
