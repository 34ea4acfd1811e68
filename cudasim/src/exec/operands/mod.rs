//! Operands to slots and addresses: what decoding an instruction needs, below the families that decode.

pub mod accumulators;
pub mod decoded;
pub mod decoder;
pub mod reach;
