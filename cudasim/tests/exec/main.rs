//! Kernels in PTX, run.

mod support;

mod arithmetic;
mod atomics;
mod checks;
mod counters;
mod launch;
mod matrices;
mod memory;
mod mma;
mod races;
mod sync;
mod wgmma;
