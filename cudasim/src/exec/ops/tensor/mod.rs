//! What `mma` and `wgmma` share: element types, how matrices lie in the registers of a warp, and the product itself.

pub mod element;
pub mod fragment;
pub mod product;

use crate::exec::context::Context;
use crate::exec::registers::{FULL, Mask};
use crate::report::{Fault, FaultKind};

/// That all 32 lanes of the warp run a matrix instruction: with fewer it is undefined, even where the others have left.
///
/// # Errors
/// Some lanes are elsewhere or have left.
pub fn whole_warp(context: &Context<'_>, mask: Mask) -> Result<(), Fault> {
    if mask == FULL {
        return Ok(());
    }
    context.aligned(mask)?;
    let message = format!("a matrix instruction is run by lanes {mask:#010x}; the others have left or never were");
    Err(Fault::new(FaultKind::DivergentBarrier, message))
}
