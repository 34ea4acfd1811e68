//! igpt-engine: all of "Generative Pretraining from Pixels" (Image GPT) in one binary.
//!
//! Modules point one way, and `tests/architecture` sees to it: `cli → demo, serve → train, probe → eval, sample, report → run →
//! checkpoint → model → tape → device`, with `data` beside `model`, and `random`, `named` and `fs` below them all. Start with
//! [`train::Session`], [`probe::Session`], [`eval::Session`], [`sample::Session`] and [`serve::Session`].

pub mod checkpoint;
pub mod cli;
pub mod comm;
pub mod data;
pub mod demo;
pub mod device;
pub mod eval;
mod fs;
pub mod model;
pub mod named;
pub mod optim;
pub mod plan;
pub mod probe;
#[cfg(target_os = "linux")]
pub mod profile;
pub mod random;
pub mod recipe;
pub mod report;
pub mod results;
pub mod run;
pub mod sample;
pub mod serve;
pub mod tape;
pub mod train;
