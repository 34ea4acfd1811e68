//! A CUDA device on the CPU: it interprets PTX, so that kernels run, are checked and are counted on machines without
//! a GPU.

pub mod numerics;
