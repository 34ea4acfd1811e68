//! What decoding an instruction needs, below the families that decode.
//!
//! ```text
//! decoder       registers, variables and parameters of each function; operands to slots and addresses
//! decoded       what a family makes of an instruction
//! accumulators  the registers that the wgmma instructions of a function name
//! reach         which functions a kernel may run, and which symbols they name
//! ```

pub mod accumulators;
pub mod decoded;
pub mod decoder;
pub mod reach;
