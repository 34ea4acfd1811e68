//! Decoded code.
//!
//! ```text
//! kernel     a kernel and where its steps come from      step       actions, operands, control flow
//! registers  the registers of a warp                     lanes      loops over them, for two kinds of processors
//! address    address operands, windows of the generic space
//! notes      registers that may lack a value             reduction  reductions of words in memory
//! ```

pub mod address;
pub mod kernel;
pub mod lanes;
pub mod notes;
pub mod reduction;
pub mod registers;
pub mod step;
