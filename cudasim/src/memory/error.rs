//! Why memory was refused.

/// Why memory was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// More than the device has.
    OutOfMemory,
    /// Not the address of a live allocation, or a range that leaves it.
    InvalidAddress,
}
