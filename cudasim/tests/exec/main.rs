//! Kernels in PTX, run.

mod support;

mod arithmetic;
mod launch;
mod matrices;
mod memory;
mod mma;
mod sync;
mod wgmma;
