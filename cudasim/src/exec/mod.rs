//! Execution: decoded kernels, and the grid, clusters, blocks and warps that run them.
//!
//! Ten rooms, from the top down; each uses only what is below it:
//!
//! ```text
//! schedule  who runs when: the clusters of a grid on host threads, the warps of a cluster in turns, the steps of a warp
//! decode    PTX to a kernel: each instruction becomes a step; a module in memory with its kernels
//! ops       instructions by family: each file decodes its forms into lane loops and effects
//! operands  what decoding needs: registers, variables and parameters of each function, operands to slots and addresses
//! access    loads and stores, checked for bounds, alignment, missing values and races
//! state     what a launch keeps: grid, block, warp, what each family keeps for them; the context that effects run in
//! race      happens-before: vector clocks, sync locations, the detector of races
//! tensor    matrix tiles in the registers of a warp, and their product
//! program   decoded code: kernels, steps, operands, registers, loops over lanes
//! rng       the seeded random numbers behind every choice of the schedule
//! ```
//!
//! A kernel is generic over what an effect is, since an effect sees the whole machine ([`state::context`]) and the code of a
//! kernel is below it. A cluster stays on one host thread, so shared memory needs no locks; global memory is shared by all.

pub mod access;
pub mod decode;
pub mod operands;
pub mod ops;
pub mod program;
pub mod race;
pub mod rng;
pub mod schedule;
pub mod state;
pub mod tensor;

pub use decode::program::Program;
pub use schedule::grid::{run, sample};
pub use state::context::Kernel;
pub use state::launch::Launch;
