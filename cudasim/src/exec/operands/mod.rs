//! What decoding an instruction needs, below the families that decode.
//!
//! ```text
//! values        operands to slots and addresses
//! decoder       registers, variables and parameters of each function
//! decoded       what a family makes of an instruction
//! activations   functions that may call themselves
//! accumulators  the registers that the wgmma instructions of a function name
//! reach         which functions a kernel may run, and which symbols they name
//! ```

pub mod accumulators;
mod activations;
pub mod decoded;
pub mod decoder;
pub mod reach;
mod values;
