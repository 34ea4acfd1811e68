//! From files to batches: the readers of each format, the pipeline behind them, and `igpt-engine data` as a user runs it.

mod array_kinds;
mod arrays;
mod commands;
mod fetches;
mod folders;
mod forms;
mod imagenet;
mod palettes;
mod pictures;
mod pipeline;
mod shards;
mod sources;
mod support;
mod verification;
