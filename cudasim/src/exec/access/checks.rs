//! What an access must not do, whoever makes it, and the faults it gives.

use crate::memory::{ByteState, SharedMemory};
use crate::report::{Fault, FaultKind};

/// That an address is a multiple of what is accessed there.
///
/// # Errors
/// `Misaligned`.
#[inline]
pub(in crate::exec) fn aligned(address: u64, bytes: u64, lane: usize) -> Result<(), Fault> {
    if address.is_multiple_of(bytes) {
        return Ok(());
    }
    let message = format!("address {address:#x} is not a multiple of {bytes}");
    Err(Fault::new(FaultKind::Misaligned, message).lane(lane).at(address))
}

pub(in crate::exec) fn in_flight(lane: usize, address: u64) -> Fault {
    let message = "shared memory is read while an asynchronous copy into it was not waited for";
    Fault::new(FaultKind::MissingWait, message).lane(lane).at(crate::memory::SHARED_WINDOW + address)
}

/// That no asynchronous copy uses bytes of shared memory that are to be written.
///
/// # Errors
/// `MissingWait`.
pub(in crate::exec) fn writable(memory: &SharedMemory, offset: usize, bytes: usize) -> Result<(), Fault> {
    if !memory.is_guarded() {
        return Ok(());
    }
    let states = memory.states(offset, bytes);
    let message = if states.contains(&ByteState::InFlight) {
        "shared memory is written while an asynchronous copy into it was not waited for"
    } else if states.contains(&ByteState::Source) {
        "shared memory is written while an asynchronous copy out of it may still read it"
    } else {
        return Ok(());
    };
    Err(Fault::new(FaultKind::MissingWait, message))
}

pub(in crate::exec) fn uninitialised(space: &str, lane: usize, address: u64) -> Fault {
    let message = format!("{space} memory is read that nothing was written to");
    Fault::new(FaultKind::UninitialisedMemory, message).lane(lane).at(address)
}
