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
pub mod decode;
pub mod ops;
pub mod program;
pub mod race;
pub mod rng;
pub mod schedule;
pub mod state;
pub mod tensor;

pub use decode::program::Program;
pub use program::kernel::Kernel;
pub use schedule::grid::{Launch, run};
