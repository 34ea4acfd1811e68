//! What a launch keeps while it runs, and the context that effects see of it.
//!
//! ```text
//! launch, worker    what is launched how; what each host thread keeps
//! block, warp       blocks of a cluster; registers, local memory and splits of a warp
//! stack, activation functions that call themselves, and memory from the stack
//! families          what each family of instructions keeps for a warp and a block, from the files below
//! barriers, mbarriers, copies, wgmma, warpgroups, register_changes
//! context           the grid, and all of it as an effect sees it
//! reports, warnings reports of faults; which warnings a launch has given
//! definedness       values that are missing
//! ```

pub mod activation;
pub mod barriers;
pub mod block;
pub mod context;
pub mod copies;
pub mod definedness;
pub mod families;
pub mod launch;
pub mod mbarriers;
pub mod register_changes;
pub mod reports;
pub mod stack;
pub mod warnings;
pub mod warp;
pub mod warpgroups;
pub mod wgmma;
pub mod worker;
