//! What a launch keeps while it runs.

pub mod barriers;
pub mod block;
pub mod context;
pub mod copies;
pub mod families;
pub mod launch;
pub mod mbarriers;
pub mod register_changes;
pub mod warp;
pub mod warpgroups;
pub mod wgmma;
pub mod worker;
