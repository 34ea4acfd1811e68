//! Decoded code.
//!
//! ```text
//! kernel     a kernel and where its steps come from      step       actions, operands, control flow
//! registers  the registers of a warp                     lanes      loops over them, for two kinds of processors
//! address    address operands, windows of the generic space
//! flow       what a step reads and writes                reduction  reductions of words in memory
//! definedness  bits of registers that hold no value      fragments  how they travel through products of matrices
//! ```

pub mod address;
pub mod definedness;
pub mod flow;
pub mod fragments;
pub mod kernel;
pub mod lanes;
pub mod reduction;
pub mod registers;
pub mod step;
