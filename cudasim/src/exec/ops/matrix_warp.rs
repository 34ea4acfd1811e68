//! Whether a whole warp is there for a matrix instruction.

use crate::exec::program::step::Flow;
use crate::exec::state::context::Context;
use crate::mask::{FULL, Mask};
use crate::report::{Fault, FaultKind};

/// Whether all 32 lanes of the warp are there to run a matrix instruction: those that are waited for may be on their way.
///
/// # Errors
/// Some have left, or skip it: with fewer than 32 lanes it is undefined.
pub fn whole_warp(context: &Context<'_>, mask: Mask) -> Result<Flow, Fault> {
    if mask == FULL {
        return Ok(Flow::Next);
    }
    match context.whole_warp(mask)? {
        Flow::Next => {
            let message =
                format!("a matrix instruction is run by lanes {mask:#010x}; the others have left or never were");
            Err(Fault::new(FaultKind::DivergentBarrier, message))
        }
        wait => Ok(wait),
    }
}
