//! `atom` and `red`: each element at once for all threads of the device.
//!
//! Lanes take their turns in an order that the seed decides, as the ISA leaves it open. `add.f32` in global memory flushes
//! subnormals and in shared memory does not, as the ISA says of the hardware.

use crate::counters::Direction;
use crate::exec::access::checks::{in_flight, uninitialised, writable};
use crate::exec::access::lane::Found;
use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::program::address::Address;
use crate::exec::program::registers::{Lane, Slot};
use crate::exec::program::step::Flow;
use crate::exec::race::clocks::Clock;
use crate::exec::race::detector::AccessKind;
use crate::exec::state::context::Context;
use crate::mask::Mask;
use crate::memory::{ByteState, SHARED_RESERVED, SHARED_WINDOW, Word};
use crate::numerics::fp16x2::{Half, add_bf16, add_f16, map2};
use crate::numerics::minmax::{Select, select_bf16, select_f16};
use crate::numerics::{canonical_f32, flush_f32};
use crate::ptx::form::Form;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::{Modifier, Opcode};
use crate::ptx::operand::Operand;
use crate::ptx::types::ScalarType;
use crate::report::Fault;

/// The new value from the old one and the operands, as bits.
type Change = fn(u64, u64, u64) -> u64;

/// What an instruction does to each element.
#[derive(Clone, Copy)]
struct Operation {
    global: Change,
    shared: Change,
}

impl From<Change> for Operation {
    fn from(change: Change) -> Self {
        Self { global: change, shared: change }
    }
}

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let ty = form.types[0];
    let mut operands = instruction.operands.iter();
    let mut next = || operands.next().ok_or("too few operands");
    let elements = |operand: &Operand| match operand {
        Operand::Vector(elements) => elements.clone(),
        single => vec![single.clone()],
    };
    let targets = match form.opcode {
        Opcode::Atom => elements(next()?).iter().map(|o| decoder.target(o, ty)).collect::<Result<Vec<_>, _>>()?,
        _ => Vec::new(),
    };
    let address = decoder.address(next()?, form.space())?;
    let a = elements(next()?).iter().map(|o| decoder.value(o, ty)).collect::<Result<Vec<_>, _>>()?;
    let b = match form.has(Modifier::Cas) {
        true => decoder.value(next()?, ty)?,
        false => a[0],
    };
    let releases = form.has(Modifier::Release) || form.has(Modifier::AcqRel);
    let plan = Plan { address, targets, a, b, releases };
    if ty == ScalarType::B128 {
        let compare = form.has(Modifier::Cas);
        return Ok(Decoded::effect(move |context, mask| wide(context, mask, &plan, compare)));
    }
    let Some(operation) = operation(form, ty) else { return Err(super::unsupported(instruction)) };

    Ok(match ty.bytes() {
        2 => Decoded::effect(move |context, mask| run::<u16>(context, mask, &plan, operation)),
        4 => Decoded::effect(move |context, mask| run::<u32>(context, mask, &plan, operation)),
        _ => Decoded::effect(move |context, mask| run::<u64>(context, mask, &plan, operation)),
    })
}

fn operation(form: &Form, ty: ScalarType) -> Option<Operation> {
    use ScalarType::*;
    let has = |modifier| form.has(modifier);

    let change: Change = match ty {
        _ if has(Modifier::Exch) => |_, a, _| a,
        _ if has(Modifier::Cas) => |old, a, b| if old == a { b } else { old },
        _ if has(Modifier::And) => |old, a, _| old & a,
        _ if has(Modifier::Or) => |old, a, _| old | a,
        _ if has(Modifier::Xor) => |old, a, _| old ^ a,
        U32 if has(Modifier::Inc) => |old, a, _| if old >= a { 0 } else { old + 1 },
        U32 if has(Modifier::Dec) => |old, a, _| if old == 0 || old > a { a } else { old - 1 },
        U32 | S32 | U64 if has(Modifier::Add) => |old, a, _| old.wrapping_add(a),
        F32 if has(Modifier::Add) => {
            const fn float(bits: u64) -> f32 {
                f32::from_bits(bits as u32)
            }
            return Some(Operation {
                global: |old, a, _| {
                    let sum = canonical_f32(flush_f32(float(old)) + flush_f32(float(a)));
                    flush_f32(sum).to_bits().into()
                },
                shared: |old, a, _| canonical_f32(float(old) + float(a)).to_bits().into(),
            });
        }
        F64 if has(Modifier::Add) => |old, a, _| (f64::from_bits(old) + f64::from_bits(a)).to_bits(),
        F16 if has(Modifier::Add) => |old, a, _| halves(old, a, |x, y| add_f16(Half::default(), x, y)) & 0xffff,
        F16x2 if has(Modifier::Add) => |old, a, _| halves(old, a, |x, y| add_f16(Half::default(), x, y)),
        Bf16 if has(Modifier::Add) => |old, a, _| halves(old, a, add_bf16) & 0xffff,
        Bf16x2 if has(Modifier::Add) => |old, a, _| halves(old, a, add_bf16),
        U32 | U64 if has(Modifier::Min) => |old, a, _| old.min(a),
        U32 | U64 if has(Modifier::Max) => |old, a, _| old.max(a),
        S32 if has(Modifier::Min) => |old, a, _| (old as i32).min(a as i32) as u32 as u64,
        S32 if has(Modifier::Max) => |old, a, _| (old as i32).max(a as i32) as u32 as u64,
        S64 if has(Modifier::Min) => |old, a, _| (old as i64).min(a as i64) as u64,
        S64 if has(Modifier::Max) => |old, a, _| (old as i64).max(a as i64) as u64,
        F16 if has(Modifier::Min) => |old, a, _| halves(old, a, |x, y| select_f16(Select::MIN, x, y)) & 0xffff,
        F16 if has(Modifier::Max) => |old, a, _| halves(old, a, |x, y| select_f16(Select::MAX, x, y)) & 0xffff,
        F16x2 if has(Modifier::Min) => |old, a, _| halves(old, a, |x, y| select_f16(Select::MIN, x, y)),
        F16x2 if has(Modifier::Max) => |old, a, _| halves(old, a, |x, y| select_f16(Select::MAX, x, y)),
        Bf16 if has(Modifier::Min) => |old, a, _| halves(old, a, |x, y| select_bf16(Select::MIN, x, y)) & 0xffff,
        Bf16 if has(Modifier::Max) => |old, a, _| halves(old, a, |x, y| select_bf16(Select::MAX, x, y)) & 0xffff,
        Bf16x2 if has(Modifier::Min) => |old, a, _| halves(old, a, |x, y| select_bf16(Select::MIN, x, y)),
        Bf16x2 if has(Modifier::Max) => |old, a, _| halves(old, a, |x, y| select_bf16(Select::MAX, x, y)),
        _ => return None,
    };

    Some(change.into())
}

fn halves(old: u64, a: u64, f: impl Fn(u16, u16) -> u16) -> u64 {
    map2(old as u32, a as u32, f).into()
}

/// The operands.
struct Plan {
    address: Address,
    /// Where the old values go; none of `red`.
    targets: Vec<Slot>,
    a: Vec<Slot>,
    b: Slot,
    releases: bool,
}

fn run<T: Word + Lane>(
    context: &mut Context<'_>,
    mask: Mask,
    plan: &Plan,
    operation: Operation,
) -> Result<Flow, Fault> {
    let addresses = context.addresses(&plan.address);
    let bytes = T::BYTES * plan.a.len() as u64;
    let b = context.warp.registers.get::<T>(plan.b);
    context.count(plan.address.space, Direction::Atomic, &addresses, mask, bytes);
    let clock = context.clock_to_release(plan.releases);

    // Checks, and the release, come before the first change.
    let mut found = [Found::Shared(0, 0); 32];
    let mut changed = false;
    each(context, mask, |context, lane| {
        found[lane] = context.find(plan.address.space, lane, addresses[lane], bytes)?;
        begin(context, found[lane], lane, addresses[lane], bytes, clock.as_ref())
    })?;

    // Read, change and write each part, lane by lane.
    for (part, &slot) in plan.a.iter().enumerate() {
        let a = context.warp.registers.get::<T>(slot);
        let mut old = [T::default(); 32];
        let at = part as u64 * T::BYTES;
        let change =
            |change: Change, lane: usize| move |old: T| T::cut(change(old.into(), a[lane].into(), b[lane].into()));

        each(context, mask, |context, lane| {
            let (global, shared) = (change(operation.global, lane), change(operation.shared, lane));
            let (value, changes) = update(context, found[lane], at, global, shared);
            old[lane] = value;
            changed |= changes;
            Ok(())
        })?;

        if let Some(&target) = plan.targets.get(part) {
            context.registers().set(target, mask, &old);
        }
    }

    // The acquire comes after the value was read.
    each(context, mask, |context, lane| {
        context.acquire_at(found[lane].location(addresses[lane]), bytes);
        Ok(())
    })?;

    // A lock that is not free moves nobody on.
    if changed {
        context.progress();
        return Ok(Flow::Next);
    }
    let lane = mask.trailing_zeros() as usize & 31;
    Ok(if context.spins(addresses[lane], u64::from(mask)) { Flow::Yield } else { Flow::Next })
}

/// Changes the element at `at` bytes in what was found; returns its old value, and whether the new one differs.
#[inline(always)]
fn update<T: Word + Lane>(
    context: &mut Context<'_>,
    found: Found,
    at: u64,
    global: impl Fn(T) -> T + Copy,
    shared: impl Fn(T) -> T,
) -> (T, bool) {
    match found {
        Found::Global(index, offset) => {
            let allocation = context.grid.memory.get(index);
            let old = allocation.map_or(T::default(), |m| m.update(offset + at, global));
            (old, global(old) != old)
        }

        Found::Shared(rank, offset) => {
            let memory = &mut context.blocks[rank].shared;
            let old = memory.word(offset + at as usize);
            let new = shared(old);
            memory.put(offset + at as usize, &new.into().to_le_bytes()[..T::BYTES as usize]);
            (old, new != old)
        }
    }
}

/// `exch.b128` and `cas.b128`.
fn wide(context: &mut Context<'_>, mask: Mask, plan: &Plan, compare: bool) -> Result<Flow, Fault> {
    let addresses = context.addresses(&plan.address);
    let (a, b) = (context.warp.registers.get::<u128>(plan.a[0]), context.warp.registers.get::<u128>(plan.b));
    context.count(plan.address.space, Direction::Atomic, &addresses, mask, 16);
    let clock = context.clock_to_release(plan.releases);
    let mut all = [0; 32];

    each(context, mask, |context, lane| {
        let found = context.find(plan.address.space, lane, addresses[lane], 16)?;
        begin(context, found, lane, addresses[lane], 16, clock.as_ref())?;
        let change = |old: u128| match compare {
            true if old == a[lane] => b[lane],
            true => old,
            false => a[lane],
        };

        all[lane] = match found {
            Found::Global(index, offset) => context.grid.memory.get(index).map_or(0, |m| m.update_wide(offset, change)),
            Found::Shared(rank, offset) => {
                let shared = &mut context.blocks[rank].shared;
                let (low, high) = (shared.word::<u64>(offset), shared.word::<u64>(offset + 8));
                let old = u128::from(high) << 64 | u128::from(low);
                shared.put(offset, &change(old).to_le_bytes());
                old
            }
        };

        context.acquire_at(found.location(addresses[lane]), 16);
        Ok(())
    })?;

    if let Some(&target) = plan.targets.first() {
        context.registers().set(target, mask, &all);
    }
    context.progress();
    Ok(Flow::Next)
}

/// Calls `f` for the lanes of a mask, from any of them on.
fn each(
    context: &mut Context<'_>,
    mask: Mask,
    mut f: impl FnMut(&mut Context<'_>, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let first = context.worker.rng.below(32) as u32;
    let mut rest = mask.rotate_right(first);
    while rest != 0 {
        let lane = (rest.trailing_zeros() + first) % 32;
        rest &= rest - 1;
        f(context, lane as usize)?;
    }
    Ok(())
}

/// The checks of an atomic access, and the clock that it releases.
fn begin(
    context: &mut Context<'_>,
    found: Found,
    lane: usize,
    address: u64,
    bytes: u64,
    clock: Option<&Clock>,
) -> Result<(), Fault> {
    let asked = context.grid.options.uninitialised;
    let kind = AccessKind { write: true, strong: true };

    match found {
        Found::Global(index, offset) => {
            let allocation = context.grid.memory.get(index);
            if asked && allocation.is_some_and(|allocation| !allocation.is_written(offset, bytes)) {
                return Err(uninitialised("global", lane, address));
            }
            context.check_global_lane(index, lane, address, bytes, kind, None)?;
        }
        Found::Shared(rank, offset) => {
            let states = context.blocks[rank].shared.states(offset, bytes as usize);
            if states.contains(&ByteState::InFlight) {
                return Err(in_flight(lane, SHARED_RESERVED + offset as u64));
            }
            writable(&context.blocks[rank].shared, offset, bytes as usize)
                .map_err(|fault| fault.lane(lane).at(SHARED_WINDOW + SHARED_RESERVED + offset as u64))?;
            if asked && states.contains(&ByteState::Unwritten) {
                return Err(uninitialised("shared", lane, SHARED_WINDOW + SHARED_RESERVED + offset as u64));
            }
            let agent = context.agent();
            context.check_shared_range(agent, rank, lane, offset, bytes as usize, kind)?;
        }
    }

    if let Some(clock) = clock {
        context.release_at(found.location(address), bytes, clock, true);
    }
    Ok(())
}
