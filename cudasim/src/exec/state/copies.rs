//! Asynchronous copies in flight: of threads (`cp.async`), of mbarriers, and in bulk groups.

use crate::exec::program::reduction::Reduction;
use crate::exec::race::clocks::Clock;
use crate::mask::Mask;

/// A place in shared memory of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Rank of the block.
    pub rank: usize,
    /// Offset in its shared memory.
    pub offset: usize,
    /// Its shared address in that block, for alignment and swizzles.
    pub address: u64,
}

/// The operations of a block's mbarriers that have not landed.
#[derive(Default)]
pub struct PendingOperations {
    pub(in crate::exec) list: Vec<Pending>,
}

/// An operation, with the mbarrier that counts it and the clock that it releases.
pub(in crate::exec) struct Pending {
    pub(in crate::exec) mbarrier: Place,
    pub(in crate::exec) what: What,
    pub(in crate::exec) clock: Clock,
}

pub(in crate::exec) enum What {
    Copy(Copy),
    Arrivals(Arrivals),
}

/// A copy into shared memory of the mbarrier's block.
#[derive(Clone)]
pub struct Copy {
    /// What goes where.
    pub pieces: Vec<Piece>,
    /// Bytes that the mbarrier counts.
    pub bytes: u32,
    /// What is done with the old value; `None` to replace it.
    pub reduction: Option<Reduction>,
    /// Denormals of f32 become zero.
    pub flush: bool,
}

/// Bytes that stay together.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Where they come from.
    pub from: From,
    /// Offset in the target's shared memory.
    pub to: u32,
    /// How many.
    pub bytes: u32,
}

/// A source of bytes.
#[derive(Clone, Copy)]
pub enum From {
    /// Global memory.
    Global(u64),
    /// Shared memory of a block, at an offset.
    Shared(usize, u32),
    /// These, over and over, from the first.
    Value([u8; 16]),
}

/// Arrivals of lanes whose `cp.async`s before a number have landed.
pub struct Arrivals {
    /// Their block.
    pub rank: usize,
    /// Their warp.
    pub warp: usize,
    /// The lanes.
    pub lanes: Mask,
    /// The number of the batch before which.
    pub before: u64,
}

impl PendingOperations {
    /// Whether an operation is in flight that the mbarrier at this offset counts.
    pub fn any(&self, mbarrier: usize) -> bool {
        self.list.iter().any(|flight| flight.mbarrier.offset == mbarrier)
    }

    /// Adds arrivals.
    pub fn add_arrivals(&mut self, mbarrier: Place, arrivals: Arrivals, clock: Clock) {
        self.list.push(Pending { mbarrier, what: What::Arrivals(arrivals), clock });
    }
}

/// The copies of a block's warps that have not landed.
pub struct ThreadCopies {
    pub(in crate::exec) warps: Vec<WarpCopies>,
}

#[derive(Default)]
pub(in crate::exec) struct WarpCopies {
    pub(in crate::exec) batches: Vec<Batch>,
    /// Groups that each lane has committed.
    pub(in crate::exec) committed: [u32; 32],
    /// Number of the next batch.
    pub(in crate::exec) next: u64,
}

/// One instruction's copies.
pub(in crate::exec) struct Batch {
    pub(in crate::exec) number: u64,
    /// Lanes whose copies have not landed.
    pub(in crate::exec) mask: Mask,
    /// The group of each lane that it belongs to.
    pub(in crate::exec) groups: [u32; 32],
    /// From global addresses to offsets in shared memory, and how many of the bytes are read; the rest becomes zero.
    pub(in crate::exec) sources: [u64; 32],
    pub(in crate::exec) places: [u32; 32],
    pub(in crate::exec) reads: [u8; 32],
    pub(in crate::exec) bytes: u8,
}

impl ThreadCopies {
    /// Of a block with this many warps.
    pub fn new(warps: usize) -> Self {
        Self { warps: (0..warps).map(|_| WarpCopies::default()).collect() }
    }
}

/// The copies out of shared memory that a warp's threads have not waited for.
#[derive(Default)]
pub struct BulkGroups {
    pub(in crate::exec) stores: Vec<Issued>,
    /// Groups that each lane has committed.
    pub(in crate::exec) committed: [u32; 32],
}

/// A copy out of the shared memory of a block into global memory.
pub struct Store {
    /// What goes where.
    pub pieces: Vec<StorePiece>,
    /// What is done with the old value; `None` to replace it.
    pub reduction: Option<Reduction>,
}

/// Bytes that stay together.
#[derive(Clone, Copy)]
pub struct StorePiece {
    /// Offset in shared memory.
    pub from: u32,
    /// Global address.
    pub to: u64,
    /// How many.
    pub bytes: u32,
}

pub(in crate::exec) struct Issued {
    pub(in crate::exec) lane: usize,
    pub(in crate::exec) group: u32,
    pub(in crate::exec) store: Store,
    /// The bytes, once they have been read.
    pub(in crate::exec) read: Option<Vec<u8>>,
    /// What those acquire who wait until it is read, and until it is written.
    pub(in crate::exec) clock: Clock,
    pub(in crate::exec) written: Clock,
}
