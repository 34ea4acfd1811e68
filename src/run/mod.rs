//! A run's folder: its layout, its checkpoints and its metrics. The only room that knows a file name in it.

pub mod checkpoints;
mod event_file;
pub mod event_log;
pub mod folder;
mod growing_file;
pub mod images;
pub mod metrics;
pub mod metrics_log;
pub mod metrics_reader;
pub mod restore;
pub mod run_log;
