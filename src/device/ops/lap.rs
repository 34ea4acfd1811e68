//! A stopwatch on the device: where a step that is recorded spends its time.

use crate::device::shape_check::{self, error};
use crate::device::{Result, Tensors};

/// Floats of a stopwatch with so many totals: the time of the last lap, 64 bits in two floats, and then the totals.
pub const fn stopwatch(totals: usize) -> usize {
    2 + totals
}

/// Laps of a stopwatch.
pub trait LapOps: Tensors {
    /// The milliseconds since the last lap are added to `watch[2 + total]`; `None` starts the watch, with totals of 0. `watch` has
    /// [`stopwatch(totals)`](stopwatch) floats. A lap takes its place in the device's order of work, and is recorded with it.
    fn lap(&self, watch: &mut Self::Tensor, total: Option<usize>) -> Result<()>;
}

/// Checks that `watch` has the total; returns how many it has.
pub fn check(watch: &[usize], total: Option<usize>) -> shape_check::Result<usize> {
    let least = stopwatch(total.map_or(0, |total| total + 1));
    match watch {
        [floats] if *floats >= least => Ok(floats - stopwatch(0)),
        _ => error("lap", "watch", format!("[{least}] or longer"), watch),
    }
}
