//! The memories of the device, and the numbers that addresses are.
//!
//! Global memory (and constants, which live in it) has one address, the same in its space and as a generic address.
//! Shared, local and parameter memory are windows of the generic space; inside their own space addresses start at 0.

pub mod allocation;
mod b128;
mod error;
pub mod global;
pub mod shadow;
pub mod shared;
mod word;
mod zeroed;

pub use allocation::{Allocation, Origin};
pub use error::MemoryError;
pub use global::{AddressMap, GlobalMemory};
pub use shared::{ByteState, SharedMemory};
pub use word::Word;

/// First address of device allocations: above what a process may use, so that no host pointer is a device pointer.
pub const GLOBAL_BASE: u64 = 1 << 49;

/// Generic address of shared address 0.
pub const SHARED_WINDOW: u64 = 1 << 48;

/// Bytes of a window.
pub const WINDOW_BYTES: u64 = 1 << 32;

/// Generic address of local address 0.
pub const LOCAL_WINDOW: u64 = SHARED_WINDOW + (1 << 40);

/// Generic address of the first kernel parameter.
pub const PARAMETER_WINDOW: u64 = SHARED_WINDOW + (2 << 40);

/// What the address of a function is: this plus its index in the module.
pub const FUNCTION_WINDOW: u64 = SHARED_WINDOW + (3 << 40);

/// The first bytes of shared memory belong to the system, as on sm_90; a null pointer is thus never valid.
pub const SHARED_RESERVED: u64 = 1024;

/// In a shared address: where the number of the block in its cluster starts, plus one; 0 means the block's own memory.
pub const CLUSTER_RANK_SHIFT: u32 = 24;
