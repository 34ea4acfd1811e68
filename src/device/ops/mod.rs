//! The vocabulary of the ops, one file per op.

pub mod layernorm;
pub mod mlp;
