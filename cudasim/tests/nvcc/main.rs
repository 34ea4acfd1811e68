//! Kernels in CUDA C++, compiled by the pinned nvcc and run under many seeds and in every completion of asynchronous
//! operations, with all checks on: right results, and no false alarm.

mod compile;
mod device;

mod attention;
mod basics;
mod cooperative;
mod cub;
mod cub_blocks;
mod functions;
mod gemm;
mod int128;
mod mutants;
mod spellings;
mod wmma;
