//! Kernels in PTX, run.

mod support;

mod arithmetic;
mod atomics;
mod checks;
mod counters;
mod flags;
mod launch;
mod matrices;
mod memory;
mod mma;
mod models;
mod races;
mod same_values;
mod sync;
mod undefined;
mod wgmma;
