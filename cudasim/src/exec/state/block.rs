//! A block: what its warps share.

use crate::exec::state::families::BlockState;
use crate::memory::SharedMemory;

/// What the warps of a block share.
pub struct Block {
    /// Its index in the grid.
    pub index: [u32; 3],
    /// Its rank in the cluster.
    pub rank: u32,
    /// Shared memory.
    pub shared: SharedMemory,
    /// Threads that have not left.
    pub live_threads: u32,
    /// Threads that it started with.
    pub threads: u32,
    /// What families of instructions keep for the block.
    pub state: BlockState,
}

impl Block {
    /// Notes that `threads` have left.
    pub fn leave(&mut self, threads: u32) {
        self.live_threads -= threads;
    }
}
