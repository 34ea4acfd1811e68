//! `setmaxnreg`: the numbers of registers that the warps of a warpgroup have set.

/// A `setmaxnreg`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::exec) struct Change {
    pub(in crate::exec) registers: u32,
    pub(in crate::exec) grows: bool,
}

/// Warps of a warpgroup.
pub(in crate::exec) const GROUP: usize = 4;

/// The `setmaxnreg`s of each warpgroup of a block, in order, with how many of its warps have run each.
pub struct RegisterChanges {
    pub(in crate::exec) groups: Vec<Vec<(Change, usize)>>,
    pub(in crate::exec) warps: usize,
}

impl RegisterChanges {
    /// Of a block with this many warps.
    pub fn new(warps: usize) -> Self {
        Self { groups: vec![Vec::new(); warps.div_ceil(GROUP)], warps }
    }
}
