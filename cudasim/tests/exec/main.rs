//! Kernels in PTX, run.

mod support;

mod arithmetic;
mod launch;
mod memory;
mod sync;
