//! Who runs when.
//!
//! ```text
//! grid     clusters in a seeded order on host threads; deadlocks
//! cluster  its warps in turns, in a seeded order
//! warp     the run loop of one turn
//! branch   where control steps send lanes
//! ```

mod branch;
pub mod cluster;
pub mod grid;
pub mod warp;
