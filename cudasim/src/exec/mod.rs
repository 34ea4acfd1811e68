//! Execution: decoded kernels, and the grid, clusters, blocks and warps that run them.
//!
//! ```text
//! decode -> Kernel { Step, Step, ... }      one closure or lane loop per instruction; files of ops/ by family
//! grid    hands clusters of blocks to worker threads, in a seeded order
//! cluster runs the warps of its blocks in turns, in a seeded order, until all are done
//! warp    runs steps; diverged lanes are splits of (pc, mask), of which the lowest pc runs first
//! ```
//!
//! A cluster stays on one host thread, so shared memory needs no locks; global memory is shared by all.

pub mod access;
pub mod cluster;
pub mod context;
pub mod decode;
pub mod grid;
pub mod handoff;
pub mod kernel;
pub mod lanes;
pub mod ops;
pub mod order;
pub mod program;
pub mod races;
pub mod registers;
pub mod rng;
pub mod step;
pub mod warp;
mod warp_access;

pub use grid::{Launch, run};
pub use kernel::Kernel;
pub use program::Program;
