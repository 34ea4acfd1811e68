//! A CUDA device on the CPU, for running and checking kernels where there is no GPU.

pub mod ptx;
