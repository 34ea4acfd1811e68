//! From files to batches: the readers of each format, the pipeline behind them, and `igpt-engine data` as a user runs it.

mod arrays;
mod commands;
mod imagenet;
mod palettes;
mod pipeline;
mod shards;
mod sources;
