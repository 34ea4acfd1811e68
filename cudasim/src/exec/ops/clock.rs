//! `%clock`, `%globaltimer` and their kin: registers that are read anew by each instruction that names one.

use std::sync::LazyLock;
use std::time::Instant;

use crate::exec::operands::decoded::Decoded;
use crate::exec::program::registers::Slot;
use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::Mask;
use crate::ptx::operand::{Operand, SpecialRegister};

/// The clock that an operand names.
pub fn named(operand: &Operand) -> Option<SpecialRegister> {
    use SpecialRegister::*;
    match operand {
        Operand::Special(special @ (Clock | ClockHi | Clock64 | Globaltimer | GlobaltimerLo | GlobaltimerHi)) => {
            Some(*special)
        }
        _ => None,
    }
}

/// The step that reads a clock into a slot.
pub fn read(slot: Slot, special: SpecialRegister) -> Decoded {
    Decoded::effect(move |context, mask| {
        read_into(context, mask, slot, special);
        // A time that is waited for comes, and so does that after which nobody waits any longer.
        context.progress();
        Ok(Flow::Next)
    })
}

/// From where `%globaltimer` counts.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Clocks count instructions of the warp: a multiprocessor's time is not simulated, but it passes. The global timer is the host's, in
/// nanoseconds.
fn read_into(context: &mut Context<'_>, mask: Mask, slot: Slot, special: SpecialRegister) {
    use SpecialRegister::*;
    let time = match special {
        Globaltimer | GlobaltimerLo | GlobaltimerHi => ORIGIN.elapsed().as_nanos() as u64,
        _ => context.warp.instructions * 4,
    };
    match special {
        Clock64 | Globaltimer => context.registers().set(slot, mask, &[time; 32]),
        ClockHi | GlobaltimerHi => context.registers().set(slot, mask, &[(time >> 32) as u32; 32]),
        _ => context.registers().set(slot, mask, &[time as u32; 32]),
    }
}
