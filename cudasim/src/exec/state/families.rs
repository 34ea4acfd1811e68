//! What each family of instructions keeps between its steps, for a warp and for a block.

use crate::exec::state::{barriers, copies, mbarriers, register_changes, warpgroups, wgmma};
use crate::exec::tensor::product::Scratch;

/// What families keep for a warp between its steps.
#[derive(Default)]
pub struct WarpState {
    /// The last turn ended with lanes at several places: the next one starts with any of them.
    pub rotate: bool,
    /// Decoded matrices.
    pub tensor: Scratch,
    /// wgmma in flight.
    pub wgmma: wgmma::PendingGroups,
    /// `bar.warp.sync`
    pub warp_sync: barriers::WarpSync,
    /// `barrier.cluster`
    pub cluster: barriers::ClusterArrivals,
    /// Bulk copies out of shared memory.
    pub bulk: copies::BulkGroups,
    /// `setmaxnreg` instructions so far.
    pub register_changes: u32,
}

/// What families keep for a block.
pub struct BlockState {
    /// wgmma that not all warps of a warpgroup have issued.
    pub warpgroups: warpgroups::Warpgroups,
    /// `bar` and `barrier`
    pub barriers: barriers::Barriers,
    /// `barrier.cluster`
    pub cluster: barriers::ClusterBarrier,
    /// `mbarrier`
    pub mbarriers: mbarriers::Mbarriers,
    /// `cp.async`
    pub copies: copies::ThreadCopies,
    /// Asynchronous operations in flight that an mbarrier of the block counts.
    pub pending: copies::PendingOperations,
    /// `setmaxnreg`
    pub registers: register_changes::RegisterChanges,
    /// Of rank 0: addresses of tensor maps that were changed and not fenced since.
    pub changed_maps: Vec<u64>,
}

impl BlockState {
    /// Of a block with this many warps.
    pub fn new(warps: usize) -> Self {
        Self {
            barriers: barriers::Barriers::new(warps),
            cluster: barriers::ClusterBarrier::default(),
            mbarriers: mbarriers::Mbarriers::default(),
            copies: copies::ThreadCopies::new(warps),
            pending: copies::PendingOperations::default(),
            registers: register_changes::RegisterChanges::new(warps),
            changed_maps: Vec::new(),
            warpgroups: warpgroups::Warpgroups::default(),
        }
    }

    /// What the block's threads wait for, for the report of a deadlock.
    pub fn describe_waiting(&self, live_threads: u32) -> String {
        let mut waiting = self.barriers.describe(live_threads);
        waiting.extend(self.cluster.describe(live_threads));
        waiting.extend(self.mbarriers.describe());
        waiting.extend(self.warpgroups.describe_waiting());
        match waiting.is_empty() {
            true => format!("{live_threads} threads of the block are left"),
            false => format!("{} ({live_threads} threads of the block are left)", waiting.join(", ")),
        }
    }
}
