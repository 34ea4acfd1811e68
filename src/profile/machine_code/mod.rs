//! Machine code of kernels, read from their fat binaries without the toolkit: classes of instructions, control flow, control bits.

pub mod fatbin;
pub mod flow;
pub mod frequencies;
pub mod instruction;
pub mod pipes;
