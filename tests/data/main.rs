//! From files to batches: the readers of each format, the pipeline behind them, and `igpt-engine data` as a user runs it.

mod array_kinds;
mod arrays;
mod commands;
mod fetches;
mod folders;
mod forms;
mod fuzz_targets;
mod imagenet;
mod palettes;
mod pictures;
mod pipeline;
mod shards;
mod sources;
mod support;
mod verification;

// The fuzz targets are a crate outside the workspace: here they compile with the tests, and read their seeds.
#[path = "../../fuzz/src/place.rs"]
mod place;
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/targets.rs"]
mod targets;
