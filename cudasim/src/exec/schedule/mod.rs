//! Who runs when: the clusters of a grid, the warps of a cluster, the steps of a warp.

mod branch;
pub mod cluster;
pub mod grid;
pub mod warp;
