//! Decoded code: kernels, steps, registers, and loops over lanes.

pub mod kernel;
pub mod lanes;
pub mod registers;
pub mod step;
