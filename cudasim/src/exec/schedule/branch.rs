//! Branches, calls and returns: where the lanes of a warp go.

use crate::exec::program::step::{Call, Control};
use crate::exec::state::activation;
use crate::exec::state::warp::{Warp, copy_local};
use crate::mask::{Mask, lanes};
use crate::memory::FUNCTION_WINDOW;
use crate::report::{Fault, FaultKind};

/// Where lanes go.
pub(super) enum Targets {
    /// All to one step.
    One(u32),
    /// Each lane to its own.
    Each(Box<[u32; 32]>),
    /// Nowhere: they leave.
    None,
}

/// Where the active lanes of a branch, call, return or exit go.
///
/// # Errors
/// An index outside a table, or a call of something that cannot be called.
pub(super) fn targets(control: &Control, warp: &mut Warp, pc: u32, active: Mask) -> Result<Targets, Fault> {
    if active == 0 {
        return Ok(Targets::One(pc + 1));
    }

    Ok(match control {
        Control::Branch(target) => Targets::One(*target),
        Control::Exit => Targets::None,
        Control::Table(slot, table) => {
            let indices = warp.registers.get::<u32>(*slot);
            each(active, |lane| {
                table.get(indices[lane] as usize).copied().ok_or_else(|| {
                    let message = format!("branch {} of a table of {}", indices[lane], table.len());
                    Fault::new(FaultKind::IllegalInstruction, message).lane(lane)
                })
            })?
        }

        // Calls.
        Control::Call(call) => {
            enter(call, warp, pc, active)?;
            Targets::One(call.target)
        }
        Control::CallIndirect(slot, calls) => {
            let functions = warp.registers.get::<u64>(*slot);
            let mut rest = active;
            let mut targets = [0; 32];

            // Lanes that call the same function enter it together.
            while rest != 0 {
                let lane = rest.trailing_zeros() as usize;
                let together = lanes(rest).filter(|&l| functions[l] == functions[lane]).fold(0, |m, l| m | 1 << l);
                let index = functions[lane].wrapping_sub(FUNCTION_WINDOW);
                let call = usize::try_from(index).ok().and_then(|index| calls.get(index)).and_then(Option::as_ref);
                let call = call.ok_or_else(|| {
                    let message = format!("{:#x} is not a function with this prototype", functions[lane]);
                    Fault::new(FaultKind::InvalidCall, message).lane(lane)
                })?;

                enter(call, warp, pc, together)?;
                lanes(together).for_each(|lane| targets[lane] = call.target);
                rest &= !together;
            }
            each(active, |lane| Ok(targets[lane]))?
        }

        Control::Return(slot, own) => {
            let addresses = warp.registers.get::<u32>(*slot);
            match own {
                None => warp.registers.set::<u32>(*slot, active, &[0; 32]),
                Some(_) => activation::leave(warp, *slot, active),
            }
            each(active, |lane| Ok(addresses[lane]))?
        }
    })
}

fn each(active: Mask, target: impl Fn(usize) -> Result<u32, Fault>) -> Result<Targets, Fault> {
    let mut targets = Box::new([0; 32]);
    for lane in lanes(active) {
        targets[lane] = target(lane)?;
    }
    let first = targets[active.trailing_zeros() as usize & 31];
    let same = lanes(active).all(|lane| targets[lane] == first);
    Ok(if same { Targets::One(first) } else { Targets::Each(targets) })
}

/// Copies the arguments of a call and notes where it returns to.
fn enter(call: &Call, warp: &mut Warp, pc: u32, active: Mask) -> Result<(), Fault> {
    match &call.activation {
        Some(own) => activation::enter(warp, own, call.return_slot, active)?,
        None => {
            let running = warp.registers.get::<u32>(call.return_slot);
            if let Some(lane) = lanes(active).find(|&lane| running[lane] != 0) {
                let message = format!("recursive call of {}, which the code does not show", call.name);
                return Err(Fault::new(FaultKind::InvalidCall, message).lane(lane));
            }
        }
    }
    warp.registers.set(call.return_slot, active, &[pc + 1; 32]);
    copy_local(warp, &call.arguments, active);
    Ok(())
}
