//! Kernels in PTX, run.

mod support;

mod launch;
mod memory;
