//! A run's folder: its layout, its checkpoints and its metrics. The only room that knows a file name in it.

pub mod checkpoints;
pub mod folder;
pub mod metrics;
