//! What time it is on the device, between two ops: where a step that is recorded spends its time.

use crate::device::shape_check::{self, error};
use crate::device::{Result, Tensors};

/// Floats of [`StampOps::stamp`]'s tensor for stamps 0 to `last`: the start's 64 bits, and a time for each of the others.
pub const fn stamps(last: usize) -> usize {
    2 + last
}

/// Stamps of time.
pub trait StampOps: Tensors {
    /// Stamp 0 is the start. Of another, the milliseconds since the start are written to `times[1 + stamp]`; `times` is
    /// [`stamps(last)`](stamps). Takes its place in the device's order of work, and is recorded with it.
    fn stamp(&self, times: &mut Self::Tensor, stamp: usize) -> Result<()>;
}

/// Checks that `times` has a place for the stamp.
pub fn check(times: &[usize], stamp: usize) -> shape_check::Result<()> {
    match times {
        [floats] if *floats >= stamps(stamp) => Ok(()),
        _ => error("stamp", "times", format!("[{}] or longer", stamps(stamp)), format!("{times:?}")),
    }
}
