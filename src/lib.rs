//! igpt-engine: all of "Generative Pretraining from Pixels" (Image GPT) in one binary.
//!
//! Modules point one way: `cli → train, sample → model → tape → device`; `data` and `checkpoint` know nothing of
//! training, `model` knows no command line, a device knows no model.

pub mod checkpoint;
pub mod cli;
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
pub mod random;
pub mod recipe;
pub mod report;
pub mod results;
pub mod run;
pub mod sample;
pub mod tape;
pub mod train;
