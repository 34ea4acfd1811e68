//! From files to batches: the readers of each format, the pipeline behind them, and `igpt-engine data` as a user runs it.

mod commands;
mod imagenet;
mod pipeline;
mod sources;
