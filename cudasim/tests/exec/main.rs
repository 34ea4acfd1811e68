//! Kernels in PTX, run.

mod support;

mod atomics;
mod launch;
mod memory;
