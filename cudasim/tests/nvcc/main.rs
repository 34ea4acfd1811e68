//! Kernels in CUDA C++, compiled by the pinned nvcc and run under many seeds and in every completion of asynchronous
//! operations, with all checks on: right results, and no false alarm.

mod compile;
mod device;

mod attention;
mod basics;
mod cub;
mod gemm;
mod mutants;
