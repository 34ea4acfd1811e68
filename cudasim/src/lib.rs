//! A CUDA device on the CPU, for running and checking kernels where there is no GPU.
//!
//! Under construction: what there is reads PTX into a checked, typed module ([`ptx`]), does its arithmetic ([`numerics`])
//! and executes kernels ([`exec`]); the driver API is still to come.

pub mod counters;
pub mod exec;
pub mod memory;
pub mod numerics;
pub mod options;
pub mod ptx;
pub mod report;
pub mod swizzle;
pub mod tensor_map;
