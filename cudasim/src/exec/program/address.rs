//! Address operands, and the windows of the generic address space.

use crate::exec::program::registers::Slot;
use crate::memory::{LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW};

/// Where a memory instruction looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Any window.
    Generic,
    /// Global or constant memory.
    Global,
    /// Shared memory of the block, or with a rank in the address of one of the cluster.
    Shared,
    /// The thread's local memory, in which parameters of calls lie as well.
    Local,
    /// The kernel's parameters.
    Parameter,
}

/// The address operand of an instruction: a slot plus an offset.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// Where.
    pub space: Space,
    /// The slot of the base.
    pub base: Slot,
    /// Whether the base has 64 bits.
    pub wide: bool,
    /// Added to it.
    pub offset: i64,
}

/// Which window of the generic space an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Global memory, or nowhere.
    Global,
    /// Shared memory of the block or cluster; the rest is the shared address.
    Shared,
    /// Local memory; the rest is the local address.
    Local,
    /// The kernel's parameters; the rest is the offset.
    Parameter,
}

/// Splits a generic address into window and address inside it.
#[inline(always)]
pub fn window(address: u64) -> (Window, u64) {
    match address >> 32 {
        x if x == SHARED_WINDOW >> 32 => (Window::Shared, address & 0xffff_ffff),
        x if x == LOCAL_WINDOW >> 32 => (Window::Local, address & 0xffff_ffff),
        x if x == PARAMETER_WINDOW >> 32 => (Window::Parameter, address & 0xffff_ffff),
        _ => (Window::Global, address),
    }
}
