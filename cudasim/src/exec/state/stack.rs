//! What a warp's lanes have put aside: see [`activation`](crate::exec::state::activation).

use std::sync::Arc;

use crate::exec::program::definedness::Cut;
use crate::exec::program::registers::Registers;
use crate::exec::program::step::Activation;

/// The stacks of a warp's lanes.
#[derive(Default)]
pub struct Stacks {
    /// Calls that a lane is in, the last one last.
    pub(super) calls: Vec<Vec<Arc<Frame>>>,
    /// Bytes of each lane that are taken, beyond the kernel's own.
    pub(super) tops: [u64; 32],
}

/// What lanes put aside when they entered a function together.
pub(super) struct Frame {
    pub activation: Arc<Activation>,
    /// Of each lane: the return address that stood there, 0 where it was not in the function.
    pub addresses: [u32; 32],
    pub tops: [u64; 32],
    /// The rest, where a lane was in the function.
    pub state: Option<State>,
}

/// What stood in the places of a function.
pub(super) struct State {
    pub registers: Registers,
    pub undefined: Cut,
    /// How far the `.local` variables were from their first places.
    pub moved: [u64; 32],
    /// Parameters, lane after lane: bytes, and whether they were written.
    pub bytes: Vec<u8>,
    pub written: Vec<u8>,
}
