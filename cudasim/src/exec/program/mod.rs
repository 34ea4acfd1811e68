//! Decoded code: kernels, steps, registers, and loops over lanes.

pub mod address;
pub mod kernel;
pub mod lanes;
pub mod notes;
pub mod reduction;
pub mod registers;
pub mod step;
