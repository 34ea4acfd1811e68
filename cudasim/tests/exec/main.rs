//! Kernels in PTX, run.

mod support;

mod arithmetic;
mod atomics;
mod launch;
mod matrices;
mod memory;
mod mma;
mod sync;
mod wgmma;
