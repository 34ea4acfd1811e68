//! What a launch keeps while it runs.

pub mod context;
