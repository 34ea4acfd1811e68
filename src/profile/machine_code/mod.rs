//! Machine code of kernels, read without the toolkit: classes of instructions, control flow, control bits, how often each block runs.

pub mod flow;
pub mod frequencies;
pub mod instruction;
pub mod pipes;
