//! The memory that a device's tensors take.

/// Memory statistics of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// In tensors now.
    pub in_use: usize,
    /// The most that was in tensors and scratch at once.
    pub peak: usize,
    /// Taken from the system so far, and not given back.
    pub allocated: usize,
    /// Of the host, in tensors of a device that has memory of its own.
    pub host: usize,
}
