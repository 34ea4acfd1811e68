//! `mbarrier.test_wait` and `try_wait`: whether a phase is over. A failed test lets an operation in flight complete.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::mbarriers::{at, find, find_ordered, invalid};
use crate::exec::ops::{copies, shared_address};
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::exec::state::copies::Place;
use crate::exec::state::mbarriers::Mbarrier;
use crate::mask::{Mask, lanes};
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::types::ScalarType;
use crate::report::Fault;

/// One in this many successful `try_wait`s fails all the same: it may, since its time limit may expire at any point.
const SPURIOUS: usize = 16;

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);
    let (parity, tries, relaxed) = (has(Modifier::Parity), has(Modifier::TryWait), has(Modifier::Relaxed));
    let d = decoder.target_predicate(&o[0])?;
    let address = decoder.address(&o[1], form.space())?;
    let phase = decoder.value(&o[2], if parity { ScalarType::B32 } else { ScalarType::B64 })?;

    Ok(Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        let phases = match parity {
            true => parities(context, mask, context.warp.registers.get::<u32>(phase))?,
            false => context.registers().get::<u64>(phase),
        };
        let first = mask.trailing_zeros() as usize & 31;
        let same = lanes(mask).all(|lane| (addresses[lane], phases[lane]) == (addresses[first], phases[first]));
        let mut passed = 0;

        for lane in lanes(if same { mask & mask.wrapping_neg() } else { mask }) {
            let place = shared_address::shared(context, address.space, lane, addresses[lane], 8, 8)?;
            let asking = if same { mask } else { 1 << lane };
            let ask = ask(context, place, phases[lane], parity, relaxed, asking);
            if ask.map_err(|fault| at(fault, lane, place))? {
                passed |= asking;
            }
        }

        if tries && passed != 0 && context.worker.rng.below(SPURIOUS) == 0 {
            passed = 0;
        }
        context.registers().set_predicate(d, mask, passed);
        Ok(if passed == mask { Flow::Next } else { Flow::Yield })
    }))
}

/// Parities are 0 and 1. Triton negates a phase with all its bits, and GPUs look at the lowest only.
///
/// # Errors
/// Others, where warnings stop.
fn parities(context: &mut Context<'_>, mask: Mask, phases: [u32; 32]) -> Result<[u64; 32], Fault> {
    if let Some(lane) = lanes(mask).find(|&lane| phases[lane] > 1) {
        let message = format!("parity {}, of which the lowest bit is taken; it is 0 or 1", phases[lane]);
        context.warn(invalid(message).lane(lane))?;
    }
    Ok(phases.map(|phase| u64::from(phase & 1)))
}

/// Whether the phase is over that some lanes ask for; if not, something that it waits for may land.
fn ask(
    context: &mut Context<'_>,
    place: Place,
    phase: u64,
    parity: bool,
    relaxed: bool,
    asking: Mask,
) -> Result<bool, Fault> {
    if place.rank != context.rank {
        return Err(invalid("a thread waits at an mbarrier of another block"));
    }
    find_ordered(context, place)?;
    if !is_over(find(context, place)?, phase, parity)? {
        copies::land_one(context, place)?;
    }
    let warp = context.warp.id;

    let barrier = find(context, place)?;
    if is_over(barrier, phase, parity)? {
        barrier.asked.retain(|&(other, _)| other != warp);
        if !relaxed {
            let agent = context.clocks.warp(context.rank, warp);
            let Some(barrier) =
                context.blocks[place.rank].state.mbarriers.live.iter().find(|b| b.offset == place.offset)
            else {
                return Ok(true);
            };
            context.clocks.acquire(agent, &barrier.passed);
        }
        return Ok(true);
    }

    match barrier.asked.iter_mut().find(|(other, _)| *other == warp) {
        Some((_, mask)) => *mask |= asking,
        None => barrier.asked.push((warp, asking)),
    }
    Ok(false)
}

fn is_over(barrier: &Mbarrier, phase: u64, parity: bool) -> Result<bool, Fault> {
    if parity {
        return Ok(barrier.phase & 1 != phase);
    }
    const NUMBER: u64 = (1 << 24) - 1;
    let (asked, current) = (phase >> 40, barrier.phase & NUMBER);
    if asked == current {
        return Ok(false);
    }
    if asked == current.wrapping_sub(1) & NUMBER {
        return Ok(true);
    }
    Err(invalid(format!("a state of phase {asked} is waited for in phase {current}: only the one before can be")))
}
