//! `mbarrier`: barriers in shared memory that count arrivals and bytes.
//!
//! What an mbarrier is made of is kept beside the shared memory; its 64 bits there mirror it, so that a program that
//! overwrites a live mbarrier is seen:
//!
//! ```text
//! bits  0..20  pending: arrivals that the current phase still waits for
//!      20..40  expected: arrivals of each phase
//!      40..62  tx-count: bytes that the current phase still waits for, in two's complement
//!      63      parity of the current phase
//! ```
//!
//! The state that an arrival returns has `pending` and `expected` as they were before it, and the low 24 bits of the number
//! of the phase above them.

use crate::exec::operands::decoded::{Decode, Decoded};
use crate::exec::operands::decoder::Decoder;
use crate::exec::ops::shared_address;
use crate::exec::program::address::Address;
use crate::exec::program::step::Flow;
use crate::exec::race::clocks::Clock;
use crate::exec::state::context::Context;
use crate::exec::state::copies::Place;
use crate::exec::state::mbarriers::Mbarrier;
use crate::mask::lanes;
use crate::ptx::module::Instruction;
use crate::ptx::opcode::Modifier;
use crate::ptx::operand::Operand;
use crate::ptx::types::{ScalarType, StateSpace};
use crate::report::{Fault, FaultKind};

/// The maximum of arrivals and of bytes that an mbarrier counts.
const LIMIT: u32 = (1 << 20) - 1;

pub(super) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::InvalidUse, message)
}

/// The live mbarrier at a place.
pub(super) fn find<'b>(context: &'b mut Context<'_>, place: Place) -> Result<&'b mut Mbarrier, Fault> {
    let block = &mut context.blocks[place.rank];
    let Some(barrier) = block.state.mbarriers.live.iter_mut().find(|barrier| barrier.offset == place.offset) else {
        return Err(invalid("an mbarrier is used that was not initialised"));
    };
    if block.shared.word::<u64>(place.offset) != barrier.word() {
        return Err(invalid("an mbarrier is used whose 64 bits something else has overwritten"));
    }
    Ok(barrier)
}

/// As [`find`], for a thread of the warp that runs: it must come after the initialisation.
pub(super) fn find_ordered<'b>(context: &'b mut Context<'_>, place: Place) -> Result<&'b mut Mbarrier, Fault> {
    let warp = context.clocks.warp(context.rank, context.warp.id);
    let barrier = find(context, place)?;
    let (agent, time) = (barrier.agent, barrier.time);
    if context.grid.options.shared_races && agent != warp && !context.clocks.happens_before(warp, agent, time) {
        let message = "an mbarrier is used by a thread that no barrier orders after its initialisation";
        return Err(Fault::new(FaultKind::SharedRace, message));
    }
    find(context, place)
}

/// Changes the mbarrier at a place and writes its 64 bits; `true` if a phase ended.
pub(super) fn change(
    context: &mut Context<'_>,
    place: Place,
    f: impl FnOnce(&mut Mbarrier) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let barrier = find(context, place)?;
    f(barrier)?;
    let ended = barrier.turn();
    let word = barrier.word();
    context.blocks[place.rank].shared.put(place.offset, &word.to_le_bytes());
    if ended {
        context.progress();
    }
    Ok(ended)
}

fn expect(barrier: &mut Mbarrier, bytes: u32) -> Result<(), Fault> {
    let total = i64::from(barrier.bytes) + i64::from(bytes);
    if total > i64::from(LIMIT) {
        return Err(invalid(format!("an mbarrier would expect {total} bytes; it counts up to {LIMIT}")));
    }
    barrier.bytes = total as i32;
    Ok(())
}

fn take(barrier: &mut Mbarrier, bytes: u32) -> Result<(), Fault> {
    let total = i64::from(barrier.bytes) - i64::from(bytes);
    if total < -i64::from(LIMIT) {
        return Err(invalid(format!("an mbarrier would count {total} bytes; it counts down to -{LIMIT}")));
    }
    barrier.bytes = total as i32;
    Ok(())
}

fn count_off(barrier: &mut Mbarrier, count: u32, drop: bool) -> Result<(), Fault> {
    if count == 0 || count > LIMIT {
        return Err(invalid(format!("{count} arrivals at once; 1 to {LIMIT} are possible")));
    }
    if count > barrier.pending {
        return Err(invalid(format!(
            "{count} arrivals at an mbarrier of whose {} arrivals only {} are pending",
            barrier.expected, barrier.pending
        )));
    }
    barrier.pending -= count;
    if drop {
        barrier.expected -= count;
    }
    Ok(())
}

/// That asynchronous operations of warp `agent` may use the mbarrier at a place.
///
/// # Errors
/// It was not initialised; a warning where no fence shows that to the asynchronous proxy.
pub(super) fn check_asynchronous(context: &mut Context<'_>, place: Place, agent: usize) -> Result<(), Fault> {
    let barrier = find_ordered(context, place)?;
    let (fenced, by, time) = (barrier.fenced, barrier.agent, barrier.time);
    if context.grid.options.shared_races && !fenced && !context.clocks.is_fenced(agent, by, time) {
        let message = "an asynchronous copy uses an mbarrier whose initialisation no fence.mbarrier_init or \
                       fence.proxy.async has made visible to it";
        // Triton leaves it out behind a barrier, and no GPU so far minds.
        return context.warn(at(Fault::new(FaultKind::MissingFence, message), 0, place));
    }
    Ok(())
}

/// Bytes have arrived; `agent` is who wrote them.
pub(super) fn complete_bytes(context: &mut Context<'_>, place: Place, bytes: u32, clock: &Clock) -> Result<(), Fault> {
    change(context, place, |barrier| {
        barrier.clock.join(clock);
        take(barrier, bytes)
    })?;
    context.progress();
    Ok(())
}

/// An arrival that copies trigger. `noinc`: it is one of those that the mbarrier expects.
pub(super) fn arrive_asynchronously(context: &mut Context<'_>, place: Place, clock: &Clock) -> Result<(), Fault> {
    change(context, place, |barrier| {
        barrier.clock.join(clock);
        count_off(barrier, 1, false)
    })?;
    context.progress();
    Ok(())
}

/// One more pending arrival, for copies that will trigger it.
pub(super) fn add_pending(context: &mut Context<'_>, place: Place) -> Result<(), Fault> {
    change(context, place, |barrier| {
        if barrier.pending >= LIMIT {
            return Err(invalid(format!("an mbarrier counts up to {LIMIT} arrivals")));
        }
        barrier.pending += 1;
        Ok(())
    })?;
    Ok(())
}

/// That there is an mbarrier at a place which the running warp may use.
pub(super) fn check(context: &mut Context<'_>, place: Place) -> Result<(), Fault> {
    find_ordered(context, place).map(|_| ())
}

pub(super) fn decode(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);

    if has(Modifier::PendingCount) {
        let (d, state) = (decoder.target(&o[0], ScalarType::B32)?, decoder.value(&o[1], ScalarType::B64)?);
        return Ok(Decoded::effect(move |context, mask| {
            let states = context.registers().get::<u64>(state);
            context.registers().set(d, mask, &states.map(|state| state as u32 & LIMIT));
            Ok(Flow::Next)
        }));
    }

    if has(Modifier::Init) {
        let (address, count) = (decoder.address(&o[0], form.space())?, decoder.value(&o[1], ScalarType::B32)?);
        return Ok(each(address, move |context, lane, place| {
            let count = context.registers().get_lane::<u32>(count, lane);
            initialise(context, place, count)
        }));
    }

    if has(Modifier::Inval) {
        let address = decoder.address(&o[0], form.space())?;
        return Ok(each(address, |context, _, place| {
            find_ordered(context, place)?;
            let block = &mut context.blocks[place.rank];
            if block.state.pending.any(place.offset) {
                return Err(invalid("an mbarrier is invalidated while copies are on their way that it counts"));
            }
            block.state.mbarriers.live.retain(|barrier| barrier.offset != place.offset);
            block.shared.mark(place.offset, 8, crate::memory::ByteState::Unwritten);
            Ok(())
        }));
    }

    if has(Modifier::Arrive) || has(Modifier::ArriveDrop) {
        return arrive(decoder, instruction);
    }

    // `expect_tx` and `complete_tx`.
    let (address, bytes) = (decoder.address(&o[0], form.space())?, decoder.value(&o[1], ScalarType::B32)?);
    let expects = has(Modifier::ExpectTx);
    Ok(each(address, move |context, lane, place| {
        let bytes = context.registers().get_lane::<u32>(bytes, lane);
        find_ordered(context, place)?;
        change(context, place, |barrier| if expects { expect(barrier, bytes) } else { take(barrier, bytes) })
            .map(|_| ())
    }))
}

/// Runs `f` for each lane with the place of its mbarrier.
fn each(
    address: Address,
    f: impl Fn(&mut Context<'_>, usize, Place) -> Result<(), Fault> + Send + Sync + 'static,
) -> Decoded {
    Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        for lane in lanes(mask) {
            let place = shared_address::shared(context, address.space, lane, addresses[lane], 8, 8)?;
            f(context, lane, place).map_err(|fault| at(fault, lane, place))?;
        }
        Ok(Flow::Next)
    })
}

/// A fault about an mbarrier, with its address.
pub(super) fn at(fault: Fault, lane: usize, place: Place) -> Fault {
    match fault.address {
        Some(_) => fault,
        None => fault.lane(lane).at(crate::memory::SHARED_WINDOW + place.address),
    }
}

fn initialise(context: &mut Context<'_>, place: Place, count: u32) -> Result<(), Fault> {
    if place.rank != context.rank {
        return Err(invalid("an mbarrier is initialised by another block than its own"));
    }
    if count == 0 || count > LIMIT {
        return Err(invalid(format!("an mbarrier for {count} arrivals; 1 to {LIMIT} are possible")));
    }
    let (agent, warp) = (context.clocks.warp(context.rank, context.warp.id), context.warp.id);
    let time = context.clocks.now(agent);

    let block = context.block();
    if let Some(other) = block.state.mbarriers.live.iter().find(|other| other.offset.abs_diff(place.offset) < 8) {
        // Whoever overwrote it has other plans with the place.
        if block.shared.word::<u64>(other.offset) == other.word() {
            return Err(invalid("an mbarrier is initialised where one is live: it must be invalidated first"));
        }
        let offset = other.offset;
        block.state.mbarriers.live.retain(|barrier| barrier.offset != offset);
    }

    let barrier = Mbarrier {
        offset: place.offset,
        expected: count,
        pending: count,
        bytes: 0,
        phase: 0,
        clock: Clock::default(),
        passed: Clock::default(),
        agent,
        warp,
        time,
        fenced: false,
        asked: Vec::new(),
    };

    block.shared.put(place.offset, &barrier.word().to_le_bytes());
    block.state.mbarriers.live.push(barrier);
    Ok(())
}

fn arrive(decoder: &mut Decoder<'_>, instruction: &Instruction) -> Decode {
    let form = &instruction.form;
    let o = &instruction.operands;
    let has = |modifier| form.has(modifier);
    if form.space() == Some(StateSpace::SharedCluster) && !matches!(o[0], Operand::Sink) {
        return Err("an arrival in .shared::cluster returns no state: its result must be `_`".into());
    }
    let d = decoder.target(&o[0], ScalarType::B64)?;
    let address = decoder.address(&o[1], form.space())?;
    let number = o.get(2).map(|operand| decoder.value(operand, ScalarType::B32)).transpose()?;
    let (expects, drops, relaxed) = (has(Modifier::ExpectTx), has(Modifier::ArriveDrop), has(Modifier::Relaxed));
    let no_complete = has(Modifier::NoComplete);

    Ok(Decoded::effect(move |context, mask| {
        let addresses = context.addresses(&address);
        let numbers = number.map(|number| context.registers().get::<u32>(number));
        let agent = context.clocks.warp(context.rank, context.warp.id);

        // The lanes of a warp release the same clock: once for each mbarrier and phase is enough.
        let mut released = None;
        for lane in lanes(mask) {
            let place = shared_address::shared(context, address.space, lane, addresses[lane], 8, 8)?;
            let number = numbers.map_or(1, |numbers| numbers[lane]);
            let mut arrive = |context: &mut Context<'_>| {
                let state = find_ordered(context, place)?.state();
                if released != Some(place) {
                    // A fence before a relaxed arrival makes a release of the two.
                    let clock = match relaxed {
                        true => context.clocks.published(agent).clone(),
                        false => context.clocks.release(agent),
                    };
                    find(context, place)?.clock.join(&clock);
                    released = Some(place);
                }
                let ended = change(context, place, |barrier| {
                    if expects {
                        expect(barrier, number)?;
                    }
                    count_off(barrier, if expects { 1 } else { number }, drops)?;
                    if no_complete && barrier.pending == 0 {
                        return Err(invalid("an arrival with .noComplete completes the phase"));
                    }
                    Ok(())
                })?;
                if ended {
                    released = None;
                }
                Ok(state)
            };
            let state = arrive(context).map_err(|fault| at(fault, lane, place))?;
            context.registers().set_lane(d, lane, state);
        }

        context.progress();
        Ok(Flow::Next)
    }))
}
