//! A CUDA device on the CPU, for running and checking kernels where there is no GPU.
//!
//! Under construction: what there is reads PTX into a checked, typed module ([`ptx`]) and does its arithmetic
//! ([`numerics`]); what executes it, the memory with its checks, and the driver API are still to come.

pub mod numerics;
pub mod ptx;
