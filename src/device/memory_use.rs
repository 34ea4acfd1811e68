//! What a device's tensors take.

/// Memory statistics of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In tensors now.
    pub in_use: usize,
    /// In tensors and scratch at most.
    pub peak: usize,
    /// Taken from the system so far, and not given back.
    pub allocated: usize,
}
