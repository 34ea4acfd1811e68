//! A CUDA device on the CPU, for running and checking kernels where there is no GPU.
//!
//! It reads PTX into a checked, typed module ([`ptx`]), does its arithmetic ([`numerics`]), executes kernels ([`exec`]) and
//! stands behind the CUDA driver API ([`driver`]): built as a shared library whose SONAME is `libcuda.so`, it is what
//! programs find in a GPU's place. Tests put it there with [`install`].

// Of the exported functions the unit tests call none (`driver`); the library itself is looked through without them.
#![cfg_attr(test, allow(dead_code))]

pub mod card;
pub mod counters;
pub mod driver;
pub mod exec;
pub mod fatbin;
pub mod mask;
pub mod memory;
pub mod numerics;
pub mod options;
pub mod ptx;
pub mod report;
pub mod swizzle;
pub mod tensor_map;

pub use driver::install::{InstallError, Simulator, install};
