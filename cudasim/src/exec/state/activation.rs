//! Activations of functions that may call themselves, and memory that a lane takes from its stack.
//!
//! A function's registers, parameters and variables have fixed places. When lanes enter a function that they are in
//! already, what stands there is put aside until they return; its `.local` variables get new places on the lane's stack, as
//! pointers to the old ones may be about.

use std::sync::Arc;

use crate::exec::program::registers::Slot;
use crate::exec::program::step::{Activation, FROM_START};
use crate::exec::state::stack::{Frame, State};
use crate::exec::state::warp::Warp;
use crate::mask::{FULL, Mask, lanes};
use crate::report::{Fault, FaultKind};

/// Bytes of local memory that a lane may have, with its stack.
const LIMIT: u64 = 512 << 10;

/// Calls of such functions that a lane may be in.
const DEPTH: usize = 1 << 14;

/// Lanes enter a function: puts aside what is there of its last activation, if they are in one.
///
/// # Errors
/// The stack is full.
pub fn enter(warp: &mut Warp, activation: &Arc<Activation>, return_slot: Slot, active: Mask) -> Result<(), Fault> {
    if warp.stacks.calls.is_empty() {
        warp.stacks.calls = vec![Vec::new(); 32];
    }
    let addresses = warp.registers.get::<u32>(return_slot);
    let again = lanes(active).filter(|&lane| addresses[lane] != 0).fold(0, |mask, lane| mask | 1 << lane);
    let deep = lanes(active).find(|&lane| warp.stacks.calls[lane].len() >= DEPTH);
    if let Some(lane) = deep {
        return Err(overflow(lane, format!("{DEPTH} calls inside one another")));
    }

    let tops = warp.stacks.tops;
    let state = (again != 0).then(|| State::save(warp, activation));
    let frame = Arc::new(Frame { activation: Arc::clone(activation), addresses, tops, state });
    for lane in lanes(active) {
        warp.stacks.calls[lane].push(Arc::clone(&frame));
    }
    if again == 0 {
        return Ok(());
    }

    // Nothing has a value yet, and variables are elsewhere.
    if warp.watching & FROM_START != 0 {
        activation.watched.iter().for_each(|&place| warp.undefined.set(place, again, &[u64::MAX; 32], 0));
    }
    let mut moved = [0; 32];
    for lane in lanes(again) {
        let start = take(warp, lane, activation.variables.end - activation.variables.start, 128)?;
        moved[lane] = start.wrapping_sub(activation.variables.start);
    }
    move_variables(warp, activation, &moved, again);
    Ok(())
}

/// The addresses of a function's `.local` variables, where these are `moved` from their first places.
fn move_variables(warp: &mut Warp, activation: &Activation, moved: &[u64; 32], active: Mask) {
    for &(slot, bits, place) in &activation.addresses {
        let addresses = moved.map(|by| place.wrapping_add(by));
        match bits {
            64 => warp.registers.set::<u64>(slot, active, &addresses),
            _ => warp.registers.set::<u32>(slot, active, &addresses.map(|address| address as u32)),
        }
    }
}

/// Lanes return from a function: puts back what stood there when they entered it.
pub fn leave(warp: &mut Warp, return_slot: Slot, active: Mask) {
    let mut rest = active;
    while rest != 0 {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        let Some(frame) = warp.stacks.calls.get_mut(lane).and_then(Vec::pop) else { continue };

        // Lanes that entered together are put back together.
        let mut together = 1 << lane;
        for other in lanes(rest) {
            if warp.stacks.calls[other].last().is_some_and(|last| Arc::ptr_eq(last, &frame)) {
                warp.stacks.calls[other].pop();
                together |= 1 << other;
            }
        }
        rest &= !together;
        for lane in lanes(together) {
            warp.stacks.tops[lane] = frame.tops[lane];
        }
        if let Some(state) = &frame.state {
            state.restore(warp, &frame.activation, together);
        }
        warp.registers.set::<u32>(return_slot, together, &frame.addresses);
    }
}

/// Takes memory from a lane's stack: its place in local memory.
///
/// # Errors
/// There is not as much.
pub fn take(warp: &mut Warp, lane: usize, bytes: u64, align: u64) -> Result<u64, Fault> {
    let base = warp.static_local;
    let start = (base + warp.stacks.tops[lane]).next_multiple_of(align.max(1));
    let end = start.checked_add(bytes).filter(|&end| end <= LIMIT);
    let end = end.ok_or_else(|| overflow(lane, format!("{bytes} bytes beyond the {start} that are taken")))?;
    if end > warp.local_bytes {
        warp.grow_local((2 * end).min(LIMIT).next_multiple_of(16));
    }
    warp.stacks.tops[lane] = end - base;

    let first = lane * warp.local_bytes as usize;
    warp.local_written[first + start as usize..first + end as usize].fill(0);
    Ok(start)
}

/// Where a lane's stack ends.
pub fn top(warp: &Warp, lane: usize) -> u64 {
    warp.static_local + warp.stacks.tops[lane]
}

/// Gives back what a lane took since its stack ended at `top`.
///
/// # Errors
/// It never ended there.
pub fn give_back(warp: &mut Warp, lane: usize, top: u64) -> Result<(), Fault> {
    let taken = top.checked_sub(warp.static_local).filter(|&taken| taken <= warp.stacks.tops[lane]);
    let message = "the stack is set to where it never was";
    warp.stacks.tops[lane] = taken.ok_or_else(|| Fault::new(FaultKind::InvalidUse, message).lane(lane))?;
    Ok(())
}

fn overflow(lane: usize, what: String) -> Fault {
    let message = format!("the thread's stack is full: {what}; it holds {LIMIT} bytes");
    Fault::new(FaultKind::InvalidCall, message).lane(lane)
}

impl State {
    fn save(warp: &Warp, activation: &Activation) -> Self {
        let stride = warp.local_bytes as usize;
        let pieces = |memory: &[u8]| {
            let mut bytes = Vec::new();
            for lane in 0..32 {
                for &(start, length) in &activation.parameters {
                    bytes.extend_from_slice(&memory[lane * stride + start as usize..][..length as usize]);
                }
            }
            bytes
        };
        let moved = match activation.addresses.first() {
            Some(&(slot, 64, place)) => warp.registers.get::<u64>(slot).map(|now| now.wrapping_sub(place)),
            Some(&(slot, _, place)) => {
                warp.registers.get::<u32>(slot).map(|now| u64::from(now.wrapping_sub(place as u32)))
            }
            None => [0; 32],
        };
        Self {
            moved,
            registers: warp.registers.cut(&activation.units, &activation.predicates),
            undefined: warp.undefined.cut(&activation.units, &activation.predicates),
            bytes: pieces(&warp.local),
            written: pieces(&warp.local_written),
        }
    }

    fn restore(&self, warp: &mut Warp, activation: &Activation, active: Mask) {
        let first = activation.units.start as Slot;
        for &(slot, bits) in &activation.registers {
            match bits {
                0..=32 => warp.registers.set(slot, active, &self.registers.get::<u32>(slot - first)),
                33..=64 => warp.registers.set(slot, active, &self.registers.get::<u64>(slot - first)),
                _ => warp.registers.set(slot, active, &self.registers.get::<u128>(slot - first)),
            }
        }
        move_variables(warp, activation, &self.moved, active);
        for (place, predicate) in activation.predicates.clone().enumerate() {
            warp.registers.set_predicate(predicate as u32, active, self.registers.predicate(place as u32));
        }
        warp.undefined.put_back(&self.undefined, &activation.units, &activation.predicates, active);

        let stride = warp.local_bytes as usize;
        let total: usize = activation.parameters.iter().map(|&(_, length)| length as usize).sum();
        for lane in lanes(active & FULL) {
            let mut from = lane * total;
            for &(start, length) in &activation.parameters {
                let (to, length) = (lane * stride + start as usize, length as usize);
                warp.local[to..to + length].copy_from_slice(&self.bytes[from..from + length]);
                warp.local_written[to..to + length].copy_from_slice(&self.written[from..from + length]);
                from += length;
            }
        }
    }
}
