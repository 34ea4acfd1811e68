//! Where in the shared memory of the cluster an address lies, for what works on it outside `ld` and `st`.

use crate::exec::program::address::{Space, Window, window};
use crate::exec::state::context::Context;
use crate::exec::state::copies::Place;
use crate::memory::SHARED_WINDOW;
use crate::report::{Fault, FaultKind};

/// The place of `bytes` bytes at a shared or generic address.
///
/// # Errors
/// Not shared memory, not a multiple of `align`, or outside the block's memory.
pub fn shared(
    context: &Context<'_>,
    space: Space,
    lane: usize,
    address: u64,
    bytes: u64,
    align: u64,
) -> Result<Place, Fault> {
    let inside = match space {
        Space::Shared => address,
        _ => match window(address) {
            (Window::Shared, inside) => inside,
            _ => {
                let message = format!("{address:#x} is not a generic address of shared memory");
                return Err(Fault::new(FaultKind::InvalidAddressSpace, message).lane(lane).at(address));
            }
        },
    };

    let at = |fault: Fault| fault.lane(lane).at(SHARED_WINDOW + inside);
    let (rank, address) = context.shared_block(inside).map_err(at)?;
    if !address.is_multiple_of(align) {
        let message = format!("shared address {address:#x} is not a multiple of {align}");
        return Err(at(Fault::new(FaultKind::Misaligned, message)));
    }
    let offset = context.blocks[rank].shared.offset(address, bytes).map_err(at)?;
    Ok(Place { rank, offset, address })
}
