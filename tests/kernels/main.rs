//! Every op and every kernel: the op table on each device, the table's ops under other schedules, bugs planted in the kernels
//! that must be found, and the kernels' budget.
//!
//! `cargo test --test kernels -- ops::cuda_` runs a part. Tests of the CUDA device run on the simulator, or the op table with
//! `IGPT_TEST_DEVICE=cuda` on a GPU.

mod another_toolkit;
mod budget;
mod cards;
#[cfg(target_os = "linux")]
mod decoder;
mod far;
mod mutants;
mod ops;
mod process;
#[cfg(target_os = "linux")]
mod sampling;
mod schedules;
mod variants;
