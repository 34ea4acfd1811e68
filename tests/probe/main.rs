//! Linear probes: the solvers against optima computed elsewhere, the features against Hugging Face's model, and files that
//! are not what they should be.
//!
//! Optima and features are checked on the CUDA device too: on the simulator, or with `IGPT_TEST_DEVICE=cuda` on a GPU.

mod cuda;
mod features;
mod files;
mod optima;
mod support;
